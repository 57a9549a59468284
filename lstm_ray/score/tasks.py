"""Scores the chunks of a plan and writes their parts; reads back what is there.

OUTPUT/part-<file>-<row>.parquet   each written whole or not at all, its counts and the plan's fingerprint inside
       _plan/                      the plan, before anything is scored
       _bad_files.parquet          input files set aside, and why
       _manifest.json              what was done
       _SUCCESS                    last of all
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lstm_ray import storage
from lstm_ray.errors import InputError, LstmRayError
from lstm_ray.score.plan import PARTITION_TYPE, BadFile, Chunk, PartLayout, Plan, Task
from lstm_ray.score.scorer import SENTIMENTS, Scored, Scorer
from lstm_ray.storage.inputs import InputFile, find_inputs
from lstm_ray.wording import reason

_FOOTER_KEY = b"lstm_ray"
_READ_ROWS = 16_384  # rows decoded at a time when a chunk begins inside a row group
_FOOTER_READERS = 16


@dataclass(frozen=True)
class Part:
    """A part that has been written.

    Attributes:
        name: Its file name.
        rows: Rows in it.
        positives: Rows whose sentiment is positive.
        errors: Rows without a score, by reason.
    """

    name: str
    rows: int
    positives: int
    errors: dict[str, int]


def score_task(task: Task, layout: PartLayout, scorer: Scorer, output: str) -> Iterator[Part]:
    """Reads, scores and writes the chunks of a task, one by one.

    Raises:
        InputError: Their file cannot be read, or is no longer the one that was planned.
        OutputError: A part cannot be written.
    """
    columns = list(dict.fromkeys([*layout.kept, layout.text_column]))
    for chunk, table in read_task(task, columns):
        yield write_part(layout, chunk, table, scorer.score(table[layout.text_column]), output)


def read_task(task: Task, columns: Sequence[str]) -> Iterator[tuple[Chunk, pa.Table]]:
    """Yields the rows of each chunk; columns that the file lacks are left out.

    Raises:
        InputError: The file cannot be read, or is no longer the one that was planned.
    """
    file = task.file
    with file.open() as source:
        check_unchanged(file)
        for chunk, table in _read_chunks(file.path, source, task.chunks, columns):
            check_unchanged(file)  # again: who overwrites a file in place does not wait for its readers
            yield chunk, _with_partitions(table, file.partitions)


def bad_file(task: Task, error: InputError) -> BadFile:
    """Returns a task's file as one that is set aside, because of an error that `read_task` raised."""
    return BadFile(task.file.path, str(error).removeprefix(f"{task.file.path}: "))


def check_unchanged(file: InputFile) -> None:
    """Raises InputError if a file is no longer the one that was planned."""
    now = find_inputs([file.path])[0]
    if (now.size, now.modified) != (file.size, file.modified):
        raise InputError(
            f"{file.path}: has changed since the run was planned ({file.size} bytes of {file.modified}, now {now.size} "
            f"of {now.modified})"
        )


def finished_parts(plan: Plan, output: str) -> Iterator[Part]:
    """Yields the parts of this plan that are there and whole."""
    names = set(storage.list_names(output))

    def read(chunk: Chunk) -> Part | None:
        part = read_part(storage.join(output, chunk.part_name), plan.layout.fingerprint)
        return part if part is not None and part.rows == chunk.rows else None

    present = (chunk for chunk in plan.chunks() if chunk.part_name in names)
    with ThreadPoolExecutor(_FOOTER_READERS) as pool:
        while some := list(itertools.islice(present, 100 * _FOOTER_READERS)):  # map would take in all chunks at once
            yield from (part for part in pool.map(read, some) if part is not None)


def write_bad_files(output: str, bad_files: Sequence[BadFile]) -> None:
    """Writes `_bad_files.parquet`; takes it away if no file is bad."""
    path = storage.join(output, "_bad_files.parquet")
    if not bad_files:
        storage.delete(path)
        return
    schema = pa.schema([("path", pa.string()), ("error", pa.string())])
    table = pa.Table.from_pylist([asdict(file) for file in bad_files], schema=schema)
    storage.write_file(path, lambda stream: pq.write_table(table, stream))


def _read_chunks(
    path: str, source: Any, chunks: Sequence[Chunk], columns: Sequence[str]
) -> Iterator[tuple[Chunk, pa.Table]]:
    """Yields the rows of chunks that lie in the same row groups, of which each is read once.

    Raises:
        InputError: The row groups cannot be read.
    """
    first, stop = chunks[0].row_groups
    try:
        parquet = pq.ParquetFile(source, page_checksum_verification=True)  # where the writer has left checksums
        present = [name for name in columns if name in parquet.schema_arrow.names]
        groups = list(range(first, stop))
        rows = sum(parquet.metadata.row_group(group).num_rows for group in groups)
        if len(chunks) == 1 and chunks[0].rows == rows:
            yield chunks[0], parquet.read_row_groups(groups, columns=present)
            return
        batches = parquet.iter_batches(_READ_ROWS, row_groups=groups, columns=present)
        schema = pa.schema([parquet.schema_arrow.field(name) for name in present])
        position, pending = 0, schema.empty_table()
        for chunk in chunks:
            while position + pending.num_rows < chunk.skip + chunk.rows:
                drop = min(max(0, chunk.skip - position), pending.num_rows)
                position, pending = position + drop, pending.slice(drop)
                pending = pa.concat_tables([pending, pa.Table.from_batches([next(batches)])])
            yield chunk, pending.slice(chunk.skip - position, chunk.rows)
    except (OSError, pa.ArrowException) as error:
        groups_read = f"row group {first}" if stop == first + 1 else f"row groups {first} to {stop - 1}"
        raise InputError(f"{path}: {groups_read} cannot be read: {reason(error)}") from error


def _with_partitions(table: pa.Table, partitions: Mapping[str, str | None]) -> pa.Table:
    """Returns the table with what the file's directories say, in place of columns of these names."""
    table = table.drop_columns([name for name in partitions if name in table.column_names])
    for name, value in partitions.items():
        table = table.append_column(name, pa.repeat(pa.scalar(value, PARTITION_TYPE), table.num_rows))
    return table


def write_part(layout: PartLayout, chunk: Chunk, table: pa.Table, scored: Scored, output: str) -> Part:
    """Writes a chunk's kept columns and scores as its part.

    Raises:
        OutputError: It cannot be written.
    """
    new = (scored.probability, scored.sentiment, scored.error)
    columns = [
        table[name] if name in table.column_names else pa.nulls(table.num_rows, layout.schema.field(name).type)
        for name in layout.kept
    ]
    part = Part(
        chunk.part_name,
        table.num_rows,
        _count(scored.sentiment).get(SENTIMENTS[1], 0),
        _count(scored.error),
    )
    footer = json.dumps({"fingerprint": layout.fingerprint, **asdict(part)}, sort_keys=True).encode()
    fields = [field.with_nullable(True) for field in layout.schema]
    schema = pa.schema(fields, metadata={_FOOTER_KEY: footer})
    result = pa.Table.from_arrays(
        [_as_type(column, field.type) for column, field in zip([*columns, *new], fields, strict=True)], schema=schema
    )
    path = storage.join(output, part.name)
    storage.write_file(
        path, lambda stream: pq.write_table(result, stream, compression="zstd", write_page_checksum=True)
    )
    return part


def _as_type(column: Any, kind: pa.DataType) -> Any:
    return column if column.type == kind else column.cast(kind)


def _count(column: pa.DictionaryArray) -> dict[str, int]:
    """Returns how often each value stands in the column, nulls left out."""
    counted = column.drop_null().value_counts()
    return dict(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True))


def read_part(path: str, fingerprint: str) -> Part | None:
    """Returns a part's counts, or None if it is damaged or belongs to another plan."""
    try:
        filesystem, target = storage.locate(path)
        with filesystem.open_input_file(target) as source:
            parquet = pq.ParquetFile(source)
            footer = json.loads((parquet.schema_arrow.metadata or {}).get(_FOOTER_KEY, b"{}"))
    except (OSError, pa.ArrowException, LstmRayError, ValueError):
        return None
    if footer.pop("fingerprint", None) != fingerprint:
        return None
    return Part(**footer)
