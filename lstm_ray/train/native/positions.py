"""Where the steps of a batch's rows stand in memory, for the compiled kernels.

Rows come longest first. Row r has the places base[r] .. base[r] + steps[r]: a place of zeros, then its steps. A last
place of zeros ends them all. So the state before a row's first step is that of a neighbouring place, in both
directions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lstm_ray.kernels.function import Floats

Ids = npt.NDArray[np.int32]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RowPositions:
    """The rows of a call, longest first, and their places.

    Attributes:
        order: Of the rows as they were given, int64[rows].
        steps: int64[rows].
        base: int64[rows], the place of zeros before a row's steps.
        empty: int64[rows + 1], all places of zeros.
        all: int32[places], 0, 1, 2 and so on.
        row_of: int32[places].
        words: int64[n], the different ids that the steps read, rising.
        word_of: int32[places], which of these words; places of zeros name the first.
        is_step: bool[places], all but the places of zeros.
        is_read: bool[rows, time], the ids that have a step.
    """

    order: npt.NDArray[np.intp]
    steps: Counts
    base: Counts
    empty: Counts
    all: Ids
    row_of: Ids
    words: Counts
    word_of: Ids
    is_step: npt.NDArray[np.bool_]
    is_read: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, token_ids: Ids, masked: bool) -> RowPositions:
        """Arranges int32[rows, time]; a masked network has no steps where the id is 0.

        Raises:
            ValueError: A row has no step, which machine code must not find out.
        """
        is_read = token_ids != 0 if masked else np.ones_like(token_ids, np.bool_)
        steps = is_read.sum(axis=1)
        if not steps.all():
            raise ValueError(f"row {int(steps.argmin())} has no token")
        order = np.argsort(-steps, kind="stable")
        steps = steps[order]
        ends = np.cumsum(steps + 1)
        base = ends - steps - 1
        places = int(ends[-1]) + 1
        is_step = np.ones(places, np.bool_)
        empty = np.append(base, places - 1)
        is_step[empty] = False
        words, word_of_step = np.unique(token_ids[order][is_read[order]], return_inverse=True)
        word_of = np.zeros(places, np.int32)
        word_of[is_step] = word_of_step
        row_of = np.repeat(np.arange(len(steps), dtype=np.int32), steps + 1)
        return cls(
            order=order,
            steps=steps,
            base=base,
            empty=empty,
            all=np.arange(places, dtype=np.int32),
            row_of=np.append(row_of, row_of[-1:]),
            words=words.astype(np.int64),
            word_of=word_of,
            is_step=is_step,
            is_read=is_read[order],
        )

    def first(self, backward: bool) -> Counts:
        """Returns the place that each row's first step has on its way, int64[rows]."""
        return self.base + (self.steps if backward else 1)

    def slices(self) -> list[slice]:
        """Lists the places of each row's steps."""
        return [slice(base + 1, base + 1 + steps) for base, steps in zip(self.base, self.steps, strict=True)]

    def by_place(self, values: Floats, width: int) -> Floats:
        """Returns float32[rows, time, columns], rows in this order, as float32[places, width], zeros elsewhere."""
        placed = np.zeros((len(self.all), width), np.float32)
        placed[self.is_step, : values.shape[2]] = values[self.is_read]
        return placed

    def as_given(self, values: Floats) -> Floats:
        """Returns float32[rows] in the order in which the rows were given."""
        given = np.empty_like(values)
        given[self.order] = values
        return given
