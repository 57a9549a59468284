"""float32, which all processors support."""

from __future__ import annotations

from typing import ClassVar

from lstm_ray.arrays import Floats
from lstm_ray.kernels.emitter import F32, Emitter, Target, Value
from lstm_ray.kernels.precision.base import NumberFormat


class Float32(NumberFormat):
    """Hidden states and weights as they are."""

    per_element: ClassVar[int] = 1
    dtype: ClassVar[str] = "float32"
    stored: ClassVar[Value] = F32
    instructions: ClassVar[str] = "none"

    def is_on(self, target: Target) -> bool:
        """Returns True."""
        return True

    def emit_stored(self, b: Emitter, values: Value) -> Value:
        """Returns the vector."""
        return values

    def store(self, values: Floats) -> Floats:
        """Returns the values."""
        return values

    def pack(self, packed: Floats, inner: int, lanes: int) -> Floats:
        """Returns the packed matrix."""
        return packed
