"""Messages about lost workers and failed runs, from the errors of Ray Train."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ray
from ray.train import UserCallback

from lstm_ray.config import TrainConfig
from lstm_ray.errors import TrainingError, WorkerLostError
from lstm_ray.runtime import ray_internals
from lstm_ray.runtime.ray_session import our_error
from lstm_ray.wording import counted, reason

RESUMES = "the same command resumes from the last checkpoint"


class LossReporter(UserCallback):
    """Logs why a worker group failed; runs in Ray Train's controller."""

    def __init__(self, log: Any) -> None:
        self._log = log

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Logs the reason."""
        self._log.lose_group.remote(describe_loss(worker_exceptions))


def describe_end(error: BaseException, config: TrainConfig) -> str:
    """Returns why Ray Train has ended a run."""
    failures = ray_internals.worker_failures(error)
    if failures:
        why = f"{describe_loss(failures)}, after {counted(config.max_failures, 'replacement')} (--max-failures)"
    else:  # Ray Train's controller failed, or died with its node
        why = f"Ray Train failed: {reason(ray_internals.cause_of(error))[:500]}"
    return f"{why}: {RESUMES}"


def describe_loss(failures: Mapping[int, BaseException]) -> str:
    """Returns which workers were lost. Workers that only waited for a lost peer are named if nothing else is known."""
    causes = {rank: _cause(error) for rank, error in sorted(failures.items())}
    died = {rank: error for rank, error in causes.items() if not isinstance(error, WorkerLostError)}
    workers = [f"worker {rank}: {in_short(error)}" for rank, error in (died or causes).items()]
    return "worker lost (" + "; ".join(workers[:3]) + ")"


def in_short(error: BaseException) -> str:
    """Returns why a worker was lost, in a few words; Ray's message is a paragraph."""
    if isinstance(error, ray.exceptions.RayActorError):
        return "its node died" if ray_internals.node_died(error) else "its process died"
    if (seconds := ray_internals.seconds_hanging(error)) is not None:
        return f"it has not answered for {seconds} s: its process is stopped or unreachable"
    return reason(error)[:200]


def _cause(error: BaseException) -> BaseException:
    """Returns the WorkerLostError, or Ray's error about a dead actor, inside Ray's wrappers."""
    found = our_error(error, TrainingError)
    return found if isinstance(found, WorkerLostError) else ray_internals.cause_of(error)
