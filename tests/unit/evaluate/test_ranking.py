"""Which of two models is better."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lstm_ray.config import TrainConfig
from lstm_ray.evaluate.counts import BinaryCounts
from lstm_ray.evaluate.ranking import METRIC_NAMES, WORST, doubt, metric_of, metrics_of_epoch, rank, show_metric


def metrics(loss: float, accuracy: float, auc: float | None) -> dict[str, Any]:
    """Returns what `BinaryCounts.metrics` returns, of which only this is used."""
    return {"log_loss": loss, "accuracy": accuracy, "auc": auc}


@pytest.mark.parametrize(
    ("better", "worse", "by"),
    [
        (metrics(0.3, 0.8, 0.8), metrics(0.4, 0.9, 0.9), "loss"),
        (metrics(0.5, 0.7, 0.9), metrics(0.4, 0.9, 0.8), "auc"),
        (metrics(0.5, 0.9, 0.7), metrics(0.4, 0.8, 0.8), "accuracy"),
        (metrics(0.3, 0.9, 0.7), metrics(0.4, 0.9, 0.8), "accuracy"),
        (metrics(0.3, 0.8, 0.9), metrics(0.4, 0.9, 0.9), "auc"),
        (metrics(0.9, 0.1, 0.1), metrics(0.1, 0.9, None), "auc"),
        (metrics(0.3, 0.9, None), metrics(0.4, 0.9, None), "auc"),
    ],
)
def test_the_metric_decides_and_of_equal_ones_the_lower_loss(
    better: dict[str, Any], worse: dict[str, Any], by: str
) -> None:
    assert rank(better, by) > rank(worse, by) > WORST
    assert rank(better, by) == rank(dict(better), by), "so that of equal epochs the earlier one stays the best"


def test_counts_have_every_metric_that_ranks() -> None:
    counts = BinaryCounts.from_scores(np.array([0, 1, 1]), np.array([0.2, 0.4, 0.9], np.float32))
    assert [metric_of(counts.metrics(), by) for by in METRIC_NAMES] == pytest.approx([0.41493, 1.0, 2 / 3], abs=1e-5)


def test_every_choice_of_the_setting_has_a_name() -> None:
    schema = TrainConfig.model_json_schema()["properties"]["best_by"]
    assert schema["enum"] == list(METRIC_NAMES)


def test_accuracy_is_shown_with_its_standard_error_if_that_was_measured() -> None:
    measured = {"log_loss": 0.25, "auc": None, "accuracy": 0.9, "accuracy_standard_error": 0.03}
    assert [show_metric(measured, by) for by in METRIC_NAMES] == ["0.2500", "-", "0.9000 ± 0.0300"]
    assert show_metric(metrics(0.25, 0.9, 0.9), "accuracy") == "0.9000"
    row = {f"validation_{'loss' if name == 'log_loss' else name}": value for name, value in measured.items()}
    assert metrics_of_epoch({"epoch": 1, **row}) == measured
    del row["validation_accuracy_standard_error"]  # of a run that an older version began
    assert show_metric(metrics_of_epoch(row), "accuracy") == "0.9000"


def counted(right: int, positives: int, rows: int = 100) -> dict[str, Any]:
    """Returns metrics of as many right answers."""
    labels = (np.arange(rows) < positives).astype(np.int8)
    is_right = np.arange(rows) < right
    return BinaryCounts.from_scores(labels, np.where(is_right == (labels == 1), 0.9, 0.1).astype(np.float32)).metrics()


@pytest.mark.parametrize(
    ("right", "positives", "sentence"),
    [
        (
            86,
            80,
            "0.8600 ± 0.0347 is not two standard errors above 0.8000, the accuracy of always predicting positive",
        ),
        (87, 80, None),  # 0.87 - 2 * 0.0336 = 0.8027
        (
            72,
            30,
            "0.7200 ± 0.0449 is not two standard errors above 0.7000, the accuracy of always predicting negative",
        ),
        (30, 30, "always predicting negative"),
        (100, 100, "all 100 validation rows are positive: they cannot show whether the model has learned"),
        (100, 99, None),
    ],
)
def test_an_accuracy_that_may_be_the_base_rate_is_doubted(right: int, positives: int, sentence: str | None) -> None:
    found = doubt(counted(right, positives))
    assert found is None if sentence is None else sentence in str(found)
    assert doubt({}) is None
    assert doubt(counted(1, 0, rows=2)) == "too few validation rows (2) to show whether the model has learned"
    assert doubt(counted(4, 2, rows=4)) == "too few validation rows (4) to show whether the model has learned"
    assert doubt(metrics(0.3, 0.5, 0.5)) is None, "measured by a version that did not count the base rate"
