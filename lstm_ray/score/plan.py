"""The plan of a scoring run: which rows become which output part.

Each file's row groups are cut into chunks of about `rows_per_part` rows; a chunk becomes one part. The part's name is a
function of the file's position among the inputs and the chunk's first row in the file. So writing a part twice is
harmless, names sort in input order, and a rerun knows from the names what is missing, without ids and without memory
that grows with the rows.

    file 0: row groups of 40k, 40k, 40k rows, rows_per_part 50k   part-000000-000000000000   80k rows, row groups 0-1
                                                                  part-000000-000000080000   40k rows, row group 2
    file 1: one row group of 120k rows                            part-000001-000000000000   60k rows
                                                                  part-000001-000000060000   60k rows
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import pyarrow as pa

from lstm_ray.config import ScoreConfig
from lstm_ray.errors import InputError
from lstm_ray.progress import Count, Progress, ignore
from lstm_ray.score.columns import PartLayout, kept_by, mixed_types, part_schema
from lstm_ray.storage.inputs import InputFile, find_inputs
from lstm_ray.storage.parquet import PARTITION_TYPE, describe_doubled, read_footer
from lstm_ray.text.tokenize import is_text_type, no_texts, text_columns
from lstm_ray.wording import counted, no_column

SCORES_VERSION = "0.3.0"
"""Version of lstm-ray since which the same plan gives the same parts, byte for byte. A change that scores texts or
writes parts differently must raise it: scores of an earlier one are then neither resumed nor mixed with new ones."""
_TURNS = 3  # tasks that an actor should still get before the end, if they stay as large as the next one
_FILES_AT_ONCE = 100  # small ones: handing them to a Ray actor one by one takes longer than scoring them
_FOOTER_READERS = 16  # threads; reading a footer is waiting, above all on an object store
_FOOTERS_AT_ONCE = 100  # by a thread; one by one, the hand-over costs half as much as the reading from a disk

T = TypeVar("T")


@dataclass(frozen=True)
class Chunk:
    """Rows of one input file that become one output part.

    Attributes:
        file: Index of the file in the plan.
        row_offset: Number of the first row in its file.
        rows: Number of rows.
        row_groups: The row groups that contain them: the first, and the one after the last.
        skip: Rows of these row groups before the first row.
    """

    file: int
    row_offset: int
    rows: int
    row_groups: tuple[int, int]
    skip: int

    @property
    def part_name(self) -> str:
        """Returns the name of the part."""
        return f"part-{self.file:06d}-{self.row_offset:012d}.parquet"


_NO_ROWS = Chunk(0, 0, 0, (0, 0), 0)


def is_part_name(name: str) -> bool:
    """Returns whether a file's name is that of a part."""
    return re.fullmatch(r"part-\d{6,}-\d{12,}\.parquet", name) is not None


def file_of_part(name: str) -> int:
    """Returns the position in the plan of the file that a part's rows come from."""
    return int(name.split("-")[1])


@dataclass(frozen=True)
class BadFile:
    """An input file that is set aside because it cannot be scored, with the reason."""

    path: str
    error: str


@dataclass(frozen=True)
class Task:
    """Chunks from the same row groups of a file, which are then read once."""

    file: InputFile
    chunks: list[Chunk]


@dataclass(frozen=True)
class Plan:
    """What a scoring run does.

    It holds the files and the sizes of their row groups; chunks are made from these when asked for. A plan of 100,000
    files that become 1,000,000 parts takes 0.2 GB.

    Attributes:
        files: Input files that can be read.
        group_rows: Rows of each file's row groups.
        rows_per_part: Rows that a part should have.
        rows: Rows to score.
        parts: Number of chunks, each of which becomes a part.
        model_hash: Of the bundle and the user code it needs.
        layout: What all parts have in common.
        bad_files: Input files set aside.
    """

    files: list[InputFile]
    group_rows: list[tuple[int, ...]]
    rows_per_part: int
    rows: int
    parts: int
    model_hash: str
    layout: PartLayout
    bad_files: list[BadFile]

    def chunks(self) -> Iterator[Chunk]:
        """Yields all chunks in input order; of an input without rows one, so that its part has the columns."""
        if not self.rows:
            return iter([_NO_ROWS])
        return _first_rows(_cut_all(self.group_rows, self.rows_per_part), self.rows)

    def chunks_of(self, paths: Collection[str]) -> Iterator[Chunk]:
        """Yields the chunks of some files."""
        return (chunk for chunk in self.chunks() if self.files[chunk.file].path in paths)

    def tasks(self, done: Collection[str], actors: int = 1) -> Iterator[Task]:
        """Yields the work that is left, in input order.

        Args:
            done: Names of the parts that are already written.
            actors: Actors that share the work. The less is left for each, the more tasks the chunks of one row group
                are split into, so that no actor is idle for long at the end. But every task fetches the text of the
                whole row group, and decodes the rows before its own, which takes a thirtieth of scoring them.
        """
        left = self.parts - len(done)
        missing = (chunk for chunk in self.chunks() if chunk.part_name not in done)
        for (file, _), group in itertools.groupby(missing, lambda chunk: (chunk.file, chunk.row_groups)):
            chunks = list(group)
            pieces = min(actors, -(-len(chunks) // max(1, left // (_TURNS * actors))))
            size = -(-len(chunks) // pieces)
            left -= len(chunks)
            yield from (Task(self.files[file], some) for some in slices(chunks, size))

    def task_lists(self, done: Collection[str], actors: int = 1) -> Iterator[list[Task]]:
        """Yields the same tasks; small ones together, so that they have up to `rows_per_part` rows.

        The less is left for each actor, the shorter the lists are.
        """
        left = self.parts - len(done)
        some: list[Task] = []
        rows = 0
        for task in self.tasks(done, actors):
            more = sum(chunk.rows for chunk in task.chunks)
            most = min(_FILES_AT_ONCE, left // (_TURNS * actors))
            if some and (len(some) >= most or rows + more > self.rows_per_part):
                yield some
                left, some, rows = left - len(some), [], 0
            some.append(task)
            rows += more
        if some:
            yield some


def make_plan(config: ScoreConfig, model_hash: str, progress: Progress = ignore) -> Plan:
    """Reads all footers and cuts the input into chunks.

    Args:
        config: Inputs and how to cut them.
        model_hash: Of the bundle and the user code it needs; part of the fingerprint.
        progress: Receives how many footers are read, and notes on what is left out of the input.

    Raises:
        InputError: A path does not exist, or more files are bad than `max_bad_files` allows, or columns clash.
        ConfigError: A column to keep exists in no file, or a new column's name is taken.
    """
    files, footers, bad = _read_footers(find_inputs(config.inputs, progress), config, progress)
    check_bad_files(bad, config.max_bad_files, not files)
    if doubled := {name for footer in footers for name in footer.doubled}:
        progress(f"note: {describe_doubled(doubled)}")
    schemas: dict[pa.Schema, InputFile] = {}
    for file, footer in zip(files, footers, strict=True):
        schemas.setdefault(footer.schema, file)
    schema, kept = part_schema(schemas, config)
    group_rows = [footer.group_rows for footer in footers]
    rows = parts = 0
    for chunk in _first_rows(_cut_all(group_rows, config.rows_per_part), config.max_rows):
        rows, parts = rows + chunk.rows, parts + 1
    fingerprint = _fingerprint(files, group_rows, kept, config, model_hash)
    layout = PartLayout(schema, kept, config.text_column, config.explain, fingerprint, mixed_types(schemas, kept))
    return Plan(files, group_rows, config.rows_per_part, rows, parts or 1, model_hash, layout, bad)


def check_bad_files(bad: Sequence[BadFile], allowed: int, are_all: bool) -> None:
    """Raises InputError if more files are bad than allowed, or all of them are (`are_all`)."""
    if not bad or (len(bad) <= allowed and not are_all):
        return
    more = f" (and {counted(len(bad) - 1, 'more bad file')})" if len(bad) > 1 else ""
    remedy = "" if are_all else f"; --max-bad-files {len(bad)} would set bad files aside"
    raise InputError(f"{bad[0].path}: {bad[0].error}{more}{remedy}")


def cut(group_rows: Sequence[int], rows_per_part: int, file: int) -> Iterator[Chunk]:
    """Cuts one file's row groups into chunks.

    Row groups are joined until they have `rows_per_part` rows; twice as many or more are cut into equal chunks.
    """
    offset = first = joined = 0
    for group, rows in enumerate(group_rows):
        joined += rows
        if joined < rows_per_part and group + 1 < len(group_rows):
            continue
        parts = max(1, joined // rows_per_part)
        start = 0
        for part in range(parts):
            stop = joined * (part + 1) // parts
            if stop > start:
                yield Chunk(file, offset + start, stop - start, (first, group + 1), start)
            start = stop
        offset, first, joined = offset + joined, group + 1, 0


def slices(items: Sequence[T], size: int) -> Iterator[list[T]]:
    """Cuts a sequence into lists of `size`, the last one perhaps shorter."""
    return (list(items[start : start + size]) for start in range(0, len(items), size))


@dataclass(frozen=True)
class _Footer:
    """The content of a file's footer and of its directories' names.

    Attributes:
        schema: Columns of both.
        group_rows: Rows of each row group.
        doubled: Columns that are in both; the file's own are in the schema.
    """

    schema: pa.Schema
    group_rows: tuple[int, ...]
    doubled: tuple[str, ...]


def _read_footers(
    found: Sequence[InputFile], config: ScoreConfig, progress: Progress
) -> tuple[list[InputFile], list[_Footer], list[BadFile]]:
    """Returns the files that can be scored, their footers, and the files that cannot."""
    files, footers, bad = [], [], []
    schemas: dict[pa.Schema, pa.Schema] = {}  # files of one kind share one: a schema takes some KiB
    size = max(1, min(_FOOTERS_AT_ONCE, len(found) // (4 * _FOOTER_READERS)))
    with ThreadPoolExecutor(_FOOTER_READERS) as pool:
        lists = pool.map(lambda some: [_read_footer(file, config) for file in some], slices(found, size))
        read = itertools.chain.from_iterable(lists)
        for number, (file, footer) in enumerate(zip(found, read, strict=True), 1):
            progress(Count(number, len(found), "files", "planning"))
            if isinstance(footer, str):
                bad.append(BadFile(file.path, footer))
            else:
                files.append(file)
                footers.append(replace(footer, schema=schemas.setdefault(footer.schema, footer.schema)))
    return files, footers, bad


def _read_footer(file: InputFile, config: ScoreConfig) -> _Footer | str:
    """Returns a file's schema and row groups, or why it cannot be scored."""
    try:
        schema, metadata = read_footer(file)
    except InputError as error:
        return str(error).removeprefix(f"{file.path}: ")
    text_column = config.text_column
    repeated = [name for name, times in Counter(schema.names).items() if times > 1]
    kept = kept_by(config)
    if needed := [name for name in repeated if kept is None or name in kept or name == text_column]:
        keep = (
            "write it with one of them"
            if text_column in needed
            else "name those to keep, without it, in --keep-columns"
        )
        return f"has two columns named {needed[0]!r}: {keep}"
    if text_column not in schema.names:
        return no_column(text_column, schema.names, "--text-column", possible=text_columns(schema))
    kind = schema.field(text_column).type
    if not is_text_type(kind):
        return no_texts(text_column, kind)
    group_rows = tuple(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))
    inside = [field for field in schema if field.name not in repeated]
    outside = [pa.field(name, PARTITION_TYPE) for name in file.partitions if name not in schema.names]
    doubled = tuple(name for name in file.partitions if name in schema.names)
    return _Footer(pa.schema([*inside, *outside]), group_rows, doubled)


def _cut_all(group_rows: Sequence[Sequence[int]], rows_per_part: int) -> Iterator[Chunk]:
    for file, rows in enumerate(group_rows):
        yield from cut(rows, rows_per_part, file)


def _first_rows(chunks: Iterator[Chunk], max_rows: int | None) -> Iterator[Chunk]:
    left = max_rows
    for chunk in chunks:
        if left is None or chunk.rows <= left:
            yield chunk
        else:
            yield replace(chunk, rows=left)
        if left is not None:
            left -= chunk.rows
            if left <= 0:
                return


def _fingerprint(
    files: Sequence[InputFile],
    group_rows: Sequence[Sequence[int]],
    kept: Sequence[str],
    config: ScoreConfig,
    model_hash: str,
) -> str:
    """Returns a hash of all that decides the parts.

    Files whose footer cannot be used are not in it: no part depends on them, so they may come and go.
    """
    digest = hashlib.sha256()
    settings = {
        "version": SCORES_VERSION,
        "model": model_hash,
        "kept": list(kept),
        **config.fingerprint_values(),
    }
    digest.update(json.dumps(settings, sort_keys=True).encode())
    for file, rows in zip(files, group_rows, strict=True):
        fields = [file.path, file.size, file.modified, file.partitions, sum(rows)]  # `astuple` takes ten times as long
        digest.update(json.dumps(fields).encode())
    return digest.hexdigest()
