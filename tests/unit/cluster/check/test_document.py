"""YAML with the line of every value."""

from __future__ import annotations

import pytest

from lstm_ray.cluster.check.document import at, parse, path_of

TEXT = """\
a:
  - b: 1
    c: {d: 2}
  - 3

---
---
e: &x [f]
g: *x
e: 4
"""


def test_lines_and_duplicates() -> None:
    first, second = parse(TEXT, "file")
    assert first.content == {"a": [{"b": 1, "c": {"d": 2}}, 3]}
    assert [first.line(field) for field in ((), ("a",), ("a", 0, "c", "d"), ("a", 1))] == [1, 1, 3, 4]
    assert first.line(("a", 0, "none", "deeper")) == 2, "the line of the nearest parent"
    assert second.content == {"e": 4, "g": ["f"]}
    assert second.duplicates == (("e",),)
    assert second.line(("e",)) == 10


@pytest.mark.parametrize(
    ("field", "path"),
    [
        (("spec", "groups", 0, "max-workers"), "spec.groups[0].max-workers"),
        (("file_mounts", "~/.ray/auth_token"), 'file_mounts["~/.ray/auth_token"]'),
        ((), "the whole file"),
    ],
)
def test_paths(field: tuple[str | int, ...], path: str) -> None:
    assert path_of(field) == path


def test_at() -> None:
    content = {"a": [{"b": 1}, True], "c": None}
    assert at(content, ["a", 0, "b"]) == 1
    assert at(content, ["a", 0, "b"], str) is None
    assert at(content, ["a", 1], int) is None, "true is no number"
    assert at(content, ["a", 2]) is None
    assert at(content, ["a", "b"]) is None
    assert at(content, ["c", "d"]) is None
    assert at(content, ["c", 0]) is None
