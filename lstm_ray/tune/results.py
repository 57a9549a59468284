"""The results of trials: how each ended, the best one, their table."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from lstm_ray import storage
from lstm_ray.config import TrainConfig, TuneConfig
from lstm_ray.errors import TrainingError
from lstm_ray.evaluate.ranking import WORST, rank
from lstm_ray.train.loop import checkpoints
from lstm_ray.train.loop.state import State

FINISHED, STOPPED, FAILED = "finished", "stopped", "failed"
TRIALS = "trials"
"""Name of the directory, in that of the search, that contains the trials' runs."""

_MARK = ".trial.json"


def mark(directory: str, state: str, error: str = "") -> None:
    """Records how a trial ended, so that it is not run again.

    The file is written beside the run's directory, because a run refuses to start in a directory with other files.
    """
    content = json.dumps({"state": state, "error": error}) + "\n"
    storage.write_bytes(storage.extend(directory, _MARK), content.encode())


def marked(directory: str) -> tuple[str, str] | None:
    """Returns how a trial ended and its error; None if it has not ended."""
    path = storage.extend(directory, _MARK)
    if not storage.exists(path):
        return None
    content = json.loads(storage.read_bytes(path))
    return content["state"], content["error"]


def marked_trials(output: str) -> list[int]:
    """Returns the numbers of all trials of a search that have ended."""
    names = storage.list_names(storage.join(output, TRIALS))
    return [int(name.removesuffix(_MARK)) for name in names if re.fullmatch(rf"\d+{re.escape(_MARK)}", name)]


@dataclass(frozen=True)
class Trial:
    """A trial that has ended.

    Attributes:
        number: From 1.
        config: Its settings.
        state: finished, stopped (by ASHA, or early) or failed.
        error: Why it failed.
        run: History and metrics of the best epoch; empty if the trial failed in the first epoch.
    """

    number: int
    config: TrainConfig
    state: str
    error: str
    run: State

    @property
    def rank(self) -> tuple[float, float]:
        """Returns a sort key by the search's `best_by`, greater for better trials."""
        return rank(self.run.metrics, self.config.best_by) if self.run.metrics else WORST


def read_trials(trials: Mapping[int, TrainConfig]) -> list[Trial]:
    """Returns the results of trials that have ended, the best first."""
    ended = []
    for number, config in trials.items():
        state, error = marked(config.output) or (STOPPED, "")
        ended.append(Trial(number, config, state, error, checkpoints.latest_state(config.output) or State()))
    return sorted(ended, key=lambda trial: trial.rank, reverse=True)  # ties stay in the order of the numbers


def best_of(trials: list[Trial]) -> Trial:
    """Returns the first of the sorted trials.

    Raises:
        TrainingError: No trial completed an epoch.
    """
    if not trials[0].run.metrics:
        raise TrainingError(f"no trial completed an epoch; the first one failed with: {trials[0].error}")
    return trials[0]


def trial_table(config: TuneConfig, trials: list[Trial]) -> pa.Table:
    """Returns a row for each trial: how it ended, the metrics of its best epoch, and its drawn settings."""
    drawn = sorted(config.search)
    rows: list[dict[str, Any]] = [
        {
            "trial": trial.number,
            "state": trial.state,
            "epochs": trial.run.epoch,
            "best_epoch": trial.run.best_epoch,
            "validation_accuracy": trial.run.metrics.get("accuracy"),
            "validation_accuracy_standard_error": trial.run.metrics.get("accuracy_standard_error"),
            "validation_loss": trial.run.metrics.get("log_loss"),
            "validation_auc": trial.run.metrics.get("auc"),
            "seconds": sum(row["seconds"] for row in trial.run.history),
            "error": trial.error or None,
            **{name: getattr(trial.config, name) for name in drawn},
        }
        for trial in trials
    ]
    accuracy = ("validation_accuracy", "validation_accuracy_standard_error")
    figures = (*accuracy, "validation_loss", "validation_auc", "seconds")
    fixed = [("trial", pa.int32()), ("state", pa.string()), ("epochs", pa.int32()), ("best_epoch", pa.int32())]
    fixed += [*((name, pa.float64()) for name in figures), ("error", pa.string())]
    columns = {name: pa.array([row[name] for row in rows], kind) for name, kind in fixed}
    return pa.table({**columns, **{name: pa.array([row[name] for row in rows]) for name in drawn}})
