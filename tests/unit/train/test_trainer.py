"""What people hear of a run on Ray; no Ray is started."""

from __future__ import annotations

from typing import Any

import pytest

from lstm_ray.config import TrainConfig
from lstm_ray.errors import TrainingError, WorkerLostError
from lstm_ray.train import trainer
from lstm_ray.train.checkpoints import State
from lstm_ray.train.progress import Progress

SETTINGS = TrainConfig(workers="1:2", global_batch_size=10)


@pytest.fixture
def listener(watcher: Any) -> trainer._Listener:
    """Gives what passes on the news of an elastic run."""
    return trainer._Listener(SETTINGS, watcher)


def test_a_loss_is_told_with_the_work_that_is_done_again(listener: trainer._Listener, watcher: Any) -> None:
    assert not listener.is_training()
    listener.hear(trainer._Begun(State(), 2))
    assert listener.is_training()
    listener.hear(Progress(2, 3, 640, 1000, 99.0))
    listener.hear(trainer._Lost("worker lost (worker 1: died)"))
    assert not listener.is_training()
    listener.hear(trainer._Begun(State(epoch=1, step=50), 1))
    assert watcher.said == [
        "going on from the beginning with 2 workers",
        "worker lost (worker 1: died)",
        "going on from epoch 2, step 50 with 1 worker; 140 rows are done again",
    ]


def test_what_a_worker_raises_is_raised_here(listener: trainer._Listener) -> None:
    with pytest.raises(TrainingError, match=r"^it diverged$"):
        listener.hear(TrainingError("it diverged"))
    with pytest.raises(KeyboardInterrupt, match=r"^interrupted: saved at epoch 2, step 7$"):
        listener.hear(trainer._Interrupted("interrupted: saved at epoch 2, step 7"))


def test_waiting_for_room_is_not_silent(
    listener: trainer._Listener, watcher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = trainer.time.monotonic()
    for seconds in (10, 130, 150, 260):
        monkeypatch.setattr(trainer.time, "monotonic", lambda now=begun + seconds: now)
        listener.watch_the_clock()
    said = "no worker has begun for 120 s: has the cluster room for 1 worker of 1 CPU?"
    assert watcher.said == [said, said]


def test_who_was_lost_comes_before_who_waited_for_him() -> None:
    waited = WorkerLostError("another worker does not answer: Connection reset by peer")
    assert trainer._why({0: waited, 1: RuntimeError("the process\ndied")}) == (
        "worker lost (worker 1: the process died)"
    )
    assert trainer._why({0: waited}) == f"worker lost (worker 0: {waited})"
