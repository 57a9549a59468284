"""Finds the files of an input: a path, directory, glob or table, local or in an object store."""

from __future__ import annotations

import contextlib
import difflib
import glob
import os
import re
import urllib.parse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pyarrow import fs

from lstm_ray.errors import ConfigError, InputError
from lstm_ray.progress import Progress, ignore
from lstm_ray.storage import is_local, join, locate, path_of
from lstm_ray.storage.formats import LANCE, OF_LANCE, many_to_convert, not_converted
from lstm_ray.storage.listing import fixed_part, is_hidden, is_pattern, list_below, matches, parents
from lstm_ray.storage.tables import Table, is_iceberg_state, live_files, table_around, tables_among
from lstm_ray.wording import counted, quoted, reason, shortened

_SUFFIX = ".parquet"
_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"
_HALF_URI = re.compile(r"/[a-zA-Z][\w+.-]+:/")  # of two letters: C:/ is no scheme
_SPLITS = "train|test|validation|valid|val|dev|eval"
_SPLIT = re.compile(
    rf"(.*/|)(?:(\w[\w.]*)-\d{{5}}-of-\d{{5}}(?:-\w+)?\.parquet|({_SPLITS})\.parquet|({_SPLITS})/(?:[^/=]+=[^/]*/)*[^/]*)",
    re.DOTALL,
)
_HELD_OUT = {"test", "validation", "valid", "val", "dev", "eval"}
_NAMED = 3  # maximum number of files that a note names


@dataclass(frozen=True)
class InputFile:
    """A file to read.

    Attributes:
        path: Path or URI, for `storage.locate` and for messages.
        size: Size in bytes.
        modified: Time of the last change, ISO 8601, or "" if the store does not report it.
        partitions: Values in the directories' names: {"year": "2024", "lang": "en"} for year=2024/lang=en/a.parquet.
    """

    path: str
    size: int
    modified: str
    partitions: dict[str, str | None] = field(default_factory=dict)

    def open(self) -> Any:
        """Opens the file for random access.

        Raises:
            InputError: The file is missing or cannot be read.
        """
        filesystem, path = locate(self.path)
        try:
            return filesystem.open_input_file(path)
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read: {reason(error)}") from error


def find_inputs(
    inputs: Sequence[str], progress: Progress = ignore, *, warns_of_splits: bool = False
) -> list[InputFile]:
    """Lists the files of paths, directories and globs: each real file once, whatever its names.

    A directory stands for all files below it whose names end with ".parquet"; names that begin with "_" or "." are left
    out, as in Spark and Hive, but not partitions such as _year=2024. A glob stands for the files and directories that
    it matches. The files of each input are sorted by path. Directories named key=value below a directory, or from a
    glob's first wildcard on, become the files' `partitions`. A Delta or Iceberg table stands for its live files
    (tables.py).

    Args:
        inputs: Paths and URIs.
        progress: Receives notes on files that are left out.
        warns_of_splits: True if it also receives a note on an input that has both training rows and held-out rows.

    Raises:
        InputError: A path does not exist or cannot be read, a directory or glob has no files, or an input contains only
            some of the files of a table.
    """
    found = [_find(given, progress) for given in inputs]
    for given, files in zip(inputs, found, strict=True):
        if warns_of_splits and (splits := _describe_splits(files)) is not None:
            progress(f"note: {given}: {splits}")
    return _once([file for files in found for file in files], progress)


def _describe_splits(files: Sequence[InputFile]) -> str | None:
    """Returns which splits of a data set are among files, and what takes one; None unless one of several is held out.

    Source: the names that `datasets` of Hugging Face writes (train-00000-of-00001.parquet), the directories of its hub
    (default/train/0000.parquet), and the names of `data split`.
    """
    matches = [match for file in files if (match := _SPLIT.fullmatch(file.path)) is not None]
    splits: dict[str, str] = {}
    for match in matches:
        shard, file, directory = match.groups()[1:]
        splits[shard or file or directory] = f"{shard}-*" if shard else f"{file}.parquet" if file else f"{directory}/*"
    if len(splits) < 2 or _HELD_OUT.isdisjoint(splits):
        return None
    directories = {match[1] for match in matches}
    base = os.path.commonprefix([*directories])  # noqa: RUF071 - commonpath would make s3:/ of s3://
    base = base[: base.rfind("/") + 1]
    one = "train" if "train" in splits else min(splits)
    pattern = quoted(glob.escape(base) + ("**/" if len(directories) > 1 else "") + splits[one])
    return f"takes the splits {', '.join(sorted(splits))} together; {pattern} takes {one} alone"


def find_file(path: str) -> InputFile:
    """Returns a file with its current size and time, without partitions.

    Raises:
        InputError: There is no such file, or the store cannot be reached.
    """
    filesystem, inner = locate(path)
    try:
        info = filesystem.get_file_info(inner)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {reason(error)}") from error
    if info.type != fs.FileType.File:
        raise InputError(f"{path}: {why_missing(inner)}")
    return _input_file(path, info, {})


@dataclass(frozen=True)
class _Listing:
    """The files below an input.

    Attributes:
        base: Directory below which the names of directories become partitions.
        infos: All files below it.
        meant: Paths of the files and directories that the input names or matches.
    """

    base: str
    infos: list[fs.FileInfo]
    meant: set[str]

    def divide(self) -> tuple[list[fs.FileInfo], list[fs.FileInfo]]:
        """Returns the files that the input names and the Parquet files in its directories, and the others there."""
        chosen: list[fs.FileInfo] = []
        left_out: list[fs.FileInfo] = []
        for info in self.infos:
            if info.path in self.meant:
                chosen.append(info)
            elif (
                info.type != fs.FileType.Directory
                and not is_hidden(info.path[len(self.base) :])
                and not self.meant.isdisjoint(parents(info.path, self.base))
            ):
                (chosen if info.path.endswith(_SUFFIX) else left_out).append(info)
        return chosen, left_out


def _find(given: str, progress: Progress) -> list[InputFile]:
    if not given:
        raise InputError("an input path is empty")
    filesystem, path = locate(given)
    try:
        listing = _list(given, filesystem, path)
        around = table_around(filesystem, listing.base)
        if around is None and isinstance(filesystem, fs.LocalFileSystem):  # a link may lead into a table
            around = table_around(filesystem, os.path.realpath(path if os.path.exists(path) else listing.base))
    except OSError as error:
        raise InputError(f"{given}: cannot be read: {reason(error)}") from error
    to_path = path_of(given)
    chosen, not_chosen = listing.divide()
    chosen, live = _apart_from_tables(given, path, listing, chosen, around)
    if missing := [info.path for info in chosen if info.type != fs.FileType.File]:
        raise InputError(f"{to_path(missing[0])}: {why_missing(missing[0])}")
    left_out = "" if live else _describe_left_out(not_chosen, chosen, listing.base, to_path)
    if not (chosen or live):
        nothing = f"no *{_SUFFIX} file in this directory" if listing.meant else "no file matches"
        raise InputError(f"{given}: {nothing}{left_out and f': left out {left_out}'}")
    if left_out:
        progress(f"note: {given}: left out {left_out}")
    found = [
        _input_file(to_path(info.path), info, _partitions(os.path.dirname(info.path), listing.base, to_path))
        for info in chosen
    ]
    return sorted([*found, *live], key=lambda file: file.path)


def _apart_from_tables(
    given: str, path: str, listing: _Listing, chosen: list[fs.FileInfo], around: Table | None
) -> tuple[list[fs.FileInfo], list[InputFile]]:
    """Returns the chosen files that are in no table, and the live files of the tables that the input names.

    Raises:
        InputError: The input has files of a table that it does not name.
    """
    to_path = path_of(given)
    live: list[InputFile] = []
    for table in dict.fromkeys([*tables_among(info.path for info in listing.infos), *([around] if around else [])]):
        state = path if table.kind == "Iceberg" and is_iceberg_state(path) else None
        others = [info for info in chosen if not info.path.startswith(f"{table.path}/")]
        if table.path in listing.meant or state is not None:
            live += _live_files(to_path(table.path), table, state, _partitions(table.path, listing.base, to_path))
        elif len(others) < len(chosen) or table == around:
            shown = to_path(table.path)
            raise InputError(
                f"{given}: has files of the {table.kind} table {shown}, and only its log knows which of them are live: "
                f"give {shown} itself"
            )
        chosen = others
    return chosen, live


def _list(given: str, filesystem: fs.FileSystem, path: str) -> _Listing:
    """Lists the files below an input.

    Raises:
        InputError: The path does not exist.
        OSError: A directory cannot be read.
    """
    info = filesystem.get_file_info(path)
    if info.type == fs.FileType.Directory:
        return _Listing(path.rstrip("/"), list_below(filesystem, path), {path.rstrip("/")})
    if info.type == fs.FileType.NotFound and is_pattern(path):
        base = fixed_part(path)
        infos = list_below(filesystem, base or "/")
        visible = [info.path for info in infos if not is_hidden(info.path[len(base) :])]
        named = {name for file in visible for name in (file, *parents(file, base))}
        return _Listing(base, infos, {name for name in named if matches(name, path)})
    if info.type != fs.FileType.File:
        raise InputError(f"{given}: {why_missing(path)}")
    return _Listing(os.path.dirname(path), [info], {path})


def why_missing(path: str) -> str:
    """Returns why a local path is no file that can be read, as the end of a message."""
    if os.path.exists(path):
        return "not a regular file: write it to a file first"  # a pipe or device, whose end is unknown
    if "," in path and all(map(os.path.exists, path.split(","))):
        return "no such file or directory: give each input separately, without commas"
    if _HALF_URI.search(path):
        return "no such file or directory: a URI has two slashes after the colon, and a local one three: file:///data"
    if os.path.islink(path):
        return "this link leads nowhere"
    directory, name = os.path.split(path.rstrip("/"))
    near: list[str] = []
    with contextlib.suppress(OSError):  # there may be no such directory, or no right to list it
        near = difflib.get_close_matches(name, os.listdir(directory or "."), 1)
    guess = f": did you mean {quoted(os.path.join(directory, near[0]))}?" if near else ""
    return f"no such file or directory{guess}"


def _describe_left_out(
    left_out: Sequence[fs.FileInfo], chosen: Sequence[fs.FileInfo], base: str, to_path: Callable[[str], str]
) -> str:
    """Returns a description of files with another suffix and how to read them, or "" if there are none."""
    paths = not_converted([info.path for info in left_out], {info.path for info in chosen})
    if not paths:
        return ""
    names = [path[len(base) + 1 :] for path in paths]
    shown = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
    pattern = join(to_path(base), "**" if any("/" in name for name in names) else "*")
    remedy = many_to_convert(to_path(base), names, len(paths) == len(left_out)) or f"{quoted(pattern)} takes all"
    if any(name.endswith(LANCE) for name in names):
        remedy = f"those in {LANCE} {OF_LANCE}"
    return f"{counted(len(names), 'file')} without the suffix {_SUFFIX} ({shown}); {remedy}"


def _live_files(shown: str, table: Table, state: str | None, partitions: Mapping[str, str | None]) -> list[InputFile]:
    """Returns the live files of a table.

    Args:
        shown: The table's directory, as a path or URI.
        table: The table.
        state: For Iceberg, the metadata file of the state to read.
        partitions: Partition values from the directories above the table.

    Raises:
        InputError: The log cannot be read, or a live file is missing.
    """
    live = live_files(shown, table, state)
    filesystem = locate(shown)[0]
    infos = filesystem.get_file_info([locate(path)[1] for path, _ in live])
    if missing := [path for (path, _), info in zip(live, infos, strict=True) if info.type != fs.FileType.File]:
        raise InputError(f"{missing[0]}: missing, but the log of the {table.kind} table {shown} says that it is live")
    if not live:
        raise InputError(f"{shown}: the {table.kind} table has no files")
    return [_input_file(path, info, {**partitions, **values}) for (path, values), info in zip(live, infos, strict=True)]


def _once(files: Sequence[InputFile], progress: Progress) -> list[InputFile]:
    """Returns each real file once, by a name without links where it has one."""
    by_identity: dict[object, list[InputFile]] = {}
    for file in files:
        # With different partition values, as in year=2023/ and year=2024/, a file stands for different rows.
        by_identity.setdefault((_identity(file), *sorted(file.partitions.items())), []).append(file)
    kept = {
        identity: next((file for file in same if not _is_linked(file)), same[0]) if len(same) > 1 else same[0]
        for identity, same in by_identity.items()
    }
    if repeated := [same for same in by_identity.values() if len(same) > 1]:
        one, other, *_ = repeated[0]
        names = one.path if one.path == other.path else f"{one.path} is {other.path}"
        more = ", ..." if len(repeated) > 1 else ""
        progress(f"note: read once, although named more than once: {counted(len(repeated), 'file')} ({names}{more})")
    return list(kept.values())


def shared_files(some: Iterable[InputFile], others: Iterable[InputFile]) -> list[InputFile]:
    """Returns the files that are in both groups, even under different paths."""
    known = {_identity(file) for file in others}
    return [file for file in some if _identity(file) in known]


def is_named_by(given: str, file: InputFile) -> bool:
    """Returns whether an input of an earlier run was or contained a file. Does not access object stores."""
    if is_local(file.path) != ("://" not in given):
        return False
    if not is_local(file.path) and given.split("/")[:3] != file.path.split("/")[:3]:
        return False  # on another store
    given, path = _real(given), _real(file.path)
    return given == path or would_find(given, path)


def _identity(file: InputFile) -> object:
    """Returns a value that is equal for all paths of the same file."""
    if not is_local(file.path):
        return file.path
    path = locate(file.path)[1]
    try:
        status = os.stat(path)
    except OSError as error:
        raise InputError(f"{file.path}: cannot be read: {reason(error)}") from error
    # Some network filesystems have no inode numbers.
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(path)


def _is_linked(file: InputFile) -> bool:
    path = locate(file.path)[1]
    return is_local(file.path) and os.path.realpath(path) != path


def would_find(given: str, file: str) -> bool:
    """Returns whether `find_inputs` would find a file in a directory or with a glob, if the file existed."""
    (filesystem, path), (file_filesystem, target) = locate(given), locate(file)
    if type(filesystem) is not type(file_filesystem):
        return False
    if is_pattern(path):
        base = fixed_part(path)
        found = any(matches(name, path) for name in (target, *parents(target, base)))
    else:
        base, found = path.rstrip("/"), target.startswith(path.rstrip("/") + "/")
    return found and target.startswith(f"{base}/") and not is_hidden(target[len(base) :])


def check_apart(inputs: Iterable[str], output: str, name: str | None, harm: str, option: str = "--output") -> None:
    """Checks that a run's output is not among its inputs.

    Args:
        inputs: See `find_inputs`.
        output: Directory that the run writes to, or a file.
        name: A file that it will write there; None if the output is a file.
        harm: The consequence, for the message.
        option: What the output was given with.

    Raises:
        ConfigError: The file would be among the inputs.
    """
    target = output if name is None else join(output, name)
    real = _real(target)
    for given in inputs:
        if would_find(given, target) or would_find(_real(given), real):
            raise ConfigError(
                f"{option} {output} is inside the input {given}, {harm}: choose another directory, or a name that "
                "begins with _"
            )


def _real(path: str) -> str:
    """Returns a local path without links; a URI as it is."""
    return path if "://" in path else os.path.realpath(os.path.expanduser(path))


def _input_file(path: str, info: fs.FileInfo, partitions: dict[str, str | None]) -> InputFile:
    modified = info.mtime
    if modified is not None and not is_local(path):
        # A store reports fractions of a second in a listing, but not when asked for a single file.
        modified = modified.replace(microsecond=0)
    time = modified.isoformat() if isinstance(modified, datetime) else ""
    return InputFile(path, info.size, time, partitions)


def _partitions(directory: str, base: str, to_path: Callable[[str], str]) -> dict[str, str | None]:
    """Returns the keys and values of the segments key=value of a path below `base`, percent-decoded.

    Source: Hive's partition layout, as Spark writes it and pyarrow.dataset reads it.

    Raises:
        InputError: Two segments have one key, and different values.
    """
    found: dict[str, str | None] = {}
    for segment in directory[len(base) :].split("/"):
        name, is_one, text = segment.partition("=")
        if not (is_one and name):
            continue
        key, value = _unquoted(name), None if text == _NULL_PARTITION else _unquoted(text)
        if found.setdefault(key, value) != value:
            raise InputError(
                f"{to_path(directory)}: its name has two values of the column {shortened(repr(key))}: rename one of "
                "these directories, or give the first one as the input: only the names below it count"
            )
    return found


def _unquoted(text: str) -> str:
    """Returns a text percent-decoded; as it stands if that is not UTF-8, where decoding would change values."""
    try:
        return urllib.parse.unquote(text, errors="strict")
    except UnicodeDecodeError:
        return text
