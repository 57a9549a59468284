"""Messages about lost workers and failed runs; no Ray is started."""

from __future__ import annotations

import pytest
import ray.train

from lstm_ray.config import TrainConfig
from lstm_ray.errors import WorkerLostError
from lstm_ray.train.ray.failures import describe_end, describe_loss


def test_lost_workers_are_named_before_those_that_waited_for_them() -> None:
    waited = WorkerLostError("another worker does not answer: Connection reset by peer")
    assert describe_loss({0: waited, 1: RuntimeError("the process\ndied")}) == (
        "worker lost (worker 1: the process died)"
    )
    assert describe_loss({0: waited}) == f"worker lost (worker 0: {waited})"


def test_a_worker_that_hangs_is_reported_as_hanging() -> None:
    said = "A worker health check has been hanging for 22.06 seconds. Marking the worker as dead.\nWorker info: ..."
    assert describe_loss({0: RuntimeError(said)}) == (
        "worker lost (worker 0: it has not answered for 22 s: its process is stopped or unreachable)"
    )


@pytest.mark.parametrize(
    ("said", "reported"),
    [
        ("The actor died because its node has died. Node Id: 7a54", "its node died"),
        ("node_ip: 10.0.0.3\nThe actor is dead because its worker process has died. Worker exit", "its process died"),
    ],
)
def test_a_process_that_died_is_not_reported_as_a_node(said: str, reported: str) -> None:
    died = ray.exceptions.RayActorError(error_msg=said)
    assert describe_loss({1: died}) == f"worker lost (worker 1: {reported})"


def test_only_a_lost_worker_is_reported_as_one() -> None:
    config = TrainConfig(workers="2", max_failures=1)
    lost = ray.train.WorkerGroupError("long", {1: RuntimeError("it died")})
    failed = ray.train.ControllerError(ValueError("no such\nplacement group"))
    dead = ray.exceptions.ActorUnavailableError("its node is cut off", None)
    resumes = ": the same command resumes from the last checkpoint"
    assert describe_end(lost, config) == (
        f"worker lost (worker 1: it died), after 1 replacement (--max-failures){resumes}"
    )
    assert describe_end(failed, config) == f"Ray Train failed: no such placement group{resumes}"
    assert describe_end(dead, config).startswith("Ray Train failed: The actor None is unavailable: its node is cut")
