"""Events of a run on Ray: the workers append them to a log, the command reads and reports them; no Ray here.

    worker groups -> EventLog, an actor -> EventReporter, in the caller's process -> Progress
                     EventLog           <- "stop", which rank 0 asks for twice a second

Worker groups follow each other, and the log accepts events of the last one only. A worker that was given up may wake
again: what it then sends, such as the loss of all its peers, says nothing about the run.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from lstm_ray.config import TrainConfig
from lstm_ray.errors import LstmRayError
from lstm_ray.progress import Count, Epoch, Progress
from lstm_ray.train.loop.state import State
from lstm_ray.wording import counted

_WAIT_SILENTLY_S = 120.0


@dataclass(frozen=True)
class Begun:
    """A worker group has begun to train.

    Attributes:
        state: The position from which it trains, without history.
        workers: Their number.
    """

    state: State
    workers: int


@dataclass(frozen=True)
class Lost:
    """A worker group has failed: why, for people."""

    why: str


@dataclass(frozen=True)
class Interrupted:
    """The run was saved and stops: at which position, for people."""

    message: str


@dataclass(frozen=True)
class Finished:
    """The run has ended in this state, and its model is written."""

    state: State


Event = Begun | str | Count | Epoch | Lost | Interrupted | Finished | LstmRayError
"""A str is a message for people; an error ends the run."""


class EventLog:
    """Holds the run's events until the driver has read them, and whether the run should stop."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._dropped = 0
        self._is_interrupted = False
        self._is_over = False
        self._group = 0
        self._failed_starts = 0
        self._controller: Any = None

    def begin_group(self, controller: Any = None) -> int:
        """Returns the number of a new worker group; events of earlier groups are ignored from now on.

        Args:
            controller: The actor that controls the group.
        """
        self._group += 1
        self._controller = controller
        return self._group

    def controller(self) -> Any:
        """Returns the actor that controls the last group; None before the first."""
        return self._controller

    def lose_group(self, why: str) -> None:
        """Records that the last group has failed; its events are ignored from now on."""
        self._events.append(Lost(why))
        self._group += 1

    def lose_start(self, why: str) -> int:
        """Records that the last group failed before it began to train; returns how many in a row did."""
        self.lose_group(why)
        self._failed_starts += 1
        return self._failed_starts

    def give_up(self, error: LstmRayError) -> None:
        """Records the error that ends the run, whichever group is the last."""
        self._events.append(error)
        self._is_over = True

    def append(self, event: Event, group: int) -> None:
        """Records an event of a worker group."""
        if group != self._group:
            return
        self._events.append(event)
        if isinstance(event, Begun):
            self._failed_starts = 0
        self._is_over |= isinstance(event, Interrupted | LstmRayError)

    def is_over(self) -> bool:
        """Returns whether the run ends: a worker that loses its peers now should not ask for replacements."""
        return self._is_over

    def since(self, position: int) -> list[Event]:
        """Returns the events from a position on, and forgets those before it.

        Reading does not remove them: Ctrl-C may interrupt the driver between the answer and its use, and the error of a
        worker would be lost with it.
        """
        del self._events[: position - self._dropped]
        self._dropped = position
        return self._events.copy()

    def interrupt(self) -> None:
        """Makes the workers save the run and stop."""
        self._is_interrupted = True

    def is_interrupted(self) -> bool:
        """Returns whether the workers should save the run and stop."""
        return self._is_interrupted


class EventReporter:
    """Reports the events of a run.

    Attributes:
        progress: Receives them.
        position: Events reported so far.
        final: The state of the finished run; None until then.
    """

    def __init__(self, config: TrainConfig, progress: Progress) -> None:
        self._config, self.progress = config, progress
        self.position = 0
        self.final: State | None = None
        self._has_begun = False
        self._losses = 0
        self._rows_done = self._rows_of_epoch = 0
        self._waiting_since: float | None = time.monotonic()
        self._progress_at = time.monotonic()

    def is_training(self) -> bool:
        """Returns whether a worker group is at work, as far as is known."""
        return self._waiting_since is None

    def report(self, event: Event) -> None:
        """Reports the next event.

        Raises:
            LstmRayError: A worker raised it.
            KeyboardInterrupt: The run was to stop, and has been saved.
        """
        if isinstance(event, str | Count | Epoch):
            if isinstance(event, Count):
                self._rows_done, self._rows_of_epoch = event.done, event.total // self._config.epochs
            if not isinstance(event, str):
                self._progress_at = time.monotonic()
            self.progress(event)
        elif isinstance(event, Lost):
            self._report_loss(event)
        elif isinstance(event, Begun):
            self._report_beginning(event)
        elif isinstance(event, Finished):
            self.final = event.state
        elif isinstance(event, Interrupted):
            raise KeyboardInterrupt(event.message)
        else:
            raise event
        self.position += 1  # last: interrupted before, the event is read again

    def _report_loss(self, event: Lost) -> None:
        self._losses += 1
        most = self._config.max_failures
        next_ = f"; starting again from the last checkpoint, {self._losses} of {most} times (--max-failures)"
        self.progress(event.why + (next_ if self._losses <= most else ""))
        self._waiting_since = time.monotonic()

    def _report_beginning(self, event: Begun) -> None:
        rows = event.state.epoch * self._rows_of_epoch + event.state.step * self._config.global_batch_size
        again = f"; {self._rows_done - rows:,} rows are done again" if rows < self._rows_done else ""
        after = f", after {time.monotonic() - self._progress_at:.0f} s without progress" if self._has_begun else ""
        if self._has_begun or self._config.worker_limits[0] < self._config.worker_limits[1]:
            verb = "resuming" if event.state.epoch or event.state.step else "starting"
            workers = counted(event.workers, "worker")
            self.progress(f"{verb} from {event.state.position()} with {workers}{after}{again}")
        self._has_begun, self._waiting_since = True, None

    def report_waiting(self) -> None:
        """Reports that no group has begun for a while; Ray Train waits for free resources without a message."""
        if self._waiting_since is not None and time.monotonic() - self._waiting_since > _WAIT_SILENTLY_S:
            self._waiting_since = time.monotonic()
            config = self._config
            needs = f"{config.cpus_per_worker:g} CPU" + (", 1 GPU" if config.gpus_per_worker else "")
            self.progress(
                f"no worker has begun for {_WAIT_SILENTLY_S:.0f} s: has the cluster room for "
                f"{counted(config.worker_limits[0], 'worker')} of {needs}?"
            )
