"""The rows of a task: those of its chunks from row groups of any size, or an error that names file and row groups."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lstm_ray.config import ScoreConfig
from lstm_ray.errors import InputError
from lstm_ray.score import reading
from lstm_ray.score.plan import Chunk, make_plan
from lstm_ray.score.reading import read_task

ROWS = 40_000  # more than are decoded at a time
TABLE = pa.table({"id": np.arange(ROWS), "text": [f"row {row}" for row in range(ROWS)]})


@pytest.fixture(autouse=True, params=[reading._SMALL_BYTES, 0], ids=["small", "large"])
def limit(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads the same files as small and as large ones."""
    monkeypatch.setattr(reading, "_SMALL_BYTES", request.param)


def read(path: Path, columns: tuple[str, ...] = ("id", "text"), **settings: Any) -> list[tuple[Chunk, pa.Table]]:
    """Plans a file and reads all its tasks."""
    plan = make_plan(ScoreConfig.model_validate({"inputs": (str(path),), **settings}), "hash")
    return [found for task in plan.tasks(set()) for found in read_task(task, columns)]


@pytest.mark.parametrize(
    ("rows_per_group", "rows_per_part"),
    [(ROWS, 7_000), (ROWS, 16_384), (ROWS, ROWS), (1_000, 3_500), (30_000, 4_000)],
    ids=["cut", "cut-at-batches", "whole", "joined", "cut-and-whole"],
)
def test_row_groups_of_any_size_are_read_right(tmp_path: Path, rows_per_group: int, rows_per_part: int) -> None:
    pq.write_table(TABLE, tmp_path / "in.parquet", row_group_size=rows_per_group)
    found = read(tmp_path / "in.parquet", rows_per_part=rows_per_part)
    assert [table.num_rows for _, table in found] == [chunk.rows for chunk, _ in found]
    assert pa.concat_tables([table for _, table in found]).equals(TABLE)


def test_rows_that_are_too_large_together_are_read_in_smaller_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arrow refuses nested texts of more than 2 GiB; here it refuses more than 20 rows after the first 20,000."""
    pq.write_table(TABLE, tmp_path / "in.parquet")
    iter_batches = pq.ParquetFile.iter_batches

    def refuse(file: Any, batch_size: int, **options: Any) -> Any:
        for batch in iter_batches(file, batch_size, **options):
            if batch_size > 20 and batch["id"][-1].as_py() > 20_000:
                raise pa.ArrowNotImplementedError("Nested data conversions not implemented for chunked array outputs")
            yield batch

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", refuse)
    found = read(tmp_path / "in.parquet", rows_per_part=7_000)
    assert pa.concat_tables([table for _, table in found]).equals(TABLE)


@pytest.mark.parametrize("kind", [pa.string(), pa.dictionary(pa.int32(), pa.string())], ids=str)
def test_rows_that_would_fill_the_memory_are_refused_with_what_helps(
    kind: pa.DataType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text that Parquet stores once makes much of a file of some hundred bytes."""
    monkeypatch.setattr(reading, "memory_bytes", lambda: 1 << 26)
    path = tmp_path / "in.parquet"
    texts = pa.array(["word " * 2_000] * 4_000).cast(kind)
    pq.write_table(pa.table({"text": texts}), path, compression="zstd")
    assert path.stat().st_size < 10_000
    with pytest.raises(InputError, match=r"2,048 of the 4,000 rows .* than 16 MiB of memory: lower --rows-per-part$"):
        read(path, ("text",))
    assert sum(table.num_rows for _, table in read(path, ("text",), rows_per_part=1_000)) == 4_000


def test_rows_are_counted_where_a_file_has_none_of_the_columns(tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "in.parquet")
    found = read(tmp_path / "in.parquet", columns=("elsewhere",), rows_per_part=7_000)
    assert [table.num_rows for _, table in found] == [chunk.rows for chunk, _ in found]


def test_a_file_that_changed_after_planning_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    pq.write_table(TABLE.slice(0, 10), path)
    (task,) = make_plan(ScoreConfig(inputs=(str(path),)), "hash").tasks(set())
    pq.write_table(TABLE.slice(0, 11), path)
    with pytest.raises(InputError, match="has changed since the run was planned"):
        next(read_task(task, ["text"]))
    path.unlink()
    with pytest.raises(InputError, match=r"in\.parquet: no such file"):
        next(read_task(task, ["text"]))


def test_a_flipped_bit_is_found_by_the_pages_checksum(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    texts = pa.table({"text": [f"a good film number {number}" for number in range(1_000)]})
    pq.write_table(texts, path, compression="none", use_dictionary=False, write_page_checksum=True)
    content = bytearray(path.read_bytes())
    content[content.index(b"number 500")] ^= 1  # another letter: nothing else would notice
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"in\.parquet: row group 0 cannot be read: .*(CRC|checksum)"):
        read(path, columns=("text",))


@pytest.mark.parametrize("rows_per_part", [50_000, 300], ids=["one chunk", "several chunks"])
def test_fewer_rows_than_the_footer_says_are_an_input_error(
    tmp_path: Path, claim_rows: Callable[[Path, int, int], None], rows_per_part: int
) -> None:
    path = tmp_path / "in.parquet"
    pq.write_table(TABLE.slice(0, 1_000), path, write_statistics=False)
    claim_rows(path, 1_000, 1_005)
    message = r"in\.parquet: row group 0 cannot be read: 1,000 rows found, but the footer says 1,005$"
    with pytest.raises(InputError, match=message):
        read(path, rows_per_part=rows_per_part)
