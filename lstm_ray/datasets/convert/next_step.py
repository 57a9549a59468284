"""The command that comes after a new file: which columns have the texts and the labels, and what these mean."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lstm_ray.datasets.labels import are_clear, class_names, describe_labels, mapping_options, may_be_labels
from lstm_ray.text.tokenize import is_text_type
from lstm_ray.wording import counted, either, shortened, to_copy, usual_column

PLACEHOLDER = "COLUMN"
"""Where it is unclear which column has the labels, or its name is too long."""

_TEXT, _LABEL = "text", "label"
_WORD = r"\p{Lo}|\p{L}+[^\s\p{L}]*(?:\s|$)"  # or a letter of a script without spaces
_MOST_NAMED = 5  # columns in a note
_MOST_GROUPS = 16  # row groups whose labels are looked at
_MOST_BYTES = 4 << 20  # of a column in a row group that is read as a whole, as labels are: each takes some bits
_FEW_ROWS = 4_096  # that are read of a larger one


def next_command(
    path: Path,
    run: str,
    text_column: str | None = None,
    label_column: str | None = None,
    *,
    is_for_training: bool = False,
) -> list[str]:
    """Returns the command that uses a file, without `lstm-ray`: `train`, or `score` if no column can have labels.

    Options name columns that do not have the usual names, and say what labels other than 0 and 1 mean. For labels whose
    meaning is not clear there is no option: `train` lists them and says what it needs.

    Args:
        path: The file.
        run: The output of training.
        text_column: The column of the texts; if the file lacks it, the one with the most usual name or the most words.
        label_column: The column of the labels, if that is known.
        is_for_training: True if the file is not for scoring, whatever its columns.
    """
    with pq.ParquetFile(path) as parquet:
        columns = {field.name: field.type for field in parquet.schema_arrow}
        text = text_column if text_column and text_column in columns else _text_among(columns, parquet)
        options = [] if text == _TEXT else ["--text-column", to_copy(text, PLACEHOLDER)]
        label = label_column or _label_among([name for name in columns if name != text], parquet)
        if label is None and not is_for_training:
            return ["score", str(path), "--model", "MODEL", "--output", "SCORED", *options]
        options += [] if label == _LABEL else ["--label-column", to_copy(label or PLACEHOLDER, PLACEHOLDER)]
        if label is not None and label != PLACEHOLDER:
            options += mapping_options(_some_values(parquet, label), class_names(parquet.schema_arrow, label))
    return ["train", "--train", str(path), "--output", run, *options]


def note_on_placeholder(path: Path, command: Sequence[str]) -> str | None:
    """Returns which columns may have the labels, and what is in them, if `next_command` could not choose; else None."""
    if list(command[-2:]) != ["--label-column", PLACEHOLDER]:
        return None
    text = command[command.index("--text-column") + 1] if "--text-column" in command else _TEXT
    with pq.ParquetFile(path) as parquet:
        values = {name: _some_values(parquet, name) for name in parquet.schema_arrow.names if name != text}
    found = [
        f"{shortened(repr(name))} ({describe_labels(some)})" for name, some in values.items() if _may_be_labels(some)
    ]
    if not found:
        return None
    more = [f"one of {counted(len(found) - _MOST_NAMED, 'other column')}"] if len(found) > _MOST_NAMED else []
    return f"for {PLACEHOLDER} give the column that has the labels: {either([*found[:_MOST_NAMED], *more])}"


def _text_among(columns: Mapping[str, pa.DataType], parquet: pq.ParquetFile) -> str:
    """Returns the column that has the texts: by its name, or the one with the most words; links and times have few."""
    texts = [name for name, kind in columns.items() if pa.types.is_string(kind)]

    def words(name: str) -> int:
        return pc.sum(pc.count_substring_regex(_some_values(parquet, name), _WORD)).as_py() or 0

    named = usual_column("--text-column", texts)
    if named is not None and (len(texts) == 1 or words(named)):
        return named
    return max(texts, key=words, default=PLACEHOLDER)


def _label_among(names: Collection[str], parquet: pq.ParquetFile) -> str | None:
    """Returns the column that has labels: by its name, if it may have them, or by its words.

    Returns:
        A placeholder where there are several columns, one of which may have labels; None where none may.
    """
    named = usual_column("--label-column", names)
    if named is not None and may_be_labels(some := _some_values(parquet, named)) and are_clear(some):
        return named  # without reading the others, of which there may be thousands
    values = {name: _some_values(parquet, name) for name in names}
    possible = [name for name, some in values.items() if _may_be_labels(some)]
    by_words = [name for name in possible if is_text_type(values[name].type) and are_clear(values[name])]
    usual = usual_column("--label-column", possible)
    if usual is not None and (len(by_words) != 1 or are_clear(values[usual])):
        return usual
    if len(by_words) == 1:
        return by_words[0]
    if not possible:  # what `train` says of a column without two labels helps more than no column
        return named
    return possible[0] if len(names) == 1 else PLACEHOLDER


def _may_be_labels(values: pa.ChunkedArray) -> bool:
    """Returns whether a column of any name may have labels: not if each row has a value of its own, as in ids."""
    if not may_be_labels(values):  # as lists, which Arrow does not count
        return False
    return len(values) <= 2 or pc.count_distinct(values).as_py() < len(values)


def _some_values(parquet: pq.ParquetFile, column: str) -> pa.ChunkedArray:
    """Returns values of a column from row groups all over the file, which may be sorted by its labels."""
    last = parquet.num_row_groups - 1
    found = []
    for group in sorted({last * number // (_MOST_GROUPS - 1) for number in range(_MOST_GROUPS)} if last >= 0 else ()):
        rows = parquet.metadata.row_group(group).num_rows
        is_small = _bytes_by_column(parquet, [group])[column] <= _MOST_BYTES
        batches = parquet.iter_batches(max(1, rows) if is_small else _FEW_ROWS, row_groups=[group], columns=[column])
        found += [batch[column] for batch in itertools.islice(batches, 1)]
    return pa.chunked_array(found, parquet.schema_arrow.field(column).type)


def _bytes_by_column(parquet: pq.ParquetFile, row_groups: Iterable[int]) -> dict[str, int]:
    """Returns the bytes of each column, before compression; of nested ones, of their first leaf or more."""
    sizes = dict.fromkeys(parquet.schema_arrow.names, 0)
    for number in row_groups:
        group = parquet.metadata.row_group(number)
        for column in map(group.column, range(group.num_columns)):
            if column.path_in_schema in sizes:
                sizes[column.path_in_schema] += column.total_uncompressed_size
    return sizes
