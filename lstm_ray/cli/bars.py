"""What is printed while a command works: its progress, and on Ctrl-C what happens to the work.

With --quiet only warnings are printed; with --verbose, progress is one line a second.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as RichProgress

from lstm_ray.cli import console
from lstm_ray.progress import LINE_EVERY_S, Count, Event, Progress
from lstm_ray.wording import on_one_line

_LINE_EVERY_S_VERBOSE = 1.0
_SETTLES_S = 1.0  # after the first completed units: workers that start together complete their first units together
_MEASURED_S = 3.0  # minimum time before a computed speed is shown


class Bar:
    """Progress of counted work: a bar on a terminal, a line every 10 s elsewhere, every second with --verbose.

    Speed and time left are computed from the whole time since the work began, including evaluation and checkpoints.
    Unless the caller measures the speed, timing starts at the first completed units, to exclude Ray's startup.
    """

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._shown = time.perf_counter()
        self._begun: tuple[float, int] | None = None
        self._settled = math.inf
        self._bar: RichProgress | None = None
        self._position = ""

    def update(self, done: int, total: int, title: str = "", rate: float | None = None) -> None:
        """Shows that `done` of `total` units are done.

        Args:
            done: Units done.
            total: All units.
            title: The current work, such as "epoch 2/5".
            rate: Current speed in units per second, if the caller measures it: shown in the first seconds.
        """
        now = time.perf_counter()
        self._position = f"{done:,} of {total:,} {self._unit}"
        average = self._average_speed(now, done, is_at_work=rate is not None)
        speed = f"{average or rate:,.0f} {self._unit}/s" if average or rate else ""
        left = f"{_clock((total - done) / average)} left" if average else ""
        if (terminal := console.for_bars()) is not None:
            self._draw(terminal, done, total, title, "  ".join(filter(None, (speed, left))))
            if done >= total:
                self.close()
        elif now - self._shown >= (_LINE_EVERY_S_VERBOSE if console.is_verbose() else LINE_EVERY_S):
            self._shown = now
            console.say((f"{title}: " if title else "") + ", ".join(filter(None, (self._position, speed, left))))

    def _average_speed(self, now: float, done: int, *, is_at_work: bool) -> float:
        """Returns the average speed since timing started, in units per second; 0 before `_MEASURED_S` have passed."""
        if self._begun is None:
            self._begun = now, done
            if is_at_work:
                self._settled = now
        elif done > self._begun[1]:
            self._settled = min(self._settled, now + _SETTLES_S)
        if now < self._settled and not is_at_work:
            self._begun = now, done
        passed = now - self._begun[0]
        return (done - self._begun[1]) / passed if passed >= _MEASURED_S else 0.0

    def _draw(self, terminal: Console, done: int, total: int, title: str, text: str) -> None:
        if self._bar is None:
            self._bar = RichProgress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f}%  {task.fields[speed]}"),
                console=terminal,
                transient=True,
            )
            self._bar.add_task(on_one_line(title), total=total, speed=text)
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], completed=done, total=total, description=on_one_line(title), speed=text)

    def position(self) -> str:
        """Returns the progress as part of a sentence, such as " at 3 of 8 rows"; "" before the first update."""
        return f" at {self._position}" if self._position else ""

    def close(self) -> None:
        """Removes the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _clock(seconds: float) -> str:
    """Returns a duration as 0:07, 12:34 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextmanager
def progress(if_interrupted: str) -> Iterator[Progress]:
    """Shows the progress of a call inside the `with` block: messages as lines, and a bar for each counted unit.

    Args:
        if_interrupted: Printed on Ctrl-C: what happens to the work and how to resume it. A message of the interrupt
            itself takes precedence.
    """
    bars: dict[str, Bar] = {}
    position = ""

    def show(event: Event) -> None:
        nonlocal position
        if isinstance(event, Count):
            shown = bars.setdefault(event.unit, Bar(event.unit))
            shown.update(event.done, event.total, event.stage, event.rate)
            # Finished work has no position to report: the work after it may not have counted anything yet.
            position = shown.position() if event.done < event.total else ""
        else:
            console.say(str(event))

    try:
        try:
            yield show
        finally:
            for shown in bars.values():
                shown.close()
    except KeyboardInterrupt as interrupt:
        if message := str(interrupt) or (if_interrupted and f"interrupted{position}: {if_interrupted}"):
            console.warn(message)
        raise
