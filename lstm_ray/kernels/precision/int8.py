"""8-bit integers: products and sums are exact integers, and each column of the weights has its own scale.

A hidden state h, within -1 .. 1, is stored as h * 127 + 128, rounded, because the instruction multiplies unsigned by
signed bytes. The 128 are subtracted before the product: -128 times the sum of a column's weights is where its sum
starts. A block's head has these starts, int32[4, lanes], and then the scales, float32[4, lanes].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from llvmlite import ir

from lstm_ray.arrays import Floats
from lstm_ray.kernels.cell import ROUND_TO_INTEGER
from lstm_ray.kernels.emitter import I32, I64, Emitter, Target, Value
from lstm_ray.kernels.function import aligned_empty
from lstm_ray.kernels.layout import GATES
from lstm_ray.kernels.precision.base import NumberFormat, grouped
from lstm_ray.kernels.tiles import emit_product

_I8 = ir.IntType(8)
_AVX2_LANES = 8
_LARGEST = 127
_ZERO = 128  # stands for a hidden state of 0


class Int8(NumberFormat):
    """Hidden states and weights are rounded to 8-bit integers; an instruction adds four products to an int32 sum."""

    per_element: ClassVar[int] = 4
    head: ClassVar[int] = 2
    dtype: ClassVar[str] = "uint8"
    stored: ClassVar[Value] = _I8
    instructions: ClassVar[str] = "VNNI"

    def is_on(self, target: Target) -> bool:
        """Returns whether a processor has VNNI."""
        return target.has("avx512vnni") or (target.lanes == _AVX2_LANES and target.has("avxvnni"))

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
        """Adds rows @ weights to a tile of sums."""
        lanes = b.target.lanes
        integers = ir.VectorType(I32, lanes)
        row = GATES * lanes

        def add_quads(value: Value, weight: Value, total: Value) -> Value:
            name = f"llvm.x86.avx512.vpdpbusd.{32 * lanes}"
            return b.intrinsic(name, integers, [total, b.bitcast(value, integers), b.bitcast(weight, integers)])

        assert gate_size is None, "gates have no inputs of their own"
        is_on = b.icmp_signed("<", I64(0), size)
        zero = ir.Constant(integers, None)
        starts = [b.load(b.at(weights, gate * lanes), typ=integers, align=4) for gate in range(GATES)]
        starts = [b.select(is_on, start, zero) for start in starts] * len(rows)
        totals = emit_product(b, starts, rows, size, b.at(weights, self.head * row), meanwhile, multiply_add=add_quads)
        scales = [b.load_vector(b.at(weights, row + gate * lanes)) for gate in range(GATES)] * len(rows)
        terms = zip(totals, scales, sums(), strict=True)
        return [b.multiply_add(b.sitofp(total, b.vector), scale, value) for total, scale, value in terms]

    def emit_stored(self, b: Emitter, values: Value) -> Value:
        """Returns a vector rounded to bytes."""
        bits = ir.VectorType(I32, b.target.lanes)
        shifted = b.multiply_add(values, b.like(values, _LARGEST), b.like(values, ROUND_TO_INTEGER + _ZERO))
        return b.trunc(b.bitcast(shifted, bits), ir.VectorType(_I8, b.target.lanes))

    def store(self, values: Floats) -> npt.NDArray[np.uint8]:
        """Returns values within -1 .. 1 rounded to bytes, half to even."""
        return (np.rint(values.astype(np.float64) * _LARGEST) + _ZERO).astype(np.uint8)

    def pack(self, packed: Floats, inner: int, lanes: int) -> npt.NDArray[np.uint8]:
        """Returns the packed matrix in groups of four rows, with the heads of its blocks."""
        groups = grouped(packed, inner, lanes, self.per_element)
        scales = np.abs(groups).max(axis=(1, 3), keepdims=True) / np.float32(_LARGEST)
        weights = np.rint(np.divide(groups, scales, out=np.zeros_like(groups), where=scales > 0)).astype(np.int8)
        out = aligned_empty(len(groups), self.block_rows(inner), GATES * lanes, dtype=np.int32)
        out[:, 0] = -_ZERO * weights.sum(axis=(1, 3), dtype=np.int32)
        out[:, 1] = (scales / np.float32(_LARGEST)).reshape(len(groups), -1).view(np.int32)
        out[:, self.head :] = weights.view(np.int32)[..., 0]
        return out.view(np.uint8).ravel()
