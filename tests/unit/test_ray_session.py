"""What is refused before Ray starts, what is said when it ends the process, which of several errors is told."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lstm_ray import ray_session
from lstm_ray.errors import InputError, LstmRayError, TrainingError, WorkerLostError
from lstm_ray.ray_session import connect, our_error
from lstm_ray.room import Asked


class GroupError(Exception):
    """As Ray Train's TrainingFailedError: it holds each worker's error."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__("Ray's own long message")
        self.worker_failures = dict(enumerate(errors))


LOST = WorkerLostError("worker 1 at 10.0.0.2:4000 is gone: it closed the connection")


@pytest.mark.parametrize(
    ("failures", "said"),
    [
        ([LOST, InputError("the column is missing")], "the column is missing"),
        ([LOST, RuntimeError("out of\n  memory")], "a worker failed: out of memory"),
        ([LOST], str(LOST)),
        ([RuntimeError("first"), RuntimeError("second")], "a worker failed: first"),
    ],
    ids=["ours", "somebody else's", "lost", "several"],
)
def test_what_went_wrong_comes_before_who_is_missed(failures: list[Exception], said: str) -> None:
    found = our_error(GroupError(*failures), TrainingError)
    assert str(found) == said
    assert isinstance(found, LstmRayError)


def test_the_error_within_others_is_found() -> None:
    outer = RuntimeError("a task failed")
    outer.__cause__ = InputError("no such column")
    assert str(our_error(outer, TrainingError)) == "no such column"


def test_gpus_are_missed_before_ray_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(**_: object) -> None:
        raise ValueError("started")

    monkeypatch.setattr(ray_session.ray, "init", start)
    monkeypatch.setattr(ray_session, "may_have_gpu", lambda: True)
    with pytest.raises(LstmRayError, match="started"), connect("local", Asked(1, 1, cpus=1, gpus=1)):
        pass
    monkeypatch.setattr(ray_session, "may_have_gpu", lambda: False)
    for least, gpus, said in ((2, 1, r"^2 GPUs are asked for, but this machine has none"), (1, 0.5, r"^0\.5 GPUs are")):
        with (
            pytest.raises(LstmRayError, match=said),
            connect("local", Asked(least, least, cpus=1, gpus=gpus), pytest.fail),
        ):
            pass
    notes: list[str] = []
    with pytest.raises(LstmRayError, match="started"), connect("local", Asked(1, 1, cpus=1, gpus=0), notes.append):
        pass
    assert notes == ["starting Ray"]


@pytest.mark.parametrize(
    ("end", "is_said"),
    [
        ("os._exit(1)", True),  # as Ray's C++ does
        ("os.kill(os.getpid(), 9)", True),
        ("pass", False),
        ("raise KeyboardInterrupt", False),
        ("sys.exit(1)", False),
    ],
)
def test_a_process_that_ends_without_python_has_last_words(end: str, is_said: bool) -> None:
    code = f"import os, sys\nfrom lstm_ray.ray_session import last_words\nwith last_words():\n    {end}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert ("error: this process was ended from outside" in done.stderr) is is_said
