"""Finds placeholders in a definition that the user has to replace."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from lstm_ray.cluster.check.document import Finding, at, leaves

# What `render` and the docs use for names that only the user knows.
_NAMES = re.compile(r"(?<![\w-])my-(project|bucket|account|container|registry)(?![\w-])", re.IGNORECASE)
_LOCAL_IMAGE = re.compile(r"lstm-ray(:[\w.-]+)?")


def find_placeholders(content: Any) -> Iterator[Finding]:
    """Yields a to-do for each value with a placeholder."""
    for field, value in leaves(content):
        if not isinstance(value, str):
            continue
        is_image = field and str(field[-1]).endswith("image") and _LOCAL_IMAGE.fullmatch(value)
        if found := _NAMES.search(value):
            yield Finding(field, f"contains the placeholder {found[0]}; replace it by your own name", "to do")
        elif (
            is_image and at(content, [*field[:-1], "pull_before_run"]) is not False
        ):  # otherwise it is already on the nodes
            message = f"{value} is not in a registry; push it to one and use its name there, or load it onto every node"
            yield Finding(field, message, "to do")
