"""Parts: read from any row groups, written whole, recognised again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lstm_ray.config import ScoreConfig
from lstm_ray.errors import InputError
from lstm_ray.model.bundle import read_bundle
from lstm_ray.score import tasks
from lstm_ray.score.plan import Plan, make_plan
from lstm_ray.score.scorer import Scorer
from lstm_ray.score.tasks import Part

ROWS = 40_000  # more than are decoded at a time


@pytest.fixture(scope="module")
def scorer(tiny_bundle: Path) -> Scorer:
    """Gives a scorer on the compiled kernel."""
    return Scorer(read_bundle(str(tiny_bundle)), "cpu", threads=2)


@pytest.fixture(scope="module")
def table() -> pa.Table:
    """Gives rows numbered from 0, with texts of 0 to 3 words."""
    generator = np.random.default_rng(0)
    words = generator.choice(["good", "bad", "a film", "fine"], (ROWS, 3))
    texts = [" ".join(row[: place % 4]) for place, row in enumerate(words)]
    return pa.table({"id": np.arange(ROWS), "text": texts})


def plan_of(path: Path, **settings: Any) -> Plan:
    """Returns the plan of a file."""
    return make_plan(ScoreConfig.model_validate({"inputs": (str(path),), **settings}), "hash")


def score_all(plan: Plan, scorer: Scorer, output: Path, done: set[str] | None = None) -> list[Part]:
    """Scores all tasks of a plan."""
    parts: list[Part] = []
    for task in plan.tasks(done or set()):
        parts += tasks.score_task(task, plan.layout, scorer, str(output))
    return parts


def read_parts(output: Path) -> pa.Table:
    """Returns the rows of all parts, in the order of their names."""
    return pa.concat_tables([pq.read_table(path) for path in sorted(output.glob("part-*.parquet"))])


@pytest.mark.parametrize(
    ("rows_per_group", "rows_per_part"),
    [(ROWS, 7_000), (ROWS, 16_384), (ROWS, ROWS), (1_000, 3_500), (30_000, 4_000)],
    ids=["cut", "cut-at-batches", "whole", "joined", "cut-and-whole"],
)
def test_row_groups_of_any_size_are_read_right(
    scorer: Scorer, table: pa.Table, tmp_path: Path, rows_per_group: int, rows_per_part: int
) -> None:
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=rows_per_group)
    plan = plan_of(tmp_path / "in.parquet", rows_per_part=rows_per_part)
    parts = score_all(plan, scorer, tmp_path / "out")
    assert [part.name for part in parts] == [chunk.part_name for chunk in plan.chunks()]
    written = read_parts(tmp_path / "out")
    assert written.select(["id", "text"]).equals(table)
    expected = scorer.score(table["text"])
    assert written["sentiment_probability"].combine_chunks().equals(expected.probability)
    assert sum(part.positives for part in parts) == expected.sentiment.to_pylist().count("positive")
    assert sum(part.errors["empty_text"] for part in parts) == ROWS // 4


def test_a_part_in_the_middle_of_a_row_group_is_made_alone(scorer: Scorer, table: pa.Table, tmp_path: Path) -> None:
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=ROWS)
    plan = plan_of(tmp_path / "in.parquet", rows_per_part=7_000)
    score_all(plan, scorer, tmp_path / "all")
    missing = [chunk.part_name for chunk in list(plan.chunks())[2:4]]
    done = {chunk.part_name for chunk in plan.chunks()} - set(missing)
    assert [part.name for part in score_all(plan, scorer, tmp_path / "some", done)] == missing
    for name in missing:
        assert (tmp_path / "some" / name).read_bytes() == (tmp_path / "all" / name).read_bytes()


def test_a_finished_part_is_known_by_its_fingerprint_and_rows(scorer: Scorer, table: pa.Table, tmp_path: Path) -> None:
    pq.write_table(table.slice(0, 900), tmp_path / "in.parquet", row_group_size=300)
    plan = plan_of(tmp_path / "in.parquet", rows_per_part=300)
    output = tmp_path / "out"
    parts = score_all(plan, scorer, output)
    assert list(tasks.finished_parts(plan, str(output))) == parts
    half, foreign, _ = (output / part.name for part in parts)
    half.write_bytes(half.read_bytes()[:-100])
    pq.write_table(table.slice(0, 300), foreign)
    assert list(tasks.finished_parts(plan, str(output))) == parts[2:]
    other = plan_of(tmp_path / "in.parquet", rows_per_part=300, max_rows=800)
    assert list(tasks.finished_parts(other, str(output))) == []


def test_a_file_that_changed_after_planning_is_not_read(scorer: Scorer, table: pa.Table, tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    pq.write_table(table.slice(0, 10), path)
    plan = plan_of(path)
    pq.write_table(table.slice(0, 11), path)
    (task,) = plan.tasks(set())
    with pytest.raises(InputError, match="has changed since the run was planned"):
        next(tasks.score_task(task, plan.layout, scorer, str(tmp_path / "out")))
    path.unlink()
    with pytest.raises(InputError, match="no such file") as raised:
        next(tasks.score_task(task, plan.layout, scorer, str(tmp_path / "out")))
    assert tasks.bad_file(task, raised.value).path == str(path)
    assert not (tmp_path / "out").exists()


def test_a_flipped_bit_is_found_by_the_pages_checksum(scorer: Scorer, tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    texts = pa.table({"text": [f"a good film number {number}" for number in range(1_000)]})
    pq.write_table(texts, path, compression="none", use_dictionary=False, write_page_checksum=True)
    content = bytearray(path.read_bytes())
    content[content.index(b"number 500")] ^= 1  # another letter: nothing else would notice
    path.write_bytes(content)
    plan = plan_of(path)
    (task,) = plan.tasks(set())
    with pytest.raises(InputError, match=r"in\.parquet: row group 0 cannot be read: .*(CRC|checksum)"):
        next(tasks.score_task(task, plan.layout, scorer, str(tmp_path / "out")))


def test_the_new_columns_have_the_promised_types(scorer: Scorer, table: pa.Table, tmp_path: Path) -> None:
    pq.write_table(table.slice(0, 8), tmp_path / "in.parquet")
    score_all(plan_of(tmp_path / "in.parquet"), scorer, tmp_path / "out")
    (part,) = (tmp_path / "out").glob("part-*")
    schema = pq.read_schema(part)
    assert schema.field("sentiment_probability").type == pa.float32()
    for name in ("sentiment", "sentiment_error"):
        assert pa.types.is_dictionary(schema.field(name).type)
