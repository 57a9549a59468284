"""Secrets that a definition shows to everyone who reads the file: Ray's token, keys of an object store."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from lstm_ray.cluster.check.document import Finding, at, leaves

_NAME = "RAY_AUTH_TOKEN"
# In a shell NAME=..., in YAML or JSON within a text NAME: ... A value from a variable or a command is no secret.
_ASSIGNED = re.compile(rf"""(?<![\w${{]){_NAME}(=|:\s+|['"]\s*:\s*)['"]?[^\s'"$`;,}}]""")
_KEYS_IN_URI = re.compile(r"\b[a-z0-9]+://[^/\s:@]*:[^/\s@]*@")


def find_secrets(content: Any) -> Iterator[Finding]:
    """Yields a mistake for each value that holds a secret: in commands, environments of containers, and jobs."""
    for field, value in leaves(content):
        is_variable = field[-1:] == (_NAME,) or (
            field[-1:] == ("value",) and at(content, [*field[:-1], "name"]) == _NAME
        )
        if (is_variable and _is_literal(value)) or (isinstance(value, str) and _ASSIGNED.search(value)):
            yield Finding(field, "contains the token; mount its file, or keep it in a Secret: valueFrom.secretKeyRef")
        if isinstance(value, str) and _KEYS_IN_URI.search(value):
            yield Finding(field, "contains keys in a URI; remove them: nodes have them in their role or environment")


def _is_literal(value: Any) -> bool:
    return isinstance(value, str | int | float) and value != "" and not str(value).startswith("$")
