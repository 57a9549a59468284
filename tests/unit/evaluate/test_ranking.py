"""Which of two models is better."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lstm_ray.config import TrainConfig
from lstm_ray.evaluate.counts import BinaryCounts
from lstm_ray.evaluate.ranking import METRIC_NAMES, WORST, metric_of, rank


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
