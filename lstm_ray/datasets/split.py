"""Splits Parquet of any size into a training and a test file, in one pass, a batch of rows at a time.

files -> batches of rows -> each row's key: its group, or its text (held_out.py) -> train.parquet, test.parquet
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lstm_ray import storage
from lstm_ray.datasets.files import refuse_existing
from lstm_ray.datasets.held_out import group_keys, hash_keys, held_out, keys_of_rows
from lstm_ray.errors import ConfigError, InputError, OutputError
from lstm_ray.progress import Count, Progress, ignore
from lstm_ray.storage.inputs import InputFile, check_apart, find_inputs
from lstm_ray.storage.parquet import check_int96, missing_rows, open_parquet, reading
from lstm_ray.text.tokenize import decode_texts, is_text_type
from lstm_ray.wording import counted

_READ_ROWS = 8_192  # decoded at a time
# Approximate limits of a written row group. Training encodes row groups in parallel.
_GROUP_ROWS, _GROUP_BYTES = 16_384, 64 << 20
_BUFFER_BYTES = 4 << 20  # of each column, compressed: a row group may be larger than memory
_PURPOSE = b"data split"


@dataclass(frozen=True)
class SplitFile:
    """One of the two output files.

    Attributes:
        path: The file.
        rows: Number of rows.
        groups: Number of groups, not counting rows without one; None if rows were not split by group.
    """

    path: Path
    rows: int
    groups: int | None


def split(
    inputs: Sequence[str],
    output: Path,
    *,
    test: float = 0.2,
    by: str | None = None,
    text_column: str = "text",
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress = ignore,
) -> tuple[SplitFile, SplitFile]:
    """Writes each row of the inputs to train.parquet or test.parquet, in order, with all its columns.

    Args:
        inputs: Parquet files, directories, globs or URIs, all with the same columns.
        output: Directory of the two files.
        test: Share of the texts or groups that go to the test file, between 0 and 1.
        by: Column whose equal values stay together; if it is null or not given, equal texts do.
        text_column: The text column.
        seed: Different seeds give different splits.
        overwrite: Whether existing files may be replaced.
        progress: Receives the rows done, and notes on files that are left out.

    Returns:
        The training file and the test file.

    Raises:
        ConfigError: The share is not between 0 and 1, or the output is inside an input directory.
        InputError: A file cannot be read or has other columns than the first one, or one side would have no rows.
        OutputError: An output file exists, is an input, or cannot be written.
    """
    if not 0 < test < 1:
        raise ConfigError(f"--test is {test:g}: should be above 0 and below 1")
    check_apart(inputs, str(output), "train.parquet", "which would then read both sides")
    files = find_inputs(inputs, progress)
    paths = output / "train.parquet", output / "test.parquet"
    own = [path for path in paths if path.exists() and any(_is_file(path, file) for file in files)]
    if own:
        raise OutputError(f"{own[0]}: is an input: choose another --output")
    refuse_existing(*paths, overwrite=overwrite)
    schema, total = _check(files, text_column, by)
    sides: list[_Side] = []

    def write(*streams: Any) -> None:
        with contextlib.ExitStack() as open_writers:
            for path, stream in zip(paths, streams, strict=True):
                writer = open_writers.enter_context(pq.ParquetWriter(stream, schema, compression="zstd"))
                sides.append(_Side(path, writer, schema))
            for table in _read(files, schema):
                hashes, has_group = _hashes(table, text_column, by, seed)
                is_test = held_out(hashes, test)
                for side, chosen in zip(sides, (~is_test, is_test), strict=True):
                    side.add(table.filter(pa.array(chosen)), hashes[chosen & has_group])
                progress(Count(sum(side.rows for side in sides), total, "rows"))
            for side in sides:
                side.flush()
        _check_sides(", ".join(inputs), sides, by)

    def write_test_file_too(train: Any) -> None:  # so that neither file appears before both are written
        storage.write_file(str(paths[1]), lambda test: write(train, test))

    storage.write_file(str(paths[0]), write_test_file_too)
    train, test_ = (SplitFile(side.path, side.rows, None if by is None else len(side.groups)) for side in sides)
    return train, test_


class _Side:
    """Writes the rows of one side in row groups, and counts them."""

    def __init__(self, path: Path, writer: pq.ParquetWriter, schema: pa.Schema) -> None:
        self.path = path
        self.rows = 0
        self.groups: set[int] = set()  # hashes
        self._writer = writer
        self._waiting = [schema.empty_table()]

    def add(self, rows: pa.Table, groups: npt.NDArray[np.uint64]) -> None:
        """Adds rows, and writes the waiting rows as a row group when there are enough."""
        self.rows += rows.num_rows
        self.groups.update(np.unique(groups).tolist())
        self._waiting.append(rows)
        waiting = sum(table.num_rows for table in self._waiting)
        if waiting >= _GROUP_ROWS or sum(table.nbytes for table in self._waiting) >= _GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        """Writes the waiting rows."""
        table = pa.concat_tables(self._waiting)
        if table.num_rows:
            self._writer.write_table(table, row_group_size=table.num_rows)
        self._waiting = [table.slice(0, 0)]


def _hashes(
    table: pa.Table, text_column: str, by: str | None, seed: int
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_]]:
    """Returns the hash of each row's key, and which rows have a group. Rows without group and text share a key."""
    groups = None if by is None else group_keys(table[by])
    keys = pc.fill_null(keys_of_rows(decode_texts(table[text_column]), groups), b"")
    has_group = np.zeros(len(keys), np.bool_) if groups is None else groups.is_valid().to_numpy(zero_copy_only=False)
    return hash_keys(keys, seed, _PURPOSE), has_group


def _check(files: Sequence[InputFile], text_column: str, by: str | None) -> tuple[pa.Schema, int]:
    """Returns the columns of all files and the total number of rows, reading only footers."""
    first: pa.Schema | None = None
    total = 0
    for file in files:
        with open_parquet(file) as parquet:
            schema = _schema(file, parquet)
            total += parquet.metadata.num_rows
        if repeated := [name for name in schema.names if schema.names.count(name) > 1]:
            raise InputError(f"{file.path}: has two columns named {repeated[0]!r}")
        if first is None:
            first = schema
            _check_columns(file, schema, text_column, by)
        for name in dict.fromkeys([*first.names, *schema.names]):
            here, there = (_describe(one, name) for one in (schema, first))
            if here != there:
                raise InputError(
                    f"{file.path}: column {name!r} is {here}, but {there} in {files[0].path}: split them one by one"
                )
    assert first is not None  # there is an input
    return first, total


def _schema(file: InputFile, parquet: pq.ParquetFile) -> pa.Schema:
    """Returns the columns of a file, including those from the names of its directories."""
    schema = parquet.schema_arrow
    for name in file.partitions:
        if name not in schema.names:
            schema = schema.append(pa.field(name, pa.string()))
    return schema


def _describe(schema: pa.Schema, name: str) -> str:
    """Returns the type of a column for a message."""
    if name not in schema.names:
        return "missing"
    field = schema.field(name)
    return f"{field.type}" + ("" if field.nullable else " not null")


def _check_columns(file: InputFile, schema: pa.Schema, text_column: str, by: str | None) -> None:
    for column, option in ((text_column, "--text-column"), *([(by, "--by")] if by is not None else [])):
        if column not in schema.names:
            columns = ", ".join(map(repr, schema.names))
            raise InputError(f"{file.path}: no column {column!r}; it has {columns}: choose with {option}")
    kind = schema.field(text_column).type
    if not is_text_type(kind):
        raise InputError(f"{file.path}: column {text_column!r} is {kind}, expected text: choose with --text-column")


def _read(files: Sequence[InputFile], schema: pa.Schema) -> Iterator[pa.Table]:
    """Yields all rows in order, a few at a time.

    Raises:
        InputError: A row group cannot be read, or has fewer rows than the file's footer says.
    """
    for file in files:
        with open_parquet(file, _BUFFER_BYTES) as parquet:
            for number in range(parquet.num_row_groups):
                check_int96(file, parquet, range(number, number + 1), parquet.schema_arrow.names)
                row_group, found = range(number, number + 1), 0
                batches = parquet.iter_batches(_READ_ROWS, row_groups=list(row_group))
                while True:
                    with reading(file.path, row_group):
                        batch = next(batches, None)
                    if batch is None:
                        break
                    found += batch.num_rows
                    table = pa.Table.from_batches([batch])
                    for name, value in file.partitions.items():
                        if name not in table.column_names:
                            table = table.append_column(name, pa.array([value] * len(table), pa.string()))
                    yield table.select(schema.names).cast(schema)
                promised = parquet.metadata.row_group(number).num_rows
                if found < promised:
                    raise missing_rows(file.path, row_group, found, promised)


def _check_sides(where: str, sides: Sequence[_Side], by: str | None) -> None:
    """Raises InputError if a side has no rows."""
    total = sum(side.rows for side in sides)
    for side, remedy in zip(sides, ("lower", "raise"), strict=True):
        if side.rows == 0:
            groups = f" of {counted(sum(len(one.groups) for one in sides), 'group')}" if by is not None else ""
            raise InputError(
                f"{where}: of its {counted(total, 'row')}{groups} none is for {side.path.name}: {remedy} --test, or "
                "take another --seed"
            )


def _is_file(path: Path, file: InputFile) -> bool:
    """Returns whether an input is the local file at a path."""
    return storage.is_local(file.path) and path.samefile(storage.locate(file.path)[1])
