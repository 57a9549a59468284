"""What the kernels of scoring and of learning share: a tile's product, its walk through time, its exponentials.

A tile is some rows x 4 gates x one vector of units, whose sums stay in registers while a product is added to them.
Layouts are described in `kernels/lstm.py`.
"""

from collections.abc import Callable, Sequence
from typing import ClassVar

from llvmlite import ir

from lstm_ray.kernels.emitter import F32, I32, I64, POINTER, Emitter, Value

GATES = 4
_TOGETHER = 3

LOG2_E = 1.4426950408889634
# Beyond 2^42 sigmoid and tanh are 0 or 1 to float32, and a product of three (1 + e) still fits.
_EXPONENT_LIMIT = 42.0
# 2^f for -1/2 <= f <= 1/2: minimax of the relative error, 1.1e-7, with the last coefficient held at 1 so that 2^0 is 1.
_EXP2_COEFFICIENTS = (0.00132647273, 0.00967151299, 0.0555073358, 0.240222424, 0.693147004, 1.0)
_ROUND_TO_INTEGER = 1.5 * 2.0**23  # added to a float32 it leaves the nearest integer in the low bits
_MANTISSA_BITS = 23


def emit_product(
    b: Emitter,
    sums: list[Value],
    rows: Sequence[Value],
    size: Value,
    weights: Value,
    meanwhile: Callable[[Value], None] = lambda k: None,
    gate_size: Value | None = None,
) -> list[Value]:
    """Adds rows @ weights to a tile of sums: the loop where nearly all the time goes.

    Args:
        sums: rows x 4 gates vectors, row by row.
        rows: addresses of `size` floats each.
        size: int64, the length of the product's inner dimension.
        weights: address of a packed block, float32[size, 4, lanes].
        meanwhile: writes something else to do in each turn k.
        gate_size: int64; if given, each gate reads floats of its own, those of the next gate so many floats further.
    """

    def multiply_one(k: Value, sums: list[Value]) -> list[Value]:
        meanwhile(k)
        column = b.at(weights, b.mul(k, I64(GATES * b.target.lanes)))
        gates = [b.load_vector(b.at(column, gate * b.target.lanes)) for gate in range(GATES)]
        values = [value for row in rows for value in emit_values(b, b.at(row, k), gate_size)]
        products = zip(values, gates * len(rows), sums, strict=True)
        return [b.multiply_add(value, gate, total) for value, gate, total in products]

    return b.loop(size, sums, multiply_one)


def emit_values(b: Emitter, address: Value, gate_size: Value | None) -> list[Value]:
    """Returns what the four gates multiply by: the float at an address, or one each, `gate_size` floats apart."""
    if gate_size is None:
        return [b.broadcast(b.load(address, typ=F32))] * GATES
    return [b.broadcast(b.load(b.at(address, b.mul(gate_size, I64(gate))), typ=F32)) for gate in range(GATES)]


def emit_tiles(b: Emitter, rows: Value, tile: Callable[[list[Value]], None]) -> None:
    """Runs `tile` on each group of rows and ends the function; the last group repeats the last row to be full."""
    size = b.target.tile_rows

    def one(index: Value, _: list[Value]) -> list[Value]:
        last = b.sub(rows, I64(1))
        tile([b.smaller(b.add(b.mul(index, I64(size)), I64(r)), last) for r in range(size)])
        return []

    b.loop(b.sdiv(b.add(rows, I64(size - 1)), I64(size)), [], one)
    b.ret_void()


class Walk:
    """Where a tile's rows are while it walks through time."""

    ARGUMENTS: ClassVar[dict[str, Value]] = {
        "rows": I64,  # longest first
        "first": POINTER,  # int64[rows], the place of the step that a row reads first
        "lengths": POINTER,  # int64[rows], in steps
        "direction": I64,  # 1 or -1, from a row's place to its next
    }

    def __init__(self, b: Emitter, rows: list[Value]) -> None:
        """Reads where the rows begin and end."""
        a = b.arguments
        self._b, self._rows = b, rows
        self.lengths = [b.load_integer(a["lengths"], row, I64) for row in rows]
        self._firsts = [b.load_integer(a["first"], row, I64) for row in rows]

    def at_step(self, s: Value) -> tuple[list[Value], list[Value]]:
        """Returns the rows and their places at step s.

        A row that is shorter repeats the tile's first and longest: the same values go to the same place twice.
        """
        b = self._b
        going = [b.icmp_signed("<", s, length) for length in self.lengths]
        rows = [b.select(on, row, self._rows[0]) for on, row in zip(going, self._rows, strict=True)]
        shift = b.mul(s, b.arguments["direction"])
        places = [
            b.add(b.select(on, first, self._firsts[0]), shift) for on, first in zip(going, self._firsts, strict=True)
        ]
        return rows, places


def side_by_side(rows: int) -> list[range]:
    """Cuts a tile into rows that go through the gates as one long vector.

    Their chains of dependent operations then alternate instruction by instruction: 28 cycles per vector of units
    instead of 40.
    """
    return [range(first, min(first + _TOGETHER, rows)) for first in range(0, rows, _TOGETHER)]


def load_rows(b: Emitter, addresses: Sequence[Value], rows: range, offset: Value) -> Value:
    """Returns a vector of each of some rows, at an offset from each row's address, as one long vector."""
    return b.join([b.load_vector(b.at(addresses[row], offset)) for row in rows])


def emit_exp2(b: Emitter, exponent: Value) -> Value:
    """Returns 2^exponent: the nearest integer goes to the exponent bits, a polynomial gives the rest."""
    fraction, rounded = _split(b, exponent)
    power = _polynomial(b, fraction, _EXP2_COEFFICIENTS)
    return _times_power(b, power, rounded)


def emit_exp2_less_one(b: Emitter, exponent: Value) -> Value:
    """Returns 2^exponent - 1. `emit_exp2` less 1 would lose the digits of what is near 0, and Adam enlarges noise."""
    fraction, rounded = _split(b, exponent)
    less = _polynomial(b, fraction, _EXP2_COEFFICIENTS[:-1])  # of 2^fraction - 1, by the fraction
    one = b.like(exponent, 1)
    power = _times_power(b, one, rounded)
    return b.multiply_add(power, b.fmul(less, fraction), b.fsub(power, one))


def _split(b: Emitter, exponent: Value) -> tuple[Value, Value]:
    """Returns an exponent's distance from the nearest integer, and a number with that integer in its low bits."""
    exponent = b.clamp(exponent, _EXPONENT_LIMIT)
    rounder = b.like(exponent, _ROUND_TO_INTEGER)
    rounded = b.fadd(exponent, rounder)
    return b.fsub(exponent, b.fsub(rounded, rounder)), rounded


def _polynomial(b: Emitter, x: Value, coefficients: Sequence[float]) -> Value:
    value = b.like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value = b.multiply_add(value, x, b.like(x, coefficient))
    return value


def _times_power(b: Emitter, value: Value, rounded: Value) -> Value:
    """Returns value times 2 to the integer in the low bits of `rounded`."""
    bits = ir.VectorType(I32, value.type.count)
    shift = ir.Constant(bits, [_MANTISSA_BITS] * value.type.count)
    return b.bitcast(b.add(b.bitcast(value, bits), b.shl(b.bitcast(rounded, bits), shift)), value.type)
