"""Adam over the rows of a matrix, on CPUs.

Adam moves every number in every step, by the moments of earlier gradients, even where this step's gradient is zero: in
an embedding nearly everywhere. Here a row without a gradient stays where it is until somebody reads it, and then takes
the steps that it missed, one after the other and all in registers. It ends with the same bits as if it had taken them
in their turn, and a step no longer reads and writes the whole matrix and its moments (60 MB for 20,000 words of 128).
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from lstm_ray.kernels.adam import adam
from lstm_ray.kernels.emitter import Target
from lstm_ray.kernels.function import Floats, aligned_empty
from lstm_ray.kernels.threads import Threads

Ids: TypeAlias = npt.NDArray[np.integer[Any]]

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-7  # Keras's defaults
_ROWS_TOGETHER = 64  # of a matrix in one call: some 20 microseconds of work


class AdamMatrix:
    """A matrix and its moments.

    Attributes:
        values: float32[rows, width], of which a row is up to date only after `catch_up`.
        first, second: The moments, likewise.
    """

    def __init__(self, rows: int, width: int, target: Target, threads: Threads) -> None:
        """Makes a matrix of zeros.

        Args:
            rows: Of the matrix.
            width: Of a row, in whole vectors.
            target: The processor.
            threads: What computes its steps.
        """
        self.values, self.first, self.second = (aligned_empty(rows, width) for _ in range(3))
        for matrix in (self.values, self.first, self.second):
            matrix[:] = 0
        self._done = np.zeros(rows, np.int32)
        self._has_moments = np.zeros(rows, np.bool_)  # without, a step changes nothing
        self._adam = adam(target)
        self._threads = threads

    def is_finite(self) -> bool:
        """Says whether every value is a number, and will be once its row has caught up: an endless moment spoils it."""
        return bool(np.isfinite(self.values).all() and np.isfinite(self.second).all())

    def restart(self, steps: int) -> None:
        """Takes values and moments, which have been set, for those after so many steps."""
        self._done[:] = steps
        self._has_moments[:] = self.first.any(axis=1) | self.second.any(axis=1)  # a small gradient's square may be 0

    def catch_up(self, ids: Ids | None, steps: int, rates: Floats) -> None:
        """Brings rows to where they are after so many steps.

        Args:
            ids: Which, each once; None for all.
            steps: Steps done so far.
            rates: float32[at least steps], see `corrected`.
        """
        behind = np.arange(len(self._done)) if ids is None else ids
        behind = behind[self._has_moments[behind] & (self._done[behind] < steps)]
        self._threads.run(lambda part: self._call(part, None, steps, rates), _parts(behind))
        self._done[behind] = steps

    def learn(self, ids: Ids, gradients: Floats, steps: int, rates: Floats) -> None:
        """Takes a step with a gradient.

        Args:
            ids: int[n], the rows that have one, each once.
            gradients: float32[n, width].
            steps: Steps done before it.
            rates: float32[more than steps].
        """
        self.catch_up(ids, steps, rates)
        self._done[ids] = steps  # those without moments too: nothing changed in the steps that they missed
        parts = zip(_parts(ids), _parts(gradients), strict=True)
        self._threads.run(lambda part: self._call(part[0], part[1], steps, rates), parts)
        self._done[ids] = steps + 1
        self._has_moments[ids] = True

    def _call(self, ids: Ids, gradients: Floats | None, steps: int, rates: Floats) -> None:
        self._adam(
            rows=len(ids),
            ids=ids.astype(np.int32),
            width=self.values.shape[1],
            weights=self.values,
            first=self.first,
            second=self.second,
            done=self._done,
            missed_until=steps,
            has_gradients=gradients is not None,
            gradients=gradients,
            rates=rates,
            constants=np.array([1 - BETA_1, 1 - BETA_2, EPSILON], np.float32),
        )


def corrected(rates: npt.NDArray[np.float64]) -> Floats:
    """Returns the rates of steps 0, 1, 2, ... with Adam's correction for moments that began at zero, float32[n].

    In float32 as Keras computes it: 0.999, so rounded, moves the first steps by 6 parts in a million. Powers are made
    by products, which all processors round alike, as workers have to; NumPy's own powers differ with the processor.
    """
    first, second = (
        np.multiply.accumulate(np.full(len(rates), np.float32(beta), np.float64)).astype(np.float32)
        for beta in (BETA_1, BETA_2)
    )
    with np.errstate(over="ignore"):  # a rate beyond float32 spoils the weights, which is found and told
        result: Floats = rates.astype(np.float32) * np.sqrt(1 - second) / (1 - first)
    return result


def _parts(rows: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    return [rows[start : start + _ROWS_TOGETHER] for start in range(0, len(rows), _ROWS_TOGETHER)]
