"""The bar: where there is no terminal a line at most every 10 s, with the speed and the time left."""

from __future__ import annotations

import pytest

from lstm_ray.cli import bars, console
from lstm_ray.cli.help import Commands
from lstm_ray.cli.options import Debug, Quiet, Verbose, set_output
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
    monkeypatch.setattr(bars.time, "perf_counter", lambda: clock.now)
    return clock


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Gives the printed lines."""
    lines: list[str] = []
    monkeypatch.setattr(console, "warn", lines.append)
    return lines


def test_a_line_every_ten_seconds_tells_speed_and_time_left(clock: Clock, said: list[str]) -> None:
    bar = bars.Bar("rows")
    for second in range(0, 25, 4):
        clock.now = 100 + second
        bar.update(1_000 + 50 * second, 11_000)
    assert said == ["1,600 of 11,000 rows, 50 rows/s, 3:08 left", "2,200 of 11,000 rows, 50 rows/s, 2:56 left"]


def test_the_time_left_does_not_count_the_start_of_ray_nor_rows_of_an_earlier_run(
    clock: Clock, said: list[str]
) -> None:
    bar = bars.Bar("rows")
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
        with bars.progress("") as progress:
            progress("warning: leak")
            progress(Count(0, 100, "rows"))
            clock.now += 1
            progress(Count(50, 100, "rows"))
            progress("epoch 2")

    program([*words, "work"] if is_before else ["work", *words], standalone_mode=False)
    assert said == shown
    program(["work"], standalone_mode=False)
    assert said[len(shown) :] == ["making", "warning: leak", "epoch 2"]


def test_speed_and_time_left_are_those_of_the_whole_run_validation_counted(clock: Clock, said: list[str]) -> None:
    with bars.progress("") as progress:
        progress(Count(1_000, 4_000, "rows", "epoch 2/4", 0.0))  # the second of 4 epochs: a resumed run
        clock.now = 120  # an epoch of 10 s, and 10 s of validation
        progress(Count(2_000, 4_000, "rows", "epoch 3/4", 100.0))
    assert said == ["epoch 3/4: 2,000 of 4,000 rows, 50 rows/s, 0:40 left"]


@pytest.mark.parametrize(("seconds", "shown"), [(6.6, "0:07"), (754, "12:34"), (3_723, "1:02:03"), (0, "0:00")])
def test_a_time_is_shown_as_on_a_clock(seconds: float, shown: str) -> None:
    assert bars._clock(seconds) == shown


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
        with bars.progress("the same command resumes") as progress:
            progress("reading")
            if done is not None:
                progress(Count(done, 8, "rows"))
            raise KeyboardInterrupt(*[message] if message else [])

    with pytest.raises(KeyboardInterrupt):
        work()
    assert said == shown
