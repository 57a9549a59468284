"""The files of a finished run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstm_ray.config import TrainConfig
from lstm_ray.evaluate.counts import BinaryCounts
from lstm_ray.train.loop.state import State
from lstm_ray.train.results import Outcome, write_results


def test_the_report_shows_the_model_at_its_chosen_threshold(tmp_path: Path) -> None:
    """At 0.5 this model calls every row negative; at the threshold that is chosen for F1 it is always right."""
    labels = np.arange(200) % 2
    counts = BinaryCounts.from_scores(labels, np.where(labels, 0.4, 0.2).astype(np.float32), threshold=0.5)
    state = State(epoch=1, best_epoch=1, metrics=counts.metrics(), history=[{"epoch": 1, "validation_accuracy": 0.5}])
    state.keep_counts(counts)
    config = TrainConfig(preset="none", epochs=1, maximize="f1", output=str(tmp_path))
    write_results(config, Outcome(state, config, 900, 200, 0, 0))
    page = re.sub(r"\s+", " ", (tmp_path / "report.html").read_text())
    assert "threshold 0.3" in page  # the point of the ROC curve
    assert "threshold 0.5" not in page
    assert "At the model&#39;s threshold, 0.3, accuracy is 100.0%; epochs are measured at 0.5." in page


@pytest.mark.parametrize(
    ("settings", "positive", "expected"),
    [
        ({"maximize": "f1"}, 0.4, "epochs are measured at 0.5"),
        ({"maximize": "f1", "ngrams": 2}, 0.4, "epochs, and LSTM and n-grams alone, are measured at 0.5"),
        ({"target_precision": 0.9}, 0.2, None),  # no threshold reaches it
        ({}, 0.4, None),
    ],
)
def test_what_is_measured_at_another_threshold(settings: dict[str, Any], positive: float, expected: str | None) -> None:
    labels = np.arange(200) % 2
    counts = BinaryCounts.from_scores(labels, np.where(labels, positive, 0.2).astype(np.float32), threshold=0.5)
    state = State(epoch=1, best_epoch=1, metrics=counts.metrics())
    state.keep_counts(counts)
    config = TrainConfig(preset="none", mask=True, **settings)
    assert Outcome(state, config, 900, 200, 0, 0).measured_otherwise == expected
