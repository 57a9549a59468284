"""Reads, writes, lists, locks and deletes files, local or in an object store.

A file is written under a temporary name and renamed, so that readers never see an incomplete file. (On an object store
a put is atomic and a rename would be a copy, so the file is put under its final name.)
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
from pyarrow import fs

from lstm_ray.errors import InputError, OutputError
from lstm_ray.storage.locations import is_local, join, locate
from lstm_ray.wording import reason

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.tmp")


def write_file(path: str, write: Callable[[Any], None], durable: bool = True) -> None:
    """Writes a file atomically: if this fails, an existing file is unchanged.

    Args:
        path: Local path or URI. The directory is created if it is missing.
        write: Called with the open binary stream.
        durable: Whether to wait until a local disk has stored the file, so that a power failure cannot leave an empty
            file. This takes 7 ms for a small file on a cloud machine's disk; see `sync`.

    Raises:
        OutputError: The file cannot be written (no space, no permission, ...).
    """
    filesystem, target = locate(path)
    try:
        if isinstance(filesystem, fs.LocalFileSystem):
            _write_and_rename(filesystem, target, write, durable)
        else:
            content = pa.BufferOutputStream()
            write(content)  # first, because a stream that an exception closes would store incomplete content
            with filesystem.open_output_stream(target) as stream:
                stream.write(content.getvalue())
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {reason(error)}") from error


def _write_and_rename(filesystem: fs.LocalFileSystem, target: str, write: Callable[[Any], None], durable: bool) -> None:
    if os.path.exists(target) and not (os.path.isfile(target) or os.path.isdir(target)):
        raise OutputError(f"{target}: cannot be written: not a regular file")  # root would replace /dev/null
    directory, name = os.path.split(target)
    # Not the process id: two machines that write the same file may use the same one.
    temporary = f"{directory}/.{name}.{secrets.token_hex(8)}.tmp"
    with directory_made(directory):
        try:
            with filesystem.open_output_stream(temporary) as stream:
                write(stream)
            if durable:
                sync(temporary)
            os.replace(temporary, target)
            if durable:
                sync(directory)
        except BaseException:  # also on Ctrl-C, so that no incomplete file stays
            if os.path.exists(temporary):
                os.remove(temporary)
            raise


@contextmanager
def directory_made(path: str | os.PathLike[str]) -> Iterator[None]:
    """Creates a local directory. If the block fails, it is deleted again, unless it existed or something is in it.

    Raises:
        OSError: The directory cannot be created.
    """
    existing, made = os.path.abspath(path), []
    while not os.path.exists(existing):
        made.append(existing)
        existing = os.path.dirname(existing)
    try:
        os.makedirs(path, exist_ok=True)
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # one that is not empty stays, and so do those that it is in
            for directory in made:
                if os.path.exists(directory):  # the block may have deleted it
                    os.rmdir(directory)
        raise


def sync(path: str) -> None:
    """Waits until a local disk has stored a file's content, or a directory's entries. Does nothing for other storage.

    Raises:
        OSError: The disk failed, or is full.
    """
    filesystem, target = locate(path)
    if isinstance(filesystem, fs.LocalFileSystem):
        descriptor = os.open(target, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno != errno.EINVAL:  # some network filesystems cannot sync directories
                raise
        finally:
            os.close(descriptor)


def delete_unfinished(directory: str) -> None:
    """Deletes temporary files that killed writers left in a directory."""
    if is_local(directory):
        for name in list_names(directory):
            if _TEMPORARY.fullmatch(name):
                delete(join(directory, name), tree=False)


def delete_matching(directory: str, pattern: str) -> None:
    """Deletes the files in a directory whose names match, unfinished ones, and the directory if nothing is left."""
    for name in list_names(directory):
        if re.fullmatch(pattern, name):
            delete(join(directory, name), tree=False)
    delete_unfinished(directory)
    if not list_names(directory):
        delete(directory)


def write_files(paths: Sequence[str], write: Callable[..., None]) -> None:
    """Writes several files; none gets its final name before all are written.

    Args:
        paths: Local paths or URIs.
        write: Called with an open binary stream for each path.

    Raises:
        OutputError: See `write_file`.
    """
    first, *others = paths
    if others:
        write_file(first, lambda stream: write_files(others, functools.partial(write, stream)))
    else:
        write_file(first, write)


def write_bytes(path: str, content: bytes) -> None:
    """Writes a file with this content; see `write_file`."""
    write_file(path, lambda stream: stream.write(content))


def read_bytes(path: str, most: int | None = None) -> bytes:
    """Returns the content of a file.

    Args:
        path: Local path or URI.
        most: Maximum size in bytes; None for no limit.

    Raises:
        InputError: The file is missing, too large or not readable, or is a device or pipe, which may never end.
    """
    filesystem, target = locate(path)
    try:
        if isinstance(filesystem, fs.LocalFileSystem) and filesystem.get_file_info(target).type == fs.FileType.Unknown:
            raise InputError(f"{path}: cannot be read: not a regular file")
        with filesystem.open_input_file(target) as stream:
            if most is not None and stream.size() > most:
                raise InputError(f"{path}: has {stream.size():,} bytes; at most {most:,} are read")
            return bytes(stream.read())
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {reason(error)}") from error


def exists(path: str) -> bool:
    """Returns whether a file or directory exists."""
    filesystem, target = locate(path)
    try:
        return bool(filesystem.get_file_info(target).type != fs.FileType.NotFound)
    except OSError as error:
        raise InputError(f"{path}: cannot be reached: {reason(error)}") from error


def list_names(directory: str) -> list[str]:
    """Returns the names of files and directories directly in `directory`, sorted; none if it does not exist."""
    filesystem, target = locate(directory)
    try:
        if filesystem.get_file_info(target).type == fs.FileType.File:
            raise OutputError(f"{directory}: is a file, not a directory: choose another --output")
        return sorted(info.base_name for info in filesystem.get_file_info(fs.FileSelector(target)))
    except FileNotFoundError:  # not allow_not_found, with which Arrow fails if the directory is created meanwhile
        return []
    except (OSError, UnicodeDecodeError) as error:  # UnicodeDecodeError is caused by a file's name
        raise OutputError(f"{directory}: cannot be read: {reason(error)}") from error


def check_writable(directory: str) -> None:
    """Raises OutputError if a local directory cannot be created or written to. Changes nothing."""
    filesystem, target = locate(directory)
    if not isinstance(filesystem, fs.LocalFileSystem):
        return
    existing = target
    while not os.path.exists(existing):
        existing = os.path.dirname(existing)
    if not os.path.isdir(existing):
        other = "choose another --output"
        if existing == target.rstrip("/") and not directory.endswith(".."):
            raise OutputError(f"{directory}: is a file, not a directory: {other}")
        raise OutputError(f"{directory}: cannot be written: {existing} is not a directory: {other}")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise OutputError(f"{directory}: cannot be written: no permission in {existing}")


def check_empty(directory: str) -> None:
    """Raises OutputError unless a directory is empty or missing, and can be written to."""
    check_writable(directory)
    if list_names(directory):
        raise OutputError(f"{directory}: not empty: choose another --output")


@contextmanager
def locked(directory: str, name: str) -> Iterator[None]:
    """Locks a local directory against other processes that use the same lock, which ends with the process.

    Object stores have no locks, so nothing is locked there.

    Args:
        directory: The directory to lock.
        name: Name of the lock file in it.

    Raises:
        OutputError: Another process holds the lock, or the directory cannot be written.
    """
    filesystem, target = locate(directory)
    if not isinstance(filesystem, fs.LocalFileSystem):
        yield
        return
    import fcntl  # not on Windows, where Ray's clusters do not run either

    with contextlib.ExitStack() as stack:
        try:
            lock = os.path.join(target, name)
            stack.enter_context(directory_made(os.path.dirname(lock)))
            descriptor = os.open(lock, os.O_CREAT | os.O_RDWR, 0o666)
        except OSError as error:
            raise OutputError(f"{directory}: cannot be written: {reason(error)}") from error
        stack.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A failed run may have deleted the file after it was opened here. A lock on it would exclude no other run.
            is_ours = os.path.samestat(os.stat(lock), os.fstat(descriptor))
        except (BlockingIOError, FileNotFoundError):
            is_ours = False
        if not is_ours:
            raise OutputError(f"{directory}: another run is writing here: wait for it, or choose another --output")
        yield


def move(path: str, target: str) -> None:
    """Renames a file within a filesystem, replacing an existing file.

    Raises:
        OutputError: The file cannot be renamed.
    """
    filesystem, source = locate(path)
    to = locate(target)[1]
    try:
        if isinstance(filesystem, fs.LocalFileSystem):
            os.replace(source, to)
        else:
            filesystem.copy_file(source, to)  # Arrow's `move` does not work on every store
            filesystem.delete_file(source)
    except OSError as error:
        raise OutputError(f"{target}: cannot be written: {reason(error)}") from error


def delete(path: str, tree: bool = True) -> None:
    """Deletes a file, and with `tree` also a directory with its content. Does nothing if it does not exist."""
    filesystem, target = locate(path)
    try:
        kind = filesystem.get_file_info(target).type
        if kind == fs.FileType.Directory and tree:
            filesystem.delete_dir(target)
        elif kind == fs.FileType.File:
            filesystem.delete_file(target)
    except FileNotFoundError:
        return  # another process has deleted it
    except OSError as error:
        raise OutputError(f"{path}: cannot be deleted: {reason(error)}") from error
