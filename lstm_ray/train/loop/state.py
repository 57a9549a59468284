"""The position of a training run: epochs and steps done, history, best epoch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lstm_ray.config import TrainConfig


@dataclass
class State:
    """Where a run stands.

    Attributes:
        epoch: Epochs done.
        best_epoch: The one with the highest validation accuracy (without validation: the last).
        history: A row an epoch, as `history.parquet` holds them.
        metrics: Validation metrics of the best epoch.
        summary: What Keras prints of the model.
        data: `Prepared.fingerprint` of the rows it learned from.
        step: Steps done of the epoch after those.
        loss_sum: Over the rows of these steps, on all workers.
        right: Rows of these steps that the model had right.
        seconds: That these steps took, the first of each process not counted.
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

    def place(self) -> str:
        """Says to a person where the run stands."""
        if self.step:
            return f"epoch {self.epoch + 1}, step {self.step}"
        return f"the end of epoch {self.epoch}" if self.epoch else "the beginning"

    def has_ended(self, config: TrainConfig) -> bool:
        """Says whether the run is at its last epoch, or stops early: too many without a better one."""
        return self.epoch >= config.epochs or self.stops_early(config)

    def stops_early(self, config: TrainConfig) -> bool:
        """Says whether the last `early_stopping` epochs were none better than the best."""
        return 0 < config.early_stopping <= self.epoch - self.best_epoch
