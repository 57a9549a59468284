"""Output for people: results on stdout, everything else on stderr.

Texts, labels and the names of files and columns are untrusted: characters that a terminal would interpret are escaped
(`visible`). With --quiet only results, warnings and errors are printed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from lstm_ray.cli.streams import results
from lstm_ray.errors import ConfigError
from lstm_ray.progress import WARNING
from lstm_ray.wording import on_one_line, uncoloured, visible, without_passwords


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


def is_verbose() -> bool:
    """Returns whether --verbose was given."""
    return _verbose


def for_bars() -> Console | None:
    """Returns where bars are drawn: a terminal; None if stderr is none, and with --quiet or --verbose."""
    return _err if _err.is_terminal and not (_quiet or _verbose) else None


def say(message: str) -> None:
    """Prints a message on stderr; with --quiet only one that begins with "warning: "."""
    if not _quiet or message.startswith(WARNING):
        warn(message)


def warn(message: str) -> None:
    """Prints a message on stderr, also with --quiet."""
    _print_on_stderr(visible(without_passwords(message)))


def fail(message: str) -> None:
    """Prints an error on stderr."""
    _print_on_stderr(("error: ", "bold red"), visible(without_passwords(message)))


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
