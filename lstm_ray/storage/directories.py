"""Replaces a local directory as a whole, so that a reader finds the old one or the new one at every moment."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lstm_ray.errors import OutputError
from lstm_ray.storage.files import sync, write_bytes
from lstm_ray.storage.locations import locate
from lstm_ray.wording import reason

_AT_FDCWD = -100  # paths are relative to the current directory
_RENAME_EXCHANGE = 2


def replace_directory(path: str, files: Mapping[str, bytes]) -> None:
    """Writes a directory, in place of the one at `path` if there is one.

    The files are written into a temporary directory beside it, and the two exchange their names in one step. A
    filesystem that cannot do that (NFS, or any but Linux's) has no directory at `path` between two renames.

    Args:
        path: A local directory. The directory above it is made if it is missing.
        files: Content by name.

    Raises:
        OutputError: It cannot be written, or is a file.
    """
    target = Path(os.path.realpath(locate(path)[1]))  # a link stays one
    if target.exists() and not target.is_dir():
        raise OutputError(f"{path}: cannot be written: is a file, not a directory")
    try:
        with _temporary_beside(target) as temporary:
            for name, content in files.items():
                write_bytes(str(temporary / name), content)
            _put_in_place(temporary, target)
            sync(str(target.parent))
        _delete_remnants(target)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {reason(error)}") from error


@contextmanager
def _temporary_beside(target: Path) -> Iterator[Path]:
    """Makes a directory beside the target; deletes at the end what then has its name.

    Its lock tells other writers that it is in use, and ends with the process. (Where directories cannot be locked, as
    on NFS, remnants stay.)
    """
    import fcntl  # not on Windows, where Ray's clusters do not run either

    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    temporary.mkdir(parents=True)
    descriptor = os.open(temporary, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(descriptor)


def _put_in_place(temporary: Path, target: Path) -> None:
    """Gives the temporary directory the target's name, and the target's old directory, if any, the temporary one."""
    try:
        _exchange(temporary, target)
    except FileNotFoundError:  # there is no old one
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
    """Exchanges the names of two directories in one step.

    Raises:
        OSError: EINVAL if the filesystem cannot do this, ENOSYS if the system cannot.
    """
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _delete_remnants(target: Path) -> None:
    """Deletes the temporary directories of writers that were killed; those of running ones are locked."""
    import fcntl

    remnant = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]+\.(tmp|old)")  # once named by process id
    for path in target.parent.iterdir():
        if not (remnant.fullmatch(path.name) and path.is_dir()):
            continue
        with contextlib.suppress(OSError):  # locked, or another writer is deleting it
            descriptor = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path)
            finally:
                os.close(descriptor)
