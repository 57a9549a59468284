"""The summary of `lstm-ray evaluate`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import lstm_ray
from lstm_ray.cli.app import app
from lstm_ray.evaluate.calibration import Calibration
from lstm_ray.evaluate.counts import BinaryCounts
from lstm_ray.evaluate.evaluation import Evaluation
from lstm_ray.evaluate.shard import Comparison


@pytest.mark.parametrize(
    ("threshold", "shown"), [(0.5, "1.0000"), (0.8, "0.5000, at its threshold of 0.8")], ids=["equal", "another"]
)
def test_the_other_models_threshold_is_shown_if_it_differs(
    monkeypatch: pytest.MonkeyPatch, threshold: float, shown: str
) -> None:
    labels, scores = np.array([1, 0], np.int8), np.array([0.7, 0.2], np.float32)
    this, other = (BinaryCounts.from_scores(labels, scores, threshold=at) for at in (0.5, threshold))
    comparison = Comparison(other, rows=2, right=2, only_this=1 - other.true_positives, only_other=0)
    evaluation = Evaluation(this, 0, 0, [], rows_seen=None, seconds=1.0, comparison=comparison)
    monkeypatch.setattr(lstm_ray, "evaluate", lambda **_: evaluation)
    printed = CliRunner().invoke(app, ["evaluate", "a.parquet", "--model", "new", "--compare", "old"]).stdout
    assert f"accuracy of the other     {shown}\n" in printed
    only = "0 rows" if threshold == 0.5 else "1 row"
    assert f"only this model is right  {only}; only the other: 0\n" in printed


def test_rows_that_only_this_model_can_score_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its own tokenizer the other model may find no words in some."""
    labels, scores = np.array([1, 0, 1], np.int8), np.array([0.7, 0.6, 0.2], np.float32)
    this, other = BinaryCounts.from_scores(labels, scores), BinaryCounts.from_scores(labels[:2], scores[:2])
    comparison = Comparison(other, rows=2, right=1, only_this=0, only_other=0)
    evaluation = Evaluation(this, 0, 0, [], rows_seen=None, seconds=1.0, comparison=comparison)
    monkeypatch.setattr(lstm_ray, "evaluate", lambda **_: evaluation)
    printed = CliRunner().invoke(app, ["evaluate", "a.parquet", "--model", "new", "--compare", "old"]).stdout
    assert "rows that both can score  2; this model's accuracy there: 0.5000\n" in printed


def test_the_ngrams_alone_are_shown_beside_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, scores = np.array([1, 0] * 50, np.int8), np.array([0.7, 0.2] * 50, np.float32)
    linear = BinaryCounts.from_scores(labels, np.array([0.7] * 60 + [0.2] * 40, np.float32))
    ngrams = Comparison(linear, rows=100, right=100, only_this=50, only_other=0)
    evaluation = Evaluation(
        BinaryCounts.from_scores(labels, scores), 0, 0, [], rows_seen=None, seconds=1.0, ngrams=ngrams
    )
    monkeypatch.setattr(lstm_ray, "evaluate", lambda **_: evaluation)
    printed = CliRunner().invoke(app, ["evaluate", "a.parquet", "--model", "m"]).stdout
    assert "n-grams alone      accuracy 0.5000; the model: +0.5000 (" in printed


@pytest.mark.parametrize(
    ("goal", "name"),
    [
        (("--target-precision", "0.97"), "target precision 0.97"),
        (("--maximize", "balanced_accuracy"), "maximize balanced accuracy"),
    ],
    ids=str,
)
def test_names_are_in_words_and_what_a_goal_reaches_comes_last(
    monkeypatch: pytest.MonkeyPatch, goal: tuple[str, str], name: str
) -> None:
    counts = BinaryCounts.from_scores(np.array([1, 0], np.int8), np.array([0.7, 0.2], np.float32))
    evaluation = Evaluation(counts, 0, 0, [], rows_seen=None, seconds=1.0, chosen=counts.at(0.6))
    monkeypatch.setattr(lstm_ray, "evaluate", lambda **_: evaluation)
    printed = CliRunner().invoke(app, ["evaluate", "a.parquet", "--model", "m", *goal]).stdout
    assert "_" not in printed
    names = [line.split("  ")[0] for line in printed.splitlines()]
    assert {"base rate", "balanced accuracy", "AUC", "F1", "log loss"} <= {*names}
    assert printed.splitlines()[-1].split("  ") == [
        name,
        "threshold 0.6: precision 1.0000, recall 1.0000, accuracy 1.0000",
    ]


def test_files_are_shown_with_their_whole_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    for name in ("out/report.html", "scores.parquet"):
        (tmp_path / name).touch()
    counts = BinaryCounts.from_scores(np.array([1, 0], np.int8), np.array([0.7, 0.2], np.float32))
    monkeypatch.setattr(lstm_ray, "evaluate", lambda **_: Evaluation(counts, 0, 0, [], rows_seen=None, seconds=1.0))
    monkeypatch.setattr(lstm_ray, "calibrate", lambda **_: Calibration("new", 2.0, counts, counts))
    evaluate = ["evaluate", "a.parquet", "--model", "m", "--output", "out", "--predictions", "scores.parquet"]
    printed = CliRunner().invoke(app, evaluate).stdout
    assert f" {tmp_path}/out/report.html\n" in printed
    assert f" {tmp_path}/scores.parquet\n" in printed
    printed = CliRunner().invoke(app, ["calibrate", "a.parquet", "--model", "m", "--output", "new"]).stdout
    assert f" {tmp_path}/new\n" in printed
    assert f"lstm-ray evaluate OTHERS.parquet --model {tmp_path}/new\n" in printed
