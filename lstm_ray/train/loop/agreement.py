"""Checks that all workers hold the same weights: at the start, and after every epoch.

Each worker applies the same sums of gradients to the same weights, so these stay equal to the bit. Where they are not,
the workers started from different checkpoints, run different code, or a node computes wrongly. Only checksums travel:
0.3 ms per MB of weights and one exchange an epoch.
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
    """Compares what the workers start from; all of them must call it.

    Args:
        config: The run's settings.
        collective: The workers.
        stepper: This worker's.
        checkpoint: What it has been restored from, if there is one.

    Raises:
        WorkerLostError: The workers found different checkpoints: a worker does not see the directory, or looked into it
            when a worker that had been given up wrote there.
        TrainingError: There is no checkpoint, and the model was not built the same on every worker.
    """
    if checkpoint is None:
        gathered = collective.all_gather([0, 0, _checksum(stepper.weights())])
    else:
        state = checkpoint.state
        gathered = collective.all_gather(
            [state.epoch, state.step, _checksum([*checkpoint.variables, *checkpoint.ngrams])]
        )
    if not (odd := _unlike_the_first(gathered)):
        return
    if gathered[:, :2].any():
        raise WorkerLostError(f"{config.output}: not every worker sees the same checkpoints there; is it on all nodes?")
    if config.network is not None:
        raise TrainingError(
            f"network {config.network}: its initial weights are not the same on every worker: they may depend only on "
            "the function's two arguments and on Keras's random numbers, which have the same seed everywhere"
        )
    raise TrainingError(
        f"worker {odd} starts with other weights than worker 0: all must run the same versions of lstm-ray and Keras"
    )


def check_epoch(collective: Collective, epoch: int, weights: list[npt.NDArray[Any]]) -> None:
    """Compares the weights after an epoch; all workers must call it.

    Raises:
        TrainingError: They are not equal to the bit.
    """
    odd = _unlike_the_first(collective.all_gather([_checksum(weights)]))
    if odd:
        raise TrainingError(
            f"after epoch {epoch} worker {odd} has other weights than worker 0, although all must be equal to the "
            "bit: all must run the same versions of lstm-ray and its libraries, and the Keras engine needs machines of "
            "one kind; else a node's memory may be faulty. The same command resumes from the last checkpoint"
        )


def _unlike_the_first(gathered: npt.NDArray[np.float64]) -> str:
    """Lists the workers whose vector is not that of worker 0."""
    return ", ".join(str(rank) for rank in np.flatnonzero((gathered != gathered[0]).any(axis=1)))


def _checksum(arrays: Iterable[npt.NDArray[Any]]) -> int:
    """Returns the CRC-32 of all floats; other arrays are states of random generators, which depend on the rank."""
    checksum = 0
    for array in arrays:
        if np.issubdtype(array.dtype, np.floating):
            checksum = zlib.crc32(np.ascontiguousarray(array).data, checksum)
    return checksum
