"""The activations of one step of an LSTM cell, as vector code with few instructions.

    sigmoid(z) = 1 / (1 + 2^-kz)         k = log2(e)
    tanh(z)    = n / (2 - n)             n = 1 - 2^-2kz

Quotients that are needed together share one denominator: two divisions per unit instead of five. n is not computed as
1 - 2^x, which would lose the digits of values near 0; Adam amplifies such noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from llvmlite import ir

from lstm_ray.kernels.emitter import I32, Emitter, Value

_LOG2_E = 1.4426950408889634
# Beyond 2^42 sigmoid and tanh are 0 or 1 to float32, and a product of three (1 + 2^x) is still finite.
_EXPONENT_LIMIT = 42.0
# 2^f for -1/2 <= f <= 1/2: minimax of the relative error, 1.1e-7, with the last coefficient held at 1 so that 2^0 is 1.
_EXP2_COEFFICIENTS = (0.00132647273, 0.00967151299, 0.0555073358, 0.240222424, 0.693147004, 1.0)
ROUND_TO_INTEGER = 1.5 * 2.0**23  # added to a float32 it leaves the nearest integer in the low bits
_MANTISSA_BITS = 23


@dataclass(frozen=True)
class Cell:
    """What a step computes, as vectors of any length. LLVM removes what a kernel does not use.

    Attributes:
        gates: Input, forget, candidate and output gate, after their activations.
        cell: The next cell state.
        tanh: Its hyperbolic tangent.
        hidden: The next hidden state.
    """

    gates: tuple[Value, Value, Value, Value]
    cell: Value
    tanh: Value
    hidden: Value


def emit_cell(b: Emitter, sums: Sequence[Value], cell: Value) -> Cell:
    """Emits a step.

    Args:
        b: The kernel's emitter.
        sums: The pre-activations of the four gates.
        cell: The cell state before the step.
    """
    one, two = b.like(cell, 1), b.like(cell, 2)
    # The denominators: i = 1 / of_i, f = 1 / of_f, g = n / of_g, o = 1 / of_o, tanh(cell) = m / of_m.
    of_i, of_f, of_o = (b.fadd(one, _exp2(b, sums[gate], -_LOG2_E)) for gate in (0, 1, 3))
    n = _one_minus_exp2(b, sums[2], -2 * _LOG2_E)
    of_g = b.fsub(two, n)
    of_ig = b.fmul(of_i, of_g)
    inverse = b.fdiv(one, b.fmul(of_ig, of_f))
    next_cell = b.fmul(inverse, b.multiply_add(cell, of_ig, b.fmul(n, of_f)))
    i, f = b.fmul(inverse, b.fmul(of_f, of_g)), b.fmul(inverse, of_ig)
    g = b.fmul(n, b.fmul(inverse, b.fmul(of_i, of_f)))
    m = _one_minus_exp2(b, next_cell, -2 * _LOG2_E)
    of_m = b.fsub(two, m)
    inverse_out = b.fdiv(one, b.fmul(of_o, of_m))
    tanh = b.fmul(m, b.fmul(inverse_out, of_o))
    return Cell((i, f, g, b.fmul(inverse_out, of_m)), next_cell, tanh, b.fmul(m, inverse_out))


def emit_sigmoid(b: Emitter, z: Value) -> Value:
    """Returns the sigmoid of a vector of any length."""
    one = b.like(z, 1)
    return b.fdiv(one, b.fadd(one, _exp2(b, z, -_LOG2_E)))


def _exp2(b: Emitter, z: Value, scale: float) -> Value:
    """Returns 2^(scale * z): the nearest integer becomes the exponent bits, a polynomial computes the rest."""
    fraction, rounded = _split(b, z, scale)
    return _times_power(b, _polynomial(b, fraction, _EXP2_COEFFICIENTS), rounded)


def _one_minus_exp2(b: Emitter, z: Value, scale: float) -> Value:
    """Returns 1 - 2^(scale * z)."""
    fraction, rounded = _split(b, z, scale)
    slope = _polynomial(b, fraction, _EXP2_COEFFICIENTS[:-1])  # (2^fraction - 1) / fraction
    one = b.like(z, 1)
    power = _times_power(b, one, rounded)
    return b.multiply_add(b.fneg(b.fmul(power, fraction)), slope, b.fsub(one, power))


def _split(b: Emitter, z: Value, scale: float) -> tuple[Value, Value]:
    """Returns how far scale * z is from the nearest integer, and a number with that integer in its low bits."""
    z = b.clamp(z, _EXPONENT_LIMIT / abs(scale))
    factor, rounder = b.like(z, scale), b.like(z, ROUND_TO_INTEGER)
    rounded = b.multiply_add(z, factor, rounder)
    return b.multiply_add(z, factor, b.fsub(rounder, rounded)), rounded


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
