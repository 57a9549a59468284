"""Number formats of the factors of a product: with fewer bits, an instruction multiplies more of them.

Hidden states and weights are stored in elements of 32 bits: one float32 value, two bfloat16 numbers or four integers.
A multiply-add multiplies an element of a row by a vector of elements of the weights, and adds all products of a lane to
the lane's 32-bit sum. So a kernel goes through elements as it goes through float32 values, in a half or a quarter of
the iterations. Sums, gates and cell states are float32 in all formats.

    packed        element[width / lanes, head + ceil(k / per_element), 4, lanes]: `packed` of kernels/layout.py with
                  fewer bits; consecutive rows share an element, and each block may have a head
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from lstm_ray.arrays import Floats
from lstm_ray.kernels.emitter import Emitter, Target, Value
from lstm_ray.kernels.layout import GATES, rounded_up
from lstm_ray.kernels.tiles import emit_product

Stored: TypeAlias = npt.NDArray[Any]
MultiplyAdd: TypeAlias = Callable[[Value, Value, Value], Value]


class NumberFormat(ABC):
    """How hidden states and weights are stored, and how a product reads them.

    Attributes:
        per_element: Numbers in an element.
        head: Rows of a packed block before the weights.
        dtype: NumPy's type of a number.
        stored: LLVM's type of a number in memory.
        instructions: Those that it needs, for messages.
    """

    per_element: ClassVar[int]
    head: ClassVar[int] = 0
    dtype: ClassVar[str]
    stored: ClassVar[Value]
    instructions: ClassVar[str]

    def elements(self, size: int) -> int:
        """Returns how many elements hold `size` numbers."""
        return -(-size // self.per_element)

    def block_rows(self, inner: int) -> int:
        """Returns the rows of a packed block, for a matrix of `inner` rows."""
        return self.head + self.elements(inner)

    @abstractmethod
    def is_on(self, target: Target) -> bool:
        """Returns whether a processor has the instructions."""

    def emit_product(
        self,
        b: Emitter,
        sums: Callable[[], list[Value]],
        rows: Sequence[Value],
        size: Value,
        weights: Value,
        meanwhile: Callable[[Value], None] | None = None,
        gate_size: int | None = None,
    ) -> list[Value]:
        """Adds rows @ weights to a tile of sums.

        Args:
            b: The kernel.
            sums: Emits the rows x 4 gates vectors, row by row, where they are needed.
            rows: Addresses of `size` elements each.
            size: int64, the length of the product's inner dimension in elements; 0 adds nothing.
            weights: Address of a packed block.
            meanwhile: Emits additional code for each iteration.
            gate_size: If given, each gate has its own input, as in `tiles.emit_product`; only in float32.
        """
        assert gate_size is None or self.per_element == 1, "gates have no inputs of their own"
        return emit_product(b, sums(), rows, size, weights, meanwhile, gate_size, self.multiply_add(b))

    def multiply_add(self, b: Emitter) -> MultiplyAdd | None:
        """Returns what emits value * weight + sum for elements; None for that of float32 values."""
        return None

    @abstractmethod
    def emit_stored(self, b: Emitter, values: Value) -> Value:
        """Returns a vector of hidden states as they are stored."""

    @abstractmethod
    def store(self, values: Floats) -> Stored:
        """Returns hidden states, which are within -1 .. 1, as they are stored."""

    @abstractmethod
    def pack(self, packed: Floats, inner: int, lanes: int) -> Stored:
        """Returns the packed form of a float32 matrix that `layout.pack` packed, as one vector.

        Args:
            packed: The matrix.
            inner: Its rows.
            lanes: float32 values in a vector.
        """


def grouped(packed: Floats, inner: int, lanes: int, per_element: int) -> Floats:
    """Returns the rows of a packed matrix that share elements: float32[blocks, elements, 4 * lanes, per_element]."""
    blocks = packed.reshape(-1, inner, GATES * lanes)
    blocks = np.pad(blocks, ((0, 0), (0, rounded_up(inner, per_element) - inner), (0, 0)))
    return np.ascontiguousarray(blocks.reshape(len(blocks), -1, per_element, GATES * lanes).transpose(0, 1, 3, 2))
