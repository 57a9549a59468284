"""Progress events of a training run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Progress:
    """The position within an epoch.

    Attributes:
        epoch: The current one, from 1.
        epochs: Their number.
        rows: Rows of this epoch trained on so far, over all workers.
        total_rows: Rows of an epoch.
        rows_per_s: Mean over the epoch so far.
    """

    epoch: int
    epochs: int
    rows: int
    total_rows: int
    rows_per_s: float


class Watcher(Protocol):
    """Receives the progress of a training run."""

    def say(self, message: str) -> None:
        """Receives a message for people about what the run does next."""

    def progress(self, progress: Progress) -> None:
        """Receives the position within an epoch, about twice a second."""

    def epoch(self, row: dict[str, Any]) -> None:
        """Receives the history row of an epoch that has ended."""
