"""Opens Parquet input files, and reports what is wrong with one by file and row group."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from lstm_ray.errors import InputError
from lstm_ray.storage.inputs import InputFile
from lstm_ray.wording import not_parquet, reason


@contextmanager
def open_parquet(file: InputFile, buffer_bytes: int = 0) -> Iterator[pq.ParquetFile]:
    """Opens a file and reads its footer; pages are checked against their checksums, where the writer added them.

    Args:
        file: The file.
        buffer_bytes: Most of a column to fetch at a time, for readers of batches; 0 fetches a row group as a whole.

    Raises:
        InputError: The file is missing, may not be read, or is not Parquet.
    """
    with file.open() as stream:  # a ParquetFile does not close the stream it is given
        try:
            parquet = pq.ParquetFile(
                stream,
                page_checksum_verification=True,
                **({"buffer_size": buffer_bytes, "pre_buffer": False} if buffer_bytes else {}),
            )
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{file.path}: {not_parquet(file.path, error)}") from error
        yield parquet


@contextmanager
def reading(path: str, row_groups: range) -> Iterator[None]:
    """Turns errors in reading row groups into an InputError that names them."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: {_named(row_groups)} cannot be read: {reason(error)}") from error


def missing_rows(path: str, row_groups: range, found: int, promised: int) -> InputError:
    """Returns the error for row groups that hold fewer rows than the file's footer says; Arrow reads on in silence."""
    return InputError(
        f"{path}: {_named(row_groups)} cannot be read: {found:,} rows found, but the footer says {promised:,}"
    )


def _named(row_groups: range) -> str:
    first, last = row_groups[0], row_groups[-1]
    return f"row group {first}" if first == last else f"row groups {first} to {last}"
