"""Memory layout of weights, gates and rows, shared by scoring and training.

Units are filled up with zeros to whole vectors of `lanes` floats; `width` is that number of units, and a "block" is
one vector of units. The four gates have Keras's order: input, forget, candidate, output.

    gates         float32[width / lanes, 4, lanes]: the gates of a block side by side, as a tile has them in registers
    packed        float32[width / lanes, k, 4, lanes]: a matrix of k rows of gates; a tile reads it from front to back
    transposed    float32[wide / (4 * lanes), 4 * width, 4 * lanes]: a packed matrix for products with the gradients of
                  gates; the inner dimension has the order of `gates`, outputs are filled up to `wide`, a multiple of
                  four vectors

The steps of all rows of a batch are stored one row after another; the index of a step in that order is its offset.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_ray.arrays import Floats
from lstm_ray.kernels.function import aligned_empty

GATES = 4

Offsets = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RowOffsets:
    """Offsets of the rows of a batch, longest row first.

    Attributes:
        begin: int64[rows], the offset of each row's first step.
        steps: int64[rows], the number of each row's steps, which have consecutive offsets.
        size: Number of offsets.
    """

    begin: Offsets
    steps: Offsets
    size: int

    @classmethod
    def of(cls, steps: Offsets, gap: int = 0) -> RowOffsets:
        """Returns the offsets of rows with `steps` steps, with `gap` unused ones before each row and after the last."""
        ends = np.cumsum(steps + gap)
        return cls(ends - steps, steps, int(ends[-1]) + gap)

    def walk(self, is_backward: bool, skipped: int | Offsets = 0) -> dict[str, Any]:
        """Returns a kernel's arguments for visiting all steps (`tiles.Walk`) except the first `skipped` ones."""
        first = self.begin + (self.steps - 1 - skipped if is_backward else skipped)
        return {"first": first, "lengths": self.steps - skipped, "direction": -1 if is_backward else 1}


def rounded_up(size: int, multiple: int) -> int:
    """Returns the smallest multiple that is at least `size`."""
    return -(-size // multiple) * multiple


def wide(width: int, lanes: int) -> int:
    """Returns a width rounded up to a multiple of four vectors."""
    return rounded_up(width, GATES * lanes)


def packed_offsets(rows: Offsets, inner: int, units: int, lanes: int) -> Offsets:
    """Returns where each element of a matrix of gates is in its packed form.

    Args:
        rows: int64[k], the row of the packed matrix for each row of the matrix; other rows are zeros.
        inner: Number of rows of the packed matrix.
        units: Units of the layer.
        lanes: float32 values in a vector.

    Returns:
        int64[k, 4 * units], the shape of Keras's matrix.
    """
    width = rounded_up(units, lanes)
    packed = np.arange(inner * GATES * width).reshape(width // lanes, inner, GATES, lanes)
    by_gate = packed.transpose(1, 2, 0, 3).reshape(inner, GATES, width)
    return by_gate[rows, :, :units].reshape(len(rows), GATES * units)


def pack(matrix: Floats, lanes: int, rows: Offsets | None = None, inner: int | None = None) -> Floats:
    """Packs a matrix of gates.

    Args:
        matrix: float32[k, 4 * units], in Keras's layout.
        lanes: float32 values in a vector.
        rows: As in `packed_offsets`; by default the packed matrix has no rows of zeros.
        inner: Number of rows of the packed matrix; by default k.

    Returns:
        The packed matrix as one vector, float32[inner * 4 * width].
    """
    rows = np.arange(len(matrix)) if rows is None else rows
    inner = len(matrix) if inner is None else inner
    units = matrix.shape[1] // GATES
    packed = aligned_empty(inner * GATES * rounded_up(units, lanes))
    packed[:] = 0
    packed[packed_offsets(rows, inner, units, lanes)] = matrix
    return packed


def transpose(packed: Floats, inner: int, lanes: int) -> Floats:
    """Transposes a packed matrix of `inner` rows. Argument and result are vectors."""
    matrix = packed.reshape(-1, inner, GATES * lanes).transpose(0, 2, 1).reshape(-1, inner)
    if wide(inner, lanes) > inner:
        matrix = np.pad(matrix, ((0, 0), (0, wide(inner, lanes) - inner)))
    columns = matrix.reshape(len(matrix), -1, GATES * lanes).transpose(1, 0, 2)
    transposed = aligned_empty(*columns.shape)
    transposed[:] = columns
    return transposed.ravel()
