"""Versions of Ray as they stand in definitions: in an image's tag, in a pip command."""

from __future__ import annotations

import re


def version_of_image(image: str) -> str | None:
    """Returns the version of Ray in an image's tag, or None.

    rayproject/ray:2.60.0-py311 has 2.60.0, as has me/lstm-ray:1.0-ray2.60.0.
    A tag that begins with a version counts only for images named ray or ray-ml: elsewhere it is that of something else.
    """
    repository, _, tag = image.partition("@")[0].rpartition(":")
    if not repository or "/" in tag:
        return None
    marked = re.search(r"ray-?(\d+\.\d+\.\d+)", tag)
    if marked:
        return marked[1]
    is_rays = repository.rsplit("/", 1)[-1] in ("ray", "ray-ml")
    found = re.match(r"(\d+\.\d+\.\d+)(?![\d.])", tag) if is_rays else None
    return found[1] if found else None


def versions_in_command(command: str) -> list[str]:
    """Returns the versions of Ray that a pip command asks for: pip install "ray[default]==2.60.0" -> ["2.60.0"]."""
    return re.findall(r"(?<![\w-])ray(?:\[[^\]]*\])?==(\d+\.\d+\.\d+)", command)


def as_numbers(version: str) -> tuple[int, ...] | None:
    """Returns a version's numbers, to compare, or None if it is no version: 2.60.0 and v2.60 -> (2, 60, 0)."""
    found = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", version)
    return tuple(int(number or 0) for number in found.groups()) if found else None
