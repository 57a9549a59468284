"""Turns CSV into Parquet a block at a time, and JSON lines all at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.json as jsonlines
import pyarrow.parquet as pq

from lstm_ray import storage
from lstm_ray.datasets.files import refuse_existing
from lstm_ray.errors import ConfigError, InputError, OutputError
from lstm_ray.wording import reason

_BLOCK_BYTES = 32 << 20  # read at a time; the first block decides the columns' types
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_JSON = (".jsonl", ".ndjson", ".json")
_OTHER_DELIMITER = re.compile(r"[;|\t,]")
_COMPRESSED = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}


@dataclass(frozen=True)
class Converted:
    """A file that has been written.

    Attributes:
        output: Its path.
        rows: Rows in it.
        columns: Types by name.
    """

    output: Path
    rows: int
    columns: dict[str, str]

    def column_options(self) -> list[str]:
        """Returns the options of `lstm-ray train` for the columns of text and label; NAME where it is unclear which."""
        texts = [name for name, kind in self.columns.items() if kind == "string"]
        text = _pick("text", texts)
        label = _pick("label", [name for name in self.columns if name != text])
        wanted = (("--text-column", "text", text), ("--label-column", "label", label))
        return [word for option, usual, name in wanted if name != usual for word in (option, name)]


def _pick(usual: str, names: Sequence[str]) -> str:
    """Returns the usual name if it is among the names, else the only one, else a placeholder."""
    if usual in names:
        return usual
    return names[0] if len(names) == 1 else "NAME"


def convert(
    source: Path,
    output: Path,
    *,
    delimiter: str | None = None,
    encoding: str = "utf8",
    as_text: Sequence[str] = (),
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Converted:
    """Converts a file with one row a line (in CSV, quoted values may hold line breaks).

    Args:
        source: CSV with a header, TSV, or JSON lines, perhaps compressed (.gz, .bz2, .zst).
        output: The Parquet file.
        delimiter: Between the values of CSV; by default a comma, in a .tsv file a tab.
        encoding: Of CSV.
        as_text: Columns to read as text whatever they contain, such as ids with leading zeros.
        overwrite: Whether an existing file may be replaced.
        progress: Called with the bytes of the file converted and its size; for JSON lines only at the end.

    Raises:
        InputError: The file is missing, or cannot be read as the format its name says.
        OutputError: The output exists, is the source itself, or cannot be written.
        ConfigError: The delimiter is not one character, or the file's name does not tell the format.
    """
    if not source.is_file():
        raise InputError(f"{source}: no such file")
    if output.exists() and source.samefile(output):
        raise OutputError(f"{output}: is the file to convert: choose another --output")
    refuse_existing(output, overwrite=overwrite)
    if delimiter is not None and len(delimiter) != 1:
        raise ConfigError(f"--delimiter is {delimiter!r}: expected one character")
    kind = next(suffix for suffix in reversed(["", *source.suffixes]) if suffix.lower() not in _COMPRESSED).lower()
    total = source.stat().st_size
    progress(0, total)
    rows = 0
    codec = _COMPRESSED.get(source.suffix.lower())
    # Files of Arrow's own, closed when its threads no longer read: these may outlive an error, and a Python object that
    # such a thread lets go of while Python ends would abort the process.
    raw = pa.OSFile(str(source))
    file = pa.CompressedInputStream(raw, codec) if codec else raw
    if kind in _JSON:
        batches, schema = _open_json(source, file, as_text)
    elif kind in _DELIMITERS or delimiter:
        batches, schema = _open_csv(source, file, delimiter or _DELIMITERS[kind], encoding, as_text)
        if delimiter is None and len(schema) == 1 and (other := _OTHER_DELIMITER.search(schema.names[0])):
            raise InputError(f"{source}: has one column, {schema.names[0]!r}: try --delimiter {other[0]!r}")
    else:
        raise ConfigError(
            f"{source}: neither .csv, .tsv nor .jsonl: if it is delimited text, say by what: --delimiter ';'"
        )
    _check_names(source, schema.names, as_text)

    def write(stream: Any) -> None:
        nonlocal rows
        with pq.ParquetWriter(stream, schema, compression="zstd") as writer:
            for number, batch in enumerate(batches, 1):
                writer.write_batch(batch)
                rows += batch.num_rows
                # A batch is a block. Of a compressed file Arrow has read up to 32 blocks more.
                progress(raw.tell() if codec else min(number * _BLOCK_BYTES, total), total)

    storage.write_file(str(output), write)
    progress(total, total)
    return Converted(output, rows, {field.name: str(field.type) for field in schema})


def _check_names(source: Path, names: Sequence[str], as_text: Sequence[str]) -> None:
    if repeated := [name for name in names if names.count(name) > 1]:
        raise InputError(f"{source}: has two columns named {repeated[0]!r}: rename one in its first line")
    if unread := [name for name in as_text if name not in names]:
        raise InputError(f"{source}: no column {unread[0]!r}; it has {', '.join(map(repr, names))}")


Batches = tuple[Iterator[pa.RecordBatch], pa.Schema]


def _open_csv(source: Path, file: pa.NativeFile, delimiter: str, encoding: str, as_text: Sequence[str]) -> Batches:
    try:
        reader = csv.open_csv(
            file,
            read_options=csv.ReadOptions(block_size=_BLOCK_BYTES, encoding=encoding),
            parse_options=csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=csv.ConvertOptions(column_types=dict.fromkeys(as_text, pa.string())),
        )
        columns = zip(reader.schema.names, reader.schema.types, strict=True)  # names are decoded here
        undecoded = [name for name, kind in columns if pa.types.is_binary(kind)]
    except (LookupError, UnicodeDecodeError, OSError, pa.ArrowException) as error:
        raise _unreadable(source, error) from error
    if undecoded:
        raise InputError(
            f"{source}: column {undecoded[0]!r} is not UTF-8: name its --encoding, often latin-1 or cp1252"
        )
    return _read(source, reader), reader.schema


def _open_json(source: Path, file: pa.NativeFile, as_text: Sequence[str]) -> Batches:
    """Reads the whole file; a number in a column of `as_text` becomes its digits."""
    try:
        table = jsonlines.read_json(file, jsonlines.ReadOptions(block_size=_BLOCK_BYTES))
        for name in set(as_text) & set(table.column_names):
            index = table.column_names.index(name)
            table = table.set_column(index, name, table[name].cast(pa.string()))
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(source, error) from error
    return iter(table.to_batches(max_chunksize=50_000)), table.schema


def _read(source: Path, reader: Any) -> Iterator[pa.RecordBatch]:
    try:
        yield from reader
    except (UnicodeDecodeError, OSError, pa.ArrowException) as error:
        raise _unreadable(source, error) from error


def _unreadable(source: Path, error: Exception) -> InputError:
    """Returns an error with a remedy; Arrow's message has the column's number and the value."""
    remedy = ""
    if "UTF8" in str(error) or isinstance(error, UnicodeDecodeError):
        remedy = ": name its --encoding, often latin-1 or cp1252"
    elif "conversion error" in str(error):
        remedy = ": read such columns with --as-text"
    elif "Expected" in str(error) and "columns" in str(error):
        remedy = ": does it have another --delimiter?"
    return InputError(f"{source}: cannot be read: {reason(error)}{remedy}")
