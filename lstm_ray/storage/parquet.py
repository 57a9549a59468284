"""Opens Parquet input files, and reports what is wrong with one by file and row group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.compute as pc
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
                coerce_int96_timestamp_unit="us",  # in nanoseconds the year 9999 becomes 1816
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


def check_int96(file: InputFile, parquet: pq.ParquetFile, row_groups: range, columns: Sequence[str]) -> None:
    """Checks that timestamps of the old type INT96 keep their value in microseconds, as `open_parquet` reads them.

    Raises:
        InputError: One of the columns has fractions of a microsecond, or cannot be read.
    """
    leaves = [parquet.schema.column(number) for number in range(len(parquet.schema.names))]
    paths = [leaf.path for leaf in leaves if leaf.physical_type == "INT96"]
    names = [name for name in columns if any(path == name or path.startswith(f"{name}.") for path in paths)]
    if not names:
        return
    with file.open() as stream, reading(file.path, row_groups):
        in_ns = pq.ParquetFile(stream, coerce_int96_timestamp_unit="ns")
        for name in names:
            rough, fine = (one.read_row_groups(list(row_groups), columns=[name])[name] for one in (parquet, in_ns))
            if _loses_nanoseconds(rough.combine_chunks(), fine.combine_chunks()):
                raise InputError(
                    f"{file.path}: column {name!r} holds nanoseconds in Parquet's old type INT96, of which only "
                    "microseconds are read: write it as TIMESTAMP, or let score leave it out with --keep-columns"
                )


def _loses_nanoseconds(rough: pa.Array, fine: pa.Array) -> bool:
    """Returns whether times in microseconds differ from the same in nanoseconds, where these did not overflow."""
    kind = rough.type
    if pa.types.is_timestamp(kind):
        us, ns = rough.cast(pa.int64()).drop_null(), fine.cast(pa.int64()).drop_null()
        is_in_range = pc.less(pc.abs(us), 2**63 // 1000)
        return kind != fine.type and bool(pc.not_equal(pc.multiply(us, 1000), ns).filter(is_in_range).true_count)
    if not pa.types.is_nested(kind):
        return False
    return any(map(_loses_nanoseconds, *(_children(array) for array in (rough, fine))))


def _children(array: pa.Array) -> list[pa.Array]:
    children: list[pa.Array] = array.flatten() if pa.types.is_struct(array.type) else [array.values]
    return children


def missing_rows(path: str, row_groups: range, found: int, promised: int) -> InputError:
    """Returns the error for row groups that hold fewer rows than the file's footer says; Arrow reads on in silence."""
    return InputError(
        f"{path}: {_named(row_groups)} cannot be read: {found:,} rows found, but the footer says {promised:,}"
    )


def _named(row_groups: range) -> str:
    first, last = row_groups[0], row_groups[-1]
    return f"row group {first}" if first == last else f"row groups {first} to {last}"
