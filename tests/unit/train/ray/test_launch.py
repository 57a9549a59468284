"""How the driver runs Ray Train and reads its event log; no Ray is started."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import ray.train
from actors import Remote

from lstm_ray.config import TrainConfig
from lstm_ray.errors import InputError, TrainingError
from lstm_ray.progress import Epoch
from lstm_ray.train.loop.state import State
from lstm_ray.train.ray import launch
from lstm_ray.train.ray.events import Begun, Event, EventLog, Finished

CONFIG = TrainConfig(workers="2")
Fit = Callable[[], None]


def run(monkeypatch: pytest.MonkeyPatch, watcher: Any, log: EventLog, fit: Fit) -> State:
    """Runs the driver of a run whose Ray Train is a function."""
    trainer = SimpleNamespace(fit=fit)
    monkeypatch.setattr(launch.ray_internals, "data_parallel_trainer", lambda: lambda *_, **__: trainer)
    monkeypatch.setattr(launch.ray_internals, "set_train_timeouts", lambda *_: None)
    monkeypatch.setattr(launch, "_start_log", lambda: Remote(log))
    monkeypatch.setattr(launch, "_READ_EVERY_S", 0.01)
    monkeypatch.setattr(launch, "_ENDS_WITHIN_S", 5.0)
    monkeypatch.setattr(ray, "get", lambda answer: answer)
    monkeypatch.setattr(ray, "put", lambda value: value)
    return launch.RayWorkers(watcher, is_here=True).run(CONFIG, None)  # type: ignore[arg-type]  # nobody looks at the corpus


def test_the_final_state_is_that_of_rank_0(monkeypatch: pytest.MonkeyPatch, watcher: Any) -> None:
    log = EventLog()

    def fit() -> None:
        group = log.begin_group()
        log.append(Begun(State(), 2), group)
        log.append(Epoch({"epoch": 1}), group)
        log.append(Finished(State(epoch=1)), group)

    assert run(monkeypatch, watcher, log, fit) == State(epoch=1)
    assert watcher.epochs == [{"epoch": 1}]


def test_a_run_that_ended_early_for_no_reason_is_an_error(monkeypatch: pytest.MonkeyPatch, watcher: Any) -> None:
    """Ray Train succeeds, but no worker reported its end: the last checkpoint must not pass for the result."""
    log = EventLog()
    with pytest.raises(TrainingError, match=r"ended before training was complete.*the same command resumes"):
        run(monkeypatch, watcher, log, lambda: log.append(Begun(State(), 2), log.begin_group()))


def test_ray_trains_error_is_explained(monkeypatch: pytest.MonkeyPatch, watcher: Any) -> None:
    def fit() -> None:
        raise ray.train.WorkerGroupError("long", {1: RuntimeError("it died")})

    with pytest.raises(TrainingError, match=r"^worker lost \(worker 1: it died\), after 3 replacements"):
        run(monkeypatch, watcher, EventLog(), fit)


def test_a_worker_that_dies_after_the_end_changes_nothing(monkeypatch: pytest.MonkeyPatch, watcher: Any) -> None:
    log = EventLog()

    def fit() -> None:
        log.append(Finished(State(epoch=1)), log.begin_group())
        raise ray.train.WorkerGroupError("long", {1: RuntimeError("it died")})

    assert run(monkeypatch, watcher, log, fit) == State(epoch=1)


def test_ray_train_ends_when_the_callback_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread would call Ray after the shutdown, and Ray would end this process."""
    log = EventLog()
    killed = threading.Event()

    def fit() -> None:
        group = log.begin_group("controller")
        log.append(Begun(State(), 2), group)
        log.append(Epoch({"epoch": 1}), group)
        killed.wait(60)

    def fail(event: object) -> None:
        if isinstance(event, Epoch):
            raise BrokenPipeError("stderr is closed")

    monkeypatch.setattr(ray, "kill", lambda actor: killed.set())
    with pytest.raises(BrokenPipeError):
        run(monkeypatch, fail, log, fit)
    assert killed.is_set()


def test_ray_train_ends_when_ctrl_c_comes_while_its_thread_starts(
    monkeypatch: pytest.MonkeyPatch, watcher: Any
) -> None:
    log = EventLog()
    begun, killed = threading.Event(), threading.Event()

    def fit() -> None:
        log.begin_group("controller")
        begun.set()
        killed.wait(60)

    class Interrupted(threading.Thread):
        def start(self) -> None:
            super().start()
            begun.wait(60)
            raise KeyboardInterrupt

    monkeypatch.setattr(threading, "Thread", Interrupted)
    monkeypatch.setattr(ray, "kill", lambda actor: killed.set())
    with pytest.raises(KeyboardInterrupt):
        run(monkeypatch, watcher, log, fit)
    assert killed.is_set()


def test_ctrl_c_while_an_error_is_read_does_not_lose_it(monkeypatch: pytest.MonkeyPatch, watcher: Any) -> None:
    """Ctrl-C comes when the log has answered and before `ray.get` returns."""
    log = EventLog()
    since = log.since
    begun = threading.Event()
    interrupts = [KeyboardInterrupt()]

    def fit() -> None:
        group = log.begin_group()
        log.append(Begun(State(), 2), group)
        begun.wait(60)
        log.append(InputError("no such column"), group)

    def read(position: int) -> list[Event]:
        events = since(position)
        if position == 1:
            begun.set()
        if interrupts and any(isinstance(event, InputError) for event in events):
            raise interrupts.pop()
        return events

    monkeypatch.setattr(log, "since", read)
    with pytest.raises(InputError, match="no such column"):
        run(monkeypatch, watcher, log, fit)
    assert interrupts == [], "Ctrl-C was pressed"
    assert log.is_interrupted()
