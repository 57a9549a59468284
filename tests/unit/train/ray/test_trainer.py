"""What people hear of workers that were lost; no Ray is started."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import ray.train

from lstm_ray.config import TrainConfig
from lstm_ray.errors import TrainingError, WorkerLostError
from lstm_ray.train.loop.state import State
from lstm_ray.train.ray import trainer
from lstm_ray.train.ray.board import Begun, Board, Lost


def test_who_was_lost_comes_before_who_waited_for_him() -> None:
    waited = WorkerLostError("another worker does not answer: Connection reset by peer")
    assert trainer._why({0: waited, 1: RuntimeError("the process\ndied")}) == (
        "worker lost (worker 1: the process died)"
    )
    assert trainer._why({0: waited}) == f"worker lost (worker 0: {waited})"


def test_a_worker_that_hangs_is_said_to_hang() -> None:
    said = "A worker health check has been hanging for 22.06 seconds. Marking the worker as dead.\nWorker info: ..."
    assert trainer._why({0: RuntimeError(said)}) == (
        "worker lost (worker 0: it has not answered for 22 s: it is stopped, or cut off)"
    )


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("The actor died because its node has died. Node Id: 7a54", "its node died"),
        ("node_ip: 10.0.0.3\nThe actor is dead because its worker process has died. Worker exit", "its process died"),
    ],
)
def test_a_process_that_died_is_not_told_as_a_node(said: str, told: str) -> None:
    died = ray.exceptions.RayActorError(error_msg=said)
    assert trainer._why({1: died}) == f"worker lost (worker 1: {told})"


class Remote:
    """Calls what an actor has as Ray would, at once."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=getattr(self._actor, name))


@pytest.mark.parametrize("fault", [ray.exceptions.GetTimeoutError(), ray.exceptions.RayActorError()])
def test_groups_that_are_lost_before_they_begin_are_shut_down_and_replaced_as_often_as_others(
    monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    """Ray Train starts another group after a RayActorError alone, and never gives up."""

    def get(answer: Any, timeout: float | None = None) -> Any:
        if timeout is None:
            return answer  # of the board
        assert (answer, timeout) == (["answer"], 7.0)
        raise fault

    monkeypatch.setattr(trainer.ray, "get", get)
    monkeypatch.setattr(trainer.ray, "get_runtime_context", lambda: SimpleNamespace(current_actor="controller"))
    done: list[str] = []
    group = SimpleNamespace(execute_async=lambda *_: ["answer"], shutdown=lambda: done.append("shut down"))
    board = Board()
    config = trainer.GroupConfig(Remote(board), 7.0, max_failures=2)
    for begins in (False, True, False):
        if begins:
            board.post(Begun(State(), 2), board.begin_group())
        with pytest.raises(ray.exceptions.RayActorError):
            trainer._GroupBackend().on_start(group, config)
    assert board.controller() == "controller"
    assert not board.is_over()
    with pytest.raises(TrainingError, match=r"worker lost while it was set up .* after 2 replacements"):
        trainer._GroupBackend().on_start(group, config)
    assert board.is_over()
    assert done == ["shut down"] * 4
    *_, lost, told = board.take()
    assert isinstance(lost, Lost)
    assert isinstance(told, TrainingError)


def test_only_a_lost_worker_is_told_as_one() -> None:
    config = TrainConfig(workers="2", max_failures=1)
    lost = ray.train.WorkerGroupError("long", {1: RuntimeError("it died")})
    failed = ray.train.ControllerError(ValueError("no such\nplacement group"))
    dead = ray.exceptions.ActorUnavailableError("its node is cut off", None)
    goes_on = ": the same command goes on from the last checkpoint"
    assert trainer._end_of(lost, config) == (
        f"worker lost (worker 1: it died), after 1 replacement (--max-failures){goes_on}"
    )
    assert trainer._end_of(failed, config) == f"Ray Train failed: no such placement group{goes_on}"
    assert trainer._end_of(dead, config).startswith("Ray Train failed: The actor None is unavailable: its node is cut")
