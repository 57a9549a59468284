"""The plan of a scoring run: which rows become which output part.

Each file's row groups are cut into chunks of about `rows_per_part` rows; a chunk becomes one part. The part's name is a
function of the file's position among the inputs and the chunk's first row in the file, so that writing a part twice is
harmless, names sort in input order, and a rerun knows what is missing from the names alone: no ids, and nothing in
memory that grows with the rows.

    file 0: row groups of 40k, 40k, 40k rows, rows_per_part 50k   part-000000-000000000000   80k rows, row groups 0-1
                                                                  part-000000-000000080000   40k rows, row group 2
    file 1: one row group of 120k rows                            part-000001-000000000000   60k rows
                                                                  part-000001-000000060000   60k rows
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, replace

import pyarrow as pa
import pyarrow.parquet as pq

import lstm_ray
from lstm_ray.config import ScoreConfig
from lstm_ray.errors import ConfigError, InputError
from lstm_ray.storage.inputs import InputFile, find_inputs
from lstm_ray.text.tokenize import is_text_type
from lstm_ray.wording import counted, not_parquet, reason

NEW_COLUMNS = ("sentiment_probability", "sentiment", "sentiment_error")
Progress = Callable[[int, int], None]
"""Hears (done, in all): input files whose footer has been read, or rows that have been scored."""

PARTITION_TYPE = pa.string()  # of a column that directories named key=value make: they do not say what they mean
_FOOTER_READERS = 16  # threads; reading a footer is waiting, above all on an object store


@dataclass(frozen=True)
class Chunk:
    """Rows of one input file that become one output part.

    Attributes:
        file: Position of the file in the plan.
        row_offset: Number of the first row in its file.
        rows: How many.
        row_groups: The row groups they lie in, from and up to (exclusive).
        skip: Rows of these row groups that come before them.
    """

    file: int
    row_offset: int
    rows: int
    row_groups: tuple[int, int]
    skip: int

    @property
    def part_name(self) -> str:
        """Returns the name of the output file."""
        return f"part-{self.file:06d}-{self.row_offset:012d}.parquet"


@dataclass(frozen=True)
class BadFile:
    """An input file that cannot be scored, and why."""

    path: str
    error: str


@dataclass(frozen=True)
class PartLayout:
    """What every part of a run looks like.

    Attributes:
        schema: Columns of a part, the three new ones last.
        text_column: The input column to score.
        fingerprint: Of the plan: changes if and only if the output could.
    """

    schema: pa.Schema
    text_column: str
    fingerprint: str

    @property
    def kept(self) -> list[str]:
        """Returns the names of the input columns among a part's."""
        return list(self.schema.names[: -len(NEW_COLUMNS)])


@dataclass(frozen=True)
class Task:
    """Chunks that lie in the same row groups of a file, so that these are read once."""

    file: InputFile
    chunks: list[Chunk]


@dataclass(frozen=True)
class Plan:
    """What a scoring run does.

    It holds numbers of files and row groups; chunks are made of them as they are asked for. A plan of 100,000 files
    that become 1,000,000 parts takes 0.2 GB.

    Attributes:
        files: Input files that can be read.
        group_rows: Rows of each file's row groups.
        rows_per_part: How many rows a part should have.
        rows: Rows to score.
        parts: Chunks, each of which becomes a part.
        layout: What the parts look like.
        bad_files: Input files set aside.
    """

    files: list[InputFile]
    group_rows: list[tuple[int, ...]]
    rows_per_part: int
    rows: int
    parts: int
    layout: PartLayout
    bad_files: list[BadFile]

    def chunks(self) -> Iterator[Chunk]:
        """Yields all chunks in input order."""
        return _first_rows(_cut_all(self.group_rows, self.rows_per_part), self.rows)

    def chunks_of(self, paths: Collection[str]) -> Iterator[Chunk]:
        """Yields the chunks of some files."""
        return (chunk for chunk in self.chunks() if self.files[chunk.file].path in paths)

    def tasks(self, done: Collection[str], shares: int = 1) -> Iterator[Task]:
        """Yields what is to do, in input order.

        Args:
            done: Names of the parts that are there already.
            shares: Into how many tasks the chunks of one row group may be cut. All but the first read over the rows
                of those before them, which takes a hundredth of scoring them.
        """
        missing = (chunk for chunk in self.chunks() if chunk.part_name not in done)
        for (file, _), group in itertools.groupby(missing, lambda chunk: (chunk.file, chunk.row_groups)):
            chunks = list(group)
            size = -(-len(chunks) // shares)
            for start in range(0, len(chunks), size):
                yield Task(self.files[file], chunks[start : start + size])


def make_plan(config: ScoreConfig, model_hash: str, progress: Progress = lambda done, total: None) -> Plan:
    """Reads all footers and cuts the input into chunks.

    Args:
        config: Inputs and how to cut them.
        model_hash: Of the bundle and the code it needs; part of the fingerprint.
        progress: Hears how many footers have been read.

    Raises:
        InputError: A path does not exist, or more files are bad than `max_bad_files` allows, or columns clash.
        ConfigError: A column to keep exists in no file, or a new column's name is taken.
    """
    files, footers, bad = _read_footers(find_inputs(config.inputs), config.text_column, progress)
    check_bad_files(bad, config.max_bad_files, are_all=not files)
    schemas: dict[pa.Schema, InputFile] = {}
    for file, footer in zip(files, footers, strict=True):
        schemas.setdefault(footer.schema, file)
    kept = _kept_columns(schemas, config)
    schema = _unify(schemas, kept)
    new = [config.prefix + name for name in NEW_COLUMNS]
    if taken := [name for name in new if name in kept]:
        raise ConfigError(f"the input has a column {taken[0]!r} already: give the new columns a --prefix, e.g. new_")
    group_rows = [footer.group_rows for footer in footers]
    rows = parts = 0
    for chunk in _first_rows(_cut_all(group_rows, config.rows_per_part), config.max_rows):
        rows, parts = rows + chunk.rows, parts + 1
    fingerprint = _fingerprint(files, group_rows, bad, kept, config, model_hash)
    layout = PartLayout(output_schema(schema, kept, new), config.text_column, fingerprint)
    return Plan(files, group_rows, config.rows_per_part, rows, parts, layout, bad)


def check_bad_files(bad: Sequence[BadFile], allowed: int, are_all: bool = False) -> None:
    """Raises InputError if more files are bad than may be, or all (`are_all`)."""
    if not bad or (len(bad) <= allowed and not are_all):
        return
    more = f" (and {counted(len(bad) - 1, 'more bad file')})" if len(bad) > 1 else ""
    remedy = "" if are_all else f"; --max-bad-files {len(bad)} would set bad files aside"
    raise InputError(f"{bad[0].path}: {bad[0].error}{more}{remedy}")


def cut(group_rows: Sequence[int], rows_per_part: int, file: int) -> Iterator[Chunk]:
    """Cuts one file's row groups into chunks.

    Row groups are joined until they have `rows_per_part` rows; what is twice as large or more is cut into equal parts.
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


def output_schema(schema: pa.Schema, kept: Sequence[str], new: Sequence[str]) -> pa.Schema:
    """Returns the columns of a part."""
    probability, sentiment, error = new
    return pa.schema(
        [
            *(schema.field(name) for name in kept),
            pa.field(probability, pa.float32()),
            pa.field(sentiment, pa.dictionary(pa.int8(), pa.string())),
            pa.field(error, pa.dictionary(pa.int8(), pa.string())),
        ]
    )


@dataclass(frozen=True)
class _Footer:
    schema: pa.Schema
    group_rows: tuple[int, ...]


def _read_footers(
    found: Sequence[InputFile], text_column: str, progress: Progress
) -> tuple[list[InputFile], list[_Footer], list[BadFile]]:
    """Returns the files that can be scored, their footers, and the files that cannot."""
    files, footers, bad = [], [], []
    schemas: dict[pa.Schema, pa.Schema] = {}  # files of one kind share one: a schema takes some KiB
    with ThreadPoolExecutor(_FOOTER_READERS) as pool:
        read = pool.map(lambda file: _read_footer(file, text_column), found)
        for number, (file, footer) in enumerate(zip(found, read, strict=True), 1):
            progress(number, len(found))
            if isinstance(footer, str):
                bad.append(BadFile(file.path, footer))
            else:
                files.append(file)
                footers.append(replace(footer, schema=schemas.setdefault(footer.schema, footer.schema)))
    return files, footers, bad


def _read_footer(file: InputFile, text_column: str) -> _Footer | str:
    """Returns a file's schema and row groups, or why it cannot be scored."""
    try:
        with file.open() as source:
            parquet = pq.ParquetFile(source)
            schema, metadata = parquet.schema_arrow, parquet.metadata
    except InputError as error:
        return str(error).removeprefix(f"{file.path}: ")
    except (OSError, pa.ArrowException) as error:
        return not_parquet(file.path, error)
    if repeated := [name for name in schema.names if schema.names.count(name) > 1]:
        return f"has two columns named {repeated[0]!r}"
    if text_column not in schema.names:
        columns = ", ".join(map(repr, schema.names))
        return f"no column {text_column!r}; it has {columns}: choose with --text-column"
    kind = schema.field(text_column).type
    if not is_text_type(kind):
        return f"column {text_column!r} is {kind}, not text: choose with --text-column"
    group_rows = tuple(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))
    return _Footer(_with_partitions(schema.remove_metadata(), file), group_rows)


def _with_partitions(schema: pa.Schema, file: InputFile) -> pa.Schema:
    """Returns the columns of a file and those that its directories add; these win over the file's, as in pyarrow."""
    inside = [field for field in schema if field.name not in file.partitions]
    return pa.schema([*inside, *(pa.field(name, PARTITION_TYPE) for name in file.partitions)])


def _kept_columns(schemas: Collection[pa.Schema], config: ScoreConfig) -> list[str]:
    names = list(dict.fromkeys(name for schema in schemas for name in schema.names))
    if config.keep_columns == "all":
        return names
    kept = list(dict.fromkeys(name.strip() for name in config.keep_columns.split(",") if name.strip()))
    if unknown := [name for name in kept if name not in names]:
        raise ConfigError(
            f"--keep-columns: no column {unknown[0]!r} in the input; it has {', '.join(map(repr, names))}"
        )
    return kept


def _unify(schemas: Mapping[pa.Schema, InputFile], kept: Sequence[str]) -> pa.Schema:
    """Returns the kept columns of all files, wide enough for each; one that a file lacks is null there.

    Args:
        schemas: Each with the first file that has it, for messages.
        kept: Names of columns.
    """
    unified = pa.schema([])
    for schema, file in schemas.items():
        fields = [_plain(schema.field(name), schemas) for name in kept if name in schema.names]
        try:
            unified = pa.unify_schemas([unified, pa.schema(fields)], promote_options="permissive")
        except pa.ArrowException as error:
            raise InputError(
                f"{file.path}: its columns do not fit those of the files before it: {reason(error)}; "
                "--keep-columns can leave such a column out"
            ) from error
    return unified


def _plain(field: pa.Field, schemas: Collection[pa.Schema]) -> pa.Field:
    """Returns a dictionary-encoded column as its values if it is not so, or not alike, in every file."""
    if not pa.types.is_dictionary(field.type):
        return field
    is_alike = all(schema.field(field.name).type == field.type for schema in schemas if field.name in schema.names)
    return field if is_alike else field.with_type(field.type.value_type)


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
    bad: Sequence[BadFile],
    kept: Sequence[str],
    config: ScoreConfig,
    model_hash: str,
) -> str:
    digest = hashlib.sha256()
    settings = {
        "version": lstm_ray.__version__,
        "model": model_hash,
        "kept": list(kept),
        **config.fingerprint_values(),
    }
    digest.update(json.dumps(settings, sort_keys=True).encode())
    for file, rows in zip(files, group_rows, strict=True):
        digest.update(json.dumps([*astuple(file), sum(rows)]).encode())
    digest.update(json.dumps([file.path for file in bad]).encode())
    return digest.hexdigest()
