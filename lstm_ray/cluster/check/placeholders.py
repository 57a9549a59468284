"""Names in a definition that stand for the user's own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from lstm_ray.cluster.check.document import Finding, at, leaves

# What `render` and the docs write where they cannot know better.
_NAMES = re.compile(r"(?<![\w-])my-(project|bucket|account|container|registry)(?![\w-])", re.IGNORECASE)
_OWN_IMAGE = re.compile(r"lstm-ray(:[\w.-]+)?")


def find_placeholders(content: Any) -> Iterator[Finding]:
    """Yields a to-do for each value that names what only the user can know."""
    for place, value in leaves(content):
        if not isinstance(value, str):
            continue
        is_image = place and str(place[-1]).endswith("image") and _OWN_IMAGE.fullmatch(value)
        if found := _NAMES.search(value):
            yield Finding(place, f"still says {found[0]}; put in your own", "to do")
        elif is_image and at(content, [*place[:-1], "pull_before_run"]) is not False:  # else it is on the nodes
            message = f"{value} is in no registry; push it to yours and name that, or load it onto every node"
            yield Finding(place, message, "to do")
