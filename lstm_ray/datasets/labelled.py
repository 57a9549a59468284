"""Reads labelled reviews: Parquet with a column of texts and one of labels, 0 or 1, a row group at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lstm_ray import storage
from lstm_ray.errors import InputError
from lstm_ray.text.tokenize import decode_texts, is_text_type
from lstm_ray.wording import reason


@dataclass(frozen=True)
class Shard:
    """One row group to read.

    Attributes:
        file: Where it lies.
        row_group: Its number in the file.
        first_row: Number of its first row in the file, for messages.
        rows: int64[n], which of its rows to use, rising.
        is_validation: True if all its rows are for validation, None if each row's text decides.
    """

    file: storage.InputFile
    row_group: int
    first_row: int
    rows: npt.NDArray[np.int64]
    is_validation: bool | None = None


def find_shards(
    inputs: Sequence[str], text_column: str, label_column: str, is_validation: bool | None = None
) -> list[Shard]:
    """Lists the row groups of all input files.

    Raises:
        InputError: A file is missing or not Parquet, or lacks a column, or a column has the wrong type.
    """
    shards = []
    for file in storage.find_inputs(inputs):
        with _open_parquet(file) as parquet:
            schema = parquet.schema_arrow
            _check_column(file, schema, text_column, "--text-column", is_text_type, "text")
            _check_column(file, schema, label_column, "--label-column", _is_label_type, "0 and 1")
            first_row = 0
            for row_group in range(parquet.num_row_groups):
                rows = parquet.metadata.row_group(row_group).num_rows
                shards.append(Shard(file, row_group, first_row, np.arange(rows), is_validation))
                first_row += rows
    return shards


def sample_rows(shards: Sequence[Shard], max_rows: int, seed: int) -> list[Shard]:
    """Keeps `max_rows` rows drawn from all shards alike: the first rows of a file are often all of one class."""
    bounds = np.concatenate([[0], np.cumsum([len(shard.rows) for shard in shards], dtype=np.int64)])
    if max_rows >= bounds[-1]:
        return list(shards)
    chosen = np.sort(np.random.default_rng([seed, 1]).choice(bounds[-1], max_rows, replace=False))
    starts = np.searchsorted(chosen, bounds)
    sampled = [
        replace(shard, rows=shard.rows[chosen[begin:end] - bound])
        for shard, begin, end, bound in zip(shards, starts, starts[1:], bounds, strict=False)
    ]
    return [shard for shard in sampled if len(shard.rows)]


def read_shard(
    shard: Shard, text_column: str, label_column: str
) -> tuple[pa.LargeStringArray, npt.NDArray[np.int8], int]:
    """Returns the texts and labels (int8[rows]) of a shard, and how many rows were left out for want of a text.

    Raises:
        InputError: The row group cannot be read, or a label is not 0 or 1.
    """
    try:
        with _open_parquet(shard.file) as parquet:
            table = parquet.read_row_group(shard.row_group, columns=[text_column, label_column])
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{shard.file.path}: row group {shard.row_group} cannot be read: {reason(error)}") from error
    texts, label_values = decode_texts(table[text_column]), table[label_column]
    if len(shard.rows) < table.num_rows:
        chosen = pa.array(shard.rows)
        texts, label_values = texts.take(chosen), label_values.take(chosen)
    labels = _read_labels(label_values, shard, label_column)
    if texts.null_count:
        has_text = texts.is_valid()
        texts, labels = texts.filter(has_text), labels[has_text.to_numpy(zero_copy_only=False)]
    return texts, labels, len(shard.rows) - len(texts)


def _open_parquet(file: storage.InputFile) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file.open())
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{file.path}: not a Parquet file: {reason(error)}") from error


def _check_column(
    file: storage.InputFile,
    schema: pa.Schema,
    column: str,
    option: str,
    is_right_type: Callable[[pa.DataType], bool],
    wanted: str,
) -> None:
    if schema.names.count(column) > 1:
        raise InputError(f"{file.path}: has two columns named {column!r}")
    if column not in schema.names:
        columns = ", ".join(map(repr, schema.names))
        raise InputError(f"{file.path}: no column {column!r}; it has {columns}: choose with {option}")
    kind = schema.field(column).type
    if not is_right_type(kind):
        raise InputError(f"{file.path}: column {column!r} is {kind}, expected {wanted}: choose with {option}")


def _is_label_type(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _read_labels(column: pa.ChunkedArray, shard: Shard, name: str) -> npt.NDArray[np.int8]:
    values = column.combine_chunks().cast(pa.float64(), safe=False)  # an integer past 2^53 is not 0 or 1 anyway
    is_label = pc.fill_null(pc.is_in(values, value_set=pa.array([0.0, 1.0])), False).to_numpy(zero_copy_only=False)
    if not is_label.all():
        position = int(np.argmin(is_label))
        value = values[position].as_py()
        shown = "null" if value is None else f"{value:g}"
        row = shard.first_row + int(shard.rows[position])
        raise InputError(f"{shard.file.path}: column {name!r}, row {row}: label {shown} is neither 0 nor 1")
    labels: npt.NDArray[np.int8] = values.to_numpy(zero_copy_only=False).astype(np.int8)
    return labels
