"""Reads reviews without labels from Parquet with a text column, one row group at a time."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from lstm_ray.datasets.labelled import Shard, check_text_column, list_shards, read_columns
from lstm_ray.progress import Progress, ignore
from lstm_ray.storage.inputs import find_inputs
from lstm_ray.storage.parquet import open_parquet
from lstm_ray.text.tokenize import decode_texts


def find_text_shards(inputs: Sequence[str], text_column: str, progress: Progress = ignore) -> list[Shard]:
    """Lists the row groups of all input files; `progress` is for `find_inputs`.

    Raises:
        InputError: A file is missing or not Parquet, or lacks the column, or the column is not text.
    """
    shards = []
    for file in find_inputs(inputs, progress):
        with open_parquet(file) as parquet:
            check_text_column(file, parquet, text_column)
            shards += list_shards(file, parquet)
    return shards


def read_texts(shard: Shard, text_column: str) -> pa.LargeStringArray:
    """Returns a shard's texts, without those that are null or not UTF-8.

    Raises:
        InputError: The row group cannot be read, or has fewer rows than the file's footer says.
    """
    return shard.pick(decode_texts(read_columns(shard, [text_column])[text_column])).drop_null()
