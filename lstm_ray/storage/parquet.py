"""Opens Parquet input files, and reports what is wrong with one by file and row group."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from lstm_ray.errors import InputError
from lstm_ray.storage import locate
from lstm_ray.storage.inputs import InputFile
from lstm_ray.wording import not_parquet, reason

_DECRYPT = "lstm-ray has no keys: write a copy without encryption, or without such columns"


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
            problem = f"encrypted: {_DECRYPT}" if _is_of_encryption(error) else not_parquet(file.path, error)
            raise InputError(f"{file.path}: {problem}") from error
        yield parquet


@contextmanager
def reading(path: str, row_groups: range) -> Iterator[None]:
    """Turns errors in reading row groups into an InputError that names them, or the columns that are encrypted."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        if _is_of_encryption(error):
            raise InputError(f"{path}: {_encrypted_columns(path)}: {_DECRYPT}") from error
        raise InputError(f"{path}: {_named(row_groups)} cannot be read: {reason(error)}") from error


def _is_of_encryption(error: Exception) -> bool:
    return "ecrypt" in str(error)  # Parquet's errors: decrypt, decryption, encrypted


def _encrypted_columns(path: str) -> str:
    """Returns which columns of a file are encrypted; Arrow says only that one is."""
    filesystem, inner = locate(path)
    encrypted = []
    with filesystem.open_input_file(inner) as stream:
        parquet = pq.ParquetFile(stream)
        # By reading them: asked for the metadata of an encrypted column, Arrow aborts the process (pyarrow 26).
        for name in dict.fromkeys(parquet.schema_arrow.names):
            try:
                next(parquet.iter_batches(1, columns=[name]), None)
            except (OSError, pa.ArrowException):
                encrypted.append(repr(name))
    return f"encrypted: column{'s' if len(encrypted) > 1 else ''} {', '.join(encrypted)}"


def missing_rows(path: str, row_groups: range, found: int, promised: int) -> InputError:
    """Returns the error for row groups that hold fewer rows than the file's footer says; Arrow reads on in silence."""
    return InputError(
        f"{path}: {_named(row_groups)} cannot be read: {found:,} rows found, but the footer says {promised:,}"
    )


def _named(row_groups: range) -> str:
    first, last = row_groups[0], row_groups[-1]
    return f"row group {first}" if first == last else f"row groups {first} to {last}"
