"""A YAML file with the place of everything in it, and what was found wrong there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from lstm_ray.errors import InputError
from lstm_ray.wording import reason

_TEXT, _MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"

Place = tuple[str | int, ...]
"""Keys and positions that lead to a value: ("spec", "workerGroupSpecs", 0, "maxReplicas")."""


@dataclass(frozen=True)
class Finding:
    """Something to say about a definition.

    Attributes:
        place: What it is about.
        message: What is wrong, and after a semicolon what to do.
        kind: A mistake makes the file invalid, a to-do only has to be done before `up`, a note is for information.
    """

    place: Place
    message: str
    kind: Literal["mistake", "to do", "note"] = "mistake"


@dataclass(frozen=True)
class Document:
    """One document of a YAML file.

    Attributes:
        content: Its mappings, lists and scalars.
        lines: The line that each place begins on, from 1.
        doubles: Places of keys that stand twice in their mapping.
    """

    content: Any
    lines: dict[Place, int]
    doubles: tuple[Place, ...]

    def line(self, place: Place) -> int:
        """Returns the line of a place, or of what it would stand in if it is not there."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)


def path_of(place: Place) -> str:
    """Returns a place as people write it: spec.workerGroupSpecs[0].maxReplicas."""
    path = ""
    for part in place:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part and part.replace("_", "a").replace("-", "a").isalnum():
            path += f".{part}" if path else part
        else:
            path += f'["{part}"]'
    return path or "the whole file"


def read_documents(path: str) -> list[Document]:
    """Reads a YAML file, leaving out empty documents.

    Raises:
        InputError: It cannot be read, or is not YAML.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {reason(error)}") from error
    return parse(text, path)


class _Loader(yaml.SafeLoader):
    """Reads all keys as the texts that stand there, as JSON does and so Kubernetes; 5 and on are others to YAML."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                key.tag = _TEXT
        return super().construct_mapping(node, deep)


def parse(text: str, path: str) -> list[Document]:
    """Parses YAML; `path` is for messages.

    Raises:
        InputError: It is not YAML.
    """
    try:
        loader = _Loader(text)
        try:
            documents = []
            while loader.check_node():
                node = loader.get_node()
                assert node is not None  # check_node said so
                lines: dict[Place, int] = {}
                doubles: list[Place] = []
                _locate(node, (), lines, doubles)
                content = loader.construct_document(node)
                if content is not None:
                    documents.append(Document(content, lines, tuple(doubles)))
            return documents
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date that is none, such as 2026-02-31
        raise InputError(f"{path}: not YAML: {reason(error).replace('<unicode string>', 'the file')}") from error


def _locate(node: yaml.Node, place: Place, lines: dict[Place, int], doubles: list[Place]) -> None:
    lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            inner = (*place, str(key.value))
            if inner in seen:
                doubles.append(inner)
            seen.add(inner)
            lines[inner] = key.start_mark.line + 1
            _locate(value, inner, lines, doubles)
    elif isinstance(node, yaml.SequenceNode):
        for position, value in enumerate(node.value):
            _locate(value, (*place, position), lines, doubles)


def leaves(content: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Yields each value that is neither mapping nor list, with its place."""
    inner = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else None
    if inner is None:
        yield place, content
        return
    for part, value in inner:
        yield from leaves(value, (*place, part))


def at(content: Any, place: Sequence[str | int], expected: type | tuple[type, ...] = object) -> Any:
    """Returns the value at a place, or None if there is none, or one of another type."""
    for part in place:
        if isinstance(part, int):
            if not isinstance(content, list) or part >= len(content):
                return None
            content = content[part]
        else:
            content = content.get(part) if isinstance(content, dict) else None
    is_number = isinstance(content, bool) and expected in (int, float, (int, float))
    return content if isinstance(content, expected) and not is_number else None
