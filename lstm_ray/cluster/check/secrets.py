"""Finds secrets that a definition exposes to everyone who can read the file: Ray's token, keys of an object store."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from lstm_ray.cluster.check.document import Finding, at, leaves

_NAME = "RAY_AUTH_TOKEN"
# NAME=... in a shell, NAME: ... in YAML or JSON inside a string. A value from a variable or command is not a secret.
_ASSIGNED = re.compile(rf"""(?<![\w${{]){_NAME}(=|:\s+|['"]\s*:\s*)['"]?[^\s'"$`;,}}]""")
_KEYS_IN_URI = re.compile(r"\b[a-z0-9]+://[^/\s:@]*:[^/\s@]*@")


def find_secrets(content: Any) -> Iterator[Finding]:
    """Yields a mistake for each value that contains a secret, in commands, container environments and jobs."""
    for field, value in leaves(content):
        is_variable = field[-1:] == (_NAME,) or (
            field[-1:] == ("value",) and at(content, [*field[:-1], "name"]) == _NAME
        )
        if (is_variable and _is_literal(value)) or (isinstance(value, str) and _ASSIGNED.search(value)):
            yield Finding(field, "contains the token; mount its file, or keep it in a Secret: valueFrom.secretKeyRef")
        if isinstance(value, str) and _KEYS_IN_URI.search(value):
            yield Finding(field, "contains keys in a URI; remove them: nodes get keys from their role or environment")


def _is_literal(value: Any) -> bool:
    return isinstance(value, str | int | float) and value != "" and not str(value).startswith("$")
