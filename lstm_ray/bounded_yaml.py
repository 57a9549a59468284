"""Reads untrusted YAML safely: no file can hang or crash the reader, or fill the memory.

PyYAML recurses for each level of nesting. Aliases share values, so that a few lines can expand to billions of values
for code that iterates over them or prints them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

_MOST_BYTES = 4 << 20  # KubeRay's largest CRD has 1.4 MB
_MOST_NESTED = 100
_MOST_VALUES = 200_000  # KubeRay's largest CRD has 62,000; in a long text every 100 characters count as one
_CHARACTERS = 100


def read_yaml_text(path: str | Path) -> str:
    """Returns the text of a file.

    Raises:
        OSError: The file is missing or cannot be read.
        ValueError: The file is too large, or not UTF-8.
    """
    with open(path, "rb") as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ValueError(f"larger than {_MOST_BYTES >> 20} MiB, the limit for YAML files")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(f"line {line:,} is not UTF-8: save the file as UTF-8") from error


class BoundedLoader(yaml.SafeLoader):
    """PyYAML's safe loader, with the limits of `check_bounds`. Every error is a YAMLError."""

    def __init__(self, content: str | bytes) -> None:
        check_bounds(content, yaml.SafeLoader)
        super().__init__(content)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Returns a node's value."""
        try:
            value = super().construct_object(node, deep)
            if type(value) is int and value.bit_length() > 64:
                raise ValueError("more than 64 bits")
            return value
        except (ValueError, LookupError, AttributeError) as error:  # 2026-02-31, !!bool maybe, !!timestamp x
            problem = f"not a {node.tag.rpartition(':')[2]}"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from error


def check_bounds(content: str | bytes, loader: Any) -> None:
    """Checks the depth of nesting and the number of values, with aliases expanded.

    Args:
        content: The whole YAML text.
        loader: The PyYAML loader whose parser is used.

    Raises:
        yaml.YAMLError: A limit is exceeded, or the text is not YAML.
    """
    values = 0
    values_of: dict[str, int] = {}  # by anchor
    around: list[tuple[str, int]] = []  # for each enclosing list or mapping: its anchor, and the values before it
    for event in yaml.parse(content, loader):
        anchor: str = getattr(event, "anchor", None) or ""
        if isinstance(event, yaml.CollectionStartEvent):
            values_of.pop(anchor, None)
            around.append((anchor, values))
            values += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = around.pop()
            values_of[anchor] = values - before
        elif isinstance(event, yaml.ScalarEvent):
            values_of[anchor] = 1 + len(event.value) // _CHARACTERS
            values += values_of[anchor]
        elif isinstance(event, yaml.AliasEvent):
            if anchor not in values_of and any(anchor == outer for outer, _ in around):
                raise _refusal(f"*{anchor} contains itself", event)
            values += values_of.get(anchor, 1)
        if len(around) > _MOST_NESTED:
            raise _refusal(f"nested more than {_MOST_NESTED} deep", event)
        if values > _MOST_VALUES:
            raise _refusal(f"more than {_MOST_VALUES:,} values, with aliases expanded", event)


def _refusal(problem: str, event: yaml.Event) -> yaml.YAMLError:
    mark: Any = event.start_mark  # libyaml's marks have another class, which prints in the same way
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
