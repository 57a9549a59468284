"""Lists the files below a directory, and matches paths against patterns."""

from __future__ import annotations

import fnmatch
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from pyarrow import fs

from lstm_ray.errors import InputError
from lstm_ray.wording import reason


def list_below(filesystem: fs.FileSystem, directory: str) -> list[fs.FileInfo]:
    """Returns the files below a directory, sorted by path.

    On a local disk links are followed, each directory is visited once, and hidden directories are listed but not
    visited.

    Raises:
        InputError: A local directory below it cannot be read, or has a name that is not UTF-8.
        OSError: A store cannot be read.
    """
    if isinstance(filesystem, fs.LocalFileSystem):
        infos = []
        for current, paths in _walk(directory):
            try:
                infos += filesystem.get_file_info(paths)
            except OSError as error:  # the names can be read, but not whether they are files
                raise _unreadable(current, error) from error
    else:
        infos = filesystem.get_file_info(fs.FileSelector(directory, recursive=True, allow_not_found=True))
    return sorted(infos, key=lambda info: info.path)


def _walk(directory: str) -> Iterator[tuple[str, list[str]]]:
    """Yields each directory with the files and hidden directories in it. Linked directories come last.

    Arrow's listing follows a link to a parent directory again and again, and lists its files 40 times.
    """
    entered = set()
    waiting = [directory] if os.path.exists(directory) else []
    for root in waiting:  # the list grows during the loop
        for current, directories, names in os.walk(root, onerror=_fail):
            status = os.stat(current)
            if (status.st_dev, status.st_ino) in entered:
                directories.clear()
                continue
            entered.add((status.st_dev, status.st_ino))
            directories.sort()
            hidden = [name for name in directories if is_hidden(name)]
            found = [os.path.join(current, name) for name in (*names, *hidden)]
            if odd := [path for path in found if path != path.encode(errors="replace").decode()]:
                raise InputError(f"{odd[0]}: this name is not UTF-8, and Arrow cannot open it: rename the file")
            yield current, found
            directories[:] = [name for name in directories if name not in hidden]
            linked = [os.path.join(current, name) for name in directories]
            waiting += [path for path in linked if os.path.islink(path) and not _leads_to_parent(path)]


def _leads_to_parent(link: str) -> bool:
    """Returns whether a link leads to one of its parent directories, which is listed anyway or not in the input."""
    return Path(os.path.realpath(os.path.dirname(link))).is_relative_to(os.path.realpath(link))


def _fail(error: OSError) -> None:
    raise _unreadable(error.filename, error) from error


def _unreadable(directory: str, error: OSError) -> InputError:
    return InputError(f"{directory}: cannot be read: {reason(error)}")


def is_hidden(path: str) -> bool:
    """Returns whether a segment of a path begins with "." or "_"; a partition such as _year=2024 is not hidden.

    Source: the rule of Spark and Hive, which write such directories for columns whose names begin with "_".
    """
    return any(
        segment.startswith(".") or (segment.startswith("_") and "=" not in segment) for segment in path.split("/")
    )


def parents(path: str, base: str) -> Iterator[str]:
    """Yields the parent directories of a path, innermost first, up to and including `base`."""
    while len(path) > len(base):
        path = os.path.dirname(path) if os.path.dirname(path) != "/" else ""
        yield path


def is_pattern(path: str) -> bool:
    """Returns whether a path contains wildcards."""
    return any(character in path for character in "*?[")


def fixed_part(pattern: str) -> str:
    """Returns the directory before a pattern's first wildcard."""
    return "/".join(itertools.takewhile(lambda segment: not is_pattern(segment), pattern.split("/")))


def matches(path: str, pattern: str) -> bool:
    """Returns whether a pattern matches a path, segment by segment; `**` matches any number of segments."""
    segments = path.split("/")
    done = {0}  # possible numbers of path segments that the pattern's segments so far match
    for wanted in pattern.split("/"):
        if wanted == "**":
            done = set(range(min(done), len(segments) + 1)) if done else done
        else:
            done = {n + 1 for n in done if n < len(segments) and fnmatch.fnmatchcase(segments[n], wanted)}
    return len(segments) in done
