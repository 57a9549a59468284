"""Output for people: results on stdout, everything else on stderr.

Texts, labels and the names of files and columns are untrusted: characters that a terminal would interpret are escaped
(`visible`). With --quiet only results, warnings and errors are printed; with --verbose, progress is one line a second.
"""

from __future__ import annotations

import math
import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from lstm_ray.cli.streams import results
from lstm_ray.errors import ConfigError
from lstm_ray.progress import LINE_EVERY_S, WARNING, Count, Event, Progress
from lstm_ray.wording import on_one_line, uncoloured, visible

_LINE_EVERY_S_VERBOSE = 1.0
_SETTLES_S = 1.0  # after the first unit: workers that began together finish their first units together
_MEASURED_S = 3.0  # before a speed is shown that comes from the time between updates


class _Messages(Console):
    """A console for messages, whose reader may go away while the work continues."""

    def on_broken_pipe(self) -> None:
        """Does nothing; rich would end the process."""


_err = _Messages(stderr=True, highlight=False, soft_wrap=True, emoji=False)  # no emoji: mine:two: is a name
_out = Console(highlight=False, soft_wrap=True, emoji=False)
_quiet = _verbose = False


def set_verbosity(*, quiet: bool, verbose: bool) -> None:
    """Sets how much is printed from now on.

    Raises:
        ConfigError: Both are given.
    """
    global _quiet, _verbose
    if quiet and verbose:
        raise ConfigError("give either --quiet or --verbose")
    _quiet, _verbose = quiet, verbose


def say(message: str) -> None:
    """Prints a message on stderr; with --quiet only one that begins with "warning: "."""
    if not _quiet or message.startswith(WARNING):
        warn(message)


def warn(message: str) -> None:
    """Prints a message on stderr, also with --quiet."""
    _print_on_stderr(visible(message))


def fail(message: str) -> None:
    """Prints an error on stderr."""
    _print_on_stderr(("error: ", "bold red"), visible(message))


def _print_on_stderr(*parts: str | tuple[str, str]) -> None:
    """Prints a line on stderr; what cannot be written is dropped, as on a full disk, and the work continues.

    It is rendered first: rich keeps what it could not write, and would render it again with each message.
    """
    with suppress(OSError):
        with _err.capture() as rendered:
            _err.print(Text.assemble(*parts))
        _err.file.write(rendered.get())
        _err.file.flush()


def say_table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a table with a header line on stderr."""
    lines = [[on_one_line(cell) for cell in line] for line in (names, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        say("  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())


def show_table(title: str, rows: Iterable[tuple[str, str]]) -> None:
    """Prints names and values in two columns on stdout; values are not wrapped, so that a command can be copied."""
    rows = [(on_one_line(name), on_one_line(value)) for name, value in rows]
    width = max(len(name) for name, _ in rows)
    with results():
        _out.print(f"[bold]{on_one_line(title)}[/]")
        for name, value in rows:
            _out.print(f"[dim]{name:{width}}[/]  {escape(value)}")


def width() -> int:
    """Returns the width of stdout in characters."""
    return _out.width


def command_line(*words: str) -> str:
    """Returns a command to copy: lstm-ray and its words, quoted where a shell would split them."""
    return shlex.join(("lstm-ray", *words))


def python_line(code: str) -> str:
    """Returns a shell command that runs code with this Python: as `python` if that is this one, else by its path."""
    found = shutil.which("python")
    is_found = found is not None and os.path.dirname(found) == os.path.dirname(sys.executable)
    return shlex.join(("python" if is_found else sys.executable, "-c", code))


def show_text(text: str) -> None:
    """Prints a result on stdout: unchanged into a pipe or file, with control characters escaped on a terminal."""
    with results():
        sys.stdout.write(visible(text) if sys.stdout.isatty() else text)
        sys.stdout.flush()


def show_line(text: str) -> None:
    """Prints a one-line result on stdout; line breaks and control characters are escaped."""
    show_text(on_one_line(text) + "\n")


def show_weighed(begin: str, text: str, weights: Mapping[tuple[int, int], float]) -> None:
    """Prints a one-line result on stdout; on a terminal, parts of it are coloured by their weights.

    Weights above 0 are green, below 0 red. Below half of the largest weight the colour is pale, below a tenth there is
    none.

    Args:
        begin: Start of the line, without colours.
        text: The text.
        weights: The weight of each part of the text, by its (start, end).
    """
    largest = max(map(abs, weights.values()), default=0.0)
    line, end = Text(on_one_line(begin)), 0
    for (start, stop), weight in sorted(weights.items()):
        share = abs(weight) / largest if largest else 0.0
        colour = "green" if weight > 0 else "red"
        style = f"bold {colour}" if share >= 0.5 else colour if share >= 0.1 else ""
        line.append(on_one_line(text[end:start]))
        line.append(on_one_line(text[start:stop]), style)
        end = stop
    with results():
        _out.print(line.append(on_one_line(text[end:])))


def show_log(text: str) -> None:
    """Prints a log on stdout: unchanged into a pipe or file, without colours on a terminal."""
    show_text(uncoloured(text) if sys.stdout.isatty() else text)


class Bar:
    """Progress of counted work: a bar on a terminal, a line every 10 s elsewhere, every second with --verbose.

    Speed and time left are computed from the whole time since the work began, including evaluation and checkpoints.
    Unless the caller measures the speed, the work begins with the first units that are done: before them, Ray starts.
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
            rate: Units per second of the last moment, if the caller measures it: shown in the first seconds.
        """
        now = time.perf_counter()
        self._position = f"{done:,} of {total:,} {self._unit}"
        pace = self._pace(now, done, is_at_work=rate is not None)
        speed = f"{pace or rate:,.0f} {self._unit}/s" if pace or rate else ""
        left = f"{_clock((total - done) / pace)} left" if pace else ""
        if _quiet:
            return
        if _err.is_terminal and not _verbose:
            self._draw(done, total, title, "  ".join(filter(None, (speed, left))))
            if done >= total:
                self.close()
        elif now - self._shown >= (_LINE_EVERY_S_VERBOSE if _verbose else LINE_EVERY_S):
            self._shown = now
            say((f"{title}: " if title else "") + ", ".join(filter(None, (self._position, speed, left))))

    def _pace(self, now: float, done: int, *, is_at_work: bool) -> float:
        """Returns the units per second since the work began; 0 if that is too short ago to tell."""
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

    def _draw(self, done: int, total: int, title: str, text: str) -> None:
        if self._bar is None:
            self._bar = RichProgress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f}%  {task.fields[speed]}"),
                console=_err,
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
def on_interrupt(consequence: str) -> Iterator[None]:
    """Prints what Ctrl-C inside the `with` block means for the work."""
    try:
        yield
    except KeyboardInterrupt:
        warn(f"interrupted: {consequence}")
        raise


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
            # Of work that is done nothing is left to name: the work after it may not have counted anything yet.
            position = shown.position() if event.done < event.total else ""
        else:
            say(str(event))

    try:
        try:
            yield show
        finally:
            for shown in bars.values():
                shown.close()
    except KeyboardInterrupt as interrupt:
        _say_interrupted(interrupt, position, if_interrupted)
        raise


def _say_interrupted(interrupt: KeyboardInterrupt, position: str, consequence: str) -> None:
    if message := str(interrupt) or (consequence and f"interrupted{position}: {consequence}"):
        warn(message)
