"""Which events of a run on Ray are reported, and from which worker group; no Ray is started."""

from __future__ import annotations

from typing import Any

import pytest

from lstm_ray.config import TrainConfig
from lstm_ray.errors import TrainingError
from lstm_ray.progress import Count, Epoch
from lstm_ray.train.loop.state import State
from lstm_ray.train.ray import events
from lstm_ray.train.ray.events import Begun, Event, EventLog, EventReporter, Finished, Interrupted, Lost

SETTINGS = TrainConfig(workers="1:2", global_batch_size=10)
ROW, NEXT_ROW = Epoch({"epoch": 1}), Epoch({"epoch": 2})
DONE = Finished(State(epoch=2))


class Clock:
    """Replaces `time.monotonic`.

    Attributes:
        now: What it returns.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = events.time.monotonic()
        monkeypatch.setattr(events.time, "monotonic", lambda: self.now)


@pytest.fixture
def reporter(watcher: Any) -> EventReporter:
    """Gives the reporter of an elastic run."""
    return EventReporter(SETTINGS, watcher)


def test_a_loss_is_reported_with_the_work_that_is_done_again(
    reporter: EventReporter, watcher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    assert not reporter.is_training()
    reporter.report(Begun(State(), 2))
    assert reporter.is_training()
    reporter.report(Count(1640, 1000 * SETTINGS.epochs, "rows", "epoch 2/5", 99.0))
    clock.now += 20
    reporter.report(Lost("worker lost (worker 1: died)"))
    assert not reporter.is_training()
    clock.now += 15
    reporter.report(Begun(State(epoch=1, step=50), 1))
    assert watcher.said == [
        "starting from the beginning with 2 workers",
        "worker lost (worker 1: died); starting again from the last checkpoint, 1 of 3 times (--max-failures)",
        "resuming from epoch 2, step 50 with 1 worker, after 35 s without progress; 140 rows are repeated",
    ]


def test_a_message_is_passed_on(reporter: EventReporter, watcher: Any) -> None:
    reporter.report("fitting n-grams of up to 2 words")
    assert watcher.said == ["fitting n-grams of up to 2 words"]
    assert not reporter.is_training()


def test_the_loss_that_ends_a_run_promises_nothing(watcher: Any) -> None:
    reporter = EventReporter(TrainConfig(workers="2", max_failures=0), watcher)
    reporter.report(Lost("worker lost (worker 1: died)"))
    assert watcher.said == ["worker lost (worker 1: died)"]


def test_a_single_restart_and_row_are_counted_in_the_singular(watcher: Any) -> None:
    reporter = EventReporter(TrainConfig(workers="1", max_failures=1, global_batch_size=1), watcher)
    reporter.report(Begun(State(), 1))
    reporter.report(Count(3, 10, "rows", "epoch 1/5", 99.0))
    reporter.report(Lost("worker lost"))
    reporter.report(Begun(State(step=2), 1))
    lost, resumed = watcher.said
    assert lost == "worker lost; starting again from the last checkpoint, 1 of 1 time (--max-failures)"
    assert resumed.endswith("; 1 row is repeated")


def test_events_of_a_worker_that_was_given_up_are_ignored() -> None:
    log = EventLog()
    first = log.begin_group()
    log.append(ROW, first)
    log.lose_group("worker lost (worker 0: it is stopped)")
    log.append(TrainingError("the others are out of step"), first)  # it wakes before there is a new group
    second = log.begin_group()
    log.append(NEXT_ROW, second)
    log.append(TrainingError("the others are out of step"), first)  # or beside it
    log.append(DONE, second)
    assert log.since(0) == [ROW, Lost("worker lost (worker 0: it is stopped)"), NEXT_ROW, DONE]


def test_events_of_a_group_that_was_replaced_by_a_larger_one_are_ignored() -> None:
    log = EventLog()
    first, second = log.begin_group(), log.begin_group()
    log.append(TrainingError("worker 1 is gone"), first)
    log.append(ROW, second)
    assert log.since(0) == [ROW]


def test_a_workers_error_is_raised(reporter: EventReporter) -> None:
    with pytest.raises(TrainingError, match=r"^it diverged$"):
        reporter.report(TrainingError("it diverged"))
    with pytest.raises(KeyboardInterrupt, match=r"^interrupted: saved at epoch 2, step 7$"):
        reporter.report(Interrupted("interrupted: saved at epoch 2, step 7"))


def test_waiting_for_room_is_reported(reporter: EventReporter, watcher: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    for seconds in (10, 120, 20, 110):
        clock.now += seconds
        reporter.report_waiting()
    assert watcher.said == [
        f"no worker has started for {seconds} s; still waiting: does the cluster have room for 1 worker with 1 CPU, or "
        "is it busy?"
        for seconds in (130, 260)
    ]


def test_the_command_that_shows_a_clusters_room_is_named(watcher: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    reporter = EventReporter(TrainConfig(workers="1", address="head:6379"), watcher)
    clock.now += 121
    reporter.report_waiting()
    assert "1 CPU (`lstm-ray cluster status --address head:6379`), or is it busy?" in watcher.said[0]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"workers": "9"}, "9 workers are starting on this machine's 2 cores; {} --workers 0 or --workers 2"),
        ({"workers": "2"}, "2 workers are starting on this machine's 2 cores; {} --workers 0"),
        ({"workers": "1", "gpus_per_worker": 1}, "1 worker is starting on this machine's 2 cores"),
    ],
)
def test_a_ray_started_for_the_run_is_not_asked_for_room(
    given: dict[str, Any], said: str, watcher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    monkeypatch.setattr(events, "available_cores", lambda: 2)
    reporter = EventReporter(TrainConfig.model_validate(given), watcher, is_here=True)
    clock.now += 121
    reporter.report_waiting()
    remedy = "to start fewer, press Ctrl-C and use"
    assert watcher.said == [f"no worker has started for 121 s; still waiting: {said.format(remedy)}"]


@pytest.mark.parametrize("event", [Interrupted("saved"), TrainingError("no")])
def test_a_run_is_over_when_its_last_group_says_so(event: Event) -> None:
    log = EventLog()
    earlier, last = log.begin_group(), log.begin_group()
    log.append(event, earlier)
    assert not log.is_over()
    log.append(Begun(State(), 1), last)
    assert not log.is_over()
    log.append(event, last)
    assert log.is_over()


def test_reading_removes_nothing_until_the_next_position_is_asked_for() -> None:
    """Ctrl-C may come between the answer and its use: the events are then read again."""
    log = EventLog()
    group = log.begin_group()
    log.append(ROW, group)
    assert log.since(0) == log.since(0) == [ROW]
    log.append(NEXT_ROW, group)
    assert log.since(1) == log.since(1) == [NEXT_ROW]
    log.append(DONE, group)
    assert log.since(3) == []


def test_the_position_counts_the_events_that_were_reported_to_the_end(reporter: EventReporter, watcher: Any) -> None:
    def interrupt(event: object) -> None:
        raise KeyboardInterrupt

    reporter.report(Begun(State(), 2))
    reporter.progress = interrupt
    with pytest.raises(KeyboardInterrupt):
        reporter.report(ROW)
    reporter.progress = watcher
    assert reporter.position == 1
    reporter.report(ROW)
    assert watcher.epochs == [ROW.row]
    assert reporter.final is None
    reporter.report(DONE)
    assert reporter.position == 3
    assert reporter.final == DONE.state
