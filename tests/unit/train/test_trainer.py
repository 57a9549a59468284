"""What people hear of workers that were lost; no Ray is started."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import ray.train

from lstm_ray.config import TrainConfig
from lstm_ray.errors import WorkerLostError
from lstm_ray.train import trainer


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


@pytest.mark.parametrize("fault", [ray.exceptions.GetTimeoutError(), ray.exceptions.RayActorError()])
def test_a_group_with_a_worker_that_does_not_answer_is_shut_down_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    """Ray Train starts another group after a RayActorError alone."""

    def get(answers: Any, timeout: float | None = None) -> int:
        if answers == "number":
            return 1
        assert (answers, timeout) == (["answer"], 7.0)
        raise fault

    monkeypatch.setattr(trainer.ray, "get", get)
    done = []
    group = SimpleNamespace(execute_async=lambda *_: ["answer"], shutdown=lambda: done.append("shut down"))
    board = SimpleNamespace(begin_group=SimpleNamespace(remote=lambda: "number"))
    with pytest.raises(ray.exceptions.RayActorError):
        trainer._GroupBackend().on_start(group, trainer.GroupConfig(board, 7.0))
    assert done == ["shut down"]


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
