"""Splits Parquet of any size into a training and a test file, a batch of rows at a time.

files -> batches of rows -> each row's key: its group, or its text, trimmed (held_out.py) -> train.parquet, test.parquet

With `before`, a date decides instead. With `stratify`, a first pass finds where to cut each class's hashes.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lstm_ray import storage
from lstm_ray.config import SplitConfig, option_name
from lstm_ray.datasets.files import refuse_existing
from lstm_ray.datasets.held_out import Hashes, group_keys, hash_keys, held_out, keys_of_rows, share_that_divides
from lstm_ray.errors import ConfigError, InputError, OutputError
from lstm_ray.progress import Count, Progress, ignore
from lstm_ray.storage.inputs import InputFile, check_apart, find_inputs
from lstm_ray.storage.parquet import (
    PARTITION_TYPE,
    check_int96,
    missing_rows,
    open_parquet,
    read_batches,
    reading,
    with_partitions,
)
from lstm_ray.text.tokenize import decode_texts, is_text_type, no_texts, text_columns
from lstm_ray.wording import counted, no_column, shortened

# Approximate limits of a written row group. Training encodes row groups in parallel.
_GROUP_ROWS, _GROUP_BYTES = 16_384, 64 << 20
_BUFFER_BYTES = 4 << 20  # of each column, compressed: a row group may be larger than memory
_PURPOSE = b"data split"
_INSTANT = pa.timestamp("us")  # in UTC
_FARTHEST_S = (1 << 63) // 1_000_000 - 1  # the year 294,000
_CUT_SHIFT, _CUTS = np.uint64(48), 1 << 16
_MOST_CLASSES = 100  # each takes half a MiB
_LEAST_CHANCE = 1e-6  # of all rows on one side; below it the same seed has divided them before


@dataclass(frozen=True)
class _Rows:
    """Some rows of an input file.

    Attributes:
        path: The file.
        first: Number of the first row in the file, for messages.
        table: The rows.
    """

    path: str
    first: int
    table: pa.Table


_Chooser: TypeAlias = "Callable[[_Rows, Hashes], npt.NDArray[np.bool_]]"
"""Says which rows are for the test file, given the hashes of their keys."""


@dataclass(frozen=True)
class SplitFile:
    """One of the two output files.

    Attributes:
        path: The file.
        rows: Number of rows.
        groups: Number of groups; None if rows were not split by group. Rows without a group are not counted.
        undated: Number of rows without a date; None if rows were not split by date.
    """

    path: Path
    rows: int
    groups: int | None
    undated: int | None = None


def split(config: SplitConfig, progress: Progress = ignore) -> tuple[SplitFile, SplitFile]:
    """Writes each row of the inputs to train.parquet or test.parquet, in order, with all its columns.

    With `stratify`, each value gets its share as exactly as equal texts allow, which stay on one side if their value is
    the same.

    Args:
        config: The settings.
        progress: Receives the number of rows done, and notes on files that are left out.

    Returns:
        The training file and the test file.

    Raises:
        ConfigError: The output is inside an input directory, or the date is not one.
        InputError: A file cannot be read or has other columns than the first, or one side would have no row.
        OutputError: An output file exists, is an input, or cannot be written.
    """
    inputs, output = config.inputs, Path(config.output)
    check_apart(inputs, str(output), "train.parquet", "so the next run would read the files of both sides")
    files = find_inputs(inputs, progress)
    paths = output / "train.parquet", output / "test.parquet"
    own = [path for path in paths if os.path.exists(path) and any(_is_file(path, file) for file in files)]
    if own:
        raise OutputError(f"{own[0]}: is an input: choose another --output")
    refuse_existing(*paths, overwrite=config.overwrite)
    named = ("text_column", "by", "stratify") if config.before is None else ("date_column",)
    schema, total = _check(files, {option_name(name): getattr(config, name) for name in named})
    is_test: _Chooser | None = None  # the hash alone decides
    if config.before is not None:
        is_test = _from_date(config.before, config.date_column, schema, files[0].path)
    elif config.stratify is not None:
        is_test = _by_class(files, schema, config.stratify, config)
    sides: list[_Side] = []
    undated = 0

    def write(*streams: Any) -> None:
        nonlocal undated
        with contextlib.ExitStack() as open_writers:
            for path, stream in zip(paths, streams, strict=True):
                writer = open_writers.enter_context(pq.ParquetWriter(stream, schema, compression="zstd"))
                sides.append(_Side(path, writer, schema))
            for rows in _read(files, schema):
                table = rows.table
                if config.before is None:
                    hashes, has_group = _hashes(table, config.text_column, config.by, config.seed)
                else:  # neither text nor group matters, and the rows may have none
                    hashes, has_group = np.zeros(table.num_rows, np.uint64), np.zeros(table.num_rows, np.bool_)
                    undated += _undated(table[config.date_column])
                is_for_test = held_out(hashes, config.test_share) if is_test is None else is_test(rows, hashes)
                for side, chosen in zip(sides, (~is_for_test, is_for_test), strict=True):
                    side.add(table.filter(pa.array(chosen)), hashes[chosen & has_group])
                progress(Count(sum(side.rows for side in sides), total, "rows"))
            for side in sides:
                side.flush()
        _check_sides(config, sides)

    storage.write_files([*map(str, paths)], write)
    train, test = (SplitFile(side.path, side.rows, None if config.by is None else len(side.groups)) for side in sides)
    if config.before is not None:  # a row without a date is not later than any
        train, test = replace(train, undated=undated), replace(test, undated=0)
    return train, test


def _from_date(before: str, column: str, schema: pa.Schema, path: str) -> _Chooser:
    """Returns what chooses the rows of a date or later; a row without a date is not among them."""
    try:
        date = datetime.fromisoformat(before)
    except ValueError as error:
        raise ConfigError(f"--before is {before!r}: should be a date, {_date_meant(before)}") from error
    limit = pa.scalar(date.astimezone(timezone.utc).replace(tzinfo=None) if date.tzinfo else date, _INSTANT)
    kind = schema.field(column).type
    if not (pa.types.is_date(kind) or pa.types.is_timestamp(kind) or is_text_type(kind)):
        remedy = "choose with --date-column"
        if pa.types.is_integer(kind):
            remedy = (
                "if it counts seconds, write it as a timestamp, for example with "
                f'pandas.to_datetime(frame[{column!r}], unit="s") (or unit="ms"), or {remedy}'
            )
        raise InputError(f"{path}: column {column!r} is {kind}, not a date or a text: {remedy}")

    def choose(rows: _Rows, hashes: Hashes) -> npt.NDArray[np.bool_]:
        dates = _dates(rows, column) if is_text_type(kind) else rows.table[column]
        chosen: npt.NDArray[np.bool_] = pc.fill_null(_are_from(dates, limit), False).to_numpy()
        return chosen

    return choose


def _date_meant(text: str) -> str:
    """Returns, for a message, which date is meant if the day comes first, as in 31.5.2024; otherwise an example."""
    with contextlib.suppress(ValueError):
        return f"year first: did you mean {datetime.strptime(text, '%d.%m.%Y').date()}?"
    return "such as 2024-05-01"


def _are_from(dates: pa.ChunkedArray, limit: pa.Scalar) -> pa.ChunkedArray:
    """Returns which dates are a moment or later; null for null.

    The largest numbers of seconds or milliseconds, which some programs write for "never", overflow in microseconds.
    """
    seconds = dates.cast(pa.timestamp("s"), safe=False).cast(pa.int64())
    is_far = pc.or_(pc.greater(seconds, _FARTHEST_S), pc.less(seconds, -_FARTHEST_S))
    near = pc.if_else(is_far, pa.scalar(None, dates.type), dates).cast(_INSTANT, safe=False)
    return pc.if_else(is_far, pc.greater(seconds, 0), pc.greater_equal(near, limit))


def _undated(dates: pa.ChunkedArray) -> int:
    """Returns the number of rows without a date: null, or a text without characters."""
    if is_text_type(dates.type):
        dates = _without_blanks(dates)
    return int(dates.null_count)


def _without_blanks(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Returns texts without white space around them; null for a text without characters."""
    texts = pc.utf8_trim_whitespace(decode_texts(texts))
    return pc.replace_with_mask(texts, pc.equal(texts, ""), pa.scalar(None, texts.type))


def _dates(rows: _Rows, column: str) -> pa.ChunkedArray:
    """Returns the dates that a column's texts name, in UTC; null for a text without characters.

    Raises:
        InputError: A text is no date as ISO 8601 writes it.
    """
    texts = _without_blanks(rows.table[column])
    try:
        return pa.chunked_array([texts.cast(_INSTANT)])
    except pa.ArrowException:  # there is one that is none, or that names its time zone
        dates = map(
            _date, texts.to_pylist(), itertools.repeat(f"{rows.path}: column {column!r}"), itertools.count(rows.first)
        )
        return pa.chunked_array([pa.array(dates, _INSTANT)])


def _date(text: str | None, where: str, row: int) -> pa.Scalar | None:
    for kind in (_INSTANT, pa.timestamp("us", "UTC")):
        with contextlib.suppress(pa.ArrowException):
            return pa.scalar(text).cast(kind).cast(_INSTANT)
    raise InputError(
        f"{where}, row {row:,}: {shortened(repr(text))} is not a date such as 2024-05-31 or 2024-05-31 18:30: write "
        "all dates so (pandas.to_datetime may help), or choose another column with --date-column"
    )


def _by_class(files: Sequence[InputFile], schema: pa.Schema, stratify: str, config: SplitConfig) -> _Chooser:
    """Returns what chooses a share of each class: its rows with the lowest hashes.

    Of all hashes only the first 16 bits are counted, by class, so that memory does not grow with the rows. The cut
    between two of these counts is off by half of one, which is less than a row for up to 65,536 rows.
    """
    counts: dict[bytes | None, npt.NDArray[np.int64]] = {}
    needed = pa.schema([schema.field(name) for name in dict.fromkeys((config.text_column, stratify))])
    for batch in _read(files, needed):
        hashes, _ = _hashes(batch.table, config.text_column, None, config.seed)
        for value, rows in _classes(batch.table, stratify):
            here = np.bincount(hashes[rows] >> _CUT_SHIFT, minlength=_CUTS)
            counts[value] = counts.get(value, 0) + here
        if len(counts) > _MOST_CLASSES:
            raise InputError(f"--stratify {stratify}: more than {_MOST_CLASSES} values: choose a column of classes")
    cuts = {}
    for value, by_hash in counts.items():
        below = np.concatenate([[0], np.cumsum(by_hash)])
        cuts[value] = int(np.argmin(np.abs(below - config.test_share * below[-1])))

    def choose(batch: _Rows, hashes: Hashes) -> npt.NDArray[np.bool_]:
        chosen = np.zeros(len(hashes), np.bool_)
        for value, rows in _classes(batch.table, stratify):
            chosen[rows] = hashes[rows] >> _CUT_SHIFT < cuts[value]
        return chosen

    return choose


def _classes(table: pa.Table, column: str) -> Iterator[tuple[bytes | None, npt.NDArray[np.int64]]]:
    """Yields each value of a column, with its rows."""
    keys = group_keys(table[column]).dictionary_encode()
    codes = pc.fill_null(keys.indices, len(keys.dictionary)).to_numpy()
    for code, value in enumerate([*keys.dictionary.to_pylist(), None]):
        rows = np.flatnonzero(codes == code)
        if rows.size:
            yield value, rows


class _Side:
    """Writes the rows of one side in row groups, and counts them."""

    def __init__(self, path: Path, writer: pq.ParquetWriter, schema: pa.Schema) -> None:
        self.path = path
        self.rows = 0
        self.groups: set[int] = set()  # hashes
        self._writer = writer
        self._waiting = [pa.Table.from_batches([], schema)]  # of any type

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


def _check(files: Sequence[InputFile], needed: Mapping[str, str | None]) -> tuple[pa.Schema, int]:
    """Returns the columns of all files and the number of their rows; reads only footers.

    Args:
        files: The files.
        needed: The columns that the options name, by option.
    """
    first: pa.Schema | None = None
    total = 0
    for file in files:
        with open_parquet(file) as parquet:
            schema = _schema(file, parquet)
            total += parquet.metadata.num_rows
        if repeated := [name for name, times in Counter(schema.names).items() if times > 1]:
            raise InputError(f"{file.path}: has two columns named {repeated[0]!r}: write it with one of them")
        if first is None:
            first = schema
            _check_columns(file, schema, needed)
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
            schema = schema.append(pa.field(name, PARTITION_TYPE))
    return schema


def _describe(schema: pa.Schema, name: str) -> str:
    """Returns the type of a column for a message."""
    if not schema.get_all_field_indices(name):  # of many columns, `schema.names` would be listed for each
        return "missing"
    field = schema.field(name)
    return f"{field.type}" + ("" if field.nullable else " not null")


def _check_columns(file: InputFile, schema: pa.Schema, needed: Mapping[str, str | None]) -> None:
    for option, column in needed.items():
        if column is not None and column not in schema.names:
            by = needed.get("--by") if option == "--text-column" else None
            why = f" (rows whose {by!r} is null are split by their text)" if by else ""
            possible = text_columns(schema) if option == "--text-column" else None
            raise InputError(f"{file.path}: {no_column(column, schema.names, option, possible=possible)}{why}")
    text_column = needed.get("--text-column")
    if text_column is None:
        return
    kind = schema.field(text_column).type
    if not is_text_type(kind):
        raise InputError(f"{file.path}: {no_texts(text_column, kind)}")


def _read(files: Sequence[InputFile], schema: pa.Schema) -> Iterator[_Rows]:
    """Yields all rows in order, a few at a time.

    Raises:
        InputError: A row group cannot be read, or has fewer rows than the file's footer says.
    """
    for file in files:
        with open_parquet(file, _BUFFER_BYTES) as parquet:
            first = 0
            present = set(parquet.schema_arrow.names)
            for number in range(parquet.num_row_groups):
                row_group, found = range(number, number + 1), 0
                names = [name for name in schema.names if name in present]
                check_int96(file, parquet, row_group, names)
                batches = read_batches(parquet, row_group, names)
                while True:
                    with reading(file.path, row_group):
                        batch = next(batches, None)
                    if batch is None:
                        break
                    table = with_partitions(pa.Table.from_batches([batch]), file.partitions)
                    yield _Rows(file.path, first + found, table.select(schema.names).cast(schema))
                    found += batch.num_rows
                promised = parquet.metadata.row_group(number).num_rows
                if found < promised:
                    raise missing_rows(file.path, row_group, found, promised)
                first += found


def _check_sides(config: SplitConfig, sides: Sequence[_Side]) -> None:
    """Raises InputError if a side has no rows."""
    total = sum(side.rows for side in sides)
    if total == 0:
        raise InputError(f"{', '.join(config.inputs)}: no rows to split")
    for side, remedy in zip(sides, ("lower", "raise"), strict=True):
        if side.rows == 0:
            groups = sorted(set[int]().union(*(one.groups for one in sides)))
            of_groups = f" of {counted(len(groups), 'group')}" if config.by is not None else ""
            share = share_that_divides(np.array(groups, np.uint64), config.test_share)
            option = "--test" if share is None else f"--test to {share}"
            change = f"{remedy} {option}, or take another --seed"
            by_chance = (config.test_share if remedy == "lower" else 1 - config.test_share) ** (len(groups) or total)
            if config.before is not None:
                change = "choose another --before"
            elif config.by is not None and len(groups) == 1:
                change = "choose another column with --by"
            elif config.stratify is None and by_chance < _LEAST_CHANCE:
                change = f"take another --seed: the rows seem to be one side of a split with --seed {config.seed}"
            where = ", ".join(config.inputs)
            raise InputError(
                f"{where}: of its {counted(total, 'row')}{of_groups} none is for {side.path.name}: {change}"
            )


def _is_file(path: Path, file: InputFile) -> bool:
    """Returns whether an input is the local file at a path."""
    return storage.is_local(file.path) and path.samefile(storage.locate(file.path)[1])
