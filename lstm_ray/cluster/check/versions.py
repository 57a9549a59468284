"""Versions of Ray and Python in image tags and pip commands, which must be the same on all nodes of a cluster."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from lstm_ray.cluster.check.document import FieldPath, Finding


def check_agreement(mentions: Sequence[tuple[FieldPath, str, str | None]]) -> Iterator[Finding]:
    """Yields a mistake for each version that differs from the first one of the same program.

    Args:
        mentions: Fields, each with a program such as Ray and its version; None if the version is unknown.
    """
    first: dict[str, str] = {}
    for field, program, version in mentions:
        if version is not None and as_numbers(version) != as_numbers(first.setdefault(program, version)):
            yield Finding(
                field,
                f"has {program} {version}, but an earlier field has {program} {first[program]}; "
                "all nodes need the same version",
            )


def ray_of_image(image: str) -> str | None:
    """Returns the version of Ray in an image's tag, or None.

    rayproject/ray:2.60.0-py311 has 2.60.0, as has me/lstm-ray:1.0-ray2.60.0.
    A version at the start of a tag counts only for images named ray or ray-ml; otherwise it is that of another program.
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


def python_of_image(image: str) -> str | None:
    """Returns the version of Python in an image's tag, or None: rayproject/ray:2.60.0-py311 -> 3.11."""
    found = re.search(r":[^/@]*-py(3)(\d+)(?!\d)", image)
    return f"{found[1]}.{found[2]}" if found else None


def rays_in_command(command: str) -> list[str]:
    """Returns the versions of Ray in a pip command: pip install "ray[default]==2.60.0" -> ["2.60.0"]."""
    return re.findall(r"(?<![\w-])ray(?:\[[^\]]*\])?==(\d+\.\d+\.\d+)", command)


def as_numbers(version: str) -> tuple[int, ...] | None:
    """Returns a version as numbers for comparison, or None if it is not one: 2.60.0 and v2.60 -> (2, 60, 0)."""
    found = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", version)
    return tuple(int(number or 0) for number in found.groups()) if found else None
