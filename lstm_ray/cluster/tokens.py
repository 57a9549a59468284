"""Ray's token in a definition, where whoever reads the file would have it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from lstm_ray.cluster.document import Finding, Place

_NAME = "RAY_AUTH_TOKEN"
# In a shell NAME=..., in YAML or JSON within a text NAME: ... What comes from a variable or a command is none.
_ASSIGNED = re.compile(rf"""(?<![\w${{]){_NAME}(=|:\s+|['"]\s*:\s*)['"]?[^\s'"$`;,}}]""")


def find_tokens(content: Any, place: Place = ()) -> Iterator[Finding]:
    """Yields a mistake for each value that holds the token itself: in commands, environments of containers and jobs."""
    if isinstance(content, dict):
        if content.get("name") == _NAME and _is_literal(content.get("value")):
            yield _finding((*place, "value"))
        for key, value in content.items():
            if key == _NAME and _is_literal(value):
                yield _finding((*place, key))
            else:
                yield from find_tokens(value, (*place, str(key)))
    elif isinstance(content, list):
        for number, value in enumerate(content):
            yield from find_tokens(value, (*place, number))
    elif isinstance(content, str) and _ASSIGNED.search(content):
        yield _finding(place)


def _is_literal(value: Any) -> bool:
    return isinstance(value, str | int | float) and value != "" and not str(value).startswith("$")


def _finding(place: Place) -> Finding:
    message = "holds the token itself; mount its file, or keep it in a Secret: valueFrom.secretKeyRef"
    return Finding(place, message)
