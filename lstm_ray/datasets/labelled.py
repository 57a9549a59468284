"""Reads labelled reviews from Parquet with a text and a label column, one row group at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from lstm_ray.config import LENGTH
from lstm_ray.datasets.held_out import group_keys
from lstm_ray.datasets.labels import (
    OTHER,
    ZERO_AND_ONE,
    LabelMapping,
    class_names,
    describe_labels,
    has_words,
    may_hold_labels,
    meant_labels,
    propose_mapping,
    why_reversed,
    written_labels,
)
from lstm_ray.errors import InputError
from lstm_ray.progress import Progress, ignore
from lstm_ray.runtime.devices import memory_bytes
from lstm_ray.storage.inputs import InputFile, find_inputs
from lstm_ray.storage.parquet import decoded_bytes, describe_doubled, missing_rows, open_parquet, read_batches, reading
from lstm_ray.text.tokenize import decode_texts, is_text_type, no_texts, text_columns
from lstm_ray.wording import counted, no_column, quoted, usual_column

A = TypeVar("A", pa.Array, pa.ChunkedArray)

_BY_WITHOUT_COLUMN = f"choose with --by, or group by number of words with --by {LENGTH}"
_READS_IN_MEMORY = 4  # at least as many must fit: Arrow takes up to twice the size, and texts are copied


@dataclass(frozen=True)
class Shard:
    """One row group to read.

    Attributes:
        file: The file.
        row_group: The row group's number in the file.
        first_row: Number of its first row in the file, for messages.
        rows: The rows of the row group to use, in ascending order: a range, if these are all, or int64[n].
        is_validation: True if all rows are for validation, None if each row's text or group decides.
        has_text_labels: True if the labels are texts, which have many spellings; numbers have one.
    """

    file: InputFile
    row_group: int
    first_row: int
    rows: range | npt.NDArray[np.int64]
    is_validation: bool | None = None
    has_text_labels: bool = False

    def pick(self, column: A) -> A:
        """Returns the shard's rows of a column of its row group."""
        return column if len(self.rows) == len(column) else column.take(pa.array(self.rows))


@dataclass(frozen=True)
class LabelledRows:
    """The usable rows of a shard.

    Attributes:
        texts: The texts, without nulls.
        labels: int8[rows], 1 positive, 0 negative.
        without_text: Rows left out because their text is null or not UTF-8.
        with_other_label: Rows left out because the label mapping does not name their label.
        groups: large_binary[rows], keys of the rows' groups (`group_keys`), null where a row has none; None if no group
            column was read.
        numbers: int64[rows], their numbers in the file, from 0.
        others: The other columns that were asked for.
    """

    texts: pa.LargeStringArray
    labels: npt.NDArray[np.int8]
    without_text: int
    with_other_label: int
    groups: pa.LargeBinaryArray | None
    numbers: npt.NDArray[np.int64]
    others: dict[str, pa.ChunkedArray]


def find_shards(
    inputs: Sequence[str],
    text_column: str,
    label_column: str,
    mapping: LabelMapping = ZERO_AND_ONE,
    is_validation: bool | None = None,
    group_column: str | None = None,
    progress: Progress = ignore,
    by: Sequence[str] = (),
) -> list[Shard]:
    """Returns the row groups of all input files, after checking the types of their columns.

    `progress` is passed to `find_inputs`; `by` is what `evaluate --by` names.

    Raises:
        InputError: A file is missing or not Parquet, or lacks a column, or a column has the wrong type.
    """
    if text_column == label_column:
        raise InputError(f"--text-column and --label-column are both {text_column!r}: texts are no labels")
    shards = []
    files = find_inputs(inputs, progress, warns_of_splits=True)
    doubled: set[str] = set()
    for file in files:
        with open_parquet(file) as parquet:
            check_text_column(file, parquet, text_column, label_column)
            _check_labels(file, parquet, label_column, mapping, files)
            is_text = is_text_type(_type_of(file, parquet, label_column, "--label-column"))
            if group_column is not None:
                _type_of(file, parquet, group_column, "--validation-group")
            for column in by:
                if column != LENGTH:
                    _type_of(file, parquet, column, "--by", by, otherwise=_BY_WITHOUT_COLUMN)
            shards += list_shards(file, parquet, is_validation, has_text_labels=is_text)
            doubled.update(set(file.partitions).intersection(parquet.schema_arrow.names))
    if read := doubled.intersection((text_column, label_column, group_column, *by)):
        progress(f"note: {describe_doubled(read)}")
    return shards


def check_text_column(
    file: InputFile, parquet: pq.ParquetFile, text_column: str, label_column: str | None = None
) -> None:
    """Raises InputError if a file lacks the text column, or the column is not text.

    The error also proposes a label column, if that is missing too.
    """
    more, names = "", [*parquet.schema_arrow.names, *file.partitions]
    if label_column is not None and label_column not in names:
        usual = usual_column("--label-column", names)
        more = "" if usual is None else f" --label-column {quoted(usual)}"
    text_type = _type_of(file, parquet, text_column, "--text-column", more=more)
    if not is_text_type(text_type):
        raise InputError(f"{file.path}: {no_texts(text_column, text_type)}")


def list_shards(
    file: InputFile, parquet: pq.ParquetFile, is_validation: bool | None = None, *, has_text_labels: bool = False
) -> list[Shard]:
    """Returns the row groups of a file, with all their rows."""
    sizes = [parquet.metadata.row_group(number).num_rows for number in range(parquet.num_row_groups)]
    first_rows = np.cumsum([0, *sizes]).tolist()
    return [
        Shard(file, number, first_rows[number], range(rows), is_validation, has_text_labels)
        for number, rows in enumerate(sizes)
    ]


def sample_rows(shards: Sequence[Shard], max_rows: int, seed: int) -> list[Shard]:
    """Keeps `max_rows` random rows of all shards; not the first ones, which are often all of one class."""
    bounds = np.concatenate([[0], np.cumsum([len(shard.rows) for shard in shards], dtype=np.int64)])
    if max_rows >= bounds[-1]:
        return list(shards)
    chosen = np.sort(np.random.default_rng([seed, 1]).choice(bounds[-1], max_rows, replace=False))
    starts = np.searchsorted(chosen, bounds)
    sampled = [
        replace(shard, rows=np.asarray(shard.rows)[chosen[begin:end] - bound])
        for shard, begin, end, bound in zip(shards, starts, starts[1:], bounds, strict=False)
    ]
    return [shard for shard in sampled if len(shard.rows)]


def read_shard(
    shard: Shard,
    text_column: str,
    label_column: str,
    mapping: LabelMapping = ZERO_AND_ONE,
    group_column: str | None = None,
    others: Sequence[str] = (),
) -> LabelledRows:
    """Reads a shard, leaving out rows without a text and, with a mapping, rows whose label it does not name.

    Raises:
        InputError: The row group cannot be read, has fewer rows than the file's footer says, or without a mapping has a
            label other than 0 and 1.
    """
    names = [text_column, label_column, *([] if group_column is None else [group_column]), *others]
    columns = read_columns(shard, list(dict.fromkeys(names)))
    texts, label_values = shard.pick(decode_texts(columns[text_column])), shard.pick(columns[label_column])
    groups = None if group_column is None else shard.pick(group_keys(columns[group_column]))
    labels = _decode_labels(shard, label_column, label_values, mapping)
    is_labelled = labels != OTHER
    kept = is_labelled & texts.is_valid().to_numpy(zero_copy_only=False)
    without_text = int(is_labelled.sum() - kept.sum())
    numbers, more = shard.first_row + np.asarray(shard.rows), {name: shard.pick(columns[name]) for name in others}
    if not kept.all():
        texts, labels, numbers = texts.filter(pa.array(kept)), labels[kept], numbers[kept]
        groups = None if groups is None else groups.filter(pa.array(kept))
        more = {name: column.filter(pa.array(kept)) for name, column in more.items()}
    return LabelledRows(texts, labels, without_text, int((~is_labelled).sum()), groups, numbers, more)


def count_labels(shards: Sequence[Shard], label_column: str, mapping: LabelMapping) -> dict[int, int]:
    """Returns how many rows have the label 1, 0 or `OTHER`, without reading texts.

    Raises:
        InputError: See `read_shard`.
    """
    counts = {1: 0, 0: 0, OTHER: 0}
    for shard in shards:
        labels = _decode_labels(
            shard, label_column, shard.pick(read_columns(shard, [label_column])[label_column]), mapping
        )
        for label in counts:
            counts[label] += int((labels == label).sum())
    return counts


def _decode_labels(
    shard: Shard, label_column: str, values: pa.ChunkedArray, mapping: LabelMapping
) -> npt.NDArray[np.int8]:
    """Returns a shard's labels. Raises InputError if, without a mapping, a label is not 0 or 1."""
    labels = mapping.decode(values)
    if not mapping.is_given and OTHER in labels:
        raise InputError(_wrong_label(shard, label_column, values, int(np.argmax(labels == OTHER))))
    return labels


def read_columns(shard: Shard, columns: list[str]) -> pa.Table:
    """Returns columns of a shard's row group with all rows, because Arrow cannot select rows of a string_view.

    Columns that are not in the file come from the names of its directories: label=0/a.parquet.

    Raises:
        InputError: The row group cannot be read, or has fewer rows than the file's footer says.
    """
    row_groups = range(shard.row_group, shard.row_group + 1)
    with open_parquet(shard.file) as parquet, reading(shard.file.path, row_groups):
        inside = [name for name in columns if name in parquet.schema_arrow.names]
        names = inside or parquet.schema_arrow.names[:1]  # without a column there is no row
        promised = parquet.metadata.row_group(shard.row_group).num_rows
        schema = pa.schema([parquet.schema_arrow.field(name) for name in names])
        table = pa.Table.from_batches(_within_memory(shard.file, parquet, shard.row_group, names), schema)
    if table.num_rows < promised:
        raise missing_rows(shard.file.path, row_groups, table.num_rows, promised)
    for name in columns:
        if name not in inside:
            table = table.append_column(name, _partition(shard.file, name, promised))
    return table


def list_labels(shards: Sequence[Shard], label_column: str, mapping: LabelMapping) -> tuple[str, str]:
    """Returns the labels in the shards' files, for a message, and its end if the mapping may mean some of them."""
    columns = []
    for file in {shard.file.path: shard.file for shard in shards}.values():
        with open_parquet(file) as parquet:
            column = _read_column(file, parquet, label_column)
        # Of texts only the distinct ones, because those of all files may not fit into memory.
        columns.append(written_labels(column) if is_text_type(column.type) else column)
    meant = meant_labels(mapping, *columns)
    return describe_labels(*columns), f": did you mean {meant}?" if meant else ""


def describe_left_out(
    without_text: int, with_other_label: int, shards: Sequence[Shard], label_column: str, mapping: LabelMapping
) -> str:
    """Returns the end of a sentence: how many rows were left out and why, and which labels occur."""
    left_out = f"; {counted(without_text, 'row')} without words, or not in UTF-8, left out" if without_text else ""
    if with_other_label:
        labels, remedy = list_labels(shards, label_column, mapping)
        left_out += f"; {counted(with_other_label, 'row')} with other labels left out (there are {labels}){remedy}"
    return left_out


def doubt_left_out(rows: int, shards: Sequence[Shard], label_column: str, mapping: LabelMapping) -> str | None:
    """Returns that rows with other labels were left out, if the mapping may mean some of them; else None."""
    if not rows or not any(shard.has_text_labels for shard in shards):
        return None  # numbers have one spelling, so the files need not be read again
    labels, remedy = list_labels(shards, label_column, mapping)
    return f"{counted(rows, 'row')} with other labels left out (there are {labels}){remedy}" if remedy else None


def _read_column(file: InputFile, parquet: pq.ParquetFile, column: str) -> pa.ChunkedArray:
    if column not in parquet.schema_arrow.names:
        return _partition(file, column, parquet.metadata.num_rows)
    schema = pa.schema([parquet.schema_arrow.field(column)])
    batches: list[pa.RecordBatch] = []
    for number in range(parquet.num_row_groups):
        with reading(file.path, range(number, number + 1)):
            batches += _within_memory(file, parquet, number, [column])
    return pa.Table.from_batches(batches, schema)[column]


def _within_memory(
    file: InputFile, parquet: pq.ParquetFile, row_group: int, names: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    """Yields batches until they take too much memory: a dictionary of one long text makes gigabytes of a small file."""
    most, taken, rows = memory_bytes() // _READS_IN_MEMORY, 0, 0
    for batch in read_batches(parquet, range(row_group, row_group + 1), names):
        taken, rows = taken + decoded_bytes(batch), rows + batch.num_rows
        if taken > most:
            raise InputError(
                f"{file.path}: the first {rows:,} rows of row group {row_group} take more than {most >> 20:,} MiB "
                "of memory: write smaller row groups (in pyarrow: row_group_size=10_000)"
            )
        yield batch


def _partition(file: InputFile, column: str, rows: int) -> pa.ChunkedArray:
    """Returns a column whose value is in the names of a file's directories."""
    value = file.partitions[column]
    kind = _partition_type(value)
    return pa.chunked_array([pa.repeat(pa.scalar(int(value) if value and kind == pa.int64() else value, kind), rows)])


def _partition_type(value: str | None) -> pa.DataType:
    """Returns int64 if the value of a partition looks like an integer, null if it is missing, otherwise string."""
    if value is None:
        return pa.null()
    return pa.int64() if re.fullmatch(r"0|-?[1-9]\d{0,17}", value) else pa.string()


def _type_of(
    file: InputFile,
    parquet: pq.ParquetFile,
    column: str,
    option: str,
    given: Sequence[str] = (),
    more: str = "",
    otherwise: str = "",
) -> pa.DataType:
    schema = parquet.schema_arrow
    if schema.names.count(column) > 1:
        raise InputError(f"{file.path}: has two columns named {column!r}: write it with one of them")
    if column in schema.names:
        return schema.field(column).type
    if column in file.partitions:
        return _partition_type(file.partitions[column])
    names, possible = [*schema.names, *file.partitions], text_columns(schema) if option == "--text-column" else None
    raise InputError(f"{file.path}: {no_column(column, names, option, given, more, otherwise, possible)}")


def _check_labels(
    file: InputFile, parquet: pq.ParquetFile, column: str, mapping: LabelMapping, files: Sequence[InputFile]
) -> None:
    """Raises InputError if a file's labels cannot be read, with advice based on the labels in all files."""
    kind = _type_of(file, parquet, column, "--label-column")
    problem = mapping.problem(kind)
    if problem is None and not mapping.is_given:
        problem = why_reversed(class_names(parquet.schema_arrow, column))
    if problem is None or not parquet.metadata.num_rows:  # without a value, a writer guesses the type
        return
    if is_text_type(kind):
        labels, numbers = _read_labels(files, column)
        if numbers is not None and has_words(labels):
            problem = f"is {kind} here, but numbers in {numbers.path}: write both with one type"
        elif advice := propose_mapping(labels):
            problem = f"holds the texts {describe_labels(labels)}: {advice}"
    raise InputError(f"{file.path}: column {column!r} {problem}")


def _read_labels(files: Sequence[InputFile], column: str) -> tuple[pa.ChunkedArray, InputFile | None]:
    """Returns the labels in all files as texts, and a file in which they are numbers, if there is one.

    In the names of directories one label may be a number, and another a text.
    """
    labels, numbers = [], None
    for file in files:
        with open_parquet(file) as parquet:
            kind = _type_of(file, parquet, column, "--label-column")
            if may_hold_labels(kind):
                labels += written_labels(_read_column(file, parquet, column)).chunks
                numbers = numbers if is_text_type(kind) or pa.types.is_null(kind) else file
    return pa.chunked_array(labels, pa.large_string()), numbers


def _wrong_label(shard: Shard, column: str, values: pa.ChunkedArray, position: int) -> str:
    value = written_labels(values.slice(position, 1))[0].as_py()
    problem = "is null" if value is None else f"{value} is neither 0 nor 1"
    with open_parquet(shard.file) as parquet:
        labels, names = _read_column(shard.file, parquet, column), class_names(parquet.schema_arrow, column)
    advice = propose_mapping(labels, names) or "choose with --label-column"
    problem += f" (there are {describe_labels(labels)})"
    row = shard.first_row + int(shard.rows[position])
    return f"{shard.file.path}: column {column!r}, row {row}: label {problem}: {advice}"
