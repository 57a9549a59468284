"""Names in a definition that stand for the user's own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from lstm_ray.cluster.document import Finding, Place

# What `render` and the docs write where they cannot know better.
_NAMES = re.compile(r"(?<![\w-])my-(project|bucket|account|container|registry)(?![\w-])", re.IGNORECASE)
_OWN_IMAGE = re.compile(r"lstm-ray(:[\w.-]+)?")


def find_placeholders(content: Any, place: Place = ()) -> Iterator[Finding]:
    """Yields a to-do for each value that names what only the user can know."""
    if isinstance(content, dict):
        has_images = content.get("pull_before_run") is False  # Ray's launcher then takes what is on the nodes
        for key, value in content.items():
            if has_images and key == "image":
                continue
            yield from find_placeholders(value, (*place, str(key)))
    elif isinstance(content, list):
        for number, value in enumerate(content):
            yield from find_placeholders(value, (*place, number))
    elif isinstance(content, str):
        if found := _NAMES.search(content):
            yield Finding(place, f"still says {found[0]}; put in your own", "to do")
        elif place and str(place[-1]).endswith("image") and _OWN_IMAGE.fullmatch(content):
            message = f"{content} is in no registry; push it to yours and name that, or load it onto every node"
            yield Finding(place, message, "to do")
