"""Secrets in a definition, where whoever reads the file would have them: Ray's token, keys of an object store."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from lstm_ray.cluster.document import Finding, Place

_NAME = "RAY_AUTH_TOKEN"
# In a shell NAME=..., in YAML or JSON within a text NAME: ... What comes from a variable or a command is none.
_ASSIGNED = re.compile(rf"""(?<![\w${{]){_NAME}(=|:\s+|['"]\s*:\s*)['"]?[^\s'"$`;,}}]""")

_KEYS_IN_URI = re.compile(r"\b[a-z0-9]+://[^/\s:@]*:[^/\s@]*@")


def find_leaks(content: Any, place: Place = ()) -> Iterator[Finding]:
    """Yields a mistake for each value that holds a secret itself: in commands, environments of containers and jobs."""
    if isinstance(content, dict):
        if content.get("name") == _NAME and _is_literal(content.get("value")):
            yield _of_token((*place, "value"))
        for key, value in content.items():
            if key == _NAME and _is_literal(value):
                yield _of_token((*place, key))
            else:
                yield from find_leaks(value, (*place, str(key)))
    elif isinstance(content, list):
        for number, value in enumerate(content):
            yield from find_leaks(value, (*place, number))
    elif isinstance(content, str):
        if _ASSIGNED.search(content):
            yield _of_token(place)
        if _KEYS_IN_URI.search(content):
            message = "holds keys in a URI; take them out: nodes have them in their role or environment"
            yield Finding(place, message)


def _is_literal(value: Any) -> bool:
    return isinstance(value, str | int | float) and value != "" and not str(value).startswith("$")


def _of_token(place: Place) -> Finding:
    message = "holds the token itself; mount its file, or keep it in a Secret: valueFrom.secretKeyRef"
    return Finding(place, message)
