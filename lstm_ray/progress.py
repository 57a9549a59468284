"""What those who watch a training run hear of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


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


class Watcher(Protocol):
    """Somebody who watches a run."""

    def say(self, message: str) -> None:
        """Hears in a sentence what the run does next."""

    def progress(self, progress: Progress) -> None:
        """Hears how far the epoch has come, about twice a second."""

    def epoch(self, row: dict[str, Any]) -> None:
        """Hears what an epoch came to: its row of the history."""
