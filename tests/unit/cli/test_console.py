"""The bar: where there is no terminal a line at most every 10 s, with the speed and the time left."""

from __future__ import annotations

import errno
import io
import os
import sys

import pytest
from rich.console import Console

from lstm_ray.cli import console
from lstm_ray.cli.app import app, main
from lstm_ray.cli.help import Commands
from lstm_ray.cli.options import Debug, Quiet, Verbose, set_output
from lstm_ray.errors import ConfigError
from lstm_ray.progress import Count


class Clock:
    """A clock that changes only when it is set.

    Attributes:
        now: Seconds.
    """

    now = 100.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Gives the clock that the bar reads."""
    clock = Clock()
    monkeypatch.setattr(console.time, "perf_counter", lambda: clock.now)
    return clock


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Gives the printed lines."""
    lines: list[str] = []
    monkeypatch.setattr(console, "warn", lines.append)
    return lines


def test_a_line_every_ten_seconds_tells_speed_and_time_left(clock: Clock, said: list[str]) -> None:
    bar = console.Bar("rows")
    for second in range(0, 25, 4):
        clock.now = 100 + second
        bar.update(1_000 + 50 * second, 11_000)
    assert said == ["1,600 of 11,000 rows, 50 rows/s, 3:08 left", "2,200 of 11,000 rows, 50 rows/s, 2:56 left"]


def test_the_time_left_does_not_count_the_start_of_ray_nor_rows_of_an_earlier_run(
    clock: Clock, said: list[str]
) -> None:
    bar = console.Bar("rows")
    bar.update(5_000, 11_000)  # 5,000 rows are of an earlier run; Ray starts for 50 s
    for second, done in ((50.0, 5_100), (50.4, 5_200), (52.0, 5_400), (60.4, 6_200), (70.4, 7_200)):
        clock.now = 100 + second
        bar.update(done, 11_000)
    assert said == [
        "5,100 of 11,000 rows",
        "6,200 of 11,000 rows, 100 rows/s, 0:48 left",
        "7,200 of 11,000 rows, 100 rows/s, 0:38 left",
    ]


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ((), ["making", "warning: leak", "epoch 2"]),
        (("--quiet",), ["warning: leak"]),
        (("-v",), ["making", "warning: leak", "50 of 100 rows", "epoch 2"]),
    ],
)
@pytest.mark.parametrize("is_before", [True, False])
def test_quiet_and_verbose_before_and_after_a_command(
    clock: Clock, said: list[str], words: tuple[str, ...], shown: list[str], is_before: bool
) -> None:
    program = Commands()

    @program.callback()
    def _root(quiet: Quiet = False, verbose: Verbose = False, debug: Debug = False) -> None:
        set_output(quiet=quiet, verbose=verbose, debug=debug)

    @program.command()
    def work() -> None:
        console.say("making")
        with console.progress("") as progress:
            progress("warning: leak")
            progress(Count(0, 100, "rows"))
            clock.now += 1
            progress(Count(50, 100, "rows"))
            progress("epoch 2")

    program([*words, "work"] if is_before else ["work", *words], standalone_mode=False)
    assert said == shown
    program(["work"], standalone_mode=False)
    assert said[len(shown) :] == ["making", "warning: leak", "epoch 2"]


def test_quiet_and_verbose_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="give either --quiet or --verbose"):
        app(["data", "imdb", "-o", "x", "-q", "-v"], standalone_mode=False)


def test_speed_and_time_left_are_those_of_the_whole_run_validation_counted(clock: Clock, said: list[str]) -> None:
    with console.progress("") as progress:
        progress(Count(1_000, 4_000, "rows", "epoch 2/4", 0.0))  # the second of 4 epochs: a resumed run
        clock.now = 120  # an epoch of 10 s, and 10 s of validation
        progress(Count(2_000, 4_000, "rows", "epoch 3/4", 100.0))
    assert said == ["epoch 3/4: 2,000 of 4,000 rows, 50 rows/s, 0:40 left"]


@pytest.mark.parametrize(("seconds", "shown"), [(6.6, "0:07"), (754, "12:34"), (3_723, "1:02:03"), (0, "0:00")])
def test_a_time_is_shown_as_on_a_clock(seconds: float, shown: str) -> None:
    assert console._clock(seconds) == shown


def test_names_are_shown_as_they_are(capfd: pytest.CaptureFixture[str]) -> None:
    console.say("mine:two [bold]:star:[/]")
    console.fail("r:star:x")
    console.show_table("of :star:", [(":two:", "lstm-ray score r:star:x")])
    captured = capfd.readouterr()
    assert captured.err == "mine:two [bold]:star:[/]\nerror: r:star:x\n"
    assert captured.out == "of :star:\n:two:  lstm-ray score r:star:x\n"


HOSTILE = "a\x1b]0;owned\x07\r\u202eb\x9b2J\udcff"
SHOWN = "a\\u001b]0;owned\\u0007\\u000d\\u202eb\\u009b2J\\udcff"


def test_nothing_that_is_printed_acts_on_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    console.say(HOSTILE)
    console.fail(HOSTILE)
    console.say_table([HOSTILE], [["1"]])
    console.show_table(HOSTILE, [(HOSTILE, f"{HOSTILE}\nnext")])
    console.show_line(f"{HOSTILE}\nnext")
    captured = capfd.readouterr()
    assert captured.err == f"{SHOWN}\nerror: {SHOWN}\n{SHOWN}\n1\n"
    assert captured.out == f"{SHOWN}\n{SHOWN}  {SHOWN}\\nnext\n{SHOWN}\\nnext\n"


def test_a_result_is_exact_for_a_program_and_visible_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    console.show_text('{"text": "\x1b[2J"}\n')
    console.show_log("\x1b[36m(pid=3)\x1b[0m one\x1b]0;x\x07\n")
    assert capsys.readouterr().out == '{"text": "\x1b[2J"}\n\x1b[36m(pid=3)\x1b[0m one\x1b]0;x\x07\n'
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    console.show_text('{"text": "\x1b[2J"}\n')
    console.show_log("\x1b[36m(pid=3)\x1b[0m one\x1b]0;x\x07\n")
    assert capsys.readouterr().out == '{"text": "\\u001b[2J"}\n(pid=3) one\\u001b]0;x\\u0007\n'


@pytest.mark.parametrize("arguments", [["score", f"--{HOSTILE}"], ["train", HOSTILE], ["score", "--actors"]])
def test_wrong_usage_with_a_name_from_anywhere_does_not_act(
    arguments: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        app(arguments)
    shown = capfd.readouterr().err
    assert not any(character in shown for character in "\x1b\x07\r\u202e\x9b")
    assert ("owned" in shown) == ("owned" in "".join(arguments))


@pytest.mark.parametrize("debug", ["", "1"])
def test_an_error_about_a_hostile_name_is_shown(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], debug: str
) -> None:
    monkeypatch.setenv("LSTM_RAY_DEBUG", debug)
    monkeypatch.setattr("sys.argv", ["lstm-ray", "evaluate", f"{HOSTILE[:-1]}.parquet", "--model", "m"])
    with pytest.raises(SystemExit):
        main()
    shown = capfd.readouterr().err
    assert f"error: {SHOWN[:-6]}.parquet: no such file or directory" in shown
    assert not any(character in shown for character in "\x1b\x07\r\u202e\x9b")


@pytest.mark.parametrize(
    ("done", "message", "shown"),
    [
        (3, "", ["reading", "interrupted at 3 of 8 rows: the same command resumes"]),
        (None, "", ["reading", "interrupted: the same command resumes"]),
        (8, "", ["reading", "interrupted: the same command resumes"]),  # in what follows
        (3, "saved at step 7", ["reading", "saved at step 7"]),
    ],
)
def test_an_interrupt_tells_how_far_the_work_is(
    said: list[str], done: int | None, message: str, shown: list[str]
) -> None:
    def work() -> None:
        with console.progress("the same command resumes") as progress:
            progress("reading")
            if done is not None:
                progress(Count(done, 8, "rows"))
            raise KeyboardInterrupt(*[message] if message else [])

    with pytest.raises(KeyboardInterrupt):
        work()
    assert said == shown


@pytest.mark.parametrize("is_coloured", [True, False], ids=["terminal", "file"])
def test_weighed_words_are_coloured_on_a_terminal(monkeypatch: pytest.MonkeyPatch, is_coloured: bool) -> None:
    shown = Console(
        file=io.StringIO(),
        force_terminal=is_coloured,
        color_system="standard" if is_coloured else "auto",
        soft_wrap=True,
    )
    monkeypatch.setattr(console, "_out", shown)
    console.show_weighed("0.1  ", "good, \x1bbad [b] so", {(0, 4): 1.0, (7, 10): -0.3, (15, 17): 0.01})
    output = shown.file.getvalue()  # type: ignore[attr-defined]
    plain = "0.1  good, \\u001bbad [b] so\n"
    assert output == ("0.1  \x1b[1;32mgood\x1b[0m, \\u001b\x1b[31mbad\x1b[0m [b] so\n" if is_coloured else plain)


@pytest.mark.parametrize("cause", [errno.ENOSPC, errno.EPIPE])
def test_a_message_that_cannot_be_written_is_dropped_and_the_next_one_is_alone(
    monkeypatch: pytest.MonkeyPatch, cause: int
) -> None:
    class Stream(io.StringIO):
        is_full = True

        def flush(self) -> None:
            if self.is_full:
                self.seek(0)
                self.truncate()
                raise OSError(cause, os.strerror(cause))

    stream = Stream()
    monkeypatch.setattr(sys, "stderr", stream)
    console.warn("lost")
    stream.is_full = False
    console.fail("the disk [is] back")
    assert stream.getvalue() == "error: the disk [is] back\n"
