"""The rows of a batch in the order in which the compiled kernels read them: longest row first, without padding.

The steps of all rows are stored one row after another. There is an unused offset before each row and after the last
one, whose state is zero. So each row finds its initial state at the neighbouring offset, in both directions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lstm_ray.arrays import Floats, Ids
from lstm_ray.kernels.layout import Offsets, RowOffsets


@dataclass(frozen=True)
class BatchRows:
    """The rows of a batch, sorted by length.

    Attributes:
        order: int64[rows], the index of each row in the batch as it was passed.
        offsets: The offsets of each row's steps.
        unused: int64[rows + 1], the offsets without a step.
        all: int32[offsets], 0, 1, 2, ...
        row_of: int32[offsets], the row of each offset.
        words: int64[n], the distinct token ids, in ascending order.
        word_of: int32[offsets], the index in `words` of the token at each offset; 0 where there is no step.
        is_step: bool[offsets], True where there is a step.
        is_read: bool[rows, time], True for the token ids that have a step.
    """

    order: npt.NDArray[np.intp]
    offsets: RowOffsets
    unused: Offsets
    all: Ids
    row_of: Ids
    words: npt.NDArray[np.int64]
    word_of: Ids
    is_step: npt.NDArray[np.bool_]
    is_read: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, token_ids: Ids, masked: bool) -> BatchRows:
        """Sorts the rows of int32[rows, time]. With `masked`, a token id of 0 is padding and gets no step.

        Raises:
            ValueError: A row has no step; the kernels cannot compute such a row.
        """
        is_read = token_ids != 0 if masked else np.ones_like(token_ids, np.bool_)
        steps = is_read.sum(axis=1)
        if not steps.all():
            raise ValueError(f"row {int(steps.argmin())} has no token")
        order = np.argsort(-steps, kind="stable")
        offsets = RowOffsets.of(steps[order], gap=1)
        unused = np.append(offsets.begin - 1, offsets.size - 1)
        is_step = np.ones(offsets.size, np.bool_)
        is_step[unused] = False
        words, word_of_step = np.unique(token_ids[order][is_read[order]], return_inverse=True)
        word_of = np.zeros(offsets.size, np.int32)
        word_of[is_step] = word_of_step
        row_of = np.repeat(np.arange(len(steps), dtype=np.int32), offsets.steps + 1)
        return cls(
            order=order,
            offsets=offsets,
            unused=unused,
            all=np.arange(offsets.size, dtype=np.int32),
            row_of=np.append(row_of, row_of[-1:]),
            words=words.astype(np.int64),
            word_of=word_of,
            is_step=is_step,
            is_read=is_read[order],
        )

    def __len__(self) -> int:
        return len(self.order)

    def slices(self) -> list[slice]:
        """Returns the offsets of each row's steps."""
        return [
            slice(begin, begin + steps) for begin, steps in zip(self.offsets.begin, self.offsets.steps, strict=True)
        ]

    def by_offset(self, values: Floats, width: int) -> Floats:
        """Returns float32[rows, time or 1, columns], rows sorted, as float32[offsets, width], with zeros elsewhere."""
        columns = values.shape[2]
        arranged = np.zeros((self.offsets.size, width), np.float32)
        arranged[self.is_step, :columns] = np.broadcast_to(values, (*self.is_read.shape, columns))[self.is_read]
        return arranged

    def as_given(self, values: Floats) -> Floats:
        """Returns float32[rows] in the order in which the rows were passed."""
        given = np.empty_like(values)
        given[self.order] = values
        return given
