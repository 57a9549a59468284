"""What training on a new file must be told: which columns have the texts and the labels, and what these mean."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lstm_ray.datasets.labels import mapping_options

PLACEHOLDER = "COLUMN"
"""Where it is unclear which column has the labels."""

_TEXT, _LABEL = "text", "label"
_LABELS = ("label", "labels", "sentiment", "polarity", "stars", "star_rating", "rating", "score", "target", "class")
_MOST_ROWS = 1_000_000  # whose labels are looked at


def training_options(path: Path, text_column: str | None = None) -> list[str]:
    """Returns the options of `lstm-ray train` for a file: columns with other names than usual, labels other than 0, 1.

    Unless the file has `text_column`, the texts are taken to be in the column of texts with the most bytes. For labels
    whose meaning is not clear there is no option: `train` lists them and says what it needs.
    """
    with pq.ParquetFile(path) as parquet:
        sizes = _bytes_by_column(parquet)
        columns = {field.name: field.type for field in parquet.schema_arrow}
        texts = [name for name, kind in columns.items() if pa.types.is_string(kind)]
        largest = _TEXT if _TEXT in texts else max(texts, key=sizes.__getitem__, default=PLACEHOLDER)
        text = text_column if text_column and text_column in columns else largest
        label = _label_among([name for name in columns if name != text])
        options = [] if text == _TEXT else ["--text-column", text]
        options += [] if label == _LABEL else ["--label-column", label]
        if label != PLACEHOLDER:
            rows = next(parquet.iter_batches(_MOST_ROWS, columns=[label]), None)
            options += [] if rows is None else mapping_options(pa.chunked_array([rows[label]]))
    return options


def _label_among(names: Collection[str]) -> str:
    """Returns the column with a usual name for labels, else the only one, else a placeholder."""
    for usual in _LABELS:
        if found := [name for name in names if name.lower() == usual]:
            return found[0]
    return next(iter(names)) if len(names) == 1 else PLACEHOLDER


def _bytes_by_column(parquet: pq.ParquetFile) -> dict[str, int]:
    """Returns the bytes of each column, before compression; of nested ones, of their first leaf or more."""
    sizes = dict.fromkeys(parquet.schema_arrow.names, 0)
    for number in range(parquet.num_row_groups):
        group = parquet.metadata.row_group(number)
        for column in map(group.column, range(group.num_columns)):
            if column.path_in_schema in sizes:
                sizes[column.path_in_schema] += column.total_uncompressed_size
    return sizes
