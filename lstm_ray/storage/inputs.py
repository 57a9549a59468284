"""Finds the files of an input: a path, directory or glob, local or in an object store."""

from __future__ import annotations

import fnmatch
import itertools
import os
import urllib.parse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pyarrow import fs

from lstm_ray.errors import ConfigError, InputError
from lstm_ray.storage import is_local, join, locate, path_of
from lstm_ray.wording import reason

_SUFFIX = ".parquet"
_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class InputFile:
    """A file to read.

    Attributes:
        path: For `storage.locate` and for messages.
        size: Bytes.
        modified: Time of the last change, ISO 8601, or "" if the store does not report it.
        partitions: Values from its directories' names: {"year": "2024", "lang": "en"} of year=2024/lang=en/a.parquet.
    """

    path: str
    size: int
    modified: str
    partitions: dict[str, str | None] = field(default_factory=dict)

    def open(self) -> Any:
        """Opens the file for random reads.

        Raises:
            InputError: The file is missing, or may not be read.
        """
        filesystem, path = locate(self.path)
        try:
            return filesystem.open_input_file(path)
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read: {reason(error)}") from error


def find_inputs(inputs: Sequence[str]) -> list[InputFile]:
    """Lists the files of paths, directories and globs.

    A directory means all files below it whose name ends with ".parquet"; names that begin with "_" or "." are left out,
    as in Spark and Hive. The order is that of `inputs`, and by path within each. Directories named key=value below the
    one given, or from a glob's first wildcard on, become the files' `partitions`.

    Raises:
        InputError: A path does not exist or cannot be read, or a directory or glob has no files.
    """
    return [file for given in inputs for file in _find(given)]


def _find(given: str) -> list[InputFile]:
    if not given:
        raise InputError("an input path is empty")
    filesystem, path = locate(given)
    to_path = path_of(given)
    try:
        if (
            any(character in path for character in "*?[")
            and filesystem.get_file_info(path).type == fs.FileType.NotFound
        ):
            files = _glob(filesystem, path)
            if not files:
                raise InputError(f"{given}: no file matches")
            return [_input_file(to_path, info, _fixed_part(path)) for info in files]
        info = filesystem.get_file_info(path)
        if info.type == fs.FileType.NotFound:
            raise InputError(f"{given}: no such file or directory")
        if info.type == fs.FileType.File:
            return [_input_file(to_path, info, os.path.dirname(info.path))]
        found = _list_files(filesystem, path)
    except OSError as error:
        raise InputError(f"{given}: cannot be read: {reason(error)}") from error
    files = [info for info in found if info.path.endswith(_SUFFIX) and not _is_hidden(info.path[len(path) :])]
    if not files:
        raise InputError(f"{given}: no *{_SUFFIX} file in this directory")
    return [_input_file(to_path, info, path) for info in files]


def would_find(given: str, file: str) -> bool:
    """Returns whether `find_inputs` would find a file in a directory or through a glob, once the file exists."""
    (filesystem, path), (file_filesystem, target) = locate(given), locate(file)
    if type(filesystem) is not type(file_filesystem):
        return False
    if any(character in path for character in "*?["):
        directory, matches = _fixed_part(path), _matches(target.split("/"), path.split("/"))
    else:
        directory, matches = path.rstrip("/"), target.startswith(path.rstrip("/") + "/")
    return matches and not _is_hidden(target[len(directory) :])


def check_apart(inputs: Iterable[str], output: str, name: str, harm: str) -> None:
    """Checks that a run's output is not among its inputs.

    Args:
        inputs: As for `find_inputs`.
        output: Directory that the run writes to.
        name: A file that it will write there.
        harm: What would follow, for the message.

    Raises:
        ConfigError: The file would be found.
    """
    for given in inputs:
        if would_find(given, join(output, name)):
            raise ConfigError(
                f"--output {output} is inside the input {given}, {harm}: choose another directory, or a name that "
                "begins with _"
            )


def _list_files(filesystem: fs.FileSystem, directory: str) -> list[fs.FileInfo]:
    selector = fs.FileSelector(directory, recursive=True, allow_not_found=True)
    infos = [info for info in filesystem.get_file_info(selector) if info.type == fs.FileType.File]
    return sorted(infos, key=lambda info: info.path)


def _glob(filesystem: fs.FileSystem, pattern: str) -> list[fs.FileInfo]:
    """Matches a pattern by path segments; `**` matches any number of them."""
    segments = pattern.split("/")
    directory = _fixed_part(pattern)
    infos = _list_files(filesystem, directory or "/")
    return [
        info
        for info in infos
        if _matches(info.path.split("/"), segments) and not _is_hidden(info.path[len(directory) :])
    ]


def _fixed_part(pattern: str) -> str:
    """Returns the directory before a pattern's first wildcard."""
    return "/".join(itertools.takewhile(lambda segment: not any(c in segment for c in "*?["), pattern.split("/")))


def _matches(path: list[str], pattern: list[str]) -> bool:
    if not pattern:
        return not path
    if pattern[0] == "**":
        return _matches(path, pattern[1:]) or (bool(path) and _matches(path[1:], pattern))
    return bool(path) and fnmatch.fnmatchcase(path[0], pattern[0]) and _matches(path[1:], pattern[1:])


def _is_hidden(path: str) -> bool:
    return any(segment.startswith(("_", ".")) for segment in path.split("/"))


def _input_file(to_path: Callable[[str], str], info: fs.FileInfo, base: str) -> InputFile:
    path, modified = to_path(info.path), info.mtime
    if modified is not None and not is_local(path):
        # A store reports fractions of a second in a listing, but not when asked for a single file.
        modified = modified.replace(microsecond=0)
    time = modified.isoformat() if isinstance(modified, datetime) else ""
    return InputFile(path, info.size, time, _partitions(os.path.dirname(info.path[len(base) :])))


def _partitions(directory: str) -> dict[str, str | None]:
    """Returns the keys and values of a path's segments of the form key=value; percent signs are decoded.

    Source: Hive's layout, as Spark writes it and pyarrow.dataset reads it.
    """
    unquote = urllib.parse.unquote
    named = (segment.partition("=") for segment in directory.split("/"))
    return {
        unquote(key): None if value == _NULL_PARTITION else unquote(value)
        for key, is_one, value in named
        if is_one and key
    }
