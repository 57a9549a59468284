"""What people hear of a run on Ray, and of which of its worker groups; no Ray is started."""

from __future__ import annotations

from typing import Any

import pytest

from lstm_ray.config import TrainConfig
from lstm_ray.errors import TrainingError
from lstm_ray.progress import Progress
from lstm_ray.train.loop.state import State
from lstm_ray.train.ray import board
from lstm_ray.train.ray.board import Begun, Board, Interrupted, Listener, Lost

SETTINGS = TrainConfig(workers="1:2", global_batch_size=10)


class Clock:
    """Stands in for the seconds since some time.

    Attributes:
        now: What it says.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = board.time.monotonic()
        monkeypatch.setattr(board.time, "monotonic", lambda: self.now)


@pytest.fixture
def listener(watcher: Any) -> Listener:
    """Gives what passes on the news of an elastic run."""
    return Listener(SETTINGS, watcher)


def test_a_loss_is_told_with_the_work_that_is_done_again(
    listener: Listener, watcher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    assert not listener.is_training()
    listener.hear(Begun(State(), 2))
    assert listener.is_training()
    listener.hear(Progress(2, 3, 640, 1000, 99.0))
    clock.now += 20
    listener.hear(Lost("worker lost (worker 1: died)"))
    assert not listener.is_training()
    clock.now += 15
    listener.hear(Begun(State(epoch=1, step=50), 1))
    assert watcher.said == [
        "going on from the beginning with 2 workers",
        "worker lost (worker 1: died); starting again from the last checkpoint, 1 of 3 times (--max-failures)",
        "going on from epoch 2, step 50 with 1 worker, after 35 s without progress; 140 rows are done again",
    ]


def test_the_loss_that_ends_a_run_promises_nothing(watcher: Any) -> None:
    listener = Listener(TrainConfig(workers="2", max_failures=0), watcher)
    listener.hear(Lost("worker lost (worker 1: died)"))
    assert watcher.said == ["worker lost (worker 1: died)"]


def test_who_was_given_up_is_not_heard() -> None:
    board = Board()
    first = board.begin_group()
    board.post("at work", first)
    board.lose_group("worker lost (worker 0: it is stopped)")
    board.post(TrainingError("the others are out of step"), first)  # it wakes before there is a new group
    second = board.begin_group()
    board.post("at work again", second)
    board.post(TrainingError("the others are out of step"), first)  # or beside it
    board.post("done", second)
    assert board.take() == ["at work", Lost("worker lost (worker 0: it is stopped)"), "at work again", "done"]
    assert board.take() == []


def test_a_group_that_makes_room_for_a_larger_one_is_not_heard_either() -> None:
    board = Board()
    first, second = board.begin_group(), board.begin_group()
    board.post(TrainingError("worker 1 is gone"), first)
    board.post("at work", second)
    assert board.take() == ["at work"]


def test_what_a_worker_raises_is_raised_here(listener: Listener) -> None:
    with pytest.raises(TrainingError, match=r"^it diverged$"):
        listener.hear(TrainingError("it diverged"))
    with pytest.raises(KeyboardInterrupt, match=r"^interrupted: saved at epoch 2, step 7$"):
        listener.hear(Interrupted("interrupted: saved at epoch 2, step 7"))


def test_waiting_for_room_is_not_silent(listener: Listener, watcher: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    for seconds in (10, 120, 20, 110):
        clock.now += seconds
        listener.watch_the_clock()
    said = "no worker has begun for 120 s: has the cluster room for 1 worker of 1 CPU?"
    assert watcher.said == [said, said]


@pytest.mark.parametrize("news", [Interrupted("saved"), TrainingError("no")])
def test_a_run_is_over_when_its_last_group_says_so(news: Any) -> None:
    board = Board()
    earlier, last = board.begin_group(), board.begin_group()
    board.post(news, earlier)
    assert not board.is_over()
    board.post(Begun(State(), 1), last)
    assert not board.is_over()
    board.post(news, last)
    assert board.is_over()
