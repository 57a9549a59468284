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

from functools import partial

from lstm_ray.kernels.emitter import I32, I64, POINTER, Emitter, Target, Value
from lstm_ray.kernels.function import compiled
from lstm_ray.kernels.products import Masks, emit_transposed, wide
from lstm_ray.kernels.tiles import (
    GATES,
    LOG2_E,
    Walk,
    emit_exp2,
    emit_exp2_less_one,
    emit_product,
    emit_tiles,
    load_rows,
    side_by_side,
)


@compiled
def forward(target: Target, width: int, masks: Masks) -> Emitter:
    """Walks the way forward of one direction of a layer of `width` units; see `_FORWARD`."""
    b = Emitter(target, "forward", _FORWARD)
    a = b.arguments
    lanes, blocks = target.lanes, width // target.lanes
    row = GATES * width

    def tile(rows: list[Value]) -> None:
        walk = Walk(b, rows)

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
                for together in side_by_side(len(rows)):
                    values = [b.join([sums[r * GATES + gate] for r in together]) for gate in range(GATES)]
                    i, f, o = (_sigmoid(b, values[gate]) for gate in (0, 1, 3))
                    g = _tanh(b, values[2])
                    cell = b.multiply_add(f, load_rows(b, old_cells, together, unit), b.fmul(i, g))
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
    return b


_FORWARD = {
    **Walk.ARGUMENTS,
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


@compiled
def backward(target: Target, width: int, masks: Masks) -> Emitter:
    """Walks the way back of one direction of a layer of `width` units; see `_BACKWARD`."""
    b = Emitter(target, "backward", _BACKWARD)
    a = b.arguments
    lanes, blocks = target.lanes, width // target.lanes
    row, wide_row = GATES * width, wide(width, lanes)

    def tile(rows: list[Value]) -> None:
        walk = Walk(b, rows)

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
                for together in side_by_side(len(rows)):
                    load = partial(load_rows, b, rows=together)
                    i, f, g, o = (load(gates, offset=b.add(offset, I64(gate * lanes))) for gate in range(GATES))
                    tanh = load(tanhs, offset=unit)
                    one = b.like(i, 1)
                    dh = b.fadd(load(carried, offset=unit), load(upstream, offset=unit))
                    dh_o = b.fmul(dh, o)
                    dc = b.fadd(load(read, offset=unit), b.fmul(dh_o, b.fsub(one, b.fmul(tanh, tanh))))
                    dc_i = b.fmul(dc, i)
                    dc_f = b.fmul(dc, f)
                    results = (
                        b.fmul(b.fmul(dc_i, g), b.fsub(one, i)),
                        b.fmul(b.fmul(dc_f, load(old_cells, offset=unit)), b.fsub(one, f)),
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
    return b


_BACKWARD = {
    **Walk.ARGUMENTS,
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


def _sigmoid(b: Emitter, z: Value) -> Value:
    one = b.like(z, 1)
    return b.fdiv(one, b.fadd(one, emit_exp2(b, b.fmul(z, b.like(z, -LOG2_E)))))


def _tanh(b: Emitter, z: Value) -> Value:
    less = emit_exp2_less_one(b, b.fmul(z, b.like(z, -2 * LOG2_E)))
    return b.fdiv(b.fneg(less), b.fadd(less, b.like(z, 2)))
