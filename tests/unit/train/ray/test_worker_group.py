"""How a worker group is set up, and what a worker reports; no Ray is started."""

from __future__ import annotations

import socket
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from actors import Remote

from lstm_ray.config import TrainConfig
from lstm_ray.errors import InputError, LstmRayError, TrainingError, WorkerLostError
from lstm_ray.train.loop import epochs
from lstm_ray.train.loop.state import State
from lstm_ray.train.ray import worker_group
from lstm_ray.train.ray.events import Begun, EventLog, Finished, GroupEvent, Interrupted, Lost


@pytest.mark.parametrize("fault", [ray.exceptions.GetTimeoutError(), ray.exceptions.RayActorError()])
def test_groups_that_are_lost_before_they_begin_are_shut_down_and_replaced_as_often_as_others(
    monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    """Ray Train starts another group after a RayActorError alone, and never gives up."""

    def get(answer: Any, timeout: float | None = None) -> Any:
        if timeout is None:
            return answer  # of the event log
        assert (answer, timeout) == (["answer"], 7.0)
        raise fault

    monkeypatch.setattr(worker_group.ray, "get", get)
    monkeypatch.setattr(worker_group.ray, "get_runtime_context", lambda: SimpleNamespace(current_actor="controller"))
    done: list[str] = []
    group = SimpleNamespace(execute_async=lambda *_: ["answer"], shutdown=lambda: done.append("shut down"))
    log = EventLog()
    config = worker_group.GroupConfig(Remote(log), 7.0, max_failures=2)
    for begins in (False, True, False):
        if begins:
            log.append(Begun(State(), 2), log.begin_group())
        with pytest.raises(ray.exceptions.RayActorError):
            worker_group.GroupBackend().on_start(group, config)
    assert log.controller() == "controller"
    assert not log.is_over()
    with pytest.raises(TrainingError, match=r"worker lost during setup .* after 2 replacements"):
        worker_group.GroupBackend().on_start(group, config)
    assert log.is_over()
    assert done == ["shut down"] * 4
    *_, lost, error = log.since(0)
    assert isinstance(lost, Lost)
    assert isinstance(error, TrainingError)


def join(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Makes this process the only worker of a group."""
    listener = socket.create_server(("127.0.0.1", 0))
    membership = worker_group._Membership(listener, [listener.getsockname()[:2]], "token", number)
    monkeypatch.setattr(worker_group, "_membership", membership)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> EventLog:
    """Gives the event log of a run whose only worker is this process."""
    monkeypatch.setattr(ray, "get", lambda answer: answer)
    monkeypatch.setattr(worker_group.ray.train, "get_context", lambda: SimpleNamespace(get_world_rank=lambda: 0))
    monkeypatch.setattr(worker_group.user_code, "unpacked", lambda code: nullcontext())
    log = EventLog()
    join(monkeypatch, log.begin_group())
    return log


def work(log: EventLog, **settings: Any) -> list[GroupEvent]:
    """Runs a worker and returns what it has logged."""
    config = TrainConfig(workers="1", **settings).model_dump(mode="json")
    worker_group.work({"log": Remote(log), "config": config, "code": {}, "prepared": None})
    return log.since(0)


def test_the_end_is_reported_when_all_is_written(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    final = State(epoch=3, best_epoch=2)
    monkeypatch.setattr(epochs, "run", lambda config, prepared, context: final)
    assert work(log) == [Finished(final)]
    assert not log.is_over()


@pytest.mark.parametrize(
    ("raised", "logged"),
    [
        (InputError("no such column"), InputError("no such column")),
        (KeyboardInterrupt("saved at epoch 2"), Interrupted("saved at epoch 2")),
        (ValueError("shapes differ"), TrainingError("a worker failed with ValueError: shapes differ")),
    ],
)
def test_an_error_that_would_come_again_goes_to_the_driver(
    log: EventLog, monkeypatch: pytest.MonkeyPatch, raised: BaseException, logged: GroupEvent
) -> None:
    def run(*_: object) -> State:
        raise raised

    monkeypatch.setattr(epochs, "run", run)
    (event,) = work(log)
    assert type(event) is type(logged)
    assert str(event).startswith(str(logged))
    assert log.is_over()


def test_a_lost_peer_is_replaced_unless_the_run_is_over(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object) -> State:
        raise WorkerLostError("worker 1 is gone")

    monkeypatch.setattr(epochs, "run", run)
    with pytest.raises(WorkerLostError):
        work(log)
    log.give_up(TrainingError("enough"))
    join(monkeypatch, 1)
    assert len(work(log)) == 1


def test_a_worker_whose_gpu_tensorflow_does_not_see_fails(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise it would train on one CPU core, while its peers use their GPUs."""
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.setattr(epochs, "run", lambda *_: pytest.fail("it trains"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    (error,) = work(log, gpus_per_worker=1, engine="keras")
    assert isinstance(error, LstmRayError)
    assert f"{socket.gethostname()}: Ray assigned a GPU to this worker (CUDA_VISIBLE_DEVICES: 3)" in str(error)
    assert "TensorFlow sees none: install" in str(error)
    assert log.is_over()


def test_a_worker_whose_gpu_tensorflow_sees_trains(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["GPU:0"])
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", lambda device, grow: None)
    monkeypatch.setattr(epochs, "run", lambda config, prepared, context: State(epoch=1))
    assert work(log, gpus_per_worker=1, engine="keras") == [Finished(State(epoch=1))]
