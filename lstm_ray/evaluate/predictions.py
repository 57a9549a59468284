"""The predictions of an evaluation as Parquet: a row for each evaluated row, shard by shard.

    file         string   input file
    row          int64    number of the row in the file, from 0
    text         string
    label        int8     1 positive, 0 negative
    probability  float    of label 1
    sentiment    string   prediction: positive or negative
    right        bool     whether the prediction equals the label

The other columns of the input can be joined by file and row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lstm_ray.score.scorer import SENTIMENTS

SCHEMA = pa.schema(
    [
        ("file", pa.dictionary(pa.int32(), pa.string())),
        ("row", pa.int64()),
        ("text", pa.large_string()),
        ("label", pa.int8()),
        ("probability", pa.float32()),
        ("sentiment", pa.dictionary(pa.int8(), pa.string())),
        ("right", pa.bool_()),
    ]
)


def prediction_table(
    file: str,
    numbers: npt.NDArray[np.int64],
    texts: pa.LargeStringArray,
    labels: npt.NDArray[np.int8],
    probabilities: npt.NDArray[np.float32],
    predicted: npt.NDArray[np.bool_],
) -> pa.Table:
    """Returns the predictions of a shard.

    Args:
        file: Path of the shard's file.
        numbers: int64[rows], numbers of the rows in the file.
        texts: The texts.
        labels: int8[rows], 0 or 1.
        probabilities: float32[rows], of label 1.
        predicted: bool[rows], whether 1 is predicted.
    """
    columns: list[Any] = [
        pa.DictionaryArray.from_arrays(np.zeros(len(numbers), np.int32), pa.array([file])),
        numbers,
        texts,
        labels,
        probabilities,
        pa.DictionaryArray.from_arrays(predicted.astype(np.int8), pa.array(SENTIMENTS)),
        predicted == (labels == 1),
    ]
    return pa.Table.from_arrays([pa.array(column) for column in columns], schema=SCHEMA)
