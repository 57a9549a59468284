"""Converts a file in two passes: determines the columns' types, then writes."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lstm_ray import storage
from lstm_ray.config import ConvertConfig, option_name
from lstm_ray.datasets.convert.columns import MOST_COLUMNS, Block, Column, JsonColumn, TextColumn, to_json
from lstm_ray.datasets.convert.delimited import DELIMITERS, DelimitedRows, Dialect, make_dialect
from lstm_ray.datasets.convert.json_lines import SUFFIXES, JsonRows
from lstm_ray.datasets.convert.source import COMPRESSED, Lines, open_lines
from lstm_ray.datasets.files import refuse_existing
from lstm_ray.errors import ConfigError, InputError, OutputError
from lstm_ray.progress import Count, Progress, ignore
from lstm_ray.wording import named, reason


@dataclass(frozen=True)
class Converted:
    """The result of a conversion.

    Attributes:
        output: The file that was written.
        rows: Number of rows.
        columns: The columns' types by name.
        notes: Notes for the user, as sentences.
    """

    output: Path
    rows: int
    columns: dict[str, str]
    notes: tuple[str, ...] = ()


def convert(config: ConvertConfig, progress: Progress = ignore) -> Converted:
    """Converts a file of CSV, TSV or JSON.

    A column becomes numbers or booleans only if that changes no value (`columns`); otherwise it stays text.

    Args:
        config: The settings.
        progress: Receives the number of bytes done; the file is read twice, and each time counts half.

    Raises:
        InputError: The file is missing, or cannot be read as the format its name says.
        OutputError: The output exists, is the source itself or a directory, or cannot be written.
        ConfigError: A setting is wrong, or the file's name does not tell the format.
    """
    is_directory = config.output.endswith("/") or os.path.isdir(config.output)
    source, output, as_text, encoding = Path(config.source), Path(config.output), config.as_text, config.encoding
    if is_directory:
        file = shlex.quote(str(output / f"{source.name.partition('.')[0]}.parquet"))
        raise OutputError(f"{output} is a directory: name a file, such as --output {file}")
    if not source.is_file():
        raise InputError(f"{source}: no such file")
    if output.exists() and source.samefile(output):
        raise OutputError(f"{output}: is the file to convert: choose another --output")
    refuse_existing(output, overwrite=config.overwrite)
    dialect = _dialect(source, config)
    open_rows: Callable[[Lines], DelimitedRows | JsonRows] = (
        JsonRows if dialect is None else lambda lines: DelimitedRows(lines, dialect)
    )
    make_column: type[JsonColumn | TextColumn] = JsonColumn if dialect is None else TextColumn
    total = source.stat().st_size
    columns: dict[str, Column] = {}
    rows = 0
    progress(Count(0, total, "bytes"))
    with open_lines(source, encoding) as lines:
        found = open_rows(lines)
        for block in found.blocks():
            with _explaining(source, block):
                for name, values in block.columns.items():
                    if name not in columns:
                        columns[name] = make_column(name in as_text)
                    columns[name].add(values, block.places, block.unit)
            if len(columns) > MOST_COLUMNS:
                raise InputError(f"{source}: has more than {MOST_COLUMNS:,} columns")
            rows += len(block.places)
            progress(Count(lines.bytes_read() // 2, total, "bytes"))
        notes = found.notes()
    if unread := [name for name in as_text if name not in columns]:
        raise InputError(f"{source}: no column {unread[0]!r}; it has {named(columns)}")
    if not columns:
        raise InputError(f"{source}: its objects have no keys, so there are no columns")
    notes += [f"column {name!r} is kept as text: {column.note}" for name, column in columns.items() if column.note]
    notes += [
        f"column {name!r} is numbers: {column.doubt}: if these are no numbers, keep them with "
        f"`{shlex.join(['--as-text', name])}`"
        for name, column in columns.items()
        if column.doubt and not column.note
    ]
    schema = pa.schema([(name, column.type) for name, column in columns.items()])

    def write(stream: Any) -> None:
        with pq.ParquetWriter(stream, schema, compression="zstd") as writer, open_lines(source, encoding) as lines:
            written = 0
            for block in open_rows(lines).blocks():
                written += len(block.places)
                if written > rows or block.columns.keys() - columns.keys():
                    raise InputError(f"{source}: has changed while it was read: convert it again")
                with _explaining(source, block):
                    writer.write_table(_to_table(source, block, columns, schema))
                progress(Count((total + lines.bytes_read()) // 2, total, "bytes"))

    storage.write_file(str(output), write)
    progress(Count(total, total, "bytes"))
    return Converted(output, rows, {field.name: str(field.type) for field in schema}, tuple(notes))


def _dialect(source: Path, config: ConvertConfig) -> Dialect | None:
    """Returns the dialect of a file; None if it is JSON."""
    suffix = next(one for one in reversed(["", *source.suffixes]) if one.lower() not in COMPRESSED).lower()
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


def _to_table(source: Path, block: Block, columns: dict[str, Column], schema: pa.Schema) -> pa.Table:
    rows = len(block.places)
    arrays = []
    for name, column in columns.items():
        values = block.columns.get(name)
        try:
            arrays.append(pa.nulls(rows, column.type) if values is None else column.to_arrow(values))
        except pa.ArrowException as error:  # 2**53 + 1 where other blocks have numbers with a point
            raise InputError(
                f"{source}: column {name!r}: {reason(error)}: keep it as text: --as-text {name}"
            ) from error
    return pa.Table.from_arrays(arrays, schema=schema)


@contextmanager
def _explaining(source: Path, block: Block) -> Iterator[None]:
    """Converts Arrow's errors about a value into an InputError that names the row."""
    try:
        yield
    except UnicodeEncodeError as error:
        row = next(row for row in range(len(block.places)) if not _is_unicode(block, row))
        raise InputError(
            f"{source}: {block.unit} {block.places[row]:,} holds half a character, which UTF-8 does not have "
            f"({reason(error)}): correct it"
        ) from error


def _is_unicode(block: Block, row: int) -> bool:
    try:
        to_json([[name, values[row]] for name, values in block.columns.items()]).encode()
    except UnicodeEncodeError:
        return False
    return True
