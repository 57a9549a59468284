"""Opens Parquet input files, and reports what is wrong with one by file and row group."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from lstm_ray.errors import InputError
from lstm_ray.storage.inputs import InputFile
from lstm_ray.wording import not_parquet, reason

_MOST_ROWS = 1 << 28  # in a row group; writers make 2**20 of them, and 2**26 at most unless told otherwise
_MOST_ROWS_PER_BYTE = 1 << 14  # of the file; a column of one value takes a byte for some thousand rows


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
        except (OSError, pa.ArrowException, UnicodeDecodeError) as error:  # the last: of a column's name
            raise InputError(f"{file.path}: {not_parquet(file.path, error)}") from error
        _check_rows(file, parquet.metadata)
        yield parquet


def _check_rows(file: InputFile, metadata: pq.FileMetaData) -> None:
    """Raises InputError if a footer promises rows that nobody writes: whoever plans for them would not end."""
    for number in range(metadata.num_row_groups):
        rows = metadata.row_group(number).num_rows
        if not 0 <= rows <= min(_MOST_ROWS, file.size * _MOST_ROWS_PER_BYTE):
            raise InputError(
                f"{file.path}: row group {number} has {rows:,} rows by the footer, which a file of {file.size:,} bytes "
                "does not hold: is it damaged?"
            )


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
