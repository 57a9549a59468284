"""Texts without labels."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lstm_ray.datasets.labelled import sample_rows
from lstm_ray.datasets.unlabelled import find_text_shards, read_texts
from lstm_ray.errors import InputError


def test_texts_are_read_by_row_group_without_nulls(tmp_path: Path) -> None:
    texts = [b"one", None, b"two", b"\xff", b"three"]
    pq.write_table(pa.table({"text": texts, "other": range(5)}), tmp_path / "in.parquet", row_group_size=3)
    shards = find_text_shards([str(tmp_path)], "text")
    assert [(shard.row_group, shard.first_row, len(shard.rows)) for shard in shards] == [(0, 0, 3), (1, 3, 2)]
    assert [read_texts(shard, "text").to_pylist() for shard in shards] == [["one", "two"], ["three"]]
    (sampled,) = [shard for shard in sample_rows(shards, 1, 0) if len(shard.rows)]
    assert len(read_texts(sampled, "text")) <= 1
    with pytest.raises(InputError, match="no column 'review'"):
        find_text_shards([str(tmp_path)], "review")
