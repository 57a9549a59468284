"""The state of a training run: position, history and best epoch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lstm_ray.config import TrainConfig
from lstm_ray.errors import InputError
from lstm_ray.evaluate.counts import BinaryCounts
from lstm_ray.evaluate.thresholds import choose_threshold


@dataclass
class State:
    """Position and history of a run.

    Attributes:
        epoch: Epochs done.
        best_epoch: The best epoch by the metric `best_by`; without validation the last.
        history: A row for each epoch, as in `history.parquet`.
        metrics: Validation metrics of the best epoch.
        summary: Keras's summary of the model.
        data: `Prepared.fingerprint` of the data.
        step: Steps done in the current epoch.
        loss_sum: Sum of the losses of these steps' rows, on all workers.
        right: Rows of these steps that the model classified correctly.
        seconds: Time of these steps, without the first one of each process.
        mix: How the parts of the best epoch's model are mixed, by the names of `Mix`; empty without n-grams.
        counts: Of the best epoch on the validation rows: positions and values of what is not 0 in the array of
            `BinaryCounts`; empty without validation.
    """

    epoch: int = 0
    best_epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    summary: str = ""
    data: str = ""
    step: int = 0
    loss_sum: float = 0.0
    right: float = 0.0
    seconds: float = 0.0
    mix: dict[str, float] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)

    def end_epoch(self, row: dict[str, Any]) -> None:
        """Adds the epoch's row to the history; the next epoch starts at step 0."""
        self.history.append(row)
        self.epoch, self.step = self.epoch + 1, 0
        self.loss_sum = self.right = self.seconds = 0.0

    def keep_counts(self, counts: BinaryCounts | None) -> None:
        """Keeps the validation counts of the best epoch; None without validation."""
        self.counts = {}
        if counts is not None:
            values = counts.to_array()
            positions = np.flatnonzero(values)
            self.counts = {"size": len(values), "at": positions.tolist(), "value": values[positions].tolist()}

    def best_counts(self) -> BinaryCounts | None:
        """Returns what `keep_counts` kept; None without validation, and in runs that an older version began."""
        if not self.counts:
            return None
        values = np.zeros(self.counts["size"])
        values[self.counts["at"]] = self.counts["value"]
        return BinaryCounts.from_array(values, threshold=self.metrics["threshold"])

    def decide(self, config: TrainConfig) -> tuple[dict[str, Any], str | None]:
        """Returns the best epoch's metrics at the threshold that its model gets; and why that is not as asked, if so.

        Epochs are compared at the threshold that is given, or at 0.5: the one that is chosen differs with the epoch.
        """
        if config.goal is None:
            return self.metrics, None
        counts = self.best_counts()
        if counts is None:
            return self.metrics, "no validation rows to choose a threshold on: it is 0.5"
        try:
            return choose_threshold(counts, config.goal).metrics(), None
        except InputError as error:
            return self.metrics, f"{error}: the model's threshold is 0.5"

    def best_row(self) -> dict[str, Any]:
        """Returns the best epoch's row of the history; an empty one before the first epoch has ended."""
        return self.history[self.best_epoch - 1] if self.history else {}

    def position(self) -> str:
        """Returns the position for messages, such as "epoch 3, step 40"."""
        if self.step:
            return f"epoch {self.epoch + 1}, step {self.step}"
        return f"the end of epoch {self.epoch}" if self.epoch else "the beginning"

    def has_ended(self, config: TrainConfig) -> bool:
        """Returns whether all epochs are done, or the run stops early."""
        return self.epoch >= config.epochs or self.stops_early(config)

    def stops_early(self, config: TrainConfig) -> bool:
        """Returns whether none of the last `early_stopping` epochs was better than the best one."""
        return 0 < config.early_stopping <= self.epoch - self.best_epoch
