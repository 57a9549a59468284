"""Tiles: groups of rows whose sums stay in registers while a product is added to them.

A tile is some rows x 4 gates x one vector of units. Memory layouts are described in `kernels/layout.py`.
"""

from collections.abc import Callable, Sequence
from typing import ClassVar

from lstm_ray.kernels.emitter import F32, I64, Emitter, Value
from lstm_ray.kernels.layout import GATES

_TOGETHER = 3


def emit_product(
    b: Emitter,
    sums: list[Value],
    rows: Sequence[Value],
    size: Value,
    weights: Value,
    meanwhile: Callable[[Value], None] | None = None,
    gate_size: int | None = None,
    multiply_add: Callable[[Value, Value, Value], Value] | None = None,
) -> list[Value]:
    """Adds rows @ weights to a tile of sums. Nearly all the time is spent in this loop.

    Args:
        b: The kernel.
        sums: rows x 4 gates vectors, row by row.
        rows: Addresses of `size` floats each.
        size: int64, the length of the product's inner dimension.
        weights: Address of a packed block, float32[size, 4, lanes].
        meanwhile: Emits additional code for each iteration k.
        gate_size: If given, each gate has its own input, `gate_size` floats after that of the previous gate.
        multiply_add: Emits value * weight + sum, if it isn't that of float32 values.
    """
    add = multiply_add or b.multiply_add

    def multiply_one(k: Value, sums: list[Value]) -> list[Value]:
        if meanwhile is not None:
            meanwhile(k)
        column = b.at(weights, b.mul(k, I64(GATES * b.target.lanes)))
        gates = [b.load_vector(b.at(column, gate * b.target.lanes)) for gate in range(GATES)]
        values = [value for row in rows for value in emit_values(b, b.at(row, k), gate_size)]
        products = zip(values, gates * len(rows), sums, strict=True)
        return [add(value, gate, total) for value, gate, total in products]

    return b.loop(size, sums, multiply_one)


def emit_values(b: Emitter, address: Value, gate_size: int | None) -> list[Value]:
    """Returns the factor of each of the four gates: the float at an address, or one per gate, `gate_size` apart."""
    if gate_size is None:
        return [b.broadcast(b.load(address, typ=F32))] * GATES
    return [b.broadcast(b.load(b.at(address, gate * gate_size), typ=F32)) for gate in range(GATES)]


def emit_tiles(b: Emitter, rows: Value, tile: Callable[[list[Value]], None]) -> None:
    """Emits `tile` for each group of rows, and ends the kernel. The last group is filled by repeating its last row."""
    size = b.target.tile_rows

    def one(index: Value, _: list[Value]) -> list[Value]:
        last = b.sub(rows, I64(1))
        tile([b.smaller(b.add(b.mul(index, I64(size)), I64(r)), last) for r in range(size)])
        return []

    b.loop(b.sdiv(b.add(rows, I64(size - 1)), I64(size)), [], one)
    b.ret_void()


class Walk:
    """The offsets of the time steps of a tile's rows: step s of row r is at first[r] + s * direction."""

    ARGUMENTS: ClassVar[dict[str, str]] = {
        "first": "int64[rows]",  # longest row first
        "lengths": "int64[rows]",  # in steps
        "direction": "int64",  # 1 or -1
    }

    def __init__(self, b: Emitter, rows: list[Value]) -> None:
        """Loads the rows' first offsets and lengths."""
        self._b, self._rows = b, rows
        self.lengths = [b.load_integer(b.arguments["lengths"], row, I64) for row in rows]
        self._firsts = [b.load_integer(b.arguments["first"], row, I64) for row in rows]

    def at_step(self, s: Value) -> tuple[list[Value], list[Value]]:
        """Returns the rows and the offsets of their step s.

        A row without a step s is replaced by the tile's first row, the longest: the same values are then written to the
        same offset twice.
        """
        b = self._b
        running = [b.icmp_signed("<", s, length) for length in self.lengths]
        rows = [b.select(on, row, self._rows[0]) for on, row in zip(running, self._rows, strict=True)]
        shift = b.mul(s, b.arguments["direction"])
        offsets = [
            b.add(b.select(on, first, self._firsts[0]), shift) for on, first in zip(running, self._firsts, strict=True)
        ]
        return rows, offsets


def activation_groups(rows: int) -> list[range]:
    """Divides a tile into groups of rows whose activations are computed as one long vector.

    Instructions of independent rows then alternate: 28 cycles per vector of units instead of 40.
    """
    return [range(first, min(first + _TOGETHER, rows)) for first in range(0, rows, _TOGETHER)]


def load_rows(b: Emitter, addresses: Sequence[Value], rows: range, offset: Value) -> Value:
    """Returns one vector of each row, at an offset from the row's address, concatenated."""
    return b.join([b.load_vector(b.at(addresses[row], offset)) for row in rows])
