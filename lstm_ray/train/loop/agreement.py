"""Checks that all workers hold the same weights: at the start, and after every epoch.

Each worker applies the same sums of gradients to the same weights, so these stay bit-identical. If they differ, the
workers started from different checkpoints or run different code, or a node computes wrongly. Only checksums are sent:
0.3 ms per MB of weights, and one exchange per epoch.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_ray.collective.protocol import Collective
from lstm_ray.config import TrainConfig
from lstm_ray.errors import TrainingError, WorkerLostError
from lstm_ray.train.loop.checkpoints import Checkpoint
from lstm_ray.train.step.protocol import Stepper


def check_start(config: TrainConfig, collective: Collective, stepper: Stepper, checkpoint: Checkpoint | None) -> None:
    """Checks that all workers start with the same weights. All of them must call this.

    Args:
        config: The run's settings.
        collective: The workers.
        stepper: This worker's model and optimizer.
        checkpoint: The checkpoint that they were restored from, if any.

    Raises:
        WorkerLostError: The workers found different checkpoints: a worker does not see the directory, or listed it
            while a worker of an earlier group was still writing.
        TrainingError: There is no checkpoint, and the workers built different models.
    """
    if checkpoint is None:
        gathered = collective.all_gather([0, 0, _checksum(stepper.weights())])
    else:
        state = checkpoint.state
        gathered = collective.all_gather(
            [state.epoch, state.step, _checksum([*checkpoint.variables, *checkpoint.ngrams])]
        )
    if not (odd := _differing_ranks(gathered)):
        return
    if gathered[:, :2].any():
        raise WorkerLostError(f"{config.output}: not every worker sees the same checkpoints there; is it on all nodes?")
    if config.network is not None:
        raise TrainingError(
            f"network {config.network}: its initial weights differ between workers: they may depend only on the "
            "function's two arguments and on Keras's random numbers, which have the same seed everywhere"
        )
    raise TrainingError(
        f"worker {odd} starts with other weights than worker 0: all must run the same versions of lstm-ray and Keras"
    )


def check_epoch(collective: Collective, epoch: int, weights: list[npt.NDArray[Any]]) -> None:
    """Checks that all workers have the same weights after an epoch. All of them must call this.

    Raises:
        TrainingError: The weights are not bit-identical.
    """
    odd = _differing_ranks(collective.all_gather([_checksum(weights)]))
    if odd:
        raise TrainingError(
            f"after epoch {epoch} worker {odd} has other weights than worker 0, although they must be bit-identical: "
            "all workers must run the same versions of lstm-ray and its libraries, and with the Keras engine on the "
            "same type of machine; otherwise a node's memory may be faulty. The same command resumes from the last "
            "checkpoint"
        )


def _differing_ranks(gathered: npt.NDArray[np.float64]) -> str:
    """Returns the ranks of the workers whose row differs from that of worker 0, separated by commas."""
    return ", ".join(str(rank) for rank in np.flatnonzero((gathered != gathered[0]).any(axis=1)))


def _checksum(arrays: Iterable[npt.NDArray[Any]]) -> int:
    """Returns the CRC-32 of all float arrays. Others are states of random generators, which depend on the rank."""
    checksum = 0
    for array in arrays:
        if np.issubdtype(array.dtype, np.floating):
            checksum = zlib.crc32(np.ascontiguousarray(array).data, checksum)
    return checksum
