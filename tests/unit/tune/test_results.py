"""The table of trials: the best first, those that failed last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstm_ray.config import TuneConfig
from lstm_ray.errors import TrainingError
from lstm_ray.train.loop import checkpoints
from lstm_ray.train.loop.checkpoints import Checkpoint
from lstm_ray.train.loop.state import State
from lstm_ray.tune.results import FAILED, FINISHED, STOPPED, best_of, mark, marked, read_trials, trial_table
from lstm_ray.tune.search import trial_config


@pytest.fixture
def config(tmp_path: Path) -> TuneConfig:
    """Gives a search over two settings."""
    search = {"units": {"choice": [3, 4]}, "clip_norm": {"choice": [None, 1.0]}}
    return TuneConfig.model_validate({"preset": "none", "train": ("a",), "output": str(tmp_path), "search": search})


def leave(output: str, **state: Any) -> None:
    """Writes the checkpoint of a run."""
    checkpoints.save(output, Checkpoint(State(**state), [np.zeros(1)], [np.zeros(1)]))


def test_trials_are_read_and_tabled_best_first(config: TuneConfig) -> None:
    trials = {number: trial_config(config, number) for number in (1, 2, 3)}
    assert marked(trials[1].output) is None
    history = [{"seconds": 2.0}, {"seconds": 3.0}]
    leave(trials[1].output, epoch=2, best_epoch=1, history=history, metrics={"accuracy": 0.5, "log_loss": 0.7})
    leave(trials[3].output, epoch=1, best_epoch=1, metrics={"accuracy": 0.75, "log_loss": 0.6, "auc": 0.8})
    mark(trials[1].output, FINISHED)
    mark(trials[2].output, FAILED, "the loss is no longer a number")
    mark(trials[3].output, STOPPED)
    found = read_trials(trials)
    assert [(trial.number, trial.state) for trial in found] == [(3, "stopped"), (1, "finished"), (2, "failed")]
    assert best_of(found).number == 3
    table = trial_table(config, found).to_pylist()
    assert table[1] == {
        "trial": 1,
        "state": "finished",
        "epochs": 2,
        "best_epoch": 1,
        "validation_accuracy": 0.5,
        "validation_accuracy_standard_error": None,
        "validation_loss": 0.7,
        "validation_auc": None,
        "seconds": 5.0,
        "error": None,
        "clip_norm": trials[1].clip_norm,
        "units": trials[1].units,
    }
    assert table[2]["error"] == "the loss is no longer a number"
    assert table[2]["validation_accuracy"] is None


METRICS = {  # of three trials
    1: {"accuracy": 0.8, "log_loss": 0.5, "auc": 0.91},
    2: {"accuracy": 0.8, "log_loss": 0.4, "auc": None},
    3: {"accuracy": 0.7, "log_loss": 0.4, "auc": 0.91},
}


@pytest.mark.parametrize(
    ("best_by", "order"),
    [
        ("accuracy", [2, 1, 3]),
        ("loss", [2, 3, 1]),
        ("auc", [3, 1, 2]),
    ],
)
def test_trials_are_ranked_by_the_metric_of_best_by_then_by_loss_then_by_number(
    config: TuneConfig, best_by: str, order: list[int]
) -> None:
    config = config.model_copy(update={"best_by": best_by})
    trials = {number: trial_config(config, number) for number in METRICS}
    for number, trial in trials.items():
        leave(trial.output, epoch=1, best_epoch=1, metrics=METRICS[number])
        mark(trial.output, FINISHED)
    found = read_trials(trials)
    assert [trial.number for trial in found] == order
    assert best_of(found).number == order[0]


def test_a_mark_is_written_beside_the_run_also_for_a_uri_with_options(tmp_path: Path) -> None:
    output = f"file://{tmp_path}/trials/0001?region=here"
    mark(output, STOPPED)
    assert [path.name for path in (tmp_path / "trials").iterdir()] == ["0001.trial.json"]
    assert marked(output) == (STOPPED, "")


def test_a_search_of_which_nothing_is_left_says_why(config: TuneConfig) -> None:
    trials = {number: trial_config(config, number) for number in (1, 2)}
    for trial in trials.values():
        mark(trial.output, FAILED, "the loss is no longer a number")
    with pytest.raises(
        TrainingError, match="no trial completed an epoch; the first one failed with: the loss is no longer a number"
    ):
        best_of(read_trials(trials))
