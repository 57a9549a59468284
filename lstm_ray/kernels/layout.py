"""Memory layout of weights, gates and rows, the same in scoring and in learning.

Units are padded with zeros to whole vectors of `lanes` floats; `width` is the padded number, a "block" is one vector of
units. The four gates come in the order of Keras: input, forget, candidate, output.

    gates         float32[width / lanes, 4, lanes]: the gates of a block side by side, as a tile has them in registers
    packed        float32[width / lanes, k, 4, lanes]: a matrix of k rows of gates; a tile reads it from front to back
    transposed    float32[wide / (4 * lanes), 4 * width, 4 * lanes]: a packed matrix for products with the gradients of
                  gates; the inner dimension has the order of `gates`, outputs are padded to `wide`, four whole vectors

The steps of all rows of a batch follow one another; the number of a step in that order is its offset.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_ray.kernels.function import Floats, aligned_empty

GATES = 4

Offsets = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RowOffsets:
    """Offsets of the rows of a batch, longest row first.

    Attributes:
        begin: int64[rows], the offset of a row's earliest step.
        steps: int64[rows], a row's steps; they have offsets that follow one another.
        size: Number of offsets.
    """

    begin: Offsets
    steps: Offsets
    size: int

    @classmethod
    def of(cls, steps: Offsets, gap: int = 0) -> RowOffsets:
        """Returns the offsets of rows, given their steps, with `gap` unused ones before each row and after the last."""
        ends = np.cumsum(steps + gap)
        return cls(ends - steps, steps, int(ends[-1]) + gap)

    def walk(self, is_backward: bool, skipped: int | Offsets = 0) -> dict[str, Any]:
        """Returns the arguments of a kernel's walk through time (`tiles.Walk`), without its first `skipped` steps."""
        first = self.begin + (self.steps - 1 - skipped if is_backward else skipped)
        return {"first": first, "lengths": self.steps - skipped, "direction": -1 if is_backward else 1}


def padded(size: int, multiple: int) -> int:
    """Returns the smallest multiple that is at least `size`."""
    return -(-size // multiple) * multiple


def wide(width: int, lanes: int) -> int:
    """Returns a width padded to four vectors."""
    return padded(width, GATES * lanes)


def packed_offsets(rows: Offsets, inner: int, units: int, lanes: int) -> Offsets:
    """Returns the offset that each number of a matrix of gates has in its packed form.

    Args:
        rows: int64[k], the row of the packed matrix that each row of the matrix becomes; other rows are padding.
        inner: Rows of the packed matrix.
        units: Units of the layer.
        lanes: float32 values in a vector.

    Returns:
        int64[k, 4 * units], the shape of Keras's matrix.
    """
    width = padded(units, lanes)
    packed = np.arange(inner * GATES * width).reshape(width // lanes, inner, GATES, lanes)
    by_gate = packed.transpose(1, 2, 0, 3).reshape(inner, GATES, width)
    return by_gate[rows, :, :units].reshape(len(rows), GATES * units)


def pack(matrix: Floats, lanes: int, rows: Offsets | None = None, inner: int | None = None) -> Floats:
    """Packs a matrix of gates.

    Args:
        matrix: float32[k, 4 * units], as Keras has it.
        lanes: float32 values in a vector.
        rows: As of `packed_offsets`; by default the matrix has no padding rows.
        inner: Rows of the packed matrix; by default k.

    Returns:
        The packed matrix as one vector, float32[inner * 4 * width].
    """
    rows = np.arange(len(matrix)) if rows is None else rows
    inner = len(matrix) if inner is None else inner
    units = matrix.shape[1] // GATES
    packed = aligned_empty(inner * GATES * padded(units, lanes))
    packed[:] = 0
    packed[packed_offsets(rows, inner, units, lanes)] = matrix
    return packed


def transpose(packed: Floats, inner: int, lanes: int) -> Floats:
    """Returns a packed matrix of `inner` rows, given as one vector, transposed, as one vector."""
    matrix = packed.reshape(-1, inner, GATES * lanes).transpose(0, 2, 1).reshape(-1, inner)
    if wide(inner, lanes) > inner:
        matrix = np.pad(matrix, ((0, 0), (0, wide(inner, lanes) - inner)))
    columns = matrix.reshape(len(matrix), -1, GATES * lanes).transpose(1, 0, 2)
    transposed = aligned_empty(*columns.shape)
    transposed[:] = columns
    return transposed.ravel()
