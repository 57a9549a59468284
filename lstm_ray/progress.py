"""Progress of long work: the events that are reported, and the callback that receives them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True)
class Count:
    """Progress of the work: units done, of all units.

    Attributes:
        done: Units done.
        total: All units.
        unit: What is counted: rows, files, words.
        stage: What is being done, such as "epoch 2/5"; empty if there is only one stage.
        rate: Current units per second, if the work measures them itself.
    """

    done: int
    total: int
    unit: str
    stage: str = ""
    rate: float | None = None

    def __str__(self) -> str:
        """Returns a line for the user."""
        return (f"{self.stage}: " if self.stage else "") + f"{self.done:,} of {self.total:,} {self.unit}"


@dataclass(frozen=True)
class Epoch:
    """A completed epoch of training.

    Attributes:
        row: The epoch's row of the history.
    """

    row: dict[str, Any]

    def __str__(self) -> str:
        """Returns the epoch's metrics as a line for the user."""
        row = self.row
        line = f"epoch {row['epoch']}: loss {row['loss']:.4f}, accuracy {row['accuracy']:.4f}"
        if row["validation_accuracy"] is not None:
            line += f", validation loss {row['validation_loss']:.4f}, accuracy {row['validation_accuracy']:.4f}"
            if (error := row.get("validation_accuracy_standard_error")) is not None:
                line += f" ± {error:.4f}"
        if row.get("lstm_share") is not None:
            line += f" (LSTM alone {row['validation_lstm_accuracy']:.4f}, its share {row['lstm_share']:.0%})"
        return f"{line}  ({row['seconds']:.0f} s, {row['rows_per_s']:,.0f} rows/s)"


WARNING = "warning: "
"""How messages begin that also a user who wants no messages should see."""

Event: TypeAlias = str | Count | Epoch
"""A progress event; a str is a message for the user."""

Progress: TypeAlias = Callable[[Event], None]
"""Receives the progress of a call, in the thread that made the call; for example `print`, with `paced` counts."""


LINE_EVERY_S = 10.0
"""Minimum time between two lines about counted work."""


def paced(report: Progress) -> Progress:
    """Returns a `Progress` that passes on every message and epoch, but only one count every 10 s.

    Counts are reported many times a second, for progress bars: `print` would fill the screen.
    """
    shown = time.perf_counter()

    def pass_on(event: Event) -> None:
        nonlocal shown
        if isinstance(event, Count):
            if time.perf_counter() - shown < LINE_EVERY_S:
                return
            shown = time.perf_counter()
        report(event)

    return pass_on


def ignore(event: Event) -> None:
    """Discards an event."""
