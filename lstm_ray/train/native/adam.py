"""Adam for the rows of a matrix, on CPUs, updating a row only when it is read.

Adam changes every value in every step, because of the moments of earlier gradients, even where this step's gradient is
zero; in an embedding that is nearly everywhere. Here a row without a gradient is left alone until it is read, and then
takes all the steps that it missed, one after the other, in registers. The result has the same bits as if the row had
taken each step in turn, but a step does not read and write the whole matrix and its moments (60 MB for 20,000 words of
128 values). The moving average of a row is updated together with the row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from lstm_ray.arrays import Floats, Integers
from lstm_ray.kernels.adam import adam
from lstm_ray.kernels.emitter import Target
from lstm_ray.kernels.function import aligned_empty
from lstm_ray.runtime.threads import Threads
from lstm_ray.train.step.schedule import average_share

Rates: TypeAlias = Callable[[npt.NDArray[np.float64]], Any]

EPSILON = 1e-7  # Keras's default
_PARTS_PER_THREAD = 4  # calls of each thread: rows have missed different numbers of steps, so parts take unequal time


class Clock:
    """The number of steps done, and the learning rate and other values of each step. All matrices share one clock.

    Attributes:
        steps: Steps done.
        betas, ema, weight_decay: As passed to the constructor.
    """

    def __init__(
        self,
        rates: Rates,
        expected_steps: int,
        betas: tuple[float, float] = (0.9, 0.999),
        ema: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        """Starts before the first step.

        Args:
            rates: Returns the learning rates of steps, given the steps' numbers, counted from 0.
            expected_steps: Steps for which rates are computed in advance.
            betas: Decays of the first and second moments.
            ema: Decay of the moving average of the values; 0 for no average.
            weight_decay: In each step, values shrink by this times the learning rate.
        """
        self.steps = 0
        self.betas, self.ema, self.weight_decay = betas, ema, weight_decay
        self._rates, self._expected = rates, expected_steps
        self._by_step: dict[str, Floats] = {}

    def by_step(self) -> dict[str, Floats]:
        """Returns the kernel's arguments with one element per step: for all steps done and at least the next one."""
        if not self._by_step or len(self._by_step["rates"]) <= self.steps:
            numbers = np.arange(max(2 * (self.steps + 1), self._expected), dtype=np.float64)
            rates = self._rates(numbers)
            self._by_step = {"rates": corrected(rates, self.betas)}
            if self.weight_decay:
                self._by_step["decays"] = (rates * self.weight_decay).astype(np.float32)
            if self.ema:
                self._by_step["shares"] = average_share(self.ema, numbers).astype(np.float32)
        return self._by_step


VALUES, FIRST, SECOND, AVERAGES = range(4)
"""Arrays of a matrix: its values, the first and second moments of their gradients, and the values' moving average."""
_NAMES = ("values", "first", "second", "averages")  # of the kernel's arguments


class AdamMatrix:
    """A trainable matrix, float32[rows, width]. Rows are up to date with the clock whenever they are returned."""

    def __init__(
        self, rows: int, width: int, clock: Clock, target: Target, threads: Threads, frozen: bool = False
    ) -> None:
        """Makes a matrix of zeros.

        Args:
            rows: Number of rows.
            width: Values in a row, a multiple of the vector length.
            clock: Shared by all matrices; says whether there is a moving average.
            target: The processor.
            threads: The threads that compute the steps.
            frozen: Whether the values never change; then `learn` must not be called.
        """
        self._clock, self._threads = clock, threads
        self._constants = np.array([1 - clock.betas[0], 1 - clock.betas[1], EPSILON], np.float32)
        averages, decays = clock.ema > 0, clock.weight_decay > 0
        self._arrays = [aligned_empty(rows, width) for _ in _NAMES[: None if averages else AVERAGES]]
        for array in self._arrays:
            array[:] = 0
        self._done = np.zeros(rows, np.int32)
        self._decays = decays and not frozen
        self._moves = np.full(rows, self._decays)  # False: moments are 0, steps change nothing
        self._missed_steps, self._step = (
            adam(target, width, has_gradients, averages, decays) for has_gradients in (False, True)
        )

    def rows(self, ids: Integers, array: int = VALUES) -> Floats:
        """Returns a copy of the given rows of an array, float32[n, width]."""
        self._catch_up(ids)
        whole = self._arrays[array]
        rows = aligned_empty(len(ids), whole.shape[1])
        return np.take(whole, ids, axis=0, out=rows, mode="clip")  # "raise" would copy twice; `_catch_up` has checked

    def read(self, array: int, where: Any) -> Floats:
        """Returns a copy of part of an array; `where` is any NumPy index."""
        self._catch_up(np.arange(len(self._done)))
        part: Floats = self._arrays[array][where]
        return part.copy()

    def write(self, array: int, where: Any, part: npt.NDArray[Any]) -> None:
        """Sets part of an array. After setting moments or averages, call `restart`.

        Setting values also sets their average, which starts at the initial values.
        """
        self._catch_up(np.arange(len(self._done)))
        for written in (array, AVERAGES) if array == VALUES and self._clock.ema else (array,):
            self._arrays[written][where] = part

    def restart(self) -> None:
        """Marks all rows as up to date with the clock, after `write` has set the arrays."""
        self._done[:] = self._clock.steps
        # Both moments are checked, because the square of a small gradient may be 0.
        self._moves[:] = self._arrays[FIRST].any(axis=1) | self._arrays[SECOND].any(axis=1) | self._decays
        if self._clock.ema:  # an average still moves when the moments have faded to 0
            self._moves |= (self._arrays[AVERAGES] != self._arrays[VALUES]).any(axis=1)

    def is_finite(self) -> bool:
        """Returns whether all values are finite, also after the missed steps of their rows."""
        return all(bool(np.isfinite(self._arrays[array]).all()) for array in (VALUES, SECOND))

    def learn(self, ids: Integers, gradients: Floats) -> None:
        """Takes the clock's next step. The caller then advances the clock.

        Args:
            ids: int[n], the rows that have a gradient, without duplicates.
            gradients: float32[n, width].
        """
        self._catch_up(ids)
        self._done[ids] = self._clock.steps  # also rows without moments: the steps that they missed changed nothing
        self._run(self._step, ids, gradients=gradients)
        self._done[ids] = self._clock.steps + 1
        self._moves[ids] = True

    def _catch_up(self, ids: Integers) -> None:
        behind = ids[self._moves[ids] & (self._done[ids] < self._clock.steps)]
        self._run(self._missed_steps, behind)
        self._done[behind] = self._clock.steps

    def _run(self, kernel: Callable[..., None], ids: Integers, **by_row: Floats) -> None:
        """Runs a kernel on the given rows, divided among the threads."""
        arrays = dict(zip(_NAMES, self._arrays, strict=False))
        ids, by_step = ids.astype(np.int32), self._clock.by_step()
        size = max(1, -(-len(ids) // (_PARTS_PER_THREAD * self._threads.count)))

        def run(begin: int) -> None:
            part = slice(begin, begin + size)
            kernel(
                ids=ids[part],
                done=self._done,
                step=self._clock.steps,
                constants=self._constants,
                **arrays,
                **by_step,
                **{name: array[part] for name, array in by_row.items()},
            )

        self._threads.run(run, range(0, len(ids), size))


def corrected(rates: npt.NDArray[np.float64], betas: tuple[float, float]) -> Floats:
    """Returns the rates of steps 0, 1, 2, ... with Adam's bias correction, float32[n].

    The betas are rounded to float32 because Keras does so: for 0.999 this changes the first steps by 6 parts in a
    million. Powers are computed as products, which every processor rounds in the same way, because all workers must
    agree; the results of NumPy's `power` depend on the processor.
    """
    first, second = (
        np.multiply.accumulate(np.full(len(rates), np.float32(beta), np.float64)).astype(np.float32) for beta in betas
    )
    with np.errstate(over="ignore"):  # a rate beyond float32 makes weights infinite, and `is_finite` reports that
        result: Floats = rates.astype(np.float32) * np.sqrt(1 - second) / (1 - first)
    return result
