"""Converts files in two passes: determines the columns' types, then writes."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lstm_ray import storage
from lstm_ray.config import ConvertConfig, option_name
from lstm_ray.datasets.convert.columns import MOST_COLUMNS, Block, Column, JsonColumn, TextColumn, to_json
from lstm_ray.datasets.convert.delimited import DELIMITERS, DelimitedRows, Dialect, make_dialect
from lstm_ray.datasets.convert.json_lines import SUFFIXES, JsonRows
from lstm_ray.datasets.convert.source import open_lines, unpacked_beginning
from lstm_ray.datasets.files import refuse_existing
from lstm_ray.errors import ConfigError, InputError, OutputError
from lstm_ray.progress import Count, Progress, ignore
from lstm_ray.storage.formats import (
    COMPRESSIONS,
    HEAD_BYTES,
    PARQUET,
    check_parquet_name,
    is_text,
    unsupported_format,
)
from lstm_ray.storage.inputs import why_missing
from lstm_ray.wording import no_column, quoted, reason, shortened, to_copy

_JSON_BEGINS = (b'{"', b'[{"', b"[\n")


@dataclass(frozen=True)
class Converted:
    """The result of a conversion.

    Attributes:
        output: The file that was written.
        rows: Number of rows.
        columns: The type of each column, by name.
        notes: Notes for the user, as sentences.
    """

    output: Path
    rows: int
    columns: dict[str, str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Source:
    """A file to convert.

    Attributes:
        path: The file.
        size: Its size in bytes.
        dialect: How its values are separated; None if it is JSON.
    """

    path: Path
    size: int
    dialect: Dialect | None


def convert(config: ConvertConfig, progress: Progress = ignore) -> Converted:
    """Converts CSV, TSV or JSON: one file, or several one after the other.

    A column becomes numbers or booleans only if that changes no value in any file (`columns`); otherwise it stays text.

    Args:
        config: The settings.
        progress: Receives the number of bytes done; everything is read twice, and each time counts half.

    Raises:
        InputError: A file is missing, or cannot be read as the format its name says, or has other columns.
        OutputError: The output exists, is a source itself or a directory, is named like CSV, or cannot be written.
        ConfigError: A setting is wrong, a file's name does not show its format, or two files have different formats.
    """
    paths, output = [path for one in config.source for path in _local(one)], Path(config.output)
    if config.output.endswith("/") or os.path.isdir(output):
        file = quoted(str(output / f"{paths[0].name.partition('.')[0]}.parquet"))
        raise OutputError(f"{output} is a directory: name a file, such as --output {file}")
    for number, path in enumerate(paths):
        _check_file(path, paths[:number], output)
    if config.output == "-":
        raise OutputError("--output -: Parquet is not written to stdout: name a file, or for one of this name ./-")
    check_parquet_name(config.output)
    refuse_existing(output, overwrite=config.overwrite)
    sources = [_Source(path, path.stat().st_size, _dialect(path, config)) for path in paths]
    total = sum(one.size for one in sources)
    progress(Count(0, total, "bytes"))
    notes: list[str] = []
    blocks = _blocks(sources, config, lambda done: progress(Count(done // 2, total, "bytes")), notes)
    columns, rows = _read_columns(sources, config.as_text, blocks)
    if rows == 0:
        notes.append(f"{_named(sources)}: no rows, only the names of columns")
    notes += _notes_on(columns)
    schema = pa.schema([(name, column.type) for name, column in columns.items()])
    again = _blocks(sources, config, lambda done: progress(Count((total + done) // 2, total, "bytes")), [])

    def write(stream: Any) -> None:
        written = 0
        with pq.ParquetWriter(stream, schema, compression="zstd") as writer:
            for path, block in again:
                written += len(block.row_numbers)
                if written > rows or block.columns.keys() - columns.keys():
                    raise InputError(f"{path}: has changed while it was read: convert it again")
                with _explaining(path, block):
                    writer.write_table(_to_table(path, block, columns, schema))

    storage.write_file(str(output), write)
    progress(Count(total, total, "bytes"))
    return Converted(output, rows, {field.name: str(field.type) for field in schema}, tuple(notes))


def _read_columns(
    sources: Sequence[_Source], as_text: Collection[str], blocks: Iterable[tuple[Path, Block]]
) -> tuple[dict[str, Column], int]:
    """Returns the columns of all files, which know their types, and the number of rows.

    Raises:
        InputError: A file of CSV has other columns than the first, a column to keep as text is in none, or there are
            too many columns, or none.
        ConfigError: Some files are JSON, others not.
    """
    first, is_json = sources[0].path, sources[0].dialect is None
    if other := next((one.path for one in sources if (one.dialect is None) != is_json), None):
        raise ConfigError(f"{other}: one of it and {first} is JSON, the other not: convert them one by one")
    make_column: type[JsonColumn | TextColumn] = JsonColumn if is_json else TextColumn
    columns: dict[str, Column] = {}
    rows = 0
    for path, block in blocks:
        if columns and not is_json:
            _check_names(path, block, columns, first)
        with _explaining(path, block):
            for name, values in block.columns.items():
                if name not in columns:
                    columns[name] = make_column(name in as_text)
                columns[name].add(values, block.row_numbers, block.unit)
        if len(columns) > MOST_COLUMNS:
            raise InputError(f"{path}: has more than {MOST_COLUMNS:,} columns")
        rows += len(block.row_numbers)
    if unread := [name for name in as_text if name not in columns]:
        raise InputError(f"{_named(sources)}: {no_column(unread[0], columns)}")
    if not columns:
        raise InputError(
            f"{_named(sources)}: {'its objects have no keys' if rows else 'no rows'}, so there are no columns"
        )
    return columns, rows


def _notes_on(columns: Mapping[str, Column]) -> Iterator[str]:
    """Yields notes on columns whose type may not be the one that the user expects."""
    for name, column in columns.items():
        remedy, shown = f"`{quoted('--as-text', to_copy(name, 'COLUMN'))}`", shortened(repr(name))
        if column.note:
            yield f"column {shown} is kept as text: {column.note}"
        elif column.doubt:
            yield f"column {shown} is numbers: {column.doubt}: if these are no numbers, keep them with {remedy}"
        if column.lost:
            yield f"column {shown} is {column.type}, so these became null: {column.lost}: keep them with {remedy}"


def _named(sources: Sequence[_Source]) -> str:
    return ", ".join(str(one.path) for one in sources)


def _local(given: str) -> list[Path]:
    """Returns the files that a path or a pattern such as raw/*.csv names."""
    if "://" in given:
        raise InputError(f"{given}: only local files are converted: fetch it first")
    if given == "-":
        raise InputError("-: a file is read twice, which stdin cannot be: write it to a file first")
    found = [] if os.path.exists(given) else sorted(glob.glob(given, recursive=True))
    return [Path(one) for one in found or [given]]


def _check_file(path: Path, before: Sequence[Path], output: Path) -> None:
    """Raises InputError or OutputError unless a file can be converted, beside those that are named before it."""
    if os.path.isdir(path):
        raise InputError(f"{path}: is a directory: name its files, such as {quoted(str(path))}/*.csv")
    if not os.path.isfile(path):
        raise InputError(f"{path}: {why_missing(str(path))}")
    if any(path.samefile(other) for other in before):
        raise InputError(f"{path}: is given twice")
    if os.path.exists(output) and path.samefile(output):
        raise OutputError(f"{output}: is the file to convert: choose another --output")
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {reason(error)}") from error
    if head.startswith(PARQUET):
        raise InputError(f"{path}: is Parquet already: give it to train, evaluate or score as it is")
    suffix = path.suffix.lower()
    is_packed = suffix in COMPRESSIONS and re.match(COMPRESSIONS[suffix].begin, head) is not None
    if (what := unsupported_format(unpacked_beginning(path) if is_packed else head)) is not None:
        raise InputError(f"{path}: is {'compressed, and what it holds is ' if is_packed else ''}{what}")
    if suffix in COMPRESSIONS and not is_packed and is_text(head):
        raise InputError(f"{path}: cannot be read: it is not compressed, so delete {suffix} at the end of its name")
    if head.startswith(b"__label__"):
        sed = quoted("sed", r"s/^__label__\([^ ]*\) /\1\t/", str(path))
        raise InputError(
            f"{path}: is fastText's format: `{sed} > NEW.tsv` makes TSV of it, for --column-names label,text"
        )
    if head.startswith(_JSON_BEGINS) and not any(one.lower() in SUFFIXES for one in path.suffixes):
        raise InputError(f"{path}: looks like JSON: let its name end in .jsonl, or .json for an array")


def _blocks(
    sources: Sequence[_Source], config: ConvertConfig, report: Callable[[int], None], notes: list[str]
) -> Iterator[tuple[Path, Block]]:
    """Yields the rows of all files, each block with its file.

    Args:
        sources: The files.
        config: The settings.
        report: Receives the number of bytes done.
        notes: Filled with the notes on each file.
    """
    done = 0
    for source in sources:
        where = f"{source.path}, " if len(sources) > 1 else ""
        with open_lines(source.path, config.encoding) as lines:
            found = JsonRows(lines) if source.dialect is None else DelimitedRows(lines, source.dialect)
            for block in found.blocks():
                yield source.path, replace(block, unit=where + block.unit)
                report(done + lines.bytes_read())
            notes += [where + note for note in (*found.notes(), *lines.notes())]
        done += source.size


def _check_names(path: Path, block: Block, columns: Collection[str], first: Path) -> None:
    """Raises InputError if a file of CSV lacks a column of the first one, or has another one."""
    for name in dict.fromkeys([*columns, *block.columns]):
        for here, has, other in ((path, name in block.columns, first), (first, name in columns, path)):
            if not has:
                raise InputError(
                    f"{here}: no column {shortened(repr(name))}, which {other} has: give all files the same "
                    "columns, or convert them one by one"
                )


def _dialect(source: Path, config: ConvertConfig) -> Dialect | None:
    """Returns the dialect of a file; None if it is JSON."""
    suffix = next(one for one in reversed(["", *source.suffixes]) if one.lower() not in COMPRESSIONS).lower()
    if suffix in SUFFIXES:
        for name in ("delimiter", "quote", "escape", "column_names"):
            if getattr(config, name):
                raise ConfigError(f"{option_name(name)} is for CSV and TSV, not for {source}")
        return None
    if suffix not in DELIMITERS and not config.delimiter:
        raise ConfigError(
            f"{source}: neither .csv, .tsv nor .jsonl: if it is delimited text, say by what: --delimiter ';'"
        )
    return make_dialect(suffix, config.delimiter, config.quote, config.escape, config.column_names)


def _to_table(path: Path, block: Block, columns: dict[str, Column], schema: pa.Schema) -> pa.Table:
    rows = len(block.row_numbers)
    arrays = []
    for name, column in columns.items():
        values = block.columns.get(name)
        try:
            arrays.append(pa.nulls(rows, column.type) if values is None else column.to_arrow(values))
        except pa.ArrowException as error:  # 2**53 + 1 where other blocks have numbers with a point
            as_text, shown = quoted("--as-text", to_copy(name, "COLUMN")), shortened(repr(name))
            raise InputError(f"{path}: column {shown}: {reason(error)}: keep it as text: {as_text}") from error
    return pa.Table.from_arrays(arrays, schema=schema)


@contextmanager
def _explaining(path: Path, block: Block) -> Iterator[None]:
    """Converts Arrow's errors about a value into an InputError that names the row."""
    try:
        yield
    except UnicodeEncodeError as error:
        row = next(row for row in range(len(block.row_numbers)) if not _is_unicode(block, row))
        raise InputError(
            f"{path}: {block.unit} {block.row_numbers[row]:,} holds half a character, which UTF-8 does not have "
            f"({reason(error)}): correct it"
        ) from error


def _is_unicode(block: Block, row: int) -> bool:
    try:
        to_json([[name, values[row]] for name, values in block.columns.items()]).encode()
    except UnicodeEncodeError:
        return False
    return True
