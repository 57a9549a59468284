"""What the workers of a run on Ray tell the command that started it, and what that command makes of it; no Ray here.

    worker groups -> Board, an actor -> Listener, in the command's process -> Watcher
                     Board           <- "stop", which the workers ask for twice a second

Of several worker groups, one after the other, only the last is heard. A worker that was given up may wake again: what
it then says, such as that all the others are gone, is no news of the run.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from lstm_ray.config import TrainConfig
from lstm_ray.errors import LstmRayError
from lstm_ray.progress import Progress, Watcher
from lstm_ray.train.loop.state import State
from lstm_ray.wording import counted

_WAIT_SILENTLY_S = 120.0


@dataclass(frozen=True)
class Begun:
    """A worker group has begun to train.

    Attributes:
        state: From where it goes on, without its history.
        workers: In it.
    """

    state: State
    workers: int


@dataclass(frozen=True)
class Lost:
    """A worker group has failed; `why` is told to people."""

    why: str


@dataclass(frozen=True)
class Interrupted:
    """The run has been saved and stops; `message` says where."""

    message: str


class Board:
    """Holds what there is to tell until the driver fetches it, and whether the run is to stop."""

    def __init__(self) -> None:
        self._news: list[Any] = []
        self._is_interrupted = False
        self._is_over = False
        self._group = 0
        self._failed_starts = 0
        self._controller: Any = None

    def begin_group(self, controller: Any = None) -> int:
        """Returns the number of a new worker group, which an actor controls; the one before it is heard no more."""
        self._group += 1
        self._controller = controller
        return self._group

    def controller(self) -> Any:
        """Returns the actor that controls the last group; None before the first."""
        return self._controller

    def lose_group(self, why: str) -> None:
        """Takes down that the last group has failed; it is heard no more."""
        self._news.append(Lost(why))
        self._group += 1

    def lose_start(self, why: str) -> int:
        """Takes down that the last group has failed before it began; returns how many have since one began."""
        self.lose_group(why)
        self._failed_starts += 1
        return self._failed_starts

    def give_up(self, error: LstmRayError) -> None:
        """Takes down why the run ends, whichever group is the last."""
        self._news.append(error)
        self._is_over = True

    def post(self, news: Any, group: int) -> None:
        """Takes down what a worker of a group has to tell."""
        if group != self._group:
            return
        self._news.append(news)
        if isinstance(news, Begun):
            self._failed_starts = 0
        self._is_over |= isinstance(news, Interrupted | LstmRayError)

    def is_over(self) -> bool:
        """Says whether the run ends, so that who misses a worker now should not ask for another."""
        return self._is_over

    def take(self) -> list[Any]:
        """Returns what has come since the last time, in order."""
        news, self._news = self._news, []
        return news

    def interrupt(self) -> None:
        """Has the run saved and stopped."""
        self._is_interrupted = True

    def is_interrupted(self) -> bool:
        """Says whether the run is to be saved and to stop."""
        return self._is_interrupted


class Listener:
    """Passes on what is posted on the board.

    Attributes:
        watcher: To whom.
    """

    def __init__(self, config: TrainConfig, watcher: Watcher) -> None:
        self._config, self.watcher = config, watcher
        self._has_begun = False
        self._losses = 0
        self._rows_done = self._rows_of_epoch = 0
        self._waits_since: float | None = time.monotonic()
        self._moved_at = time.monotonic()

    def is_training(self) -> bool:
        """Says whether a worker group is at work, as far as is known."""
        return self._waits_since is None

    def hear(self, news: Any) -> None:
        """Passes one on.

        Raises:
            LstmRayError: A worker raised it.
            KeyboardInterrupt: The run was to stop, and has been saved.
        """
        if isinstance(news, Progress):
            self._rows_done = (news.epoch - 1) * news.total_rows + news.rows
            self._rows_of_epoch = news.total_rows
            self._moved_at = time.monotonic()
            self.watcher.progress(news)
        elif isinstance(news, dict):
            self._moved_at = time.monotonic()
            self.watcher.epoch(news)
        elif isinstance(news, Lost):
            self._lose(news)
        elif isinstance(news, Begun):
            self._begin(news)
        elif isinstance(news, Interrupted):
            raise KeyboardInterrupt(news.message)
        else:
            raise news

    def _lose(self, news: Lost) -> None:
        self._losses += 1
        most = self._config.max_failures
        next_ = f"; starting again from the last checkpoint, {self._losses} of {most} times (--max-failures)"
        self.watcher.say(news.why + (next_ if self._losses <= most else ""))
        self._waits_since = time.monotonic()

    def _begin(self, news: Begun) -> None:
        rows = news.state.epoch * self._rows_of_epoch + news.state.step * self._config.global_batch_size
        again = f"; {self._rows_done - rows:,} rows are done again" if rows < self._rows_done else ""
        after = f", after {time.monotonic() - self._moved_at:.0f} s without progress" if self._has_begun else ""
        if self._has_begun or self._config.worker_limits[0] < self._config.worker_limits[1]:
            self.watcher.say(f"going on from {news.state.place()} with {counted(news.workers, 'worker')}{after}{again}")
        self._has_begun, self._waits_since = True, None

    def watch_the_clock(self) -> None:
        """Says that nothing has begun for a while; Ray Train itself waits for room without a word."""
        if self._waits_since is not None and time.monotonic() - self._waits_since > _WAIT_SILENTLY_S:
            self._waits_since = time.monotonic()
            config = self._config
            needs = f"{config.cpus_per_worker:g} CPU" + (", 1 GPU" if config.gpus_per_worker else "")
            self.watcher.say(
                f"no worker has begun for {_WAIT_SILENTLY_S:.0f} s: has the cluster room for "
                f"{counted(config.worker_limits[0], 'worker')} of {needs}?"
            )
