"""bfloat16: the upper half of a float32, with a precision of 8 bits. Its products are exact in float32."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt
from llvmlite import ir

from lstm_ray.arrays import Floats
from lstm_ray.kernels.emitter import Emitter, Target, Value
from lstm_ray.kernels.function import aligned_empty
from lstm_ray.kernels.precision.base import MultiplyAdd, NumberFormat, grouped


class _BFloat(ir.Type):
    """LLVM's bfloat, which llvmlite lacks."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


class BFloat16(NumberFormat):
    """Hidden states and weights are rounded to bfloat16; an instruction adds two products to a float32 sum."""

    per_element: ClassVar[int] = 2
    dtype: ClassVar[str] = "uint16"
    stored: ClassVar[Value] = _BFloat()
    instructions: ClassVar[str] = "AVX512-BF16"

    def is_on(self, target: Target) -> bool:
        """Returns whether a processor has AVX512-BF16."""
        return target.has("avx512bf16")

    def multiply_add(self, b: Emitter) -> MultiplyAdd:
        """Returns what adds the products of two pairs."""
        lanes = b.target.lanes
        pairs = ir.VectorType(self.stored, 2 * lanes)

        def add_pairs(value: Value, weight: Value, total: Value) -> Value:
            name = f"llvm.x86.avx512bf16.dpbf16ps.{32 * lanes}"
            return b.intrinsic(name, b.vector, [total, b.bitcast(value, pairs), b.bitcast(weight, pairs)])

        return add_pairs

    def emit_stored(self, b: Emitter, values: Value) -> Value:
        """Returns a vector rounded to bfloat16."""
        return b.fptrunc(values, ir.VectorType(self.stored, b.target.lanes))

    def store(self, values: Floats) -> npt.NDArray[np.uint16]:
        """Returns finite values rounded to bfloat16, half to even."""
        bits = np.ascontiguousarray(values).view(np.uint32)
        half = 0x7FFF + (bits >> 16 & 1)  # carries into the upper half if the lower one is above its middle
        return (bits + half >> 16).astype(np.uint16)

    def pack(self, packed: Floats, inner: int, lanes: int) -> npt.NDArray[np.uint16]:
        """Returns the packed matrix in pairs of rows."""
        stored = self.store(grouped(packed, inner, lanes, self.per_element)).ravel()
        out: npt.NDArray[np.uint16] = aligned_empty(len(stored), dtype=np.uint16)
        out[:] = stored
        return out
