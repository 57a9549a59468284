"""YAML documents with the line of every value, and findings about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from lstm_ray.bounded_yaml import BoundedLoader, read_yaml_text
from lstm_ray.errors import InputError
from lstm_ray.wording import reason

_TEXT, _MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"

FieldPath = tuple[str | int, ...]
"""Keys and indices that lead to a value: ("spec", "workerGroupSpecs", 0, "maxReplicas")."""


@dataclass(frozen=True)
class Finding:
    """A finding about a definition.

    Attributes:
        field: The field.
        message: What is wrong and, after a semicolon, what to do.
        kind: A mistake makes the file invalid, a to-do must be done before `up`, a note is for information.
    """

    field: FieldPath
    message: str
    kind: Literal["mistake", "to do", "note"] = "mistake"


@dataclass(frozen=True)
class Document:
    """One document of a YAML file.

    Attributes:
        content: Its mappings, lists and scalars.
        lines: The line that each field begins on, from 1.
        duplicates: Keys that occur twice in their mapping.
    """

    content: Any
    lines: dict[FieldPath, int]
    duplicates: tuple[FieldPath, ...]

    def line(self, field: FieldPath) -> int:
        """Returns the line of a field, or of its nearest parent in the file if it is missing."""
        while field and field not in self.lines:
            field = field[:-1]
        return self.lines.get(field, 1)


def path_of(field: FieldPath) -> str:
    """Returns a field's path as text: spec.workerGroupSpecs[0].maxReplicas."""
    path = ""
    for part in field:
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
        InputError: The file cannot be read, or is not YAML.
    """
    try:
        text = read_yaml_text(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {reason(error)}") from error
    return parse(text, path)


class _Loader(BoundedLoader):
    """Reads every key as a string, like JSON and Kubernetes; in YAML, the keys 5 and on would have other types."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                key.tag = _TEXT
        return super().construct_mapping(node, deep)


def parse(text: str, path: str) -> list[Document]:
    """Parses YAML. `path` is used in messages.

    Raises:
        InputError: The text is not YAML.
    """
    try:
        loader = _Loader(text)
        try:
            documents = []
            while loader.check_node():
                node = loader.get_node()
                assert node is not None  # because check_node is true
                lines: dict[FieldPath, int] = {}
                duplicates: list[FieldPath] = []
                _locate(node, (), lines, duplicates)
                content = loader.construct_document(node)
                if content is not None:
                    documents.append(Document(content, lines, tuple(duplicates)))
            return documents
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML: {reason(error).replace('<unicode string>', 'the file')}") from error


def _locate(node: yaml.Node, field: FieldPath, lines: dict[FieldPath, int], duplicates: list[FieldPath]) -> None:
    lines.setdefault(field, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            inner = (*field, str(key.value))
            if inner in seen:
                duplicates.append(inner)
            seen.add(inner)
            lines[inner] = key.start_mark.line + 1
            _locate(value, inner, lines, duplicates)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _locate(value, (*field, index), lines, duplicates)


def leaves(content: Any, field: FieldPath = ()) -> Iterator[tuple[FieldPath, Any]]:
    """Yields each value that is neither mapping nor list, with its field."""
    inner = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else None
    if inner is None:
        yield field, content
        return
    for part, value in inner:
        yield from leaves(value, (*field, part))


def at(content: Any, field: Sequence[str | int], expected: type | tuple[type, ...] = object) -> Any:
    """Returns the value of a field, or None if it is missing or has another type."""
    for part in field:
        if isinstance(part, int):
            if not isinstance(content, list) or part >= len(content):
                return None
            content = content[part]
        else:
            content = content.get(part) if isinstance(content, dict) else None
    is_number = isinstance(content, bool) and expected in (int, float, (int, float))
    return content if isinstance(content, expected) and not is_number else None


def strings(content: Any, field: Sequence[str | int]) -> list[tuple[int, str]]:
    """Returns the strings in the list of a field, each with its index."""
    return [(index, value) for index, value in enumerate(at(content, field, list) or []) if isinstance(value, str)]
