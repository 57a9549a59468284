"""What those who watch a training run hear of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far an epoch has come.

    Attributes:
        epoch: From 1.
        epochs: In all.
        rows: Done in this epoch, over all workers.
        total_rows: Of the epoch.
        rows_per_s: Mean over the epoch so far.
    """

    epoch: int
    epochs: int
    rows: int
    total_rows: int
    rows_per_s: float
