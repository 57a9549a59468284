"""What the workers of a run compute together: sums and comparisons.

    step: gradients, loss        ->  all_reduce  ->  their sums
    loop: counts, checksums      ->  all_gather  ->  those of every worker

`Alone` is a group of one worker; tcp.py connects several.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True)
class SparseRows:
    """The rows of a matrix that are not zero.

    Attributes:
        ids: int64[n], row numbers, each at most once.
        values: float32[n, width].
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
        """Returns the sums over all workers, equal to the bit on each; NaN and infinity pass through.

        Args:
            dense: float32[n], with the same n on every worker.
            sparse: As many matrices on every worker; each worker may have other rows of them.

        Raises:
            WorkerLostError: A peer died or does not answer.
            TrainingError: A peer made another call.
        """

    def all_gather(self, vector: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Returns the vectors of all workers by rank, float64[world_size, n].

        Args:
            vector: n numbers, with the same n on every worker.

        Raises:
            WorkerLostError: A peer died or does not answer.
            TrainingError: A peer made another call.
        """


class Alone:
    """A group of one worker."""

    rank = 0
    world_size = 1

    def all_reduce(self, dense: Floats, sparse: Sequence[SparseRows]) -> tuple[Floats, list[SparseRows]]:
        """Returns its arguments."""
        return dense, list(sparse)

    def all_gather(self, vector: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Returns the vector as float64[1, n]."""
        return np.array(vector, np.float64)[None]
