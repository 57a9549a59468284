"""One task: read, scored and written in one go or in stages, to the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lstm_ray.config import ScoreConfig
from lstm_ray.errors import OutputError
from lstm_ray.model.bundle import Bundle, read_bundle
from lstm_ray.score import tasks as tasks_module
from lstm_ray.score.columns import NEW_COLUMNS, WORDS_COLUMN
from lstm_ray.score.parts import Part
from lstm_ray.score.plan import BadFile, Plan, make_plan
from lstm_ray.score.scorer import Encoder, Scored, Scorer, make_engine
from lstm_ray.score.tasks import encode_task, score_task, score_tasks, write_task

ROWS = 40_000  # more than are decoded at a time


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    """Gives a model."""
    return read_bundle(str(tiny_bundle))


@pytest.fixture(scope="module")
def scorer(bundle: Bundle) -> Scorer:
    """Gives a scorer on the native engine."""
    return Scorer(bundle, "native", threads=2)


@pytest.fixture(scope="module")
def table() -> pa.Table:
    """Gives rows numbered from 0, with texts of 0 to 3 words."""
    generator = np.random.default_rng(0)
    words = generator.choice(["good", "bad", "a film", "fine"], (ROWS, 3))
    texts = [" ".join(row[: number % 4]) for number, row in enumerate(words)]
    return pa.table({"id": np.arange(ROWS), "text": texts})


def plan_of(path: Path, **settings: Any) -> Plan:
    """Returns the plan of a file."""
    return make_plan(ScoreConfig.model_validate({"inputs": (str(path),), **settings}), "hash")


def score_all(plan: Plan, scorer: Scorer, output: Path, done: set[str] | None = None) -> list[Part]:
    """Scores all tasks of a plan."""
    parts: list[Part] = []
    for task in plan.tasks(done or set()):
        parts += score_task(task, plan.layout, scorer, str(output))
    return parts


def test_a_part_in_the_middle_of_a_row_group_is_made_alone(scorer: Scorer, table: pa.Table, tmp_path: Path) -> None:
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=ROWS)
    plan = plan_of(tmp_path / "in.parquet", rows_per_part=7_000)
    score_all(plan, scorer, tmp_path / "all")
    missing = [chunk.part_name for chunk in list(plan.chunks())[2:4]]
    done = {chunk.part_name for chunk in plan.chunks()} - set(missing)
    assert [part.name for part in score_all(plan, scorer, tmp_path / "some", done)] == missing
    for name in missing:
        assert (tmp_path / "some" / name).read_bytes() == (tmp_path / "all" / name).read_bytes()


@pytest.mark.parametrize("is_local", [True, False], ids=["one by one", "several at a time"])
def test_a_bad_file_among_others_is_set_aside_alone(
    scorer: Scorer, table: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_local: bool
) -> None:
    monkeypatch.setattr(tasks_module, "is_local", lambda path: is_local)
    for number in range(40):
        pq.write_table(table.slice(7 * number, 7), tmp_path / f"{number:02d}.parquet")
    plan = plan_of(tmp_path)
    tasks = list(plan.tasks(set()))
    (tmp_path / "03.parquet").write_bytes(b"PAR1 not any more")
    (tmp_path / "17.parquet").unlink()
    results = list(score_tasks(tasks, plan.layout, scorer, str(tmp_path / "out")))
    bad = [result for result in results if isinstance(result, BadFile)]
    assert [Path(file.path).name for file in bad] == ["03.parquet", "17.parquet"]
    assert [file.error.split(":")[0].split(" (")[0] for file in bad] == [
        "has changed since the run was planned",
        "no such file or directory",
    ]
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == [result.name for result in results if isinstance(result, Part)]
    assert written == [chunk.part_name for chunk in plan.chunks() if chunk.file not in (3, 17)]


def test_an_output_that_cannot_be_written_ends_the_tasks(
    scorer: Scorer, table: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks_module, "is_local", lambda path: False)
    for number in range(40):
        pq.write_table(table.slice(7 * number, 7), tmp_path / f"{number:02d}.parquet")
    plan = plan_of(tmp_path)
    (tmp_path / "out").write_bytes(b"a file")
    with pytest.raises(OutputError, match="cannot be written"):
        list(score_tasks(list(plan.tasks(set())), plan.layout, scorer, str(tmp_path / "out")))


@pytest.mark.parametrize("keep_columns", ["all", "id", "text"])
def test_stages_write_the_bytes_of_one_go(
    bundle: Bundle, scorer: Scorer, table: pa.Table, tmp_path: Path, keep_columns: str
) -> None:
    pq.write_table(table.slice(0, 2_000), tmp_path / "in.parquet", row_group_size=800)
    plan = plan_of(tmp_path / "in.parquet", rows_per_part=500, keep_columns=keep_columns)
    score_all(plan, scorer, tmp_path / "whole")
    encoder, engine = Encoder(bundle), make_engine(bundle, "native", 1)
    for task in plan.tasks(set()):
        encoded = encode_task(task, "text", encoder)
        scores = [
            Scored.from_probabilities(
                engine.probabilities(chunk.sequences), chunk.reasons, chunk.texts, bundle.threshold
            )
            for chunk in encoded
        ]
        write_task(task, plan.layout, scores, str(tmp_path / "stages"))
    whole, stages = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("whole", "stages")
    )
    assert whole == stages


def test_a_part_has_the_words_that_weighed_most_if_they_are_asked_for(
    scorer: Scorer, table: pa.Table, tmp_path: Path
) -> None:
    pq.write_table(table.slice(0, 100), tmp_path / "in.parquet")
    plain, explained = plan_of(tmp_path / "in.parquet"), plan_of(tmp_path / "in.parquet", explain=2, prefix="new_")
    (part,) = score_all(explained, scorer, tmp_path / "explained")
    score_all(plain, scorer, tmp_path / "plain")
    written = pq.read_table(tmp_path / "explained" / part.name)
    assert written.column_names == [
        "id",
        "text",
        *("new_" + name for name in (*NEW_COLUMNS, WORDS_COLUMN)),
    ]
    without = pq.read_table(tmp_path / "plain" / part.name)
    assert written.drop_columns(["new_sentiment_words"]).rename_columns(without.column_names).equals(without)
    assert {len(words) for words in written["new_sentiment_words"].drop_null().to_pylist()} == {1, 2}
    assert written["new_sentiment_words"].null_count == written["new_sentiment_probability"].null_count == 25
