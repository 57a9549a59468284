"""Parts: written whole, and recognised by fingerprint and rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lstm_ray.config import ScoreConfig
from lstm_ray.model.profile import Profile
from lstm_ray.score.parts import Part, finished_parts, read_part, write_part
from lstm_ray.score.plan import Plan, make_plan
from lstm_ray.score.scorer import HAS_WORDS, Scored

TABLE = pa.table({"id": range(900), "text": [f"row {row}" for row in range(900)]})


def plan_of(path: Path, **settings: object) -> Plan:
    """Returns the plan of a file."""
    return make_plan(ScoreConfig.model_validate({"inputs": (str(path),), "rows_per_part": 300, **settings}), "hash")


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Gives the plan of a file of three parts."""
    pq.write_table(TABLE, tmp_path / "in.parquet", row_group_size=300)
    return plan_of(tmp_path / "in.parquet")


@pytest.fixture
def output(plan: Plan, tmp_path: Path) -> Path:
    """Gives a directory with the three parts: one row in three is positive, one in four has no words."""
    for chunk in plan.chunks():
        reasons = np.where(np.arange(300) % 4, HAS_WORDS, 3).astype(np.int8)
        probability = np.where(np.arange(300) % 3, 0.1, 0.9).astype(np.float32)[reasons == HAS_WORDS]
        rows = TABLE.slice(chunk.row_offset, chunk.rows)
        texts = Profile(rows=225, without_words=75, words=450, unknown=45)
        scored = Scored.from_probabilities(probability, reasons, texts, 0.5)
        write_part(chunk, rows.columns, scored, plan.layout, str(tmp_path / "out"))
    return tmp_path / "out"


def names(plan: Plan, output: Path) -> list[str]:
    """Lists the parts of a plan that count as done."""
    return [part.name for part in finished_parts(plan, str(output))]


def test_a_part_holds_its_rows_types_and_counts(plan: Plan, output: Path) -> None:
    done = list(finished_parts(plan, str(output)))
    assert [part.name for part in done] == [chunk.part_name for chunk in plan.chunks()]
    assert {(part.rows, part.positives) for part in done} == {(300, 75)}
    assert [part.errors for part in done] == [{"no_words": 75}] * 3
    for part in done:
        profile = Profile.from_json(part.profile)
        assert (profile.rows, profile.without_words, profile.positives, profile.unknown) == (225, 75, 75, 45)
        assert profile.scores.sum() == 225
    written = pa.concat_tables([pq.read_table(path) for path in sorted(output.iterdir())])
    assert written.select(["id", "text"]).equals(TABLE)
    assert written.schema.field("sentiment_probability").type == pa.float32()
    for name in ("sentiment", "sentiment_error"):
        assert pa.types.is_dictionary(written.schema.field(name).type)
    assert written["sentiment_error"].to_pylist().count("no_words") == 225


def test_a_damaged_or_foreign_part_is_not_done(plan: Plan, output: Path, tmp_path: Path) -> None:
    half, foreign, whole = sorted(output.iterdir())
    half.write_bytes(half.read_bytes()[:-100])
    pq.write_table(TABLE.slice(0, 300), foreign)
    assert names(plan, output) == [whole.name]
    assert names(plan_of(tmp_path / "in.parquet", max_rows=800), output) == [], "another plan"


def test_a_part_of_fewer_rows_than_it_counts_or_the_plan_has_is_not_done(plan: Plan, output: Path) -> None:
    first, second, third = sorted(output.iterdir())
    table = pq.read_table(first)
    pq.write_table(table.slice(0, 299), first)  # its footer counts 300
    short = json.loads(pq.read_schema(second).metadata[b"lstm_ray"])
    footer = {b"lstm_ray": json.dumps({**short, "rows": 299}).encode()}
    pq.write_table(table.slice(0, 299).replace_schema_metadata(footer), second)  # its footer agrees, the plan does not
    assert isinstance(read_part(str(second), plan.layout.fingerprint), Part)
    assert read_part(str(first), plan.layout.fingerprint) is None
    assert names(plan, output) == [third.name]


def test_rows_that_are_unsure_are_counted_and_the_footer_of_others_is_as_ever(plan: Plan, tmp_path: Path) -> None:
    chunk, *_ = plan.chunks()
    reasons, probability = np.full(300, HAS_WORDS, np.int8), np.linspace(0, 1, 300, dtype=np.float32)
    out = tmp_path / "out"
    for unsure, counts in ((None, (150, 0)), ((0.4, 0.6), (120, 60))):
        scored = Scored.from_probabilities(probability, reasons, Profile(rows=300), 0.5, unsure)
        part = write_part(chunk, TABLE.slice(0, 300).columns, scored, plan.layout, str(out))
        assert (part.positives, part.unsure) == counts
        assert read_part(str(out / part.name), plan.layout.fingerprint) == part
        footer = json.loads(pq.read_schema(out / part.name).metadata[b"lstm_ray"])
        assert ("unsure" in footer) == (unsure is not None)
        assert pq.read_table(out / part.name)["sentiment"].to_pylist().count("unsure") == counts[1]
