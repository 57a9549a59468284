"""Listing and patterns: no name and no pattern hangs or crashes them."""

from __future__ import annotations

import errno
import fnmatch
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import fs

from lstm_ray.errors import InputError
from lstm_ray.storage.inputs import find_inputs
from lstm_ray.storage.listing import list_below, matches

segments = st.lists(st.sampled_from(["a", "b", "ab"]), max_size=5)
patterns = st.lists(st.sampled_from(["a", "b", "*", "a*", "?", "**"]), max_size=5)


def matches_by_recursion(path: list[str], pattern: list[str]) -> bool:
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(matches_by_recursion(path[start:], pattern[1:]) for start in range(len(path) + 1))
    return bool(path) and fnmatch.fnmatchcase(path[0], pattern[0]) and matches_by_recursion(path[1:], pattern[1:])


@given(segments, patterns)
def test_a_pattern_matches_segment_by_segment(path: list[str], pattern: list[str]) -> None:
    assert matches("/".join(["x", *path]), "/".join(["x", *pattern])) == matches_by_recursion(path, pattern)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("pattern", ["**/" * 30 + "b", "**/a/" * 30 + "b", "*" * 200 + "b"])
def test_no_pattern_takes_for_ever(pattern: str) -> None:
    assert not matches("a/" * 200 + "a" * 200, pattern)


def test_a_name_that_is_not_utf8_is_an_error_that_names_it(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/caf\xe9.parquet", "wb"):
        pass
    with pytest.raises(InputError, match=r"caf\\udce9|caf.*not UTF-8, and Arrow cannot open it: rename the file"):
        list_below(fs.LocalFileSystem(), str(tmp_path))


def test_a_directory_that_cannot_be_read_is_the_one_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "a.parquet").touch()
    scan = os.scandir

    def refuse(path: str) -> object:  # permissions do not stop root
        if str(path).endswith("inner"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    for given_input in (str(tmp_path), f"{tmp_path}/*/*.parquet"):
        with pytest.raises(InputError, match=r"/inner: cannot be read: permission denied$"):
            find_inputs([given_input])
