"""Which of several workers' errors a person gets to read."""

from __future__ import annotations

import pytest

from lstm_ray.errors import InputError, LstmRayError, TrainingError, WorkerLostError
from lstm_ray.ray_session import our_error


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
