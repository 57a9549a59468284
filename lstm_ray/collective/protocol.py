"""Collective operations of a run's workers: sums and gathered vectors.

    step: gradients, loss        ->  all_reduce  ->  their sums over all workers
    loop: counts, checksums      ->  all_gather  ->  the values of every worker

`Alone` is a group of one worker; tcp.py connects several. tensorflow.py adds sums of tensors that stay on a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lstm_ray.arrays import Doubles, Floats, Integers


@dataclass(frozen=True)
class SparseRows:
    """The non-zero rows of a matrix.

    Attributes:
        ids: int64[n], row numbers, without duplicates.
        values: float32[n, width], the rows.
    """

    ids: npt.NDArray[np.int64]
    values: Floats


class Collective(Protocol):
    """A group of workers. All of them make the same calls in the same order.

    Attributes:
        rank: This worker's number, from 0.
        world_size: Number of workers.
    """

    rank: int
    world_size: int

    def all_reduce(self, dense: Floats, sparse: Sequence[SparseRows]) -> tuple[Floats, list[SparseRows]]:
        """Returns the sums over all workers, bit-identical on each. NaN and infinity are kept.

        Args:
            dense: float32[n], with the same n on every worker.
            sparse: The same number of matrices on every worker; their rows may differ.

        Raises:
            WorkerLostError: A peer died or does not answer.
            TrainingError: A peer made a different call.
        """

    def describe(self) -> str:
        """Returns what sums gradients, and how much each worker sends for the last sum."""

    def all_gather(self, vector: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Returns the vectors of all workers by rank, float64[world_size, n].

        Args:
            vector: n numbers, with the same n on every worker.

        Raises:
            WorkerLostError: A peer died or does not answer.
            TrainingError: A peer made a different call.
        """


class Alone:
    """A group of one worker."""

    rank = 0
    world_size = 1

    def describe(self) -> str:
        """Returns that nothing is sent."""
        return "one worker, which sends nothing"

    def all_reduce(self, dense: Floats, sparse: Sequence[SparseRows]) -> tuple[Floats, list[SparseRows]]:
        """Returns the arguments unchanged."""
        return dense, list(sparse)

    def all_gather(self, vector: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Returns the vector as float64[1, n]."""
        return np.array(vector, np.float64)[None]


def gather_rows(collective: Collective, total: int, rows: Integers, values: Doubles) -> Floats:
    """Returns the values of rows that are divided among the workers, float32[total]; 0 for rows that none has.

    It is a sum with zeros, because `all_gather` takes as many numbers from every worker.

    Args:
        collective: The workers. Each has other rows.
        total: Number of rows, with the same value on every worker.
        rows: int64[n], this worker's rows.
        values: float64[n], their values.
    """
    everywhere = np.zeros(total, np.float32)
    everywhere[rows] = values
    return collective.all_reduce(everywhere, [])[0]
