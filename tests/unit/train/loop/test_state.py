"""The state of a run: its position in words, and when it has ended."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from lstm_ray.config import TrainConfig
from lstm_ray.evaluate.counts import BinaryCounts
from lstm_ray.train.loop.state import State


def test_validation_counts_survive_a_checkpoint() -> None:
    generator = np.random.default_rng(0)
    labels, scores = generator.integers(0, 2, 50), generator.random(50).astype(np.float32)
    counts = BinaryCounts.from_scores(labels, scores, 0.4)
    state = State(metrics=counts.metrics())
    assert state.best_counts() is None
    state.keep_counts(counts)
    read = State(**json.loads(json.dumps(asdict(state)))).best_counts()
    assert read is not None
    np.testing.assert_array_equal(read.to_array(), counts.to_array())
    assert read.threshold == 0.4
    state.keep_counts(None)
    assert state.best_counts() is None


def test_a_position_in_words() -> None:
    assert State(epoch=2).position() == "the end of epoch 2"
    assert State(epoch=1, step=340).position() == "epoch 2, step 340"


@pytest.mark.parametrize(
    ("epoch", "best", "patience", "ended", "early"),
    [
        (4, 4, 0, False, False),
        (5, 1, 0, True, False),
        (3, 2, 2, False, False),
        (4, 2, 2, True, True),
        (4, 2, 3, False, False),
        (0, 0, 1, False, False),
    ],
)
def test_a_run_ends_after_its_last_epoch_or_when_no_epoch_is_better(
    epoch: int, best: int, patience: int, ended: bool, early: bool
) -> None:
    config = TrainConfig(preset="none", epochs=5, early_stopping=patience)
    state = State(epoch=epoch, best_epoch=best)
    assert (state.has_ended(config), state.stops_early(config)) == (ended, early)


def measured(**goal: Any) -> tuple[State, dict[str, Any], str | None]:
    """Returns a state with counts of six rows, and what it decides with a goal."""
    labels, probabilities = np.array([0, 0, 1, 1, 0, 1]), np.array([0.1, 0.2, 0.3, 0.6, 0.7, 0.8], np.float32)
    counts = BinaryCounts.from_scores(labels, probabilities)
    state = State(epoch=1, best_epoch=1, metrics=counts.metrics())
    state.keep_counts(counts)
    again = State(**json.loads(json.dumps(asdict(state))))  # as a checkpoint keeps it
    metrics, problem = again.decide(TrainConfig.model_validate(goal))
    return state, metrics, problem


def test_the_threshold_is_chosen_on_the_best_epochs_rows() -> None:
    state, metrics, problem = measured(target_recall=1.0)
    assert (metrics["threshold"], metrics["recall"], metrics["precision"], problem) == (0.25, 1.0, 0.75, None)
    assert metrics["auc"] == state.metrics["auc"]


def test_without_a_goal_the_metrics_stay_as_they_were_measured() -> None:
    state, metrics, problem = measured()
    assert (metrics, problem) == (state.metrics, None)


def test_a_target_that_no_threshold_reaches_leaves_the_threshold_and_says_the_best() -> None:
    labels, probabilities = np.array([0, 1, 0]), np.array([0.9, 0.6, 0.2], np.float32)
    counts = BinaryCounts.from_scores(labels, probabilities)
    state = State(metrics=counts.metrics())
    state.keep_counts(counts)
    metrics, problem = state.decide(TrainConfig(target_precision=0.9))
    assert metrics == state.metrics
    assert problem is not None
    assert (
        "the highest precision is 0.5000, at threshold 0.4, with recall 1.0000: the model's threshold is 0.5" in problem
    )


def test_without_counts_there_is_nothing_to_choose_on() -> None:
    assert State().decide(TrainConfig(maximize="f1")) == (
        {},
        "no validation rows to choose a threshold on: it is 0.5",
    )
