"""The bar: where there is no terminal a line at most every 10 s, with the speed and the time left."""

from __future__ import annotations

import pytest

from lstm_ray.cli import console
from lstm_ray.progress import Count


class Clock:
    """A clock that stands still until it is set.

    Attributes:
        now: Seconds.
    """

    now = 100.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Gives the clock that the bar looks at."""
    clock = Clock()
    monkeypatch.setattr(console.time, "perf_counter", lambda: clock.now)
    return clock


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Gives the lines that are said."""
    lines: list[str] = []
    monkeypatch.setattr(console, "say", lines.append)
    return lines


def test_a_line_every_ten_seconds_tells_speed_and_time_left(clock: Clock, said: list[str]) -> None:
    bar = console.Bar("rows")
    for second in range(0, 25, 4):
        clock.now = 100 + second
        bar.update(1_000 + 50 * second, 11_000)
    assert said == ["1,600 of 11,000 rows, 50 rows/s, 3:08 left", "2,200 of 11,000 rows, 50 rows/s, 2:56 left"]


def test_the_time_left_is_that_of_the_whole_run_validation_counted(clock: Clock, said: list[str]) -> None:
    with console.progress("") as progress:
        progress(Count(1_000, 4_000, "rows", "epoch 2/4", 0.0))  # the second of 4 epochs: a resumed run
        clock.now = 120  # an epoch of 10 s, and 10 s of validation
        progress(Count(2_000, 4_000, "rows", "epoch 3/4", 100.0))
    assert said == ["epoch 3/4: 2,000 of 4,000 rows, 100 rows/s, 0:40 left"]


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


@pytest.mark.parametrize(
    ("counted", "message", "shown"),
    [
        (True, "", ["reading", "interrupted at 3 of 8 rows: the same command resumes"]),
        (False, "", ["reading", "interrupted: the same command resumes"]),
        (True, "saved at step 7", ["reading", "saved at step 7"]),
    ],
)
def test_an_interrupt_tells_how_far_the_work_is(said: list[str], counted: bool, message: str, shown: list[str]) -> None:
    def work() -> None:
        with console.progress("the same command resumes") as progress:
            progress("reading")
            if counted:
                progress(Count(3, 8, "rows"))
            raise KeyboardInterrupt(*[message] if message else [])

    with pytest.raises(KeyboardInterrupt):
        work()
    assert said == shown
