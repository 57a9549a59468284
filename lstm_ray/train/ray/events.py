"""Events of a run on Ray: workers append them to a log, and the driver reads and reports them. Does not import Ray.

    worker groups -> EventLog, an actor -> EventReporter, in the caller's process -> Progress
                     EventLog           <- "stop"; rank 0 asks for it twice a second

When a worker group fails, another one replaces it. The log accepts events of the newest group only: a worker that was
taken for lost may wake up, and what it then sends (such as the loss of all its peers) says nothing about the run.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from lstm_ray.config import TrainConfig
from lstm_ray.errors import LstmRayError
from lstm_ray.progress import Count, Epoch, Event, Progress
from lstm_ray.runtime.devices import available_cores
from lstm_ray.train.checks import asked_by
from lstm_ray.train.loop.state import State
from lstm_ray.wording import are, command_line, counted

_WAIT_SILENTLY_S = 120.0


@dataclass(frozen=True)
class Begun:
    """A worker group has started to train.

    Attributes:
        state: The position at which it starts, without history.
        workers: Number of workers.
    """

    state: State
    workers: int


@dataclass(frozen=True)
class Lost:
    """A worker group has failed.

    Attributes:
        why: The reason, for the user.
    """

    why: str


@dataclass(frozen=True)
class Interrupted:
    """The run was saved and stops.

    Attributes:
        message: Where it was saved, for the user.
    """

    message: str


@dataclass(frozen=True)
class Finished:
    """The run is complete, and its model is written."""

    state: State


GroupEvent = Event | Begun | Lost | Interrupted | Finished | LstmRayError
"""A str is a message for the user; an error ends the run."""


class EventLog:
    """Keeps the run's events until the driver has read them, and whether the run should stop."""

    def __init__(self) -> None:
        self._events: list[GroupEvent] = []
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
        """Records that the last group failed before it started to train; returns how many did so in a row."""
        self.lose_group(why)
        self._failed_starts += 1
        return self._failed_starts

    def give_up(self, error: LstmRayError) -> None:
        """Records the error that ends the run."""
        self._events.append(error)
        self._is_over = True

    def append(self, event: GroupEvent, group: int) -> None:
        """Records an event, unless it comes from an earlier group."""
        if group != self._group:
            return
        self._events.append(event)
        if isinstance(event, Begun):
            self._failed_starts = 0
        self._is_over |= isinstance(event, Interrupted | LstmRayError)

    def is_over(self) -> bool:
        """Returns whether the run is ending: a worker that loses its peers now must not ask for replacements."""
        return self._is_over

    def since(self, position: int) -> list[GroupEvent]:
        """Returns the events from a position on, and deletes those before it.

        Events are not deleted when they are read: Ctrl-C may interrupt the driver before it has used the answer, and a
        worker's error would be lost.
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
        progress: Receives the events.
        position: Events reported so far.
        final: The state of the finished run; None until then.
    """

    def __init__(self, config: TrainConfig, progress: Progress, is_here: bool = False) -> None:
        """Prepares the reporter.

        Args:
            config: The run's settings.
            progress: Receives the events.
            is_here: Whether the workers are on a Ray that was started on this machine for the run.
        """
        self._config, self.progress, self._is_here = config, progress, is_here
        self.position = 0
        self.final: State | None = None
        self._has_begun = False
        self._losses = 0
        self._rows_done = self._rows_of_epoch = 0
        self._waiting_since: float | None = time.monotonic()
        self._waiting_reported_s = 0.0
        self._progress_at = time.monotonic()

    def is_training(self) -> bool:
        """Returns whether a worker group is training, as far as is known."""
        return self._waiting_since is None

    def report(self, event: GroupEvent) -> None:
        """Reports the next event.

        Raises:
            LstmRayError: A worker raised it.
            KeyboardInterrupt: The run was interrupted and has been saved.
        """
        if isinstance(event, str | Count | Epoch):
            if isinstance(event, Count) and event.unit == "rows":
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
        self.position += 1  # last, so that the event is read again if this is interrupted

    def _report_loss(self, event: Lost) -> None:
        self._losses += 1
        most = self._config.max_failures
        next_ = f"; starting again from the last checkpoint, {self._losses} of {counted(most, 'time')} (--max-failures)"
        self.progress(event.why + (next_ if self._losses <= most else ""))
        self._waiting_since, self._waiting_reported_s = time.monotonic(), 0.0

    def _report_beginning(self, event: Begun) -> None:
        rows = event.state.epoch * self._rows_of_epoch + event.state.step * self._config.global_batch_size
        about = "about " if self._config.batch_by == "tokens" else ""
        repeated = self._rows_done - rows
        again = f"; {about}{counted(repeated, 'row')} {are(repeated)} repeated" if repeated > 0 else ""
        after = f", after {time.monotonic() - self._progress_at:.0f} s without progress" if self._has_begun else ""
        if self._has_begun or self._config.worker_limits[0] < self._config.worker_limits[1]:
            verb = "resuming" if event.state.epoch or event.state.step else "starting"
            workers = counted(event.workers, "worker")
            self.progress(f"{verb} from {event.state.position()} with {workers}{after}{again}")
        self._has_begun, self._waiting_since = True, None

    def report_waiting(self) -> None:
        """Reports if no group has started for a while, because Ray Train waits for free resources without a message."""
        waited_s = 0.0 if self._waiting_since is None else time.monotonic() - self._waiting_since
        if waited_s > self._waiting_reported_s + _WAIT_SILENTLY_S:
            self._waiting_reported_s = waited_s
            self.progress(f"no worker has started for {waited_s:.0f} s; still waiting: {self._why_waiting()}")

    def _why_waiting(self) -> str:
        asked = asked_by(self._config)
        if self._is_here:  # such a Ray has room for all of them
            cores = available_cores()
            starting = f"{counted(asked.most, 'worker')} {are(asked.most)} starting on this machine's"
            fewer = asked.fewer(cores)
            remedy = f"; to start fewer, press Ctrl-C and use {fewer}" if fewer else ""
            return f"{starting} {counted(cores, 'core')}{remedy}"
        needs = counted(asked.cpus, "CPU") + (", 1 GPU" if asked.gpus else "")
        address = self._config.address
        shown = "" if address == "local" else f" (`{command_line('cluster', 'status', '--address', address)}`)"
        return f"does the cluster have room for {counted(asked.least, 'worker')} with {needs}{shown}, or is it busy?"
