"""Scores the chunks of a plan and writes their parts; reads back what is there.

OUTPUT/part-<file>-<row>.parquet   each written whole or not at all, its counts and the plan's fingerprint inside
       _plan/                      the plan, before anything is scored
       _bad_files.parquet          input files set aside, and why
       _manifest.json              what was done
       _SUCCESS                    last of all
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lstm_ray import storage
from lstm_ray.errors import InputError, LstmRayError
from lstm_ray.score.plan import PARTITION_TYPE, BadFile, Chunk, Layout, Plan, Task
from lstm_ray.score.scorer import SENTIMENTS, Scorer
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


def score_task(task: Task, layout: Layout, scorer: Scorer, output: str) -> list[Part] | BadFile:
    """Reads, scores and writes the chunks of a task; or says why their file cannot be read."""
    file = task.file
    parts = []
    try:
        with file.open() as source:
            check_unchanged(file)
            columns = list(dict.fromkeys([*layout.kept, layout.text_column]))
            for chunk, table in _read_chunks(source, task.chunks, columns):
                check_unchanged(file)  # again: who overwrites a file in place does not wait for its readers
                table = _with_partitions(table, file.partitions)
                parts.append(_write_part(layout, chunk, table, scorer, output))
    except InputError as error:
        return BadFile(file.path, str(error).removeprefix(f"{file.path}: "))
    return parts


def check_unchanged(file: storage.InputFile) -> None:
    """Raises InputError if a file is no longer the one that was planned."""
    now = storage.find_inputs([file.path])[0]
    if (now.size, now.modified) != (file.size, file.modified):
        raise InputError(
            f"{file.path}: has changed since the run was planned ({file.size} bytes of {file.modified}, now {now.size} "
            f"of {now.modified})"
        )


def finished_parts(plan: Plan, output: str) -> dict[str, Part]:
    """Returns the parts of this plan that are there and whole, by name."""
    planned = {chunk.part_name: chunk for chunk in plan.chunks}
    present = [name for name in storage.list_names(output) if name in planned]
    with ThreadPoolExecutor(_FOOTER_READERS) as pool:
        parts = pool.map(lambda name: _read_part(storage.join(output, name), plan.layout.fingerprint), present)
    return {part.name: part for part in parts if part is not None and part.rows == planned[part.name].rows}


def write_bad_files(output: str, bad_files: Sequence[BadFile]) -> None:
    """Writes `_bad_files.parquet`; takes it away if no file is bad."""
    path = storage.join(output, "_bad_files.parquet")
    if not bad_files:
        storage.delete(path)
        return
    schema = pa.schema([("path", pa.string()), ("error", pa.string())])
    table = pa.Table.from_pylist([asdict(file) for file in bad_files], schema=schema)
    storage.write_file(path, lambda stream: pq.write_table(table, stream))


def _read_chunks(source: Any, chunks: Sequence[Chunk], columns: list[str]) -> Iterator[tuple[Chunk, pa.Table]]:
    """Yields each chunk's rows; the columns that the file lacks are left out.

    Raises:
        InputError: The row groups cannot be read.
    """
    first, stop = chunks[0].row_groups
    try:
        parquet = pq.ParquetFile(source)
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
        raise InputError(f"{groups_read} cannot be read: {reason(error)}") from error


def _with_partitions(table: pa.Table, partitions: Mapping[str, str | None]) -> pa.Table:
    """Returns the table with what the file's directories say, in place of columns of these names."""
    table = table.drop_columns([name for name in partitions if name in table.column_names])
    for name, value in partitions.items():
        table = table.append_column(name, pa.repeat(pa.scalar(value, PARTITION_TYPE), table.num_rows))
    return table


def _write_part(layout: Layout, chunk: Chunk, table: pa.Table, scorer: Scorer, output: str) -> Part:
    scored = scorer.score(table[layout.text_column])
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
    storage.write_file(path, lambda stream: pq.write_table(result, stream, compression="zstd"))
    return part


def _as_type(column: Any, kind: pa.DataType) -> Any:
    return column if column.type == kind else column.cast(kind)


def _count(column: pa.DictionaryArray) -> dict[str, int]:
    """Returns how often each value stands in the column, nulls left out."""
    counted = column.drop_null().value_counts()
    return dict(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True))


def _read_part(path: str, fingerprint: str) -> Part | None:
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
