"""Machine code for learning: an LSTM's way forward that keeps what the way back needs, and the way back.

The recipe is that of scoring (`kernels/lstm.py`): a tile of rows walks through its whole time, a block of one vector of
units at a time, with the product and the gates in registers. What learning adds:

1. Rows of a batch lie one after the other, each step in a place of its own, with a place of zeros before each row and
   after the last. So "the state before the first step" is an ordinary place that holds zeros, in both directions, and a
   padded step of a masked network has no place at all.
2. The way back walks from a row's last step to its first: the gates' gradients of a step (elementwise), then the
   state's (a product with the transposed weights). Those of the weights and inputs of all steps are products over all
   places, made afterwards (`kernels/products.py`, which also describes the layouts).

Source of the way back: K. Greff et al., "LSTM: A Search Space Odyssey", 2017, appendix.
"""

from collections.abc import Callable, Sequence
from functools import cache

from llvmlite import ir

from lstm_ray.kernels.emitter import I32, I64, POINTER, Emitter, Target, Value
from lstm_ray.kernels.lstm import (
    EXP2_COEFFICIENTS,
    EXPONENT_LIMIT,
    GATES,
    LOG2_E,
    MANTISSA_BITS,
    ROUND_TO_INTEGER,
    CompiledFunction,
    emit_exp2,
    emit_product,
    emit_tiles,
)
from lstm_ray.kernels.products import Masks, emit_transposed, wide

_TOGETHER = 3  # rows whose gates are computed side by side


@cache
def forward(target: Target, width: int, masks: Masks) -> CompiledFunction:
    """Returns the way forward of one direction of a layer of `width` units; see `_FORWARD`."""
    b = Emitter(target, "forward", _FORWARD)
    a = b.arguments
    lanes, blocks = target.lanes, width // target.lanes
    row = GATES * width

    def tile(rows: list[Value]) -> None:
        walk = _Walk(b, rows)

        def step(s: Value, _: list[Value]) -> list[Value]:
            current, places = walk.at_step(s)
            before = [b.sub(place, a["direction"]) for place in places]
            starts = [b.at(a["starts"], b.mul(b.load_integer(a["start_ids"], p, I32), I64(row))) for p in places]
            gates = [b.at(a["gates"], b.mul(place, I64(row))) for place in places]
            old_cells, cells, tanhs = (
                [b.at(array, b.mul(place, I64(width))) for place in at]
                for array, at in ((a["cells"], before), (a["cells"], places), (a["tanhs"], places))
            )
            hidden, old_hidden = (
                [b.at(a["hidden"], b.mul(place, a["hidden_size"])) for place in at] for at in (places, before)
            )
            fed, old_fed = ([b.at(a["fed"], b.mul(place, I64(row))) for place in at] for at in (places, before))
            mask = [b.at(a["masks"], b.mul(r, I64(GATES * wide(width, lanes)))) for r in current]

            def block(index: Value, _: list[Value]) -> list[Value]:
                unit, offset = b.mul(index, I64(lanes)), b.mul(index, I64(GATES * lanes))
                sums = [
                    b.load_vector(b.at(b.at(start, offset), gate * lanes)) for start in starts for gate in range(GATES)
                ]
                weights = b.at(a["weights"], b.mul(offset, I64(width)))
                sums = emit_product(
                    b,
                    sums,
                    old_fed if masks else old_hidden,
                    I64(width),
                    weights,
                    gate_size=I64(width) if masks else None,
                )
                for together in _groups(len(rows)):
                    values = [b.join([sums[r * GATES + gate] for r in together]) for gate in range(GATES)]
                    i, f, o = (_sigmoid(b, values[gate]) for gate in (0, 1, 3))
                    g = _tanh(b, values[2])
                    cell = b.multiply_add(f, _loader(b, together)(old_cells, unit), b.fmul(i, g))
                    tanh = _tanh(b, cell)
                    out = b.fmul(o, tanh)
                    for position, r in enumerate(together):
                        for gate, value in enumerate((i, f, g, o)):
                            b.store_vector(b.part(value, position), b.at(b.at(gates[r], offset), gate * lanes))
                        b.store_vector(b.part(cell, position), b.at(cells[r], unit))
                        b.store_vector(b.part(tanh, position), b.at(tanhs[r], unit))
                        b.store_vector(b.part(out, position), b.at(hidden[r], unit))
                        for gate in range(masks):
                            kept = b.load_vector(b.at(b.at(mask[r], gate * wide(width, lanes)), unit))
                            b.store_vector(b.fmul(b.part(out, position), kept), b.at(b.at(fed[r], gate * width), unit))
                return []

            return b.loop(I64(blocks), [], block)

        b.loop(walk.lengths[0], [], step)

    emit_tiles(b, a["rows"], tile)
    return CompiledFunction(target, b)


_WALK = {
    "rows": I64,  # longest first
    "first": POINTER,  # int64[rows], the place of the step that a row reads first
    "lengths": POINTER,  # int64[rows], in steps
    "direction": I64,  # 1 or -1, from a row's place to its next
}
_FORWARD = {
    **_WALK,
    "starts": POINTER,  # float32[ids, blocks, 4, lanes], what the gates' sums start from: inputs @ kernel + bias
    "start_ids": POINTER,  # int32[places]
    "weights": POINTER,  # recurrent ones, packed, `width` rows
    "masks": POINTER,  # float32[rows, 4, wide], recurrent dropout's
    "gates": POINTER,  # float32[places, blocks, 4, lanes], filled; may be `starts` if each place has its own
    "cells": POINTER,  # float32[places, width], filled
    "tanhs": POINTER,  # float32[places, width], filled: tanh of the cells
    "hidden": POINTER,  # float32[places, hidden_size], whose first `width` columns are filled
    "hidden_size": I64,
    "fed": POINTER,  # float32[places, 4, width], filled with masks: the hidden state as each gate's product reads it
}


@cache
def backward(target: Target, width: int, masks: Masks) -> CompiledFunction:
    """Returns the way back of one direction of a layer of `width` units; see `_BACKWARD`."""
    b = Emitter(target, "backward", _BACKWARD)
    a = b.arguments
    lanes, blocks = target.lanes, width // target.lanes
    row, wide_row = GATES * width, wide(width, lanes)

    def tile(rows: list[Value]) -> None:
        walk = _Walk(b, rows)

        def step(turn: Value, _: list[Value]) -> list[Value]:
            s = b.sub(b.sub(walk.lengths[0], I64(1)), turn)
            current, places = walk.at_step(s)
            gates, deltas = ([b.at(array, b.mul(p, I64(row))) for p in places] for array in (a["gates"], a["deltas"]))
            tanhs = [b.at(a["tanhs"], b.mul(place, I64(width))) for place in places]
            old_cells = [b.at(a["cells"], b.mul(b.sub(place, a["direction"]), I64(width))) for place in places]
            upstream = [b.at(a["upstream"], b.mul(place, a["upstream_size"])) for place in places]
            carried = [b.at(a["carried"], b.mul(r, I64(wide_row))) for r in current]
            # A row that has not begun does what the tile's longest does, so what is read must not yet be overwritten.
            odd = b.and_(s, I64(1))
            plane = b.mul(a["rows"], I64(width))
            read, written = (
                [b.at(a["carried_cells"], b.add(b.mul(which, plane), b.mul(r, I64(width)))) for r in current]
                for which in (b.xor(odd, I64(1)), odd)
            )

            def block(index: Value, _: list[Value]) -> list[Value]:
                unit, offset = b.mul(index, I64(lanes)), b.mul(index, I64(GATES * lanes))
                for together in _groups(len(rows)):
                    load = _loader(b, together)
                    i, f, g, o = (load(gates, b.add(offset, I64(gate * lanes))) for gate in range(GATES))
                    tanh = load(tanhs, unit)
                    one = b.like(i, 1)
                    dh = b.fadd(load(carried, unit), load(upstream, unit))
                    dh_o = b.fmul(dh, o)
                    dc = b.fadd(load(read, unit), b.fmul(dh_o, b.fsub(one, b.fmul(tanh, tanh))))
                    dc_i = b.fmul(dc, i)
                    dc_f = b.fmul(dc, f)
                    results = (
                        b.fmul(b.fmul(dc_i, g), b.fsub(one, i)),
                        b.fmul(b.fmul(dc_f, load(old_cells, unit)), b.fsub(one, f)),
                        b.fmul(dc_i, b.fsub(one, b.fmul(g, g))),
                        b.fmul(b.fmul(dh_o, tanh), b.fsub(one, o)),
                    )
                    for position, r in enumerate(together):
                        for gate, value in enumerate(results):
                            b.store_vector(b.part(value, position), b.at(b.at(deltas[r], offset), gate * lanes))
                        b.store_vector(b.part(dc_f, position), b.at(written[r], unit))
                return []

            b.loop(I64(blocks), [], block)
            mask = [b.at(a["masks"], b.mul(r, I64(GATES * wide_row))) for r in current]
            emit_transposed(b, deltas, a["weights"], width, width, masks, mask, carried)
            return []

        b.loop(walk.lengths[0], [], step)

    emit_tiles(b, a["rows"], tile)
    return CompiledFunction(target, b)


_BACKWARD = {
    **_WALK,
    "weights": POINTER,  # recurrent ones, transposed
    "masks": POINTER,  # as in `forward`
    "gates": POINTER,  # as `forward` left them
    "cells": POINTER,
    "tanhs": POINTER,
    "upstream": POINTER,  # float32[places, upstream_size], the loss by each step's hidden state, as seen from above
    "upstream_size": I64,  # 0 makes every place read the same row
    "carried": POINTER,  # float32[rows, wide], the loss by the last hidden state; used up
    "carried_cells": POINTER,  # float32[2, rows, width], zeros; used up
    "deltas": POINTER,  # float32[places, blocks, 4, lanes], filled: the loss by what goes into the gates
}


class _Walk:
    """Where a tile's rows are while it walks through time."""

    def __init__(self, b: Emitter, rows: list[Value]) -> None:
        a = b.arguments
        self._b, self._rows = b, rows
        self.lengths = [b.load_integer(a["lengths"], row, I64) for row in rows]
        self._firsts = [b.load_integer(a["first"], row, I64) for row in rows]

    def at_step(self, s: Value) -> tuple[list[Value], list[Value]]:
        """Returns the rows and their places at step s; one that is shorter repeats the first and longest."""
        b = self._b
        going = [b.icmp_signed("<", s, length) for length in self.lengths]
        rows = [b.select(on, row, self._rows[0]) for on, row in zip(going, self._rows, strict=True)]
        shift = b.mul(s, b.arguments["direction"])
        places = [
            b.add(b.select(on, first, self._firsts[0]), shift) for on, first in zip(going, self._firsts, strict=True)
        ]
        return rows, places


def _groups(rows: int) -> list[range]:
    """Cuts a tile into rows whose gates are computed side by side: their chains of operations alternate."""
    return [range(first, min(first + _TOGETHER, rows)) for first in range(0, rows, _TOGETHER)]


def _loader(b: Emitter, rows: range) -> Callable[[Sequence[Value], Value], Value]:
    """Returns what reads a vector of each of some rows, at an offset from each row's address, as one long vector."""
    return lambda addresses, offset: b.join([b.load_vector(b.at(addresses[row], offset)) for row in rows])


def _sigmoid(b: Emitter, z: Value) -> Value:
    one = b.like(z, 1)
    return b.fdiv(one, b.fadd(one, emit_exp2(b, b.fmul(z, b.like(z, -LOG2_E)))))


def _tanh(b: Emitter, z: Value) -> Value:
    less = _exp2_less_one(b, b.fmul(z, b.like(z, -2 * LOG2_E)))
    return b.fdiv(b.fneg(less), b.fadd(less, b.like(z, 2)))


def _exp2_less_one(b: Emitter, exponent: Value) -> Value:
    """Returns 2^exponent - 1. `emit_exp2` less 1 would lose the digits of what is near 0, and Adam enlarges noise."""
    exponent = b.clamp(exponent, EXPONENT_LIMIT)
    rounder = b.like(exponent, ROUND_TO_INTEGER)
    rounded = b.fadd(exponent, rounder)
    fraction = b.fsub(exponent, b.fsub(rounded, rounder))
    less = b.like(exponent, EXP2_COEFFICIENTS[0])  # of 2^fraction - 1, first by the fraction
    for coefficient in EXP2_COEFFICIENTS[1:-1]:
        less = b.multiply_add(less, fraction, b.like(exponent, coefficient))
    bits = ir.VectorType(I32, exponent.type.count)
    shift = ir.Constant(bits, [MANTISSA_BITS] * exponent.type.count)
    one = b.like(exponent, 1)
    power = b.bitcast(b.add(b.bitcast(one, bits), b.shl(b.bitcast(rounded, bits), shift)), exponent.type)
    return b.multiply_add(power, b.fmul(less, fraction), b.fsub(power, one))
