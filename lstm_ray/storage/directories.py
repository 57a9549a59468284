"""Replaces a local directory as a whole, so that readers always find either the old or the new one."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import secrets
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lstm_ray.errors import OutputError
from lstm_ray.storage.files import directory_made, sync, write_bytes
from lstm_ray.storage.locations import locate
from lstm_ray.wording import reason

_AT_FDCWD = -100  # paths are relative to the current directory
_RENAME_EXCHANGE = 2


def replace_directory(path: str, files: Mapping[str, bytes], own: Collection[str] = ()) -> None:
    """Writes a directory, replacing an existing one. Files of other names that are in it stay.

    The files are written to a temporary directory beside `path`, and the two directories are exchanged atomically. On
    filesystems that cannot do that (NFS, or outside Linux) there is no directory at `path` between two renames.

    Args:
        path: A local directory. Its parent is created if it is missing.
        files: Content by name.
        own: More names of files that are replaced: they are deleted.

    Raises:
        OutputError: The directory cannot be written, or `path` is a file.
    """
    target = Path(os.path.realpath(locate(path)[1]))  # a symbolic link stays a link
    if os.path.exists(target) and not os.path.isdir(target):
        raise OutputError(f"{path}: cannot be written: is a file, not a directory")
    try:
        with directory_made(target.parent), _temporary_beside(target) as temporary:
            for name, content in files.items():
                write_bytes(str(temporary / name), content)
            _copy_others(target, temporary, {*files, *own})
            _put_in_place(temporary, target)
            sync(str(target.parent))
        _delete_remnants(target)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {reason(error)}") from error


@contextmanager
def _temporary_beside(target: Path) -> Iterator[Path]:
    """Creates a temporary directory beside the target, and at the end deletes the directory of that name.

    A lock, which ends with the process, tells other writers that the directory is in use. (Where directories cannot be
    locked, as on NFS, remnants of killed writers stay.)
    """
    import fcntl  # not on Windows, where Ray's clusters do not run either

    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    temporary.mkdir()
    descriptor = os.open(temporary, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(descriptor)


def _copy_others(source: Path, target: Path, own: Collection[str]) -> None:
    """Copies what a directory has besides files of these names, such as notes."""
    for path in source.iterdir() if source.exists() else ():
        if path.name in own:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.copytree(path, target / path.name, symlinks=True)
        else:
            shutil.copy2(path, target / path.name, follow_symlinks=False)


def _put_in_place(temporary: Path, target: Path) -> None:
    """Exchanges the temporary directory with the target, or renames it if there is no target yet."""
    try:
        _exchange(temporary, target)
    except FileNotFoundError:  # there is no target yet
        temporary.rename(target)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS):
            raise
        old = temporary.with_suffix(".old")
        if had_old := target.exists():
            target.rename(old)
        temporary.rename(target)
        if had_old:
            old.rename(temporary)


def _exchange(one: Path, other: Path) -> None:
    """Exchanges two directories atomically.

    Raises:
        OSError: EINVAL if the filesystem does not support this, ENOSYS if the system does not.
    """
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _delete_remnants(target: Path) -> None:
    """Deletes the temporary directories of killed writers; those of running writers are locked."""
    import fcntl

    remnant = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]+\.(tmp|old)")  # a number in older versions
    for path in target.parent.iterdir():
        if not (remnant.fullmatch(path.name) and path.is_dir()):
            continue
        with contextlib.suppress(OSError):  # it is locked, or another writer is deleting it
            descriptor = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path)
            finally:
                os.close(descriptor)
