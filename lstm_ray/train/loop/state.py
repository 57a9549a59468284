"""The state of a training run: position, history and best epoch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lstm_ray.config import TrainConfig


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

    def end_epoch(self, row: dict[str, Any]) -> None:
        """Adds the epoch's row to the history; the next epoch starts at step 0."""
        self.history.append(row)
        self.epoch, self.step = self.epoch + 1, 0
        self.loss_sum = self.right = self.seconds = 0.0

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
