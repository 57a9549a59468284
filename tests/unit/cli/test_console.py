"""What is printed cannot act on the terminal, and results are exact for programs."""

from __future__ import annotations

import errno
import io
import os
import sys

import pytest
from rich.console import Console

from lstm_ray.cli import console
from lstm_ray.cli.app import app, main
from lstm_ray.errors import ConfigError


def test_quiet_and_verbose_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="give either --quiet or --verbose"):
        app(["data", "imdb", "-o", "x", "-q", "-v"], standalone_mode=False)


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
    arguments: list[str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["lstm-ray", *arguments])
    with pytest.raises(SystemExit):
        main()
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
