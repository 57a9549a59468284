"""Reads the rows of a task's chunks from their row groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from lstm_ray.errors import InputError
from lstm_ray.runtime.devices import memory_bytes
from lstm_ray.score.plan import Chunk, Task
from lstm_ray.storage.inputs import InputFile, find_file
from lstm_ray.storage.parquet import (
    check_int96,
    decoded_bytes,
    missing_rows,
    open_parquet,
    read_batches,
    reading,
    with_partitions,
)

_PARTS_IN_MEMORY = 4  # at least as many must fit: two are scored at once, and copied
_SMALL_BYTES = 1 << 20  # of a file that is read whole: an object store sends a MiB in the time of two requests


def read_task(task: Task, columns: Sequence[str]) -> Iterator[tuple[Chunk, pa.Table]]:
    """Yields all rows of each chunk.

    Args:
        task: The chunks of a file.
        columns: Columns to read, if the file has them.

    Raises:
        InputError: The file cannot be read, has changed since it was planned, or has fewer rows than its footer says.
    """
    file = task.file
    first, stop = task.chunks[0].row_groups
    row_groups = range(first, stop)
    content = _read_small(file)
    _check_unchanged(file)
    with open_parquet(file, content=content) as parquet, reading(file.path, row_groups):
        check_int96(file, parquet, row_groups, columns)
        for chunk, table in _read_chunks(file.path, parquet, row_groups, task.chunks, columns, content is None):
            if content is None:
                _check_unchanged(file)  # again: it may be overwritten in place while it is read
            yield chunk, with_partitions(table, file.partitions)


def _read_small(file: InputFile) -> pa.Buffer | None:
    """Returns the content of a small file, with one request to an object store; None if the file is large."""
    if file.size > _SMALL_BYTES:
        return None
    try:
        with file.open() as stream:
            return stream.read_buffer(file.size)
    except (OSError, InputError):
        _check_unchanged(file)
        raise


def _check_unchanged(file: InputFile) -> None:
    """Raises InputError if a file has changed since it was planned."""
    now = find_file(file.path)
    if (now.size, now.modified) != (file.size, file.modified):
        raise InputError(
            f"{file.path}: has changed since the run was planned ({file.size} bytes of {file.modified}, now {now.size} "
            f"of {now.modified})"
        )


def _read_chunks(
    path: str, parquet: Any, row_groups: range, chunks: Sequence[Chunk], columns: Sequence[str], use_threads: bool
) -> Iterator[tuple[Chunk, pa.Table]]:
    """Yields the rows of chunks from the same row groups, each of which is read once."""
    schema = parquet.schema_arrow
    present = set(schema.names)  # listed once: Arrow makes the list anew each time
    names = [name for name in columns if name in present] or schema.names[:1]  # without a column there is no row
    rows = sum(parquet.metadata.row_group(group).num_rows for group in row_groups)
    batches = read_batches(parquet, row_groups, names, use_threads)
    most = memory_bytes() // _PARTS_IN_MEMORY
    position = 0  # of the first pending row among the rows of the row groups
    pending = pa.Table.from_batches([], pa.schema([schema.field(name) for name in names]))  # of any type
    held = 0  # bytes of the pending rows
    for chunk in chunks:
        while position + pending.num_rows < chunk.skip + chunk.rows:
            if drop := min(max(0, chunk.skip - position), pending.num_rows):
                position, pending = position + drop, pending.slice(drop)
                held = decoded_bytes(pending)
            batch = next(batches, None)
            if batch is None:
                raise missing_rows(path, row_groups, position + pending.num_rows, rows)
            pending = pa.concat_tables([pending, pa.Table.from_batches([batch])])
            held += decoded_bytes(batch)
            if held > most:  # a dictionary of one long text makes gigabytes of a small file
                raise InputError(
                    f"{path}: {pending.num_rows:,} of the {chunk.rows:,} rows of a part take more than "
                    f"{most >> 20:,} MiB of memory: lower --rows-per-part"
                )
        yield chunk, pending.slice(chunk.skip - position, chunk.rows)
