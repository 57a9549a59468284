"""Opens Parquet input files, with errors that name the file and row group."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lstm_ray.arrays import Integers
from lstm_ray.errors import InputError
from lstm_ray.storage import is_local, locate
from lstm_ray.storage.formats import HEAD_BYTES, not_parquet
from lstm_ray.storage.inputs import InputFile
from lstm_ray.wording import counted, reason, shortened

PARTITION_TYPE = pa.string()
"""Of a column that directories named key=value add: they have no type of their own."""

_MOST_ROWS = 1 << 28  # in a row group; writers use 2**20 by default, and at most 2**26 unless configured otherwise
_MOST_ROWS_PER_BYTE = 1 << 14  # of the file; a column with a single value takes one byte for a few thousand rows
_UNREADABLE = (OSError, pa.ArrowException, UnicodeDecodeError)  # the last one if a column's name is not UTF-8
_READ_ROWS = 1_024  # rows decoded at a time; more are not faster, and take much memory if they are long
_DECRYPT = "lstm-ray cannot decrypt: write a copy without encryption, or without these columns"


@contextmanager
def open_parquet(file: InputFile, buffer_bytes: int = 0, content: pa.Buffer | None = None) -> Iterator[pq.ParquetFile]:
    """Opens a file and reads its footer. When pages are read, their checksums, if any, are verified.

    Args:
        file: The file.
        buffer_bytes: Maximum bytes of a column to fetch at a time, for readers of batches; 0 fetches whole row groups.
        content: The file's content, if the caller has it.

    Raises:
        InputError: The file is missing, cannot be read, or is not Parquet.
    """
    # A ParquetFile does not close the stream.
    with file.open() if content is None else pa.BufferReader(content) as stream:
        try:
            parquet = pq.ParquetFile(
                stream,
                page_checksum_verification=True,
                coerce_int96_timestamp_unit="us",  # in nanoseconds the year 9999 becomes 1816
                **({"buffer_size": buffer_bytes, "pre_buffer": False} if buffer_bytes else {}),
            )
        except _UNREADABLE as error:
            if _is_of_encryption(error):
                problem = f"encrypted: {_DECRYPT}"
            else:
                problem = not_parquet(file.path, error, _beginning(stream))
            raise InputError(f"{file.path}: {problem}") from error
        _check_rows(file, parquet.metadata)
        yield parquet


def read_footer(file: InputFile) -> tuple[pa.Schema, pq.FileMetaData]:
    """Returns a file's columns and its footer, with one request to an object store: the file's size is known.

    Raises:
        InputError: See `open_parquet`.
    """
    if not is_local(file.path):
        import pyarrow.dataset as ds  # takes a tenth of a second

        filesystem, path = locate(file.path)
        parquet = ds.ParquetFileFormat(read_options=ds.ParquetReadOptions(coerce_int96_timestamp_unit="us"))
        fragment = parquet.make_fragment(path, filesystem, file_size=file.size)
        with suppress(*_UNREADABLE):  # `open_parquet` says what is wrong
            schema, metadata = fragment.physical_schema, fragment.metadata
            _check_rows(file, metadata)
            return schema, metadata
    with open_parquet(file) as opened:
        return opened.schema_arrow, opened.metadata


def _beginning(stream: pa.NativeFile) -> bytes:
    """Returns the first bytes of an open file; none if it cannot be read."""
    try:
        stream.seek(0)
        return bytes(stream.read(HEAD_BYTES))
    except OSError:
        return b""


def _check_rows(file: InputFile, metadata: pq.FileMetaData) -> None:
    """Raises InputError if a footer has an implausible number of rows: planning would never end."""
    for number in range(metadata.num_row_groups):
        rows = metadata.row_group(number).num_rows
        if not 0 <= rows <= min(_MOST_ROWS, file.size * _MOST_ROWS_PER_BYTE):
            raise InputError(
                f"{file.path}: row group {number} has {rows:,} rows according to the footer, too many for a file of "
                f"{file.size:,} bytes: is it damaged?"
            )


def with_partitions(table: pa.Table, partitions: Mapping[str, str | None]) -> pa.Table:
    """Adds the columns in the names of a file's directories, unless the file has a column of that name."""
    for name, value in partitions.items():
        if name not in table.column_names:
            table = table.append_column(name, pa.repeat(pa.scalar(value, PARTITION_TYPE), table.num_rows))
    return table


def describe_doubled(names: Iterable[str]) -> str:
    """Returns which of two values is read, where a column is in files and in their directories' names."""
    return f"{', '.join(sorted(names))}: in files and in their directories' names: the files' own values are kept"


@contextmanager
def reading(path: str, row_groups: range) -> Iterator[None]:
    """Converts errors in reading row groups into an InputError that names the row groups or the encrypted columns."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        if _is_of_encryption(error):
            raise InputError(f"{path}: {_encrypted_columns(path)}: {_DECRYPT}") from error
        raise InputError(f"{path}: {_named(row_groups)} cannot be read: {reason(error)}") from error


def read_batches(
    parquet: pq.ParquetFile, row_groups: range, names: Sequence[str], use_threads: bool = True
) -> Iterator[pa.RecordBatch]:
    """Yields the rows of row groups in batches, smaller ones if Arrow cannot decode that many nested values at once.

    Arrow cannot decode more than 2 GiB of strings inside lists or structs (apache/arrow#32723).
    """
    done, size = 0, _READ_ROWS
    while True:
        position = 0
        try:
            for batch in parquet.iter_batches(
                size, row_groups=list(row_groups), columns=names, use_threads=use_threads
            ):
                position += batch.num_rows
                if position > done:  # for "a", Arrow reads a column named "a.b" too
                    yield batch.select(names).slice(max(0, done - position + batch.num_rows))
                    done = position
            return
        except pa.ArrowNotImplementedError:
            if size == 1:
                raise
            size = max(1, size // 16)


def decoded_bytes(rows: pa.RecordBatch | pa.Table) -> int:
    """Returns the size of rows in memory, with each value as often as it occurs: dictionaries hold it once.

    Raises:
        pa.ArrowException: An index of a dictionary is beyond its values.
    """
    size = int(rows.nbytes)
    for column in rows.columns:
        for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
            if pa.types.is_dictionary(chunk.type) and (lengths := _lengths(chunk.dictionary)) is not None:
                size += pc.sum(lengths.take(chunk.indices)).as_py() or 0
    return size


def _lengths(values: pa.Array) -> pa.Array | None:
    """Returns the number of bytes of each value; None for values that are not texts."""
    if pa.types.is_string_view(values.type) or pa.types.is_binary_view(values.type):
        values = values.cast(pa.large_binary())
    try:
        return pc.binary_length(values)
    except pa.ArrowNotImplementedError:
        return None


def check_int96(file: InputFile, parquet: pq.ParquetFile, row_groups: range, columns: Sequence[str]) -> None:
    """Checks that timestamps of the old type INT96 lose nothing in microseconds, as which `open_parquet` reads them.

    Raises:
        InputError: A column has fractions of a microsecond or years beyond 290,000, or cannot be read.
    """
    leaves = [parquet.schema.column(number) for number in range(len(parquet.schema.names))]
    paths = [leaf.path for leaf in leaves if leaf.physical_type == "INT96"]
    names = [name for name in columns if any(path == name or path.startswith(f"{name}.") for path in paths)]
    if not names:
        return
    with file.open() as stream, reading(file.path, row_groups):
        others = [pq.ParquetFile(stream, coerce_int96_timestamp_unit=unit) for unit in ("ns", "ms")]
        for name in names:
            read = (one.read_row_groups(list(row_groups), columns=[name])[name] for one in (parquet, *others))
            leaves_by_unit = (_timestamps(column.combine_chunks()) for column in read)
            for us, ns, ms in zip(*leaves_by_unit, strict=True):
                if us.type == ns.type:  # no INT96
                    continue
                if problem := _problem_of_int96(*(each.view(pa.int64()).to_numpy() for each in (us, ns, ms))):
                    raise InputError(
                        f"{file.path}: column {shortened(repr(name))} holds {problem}: write it as "
                        "TIMESTAMP, or let score leave it out with --keep-columns"
                    )


def _problem_of_int96(us: Integers, ns: Integers, ms: Integers) -> str:
    """Returns why times are not what they are in microseconds, given what Arrow reads in three units; "" if they are.

    In nanoseconds most years overflow: Arrow then reads the right number modulo 2**64, which gives the fraction of a
    microsecond all the same. In milliseconds nothing overflows that INT96 can hold.
    """
    if (np.abs(ms) >= (1 << 63) // 1000).any():
        return "times of Parquet's old type INT96 beyond the year 290,000, which Arrow cannot read"
    if (ns.view(np.uint64) != us.view(np.uint64) * np.uint64(1000)).any():
        return "nanoseconds in Parquet's old type INT96, of which only microseconds are read"
    return ""


def _timestamps(array: pa.Array) -> Iterator[pa.Array]:
    """Yields the timestamps in a column, without nulls: the column itself, or all parts of a nested one."""
    if pa.types.is_timestamp(array.type):
        yield array.drop_null()
    elif pa.types.is_nested(array.type):
        for part in array.flatten() if pa.types.is_struct(array.type) else [array.values]:
            yield from _timestamps(part)


def _is_of_encryption(error: Exception) -> bool:
    return "ecrypt" in str(error)  # Parquet's errors: decrypt, decryption, encrypted


def _encrypted_columns(path: str) -> str:
    """Returns the names of a file's encrypted columns; Arrow reports only that there is one."""
    filesystem, inner = locate(path)
    encrypted = []
    with filesystem.open_input_file(inner) as stream:
        parquet = pq.ParquetFile(stream)
        # By trying to read them: accessing the metadata of an encrypted column aborts the process (pyarrow 26).
        for name in dict.fromkeys(parquet.schema_arrow.names):
            try:
                next(parquet.iter_batches(1, columns=[name]), None)
            except (OSError, pa.ArrowException):
                encrypted.append(repr(name))
    return f"encrypted: column{'s' if len(encrypted) > 1 else ''} {', '.join(encrypted)}"


def missing_rows(path: str, row_groups: range, found: int, promised: int) -> InputError:
    """Returns the error for row groups with fewer rows than the footer says; Arrow does not report this."""
    return InputError(
        f"{path}: {_named(row_groups)} cannot be read: {counted(found, 'row')} found, but the footer says {promised:,}"
    )


def _named(row_groups: range) -> str:
    first, last = row_groups[0], row_groups[-1]
    return f"row group {first}" if first == last else f"row groups {first} to {last}"
