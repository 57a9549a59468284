"""The report of a scoring run: for any counts, with and without figures of the training data."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_ray.model.drift import compare
from lstm_ray.model.profile import Profile, TrainingData, count_scores, count_texts
from lstm_ray.report.scoring_page import scoring_report
from lstm_ray.score.output import Manifest
from lstm_ray.text.sequences import Sequences

HOSTILE = "</td><script>alert('gotcha')</script>.parquet"


def profile(rows: int, unknown: float = 0.1, longest: int = 60) -> Profile:
    """Returns the counts of random rows."""
    generator = np.random.default_rng(rows)
    offsets = np.concatenate([[0], np.cumsum(generator.integers(1, longest, rows))])
    ids = np.where(generator.random(offsets[-1]) < unknown, 2, 7).astype(np.int32)
    return count_texts(Sequences(ids, offsets), rows // 9) + count_scores(generator.random(rows, np.float32), 0.5)


def page(counts: Profile, trained_on: TrainingData | None, **changes: Any) -> str:
    """Returns the report of a run over these rows."""
    movements = compare(counts, trained_on, None if changes.get("unsure") else 0.5)
    fields: dict[str, Any] = {
        "output": "scored",
        "parts": 2,
        "parts_kept": 0,
        "rows": counts.rows + counts.without_words,
        "positives": counts.positives,
        "errors": {"no_words": counts.without_words} if counts.without_words else {},
        "bad_files": 0,
        "seconds": 2.0,
        "rows_per_s": 500.0,
        "model_hash": "",
        "fingerprint": "",
        **changes,
    }
    return scoring_report(Manifest(**fields), counts, trained_on, movements, {"model": "m", "text_column": "text"})


def test_rows_like_the_training_data_are_called_so() -> None:
    html = page(profile(1000), TrainingData(profile(900), profile(800)))
    assert "the texts are like those that the model was trained on" in html
    assert "Warning" not in html
    assert html.count("<svg") == 3
    assert "training data" in html


def test_scores_without_those_of_validation_rows_are_said_not_to_be_compared() -> None:
    sentence = "Scores are not compared"
    assert f"{sentence}: no rows were held out" in page(profile(1000), TrainingData(profile(900), Profile()))
    calibrated = TrainingData(profile(900), replace(profile(800), scores=Profile().scores))
    assert f"{sentence}: the model was calibrated" in page(profile(1000), calibrated)
    assert sentence not in page(profile(1000), TrainingData(profile(900), profile(800)))
    assert sentence not in page(profile(1000), None), "nothing is, says the sentence before"


def test_rows_that_moved_are_warned_of_with_figures() -> None:
    html = page(profile(1000, unknown=0.8), TrainingData(profile(900), profile(800)))
    assert "<b>Warning:</b> these texts are not like" in html
    assert '<td class="much">much</td>' in html


def test_reasons_and_files_are_listed_and_nothing_in_them_is_obeyed() -> None:
    one = {"path": HOSTILE, "rows": 10, "positives": 4, "without_score": 2, "words": 70, "unknown": 7, "truncated": 4}
    html = page(profile(100) + Profile(without_words=5), None, files=[one, {**one, "path": "b.parquet"}], bad_files=1)
    assert "<script" not in html
    for expected in ("nothing but punctuation", "b.parquet", "50.0%", "20.0%", "10.0%", "1 input file", "4.8%"):
        assert expected in html, expected
    assert "Input files" not in page(profile(100), None, files=[one])


@given(st.integers(0, 40), st.integers(1, 3000), st.sampled_from(["none", "training", "both"]))
def test_any_counts_make_a_page(rows: int, longest: int, known: str) -> None:
    before = {
        "none": None,
        "training": TrainingData(profile(9), Profile()),
        "both": TrainingData(profile(9), profile(4)),
    }
    html = page(profile(rows, longest=longest + 1), before[known])
    assert "nan" not in html.lower().replace("tenance", "")
    assert html.count("<svg") == (3 if rows else 0)


@pytest.mark.parametrize("kept", [True, False])
def test_a_run_that_had_nothing_to_do_shows_no_speed(kept: bool) -> None:
    assert ("rows/s" in page(profile(50), None, parts_kept=2 if kept else 1)) is not kept


def test_the_page_loads_nothing() -> None:
    html = page(profile(50), None)
    assert "default-src 'none'" in html
    assert "http" not in html.split("</title>")[1].replace("http-equiv", "")


def test_positive_and_unsure_are_the_shares_that_the_manifest_has() -> None:
    html = page(profile(100), TrainingData(profile(900), profile(800)), positives=15, unsure=23, rows=150)
    figures = re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", html))
    scored = 150 - profile(100).without_words
    assert f"Positive {100 * 15 / scored:.1f} %" in figures
    assert f"Unsure {100 * 23 / scored:.1f} %" in figures
    assert re.search("scores — — [0-9.]+ no", figures)
    assert "Unsure" not in page(profile(100), None)
