"""Speaks to the person: results on stdout, everything else on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

_LINE_EVERY_S = 10.0

_err = Console(stderr=True, highlight=False, soft_wrap=True)
_out = Console(highlight=False, soft_wrap=True)


def say(message: str) -> None:
    """Tells what happens, on stderr."""
    _err.print(message, markup=False)


def fail(message: str) -> None:
    """Tells why it stopped, on stderr."""
    _err.print("[bold red]error:[/] ", end="")
    _err.print(message, markup=False)


def show_table(title: str, rows: Iterable[tuple[str, str]]) -> None:
    """Prints two columns on stdout, name and value; a value is never wrapped, so that a command can be pasted."""
    rows = list(rows)
    width = max(len(name) for name, _ in rows)
    _out.print(f"[bold]{title}[/]")
    for name, value in rows:
        _out.print(f"[dim]{name:{width}}[/]  {escape(value)}")


def show_text(text: str) -> None:
    """Prints a result on stdout as it is."""
    sys.stdout.write(text)


class Bar:
    """Progress of counted work: a bar on a terminal, a line every 10 s elsewhere."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._started = self._shown = time.perf_counter()
        self._begun_at: int | None = None
        self._bar: Progress | None = None
        self._title = ""

    def update(self, done: int, total: int, title: str = "", rate: float | None = None) -> None:
        """Shows that `done` of `total` are done.

        Args:
            done: Units done.
            total: Units in all.
            title: What is counted; a new title starts a new bar.
            rate: Units a second, if the caller knows better than the clock here.
        """
        now = time.perf_counter()
        if self._begun_at is None or title != self._title:
            self._begun_at, self._started, self._title = done, now, title
        if rate is None:
            rate = (done - self._begun_at) / max(now - self._started, 1e-9)
        text = f"{rate:,.0f} {self._unit}/s" if rate else ""
        if _err.is_terminal:
            self._draw(done, total, text)
        elif now - self._shown >= _LINE_EVERY_S:
            self._shown = now
            left = f", {(total - done) / rate:,.0f} s left" if rate else ""
            say(f"{self._title + ': ' if self._title else ''}{done:,} of {total:,} {self._unit}, {text}{left}")

    def _draw(self, done: int, total: int, text: str) -> None:
        if self._bar is None:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f}%  {task.fields[rate]}"),
                TimeRemainingColumn(),
                console=_err,
                transient=True,
            )
            self._bar.add_task(self._title, total=total, rate=text)
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], completed=done, total=total, description=self._title, rate=text)

    def close(self) -> None:
        """Takes the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


@contextmanager
def bar(unit: str, if_interrupted: str = "") -> Iterator[Bar]:
    """Gives a progress bar for the while.

    Args:
        unit: What is counted.
        if_interrupted: Told on Ctrl-C: how to go on, unless the interrupt itself says it.
    """
    shown = Bar(unit)
    try:
        yield shown
    except KeyboardInterrupt as interrupt:
        shown.close()
        if told := str(interrupt) or if_interrupted:
            say(told)
        raise
    finally:
        shown.close()
