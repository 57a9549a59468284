"""Secrets in a definition, where whoever reads the file would have them: Ray's token, keys of an object store."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from lstm_ray.cluster.check.document import Finding, at, leaves

_NAME = "RAY_AUTH_TOKEN"
# In a shell NAME=..., in YAML or JSON within a text NAME: ... What comes from a variable or a command is none.
_ASSIGNED = re.compile(rf"""(?<![\w${{]){_NAME}(=|:\s+|['"]\s*:\s*)['"]?[^\s'"$`;,}}]""")
_KEYS_IN_URI = re.compile(r"\b[a-z0-9]+://[^/\s:@]*:[^/\s@]*@")


def find_leaks(content: Any) -> Iterator[Finding]:
    """Yields a mistake for each value that holds a secret itself: in commands, environments of containers and jobs."""
    for place, value in leaves(content):
        is_variable = place[-1:] == (_NAME,) or (
            place[-1:] == ("value",) and at(content, [*place[:-1], "name"]) == _NAME
        )
        if (is_variable and _is_literal(value)) or (isinstance(value, str) and _ASSIGNED.search(value)):
            message = "holds the token itself; mount its file, or keep it in a Secret: valueFrom.secretKeyRef"
            yield Finding(place, message)
        if isinstance(value, str) and _KEYS_IN_URI.search(value):
            message = "holds keys in a URI; take them out: nodes have them in their role or environment"
            yield Finding(place, message)


def _is_literal(value: Any) -> bool:
    return isinstance(value, str | int | float) and value != "" and not str(value).startswith("$")
