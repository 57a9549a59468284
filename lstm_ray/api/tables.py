"""Arrow tables and data frames as inputs: during a call each is a Parquet file, named by a hash of its content.

So the same table has the same file name in the next call, which resumes the run; another table makes another run.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from lstm_ray.api.boundary import reworded
from lstm_ray.errors import ConfigError, InputError, OutputError
from lstm_ray.progress import Progress
from lstm_ray.wording import reason

if TYPE_CHECKING:
    import pyarrow as pa

_DATA = ("train", "validation", "unlabelled", "inputs")
_REMEDY = "leave out the columns that are not needed, or convert them, such as to text"
_MISSING = ": no such file or directory"
_GONE = ": it was a file only during an earlier call: repeat that call with the same table, or give files"
_ROW_GROUP_ROWS = 10_000  # several row groups, which training encodes in parallel


def is_table(value: Any) -> bool:
    """Returns whether a value is an Arrow table, or a data frame that Arrow can convert (pandas, polars, ...)."""
    return hasattr(value, "__arrow_c_stream__") or hasattr(value, "iloc")


@contextmanager
def tables_as_files(given: Mapping[str, Any], progress: Progress) -> Iterator[tuple[dict[str, Any], Progress]]:
    """Writes each table among the arguments to a file; yields the arguments with the files' paths, and a callback.

    Messages to that callback, and errors of the block, name the arguments instead of the files. The files are deleted
    at the end of the block.

    Raises:
        ConfigError: What should be tables or paths is something else.
        InputError: A table has a type that Parquet does not have.
        OutputError: The files cannot be written.
    """
    for name in _DATA:
        _check_is_data(name, given.get(name))
    with ExitStack() as files:
        paths = {
            name: files.enter_context(_file_of(_as_arrow(name, value)))
            for name, value in given.items()
            if is_table(value)
        }
        with reworded(progress, lambda message: _by_argument(message, paths)) as report:
            yield {**given, **paths}, report


def _by_argument(message: str, paths: Mapping[str, str]) -> str:
    for path in set(paths.values()):  # the same table may be given twice
        argument = " and ".join(name for name, one in paths.items() if one == path)
        message = message.replace(repr(path), argument).replace(path, argument)
    of_earlier_calls = rf"(['\"]?){re.escape(str(_directory()))}/table-[0-9a-f]{{32}}\.parquet\1"
    # As in the config.yaml of a run, which is then given as a job file.
    message = re.sub(of_earlier_calls + _MISSING, lambda found: found[0].removesuffix(_MISSING) + _GONE, message)
    if not paths:
        return re.sub(of_earlier_calls, "a table that a call from Python was given", message)
    message = re.sub(of_earlier_calls, "another table", message)
    return re.sub(rf"another table there, ({'|'.join(paths)}) here", "another table there, this one here", message)


def refuse_tables(given: Mapping[str, Any], begin: str = "") -> None:
    """Raises ConfigError if an argument is a table; the remedy, to write it to Parquet, comes after `begin`."""
    for name, value in given.items():
        if is_table(value):
            raise ConfigError(f"{name}= is a {type(value).__name__}: {begin}write it to Parquet and give the path")


def _check_is_data(name: str, value: Any) -> None:
    """Raises ConfigError if a value is neither a table nor paths, but what people have their rows in otherwise."""
    if is_table(value) or isinstance(value, str):  # NumPy's str has a dtype
        return
    how = None
    if hasattr(value, "to_pandas"):  # a Dataset of Hugging Face or Ray Data
        how = f"{name}.to_pandas()"
    elif isinstance(value, list | tuple) and value and is_table(value[0]):
        how = f"pandas.concat({name})"
    elif isinstance(value, Mapping) or hasattr(value, "dtype") or _is_of_rows(value):
        how = f"pandas.DataFrame({name})"
    if how is not None or not (value is None or isinstance(value, os.PathLike | list | tuple)):
        such = "" if how is None else f", such as {how}"
        raise ConfigError(
            f"{name}= is of type {type(value).__name__}: give paths, an Arrow table or a data frame{such}"
        )


def _is_of_rows(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and isinstance(value[0], Mapping | list | tuple)


def _as_arrow(name: str, value: Any) -> pa.Table:
    import pyarrow as pa

    try:
        if hasattr(value, "iloc"):
            return pa.Table.from_pandas(value, preserve_index=False)
        return pa.table(value)
    except (pa.ArrowException, AttributeError, TypeError, ValueError) as error:  # a Series has no columns
        raise InputError(f"{name} cannot be converted to an Arrow table: {reason(error)}: {_REMEDY}") from error


@contextmanager
def _file_of(table: pa.Table) -> Iterator[str]:
    """Writes a table and yields the file's path; at the end the file is deleted unless another call uses it."""
    directory = _directory()
    try:
        path, stream = _write(table, directory)
    except OSError as error:
        raise OutputError(f"{directory}: the table cannot be written there: {reason(error)}") from error
    try:
        yield str(path)
    finally:
        with _renaming(directory):
            stream.close()
            _delete_unused(directory)


def _directory() -> Path:
    """Returns the absolute path of the directory of all tables."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "lstm-ray" / "tables"


def _delete_unused(directory: Path) -> None:
    """Deletes the tables that no call uses, also those of processes that were killed."""
    for path in [*directory.glob("table-*.parquet"), *directory.glob(".*.tmp")]:
        with contextlib.suppress(FileNotFoundError, BlockingIOError), path.open("rb") as there:
            fcntl.flock(there, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def _write(table: pa.Table, directory: Path) -> tuple[Path, BinaryIO]:
    """Writes a table; returns the path and the open file, whose lock keeps other calls from deleting it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = directory / f".{secrets.token_hex(8)}.tmp"
    with _renaming(directory):
        _delete_unused(directory)
        stream: BinaryIO = os.fdopen(os.open(new, os.O_CREAT | os.O_RDWR, 0o600), "w+b")
        fcntl.flock(stream, fcntl.LOCK_SH)
    try:
        pq.write_table(table.combine_chunks(), stream, row_group_size=_ROW_GROUP_ROWS)
        stream.flush()
        stream.seek(0)
        digest = hashlib.sha256()
        while block := stream.read(1 << 20):
            digest.update(block)
        path = directory / f"table-{digest.hexdigest()[:32]}.parquet"
        with _renaming(directory):
            if path.exists():  # another call uses this table: share its file
                new.unlink()
                stream.close()
                stream = path.open("rb")
                fcntl.flock(stream, fcntl.LOCK_SH)
            else:
                os.utime(new, (0, 0))  # the name stands for the content, which does not change from call to call
                new.rename(path)
    except BaseException as error:  # raised again, once the file is deleted
        stream.close()
        new.unlink(missing_ok=True)
        if isinstance(error, pa.ArrowException):
            raise InputError(f"a table cannot be written as Parquet: {reason(error)}: {_REMEDY}") from error
        raise
    return path, stream


@contextmanager
def _renaming(directory: Path) -> Iterator[None]:
    """Locks the directory: during the block no other process renames or deletes tables."""
    with (directory / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
