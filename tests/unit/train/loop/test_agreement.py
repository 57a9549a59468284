"""Workers that differ from worker 0, in their checkpoints or weights, are found and named."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lstm_ray.collective.protocol import Alone
from lstm_ray.config import TrainConfig
from lstm_ray.errors import TrainingError, WorkerLostError
from lstm_ray.train.loop.agreement import check_epoch, check_start
from lstm_ray.train.loop.checkpoints import Checkpoint
from lstm_ray.train.loop.state import State

CONFIG = TrainConfig(output="run")


class Peers(Alone):
    """A group whose other workers gather the given vectors; None stands for the same as this worker's."""

    def __init__(self, *others: list[float] | None) -> None:
        self.others = others

    def all_gather(self, vector: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Returns this worker's vector and the others'."""
        return np.array([vector, *(vector if other is None else other for other in self.others)], np.float64)


def weights(value: float = 0.5, random_state: int = 0) -> list[npt.NDArray[Any]]:
    """Returns a model's variables, the state of a random generator among them."""
    return [np.full((3, 2), value, np.float32), np.array([random_state], np.uint32)]


def start(collective: Peers, checkpoint: Checkpoint | None = None, **settings: Any) -> None:
    """Calls `check_start` with a model that has `weights()`."""
    stepper: Any = SimpleNamespace(weights=weights)
    check_start(CONFIG.model_copy(update=settings), collective, stepper, checkpoint)


def checkpoint(epoch: int, step: int, value: float = 0.5) -> Checkpoint:
    """Returns a checkpoint."""
    return Checkpoint(State(epoch=epoch, step=step), weights(value), [])


def test_workers_that_hold_the_same_start_and_end_their_epochs() -> None:
    start(Peers(None, None))
    start(Peers(None, None), checkpoint(2, 7))
    check_epoch(Peers(None, None), 1, weights())


@pytest.mark.parametrize("other", [[0, 0, 1], [1, 7, 1], [2, 7, 1]], ids=["none", "an older one", "another content"])
def test_workers_with_other_checkpoints_are_started_again(other: list[float]) -> None:
    with pytest.raises(WorkerLostError, match=r"^run: not every worker sees the same checkpoints there"):
        start(Peers(None, other), checkpoint(2, 7))


def test_a_worker_without_the_others_checkpoint_is_started_again() -> None:
    with pytest.raises(WorkerLostError, match="not every worker sees the same checkpoints"):
        start(Peers([2, 7, 1]))


def test_other_initial_weights_are_an_error_of_the_code_or_its_versions() -> None:
    with pytest.raises(TrainingError, match=r"^worker 2 starts with other weights than worker 0: .* versions"):
        start(Peers(None, [0, 0, 1]))
    with pytest.raises(TrainingError, match=r"^network mine:build: its initial weights differ"):
        start(Peers([0, 0, 1]), network="mine:build")


def test_workers_whose_weights_differ_after_an_epoch_are_named() -> None:
    with pytest.raises(TrainingError, match=r"^after epoch 3 worker 1, 3 has other weights than worker 0"):
        check_epoch(Peers([1], None, [2]), 3, weights())


def test_a_single_bit_counts_and_random_states_do_not() -> None:
    gathered: list[float] = []

    class Recording(Alone):
        def all_gather(self, vector: npt.ArrayLike) -> npt.NDArray[np.float64]:
            gathered.extend(np.array(vector, np.float64))
            return super().all_gather(vector)

    flipped = weights()
    flipped[0].view(np.uint32)[1, 1] ^= 1
    for variables in (weights(), weights(random_state=9), flipped):
        check_epoch(Recording(), 1, variables)
    assert gathered[0] == gathered[1] != gathered[2]
