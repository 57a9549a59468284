"""The LSTM's backward pass, as machine code.

It goes from a row's last step to its first. In each step it computes the gradients of the gates (elementwise), then
that of the state (a product with the transposed weights). Gradients of the weights and inputs are products over all
steps, which are computed afterwards (`kernels/products.py`).

Source: K. Greff et al., "LSTM: A Search Space Odyssey", 2017, appendix.
"""

from functools import partial

from lstm_ray.kernels.emitter import I64, Emitter, Target, Value
from lstm_ray.kernels.function import compiled
from lstm_ray.kernels.layout import GATES, wide
from lstm_ray.kernels.products import Masks, emit_transposed
from lstm_ray.kernels.tiles import Walk, activation_groups, emit_tiles, load_rows


def _arguments(lanes: int, width: int, masks: Masks) -> dict[str, str]:
    row, wide_row = GATES * width, wide(width, lanes)
    arguments = {
        **Walk.ARGUMENTS,
        "weights": f"float32[{row * wide_row}]",  # recurrent weights, transposed
        "gates": f"float32[offsets, {row}]",  # as computed by `forward`
        "cells": f"float32[offsets, {width}]",
        "tanhs": f"float32[offsets, {width}]",
        "upstream": f"float32[offsets, {width}+]",  # gradient of each step's hidden state, from above
        "carried": f"float32[rows, {wide_row}] out",  # gradient of the last hidden state; overwritten
        "carried_cells": f"float32[2, rows, {width}] out",  # zeros; overwritten
        "deltas": f"float32[offsets, {row}] out",  # gradient of the gates' pre-activations
    }
    if masks:
        arguments["masks"] = f"float32[rows, {GATES}, {wide_row}]"  # as in `forward`
    return arguments


@compiled
def backward(target: Target, width: int, masks: Masks) -> Emitter:
    """Computes the gradients of one direction of a layer of `width` units; see `_arguments`."""
    b = Emitter(target, "backward", _arguments(target.lanes, width, masks))
    a = b.arguments
    lanes, blocks = target.lanes, width // target.lanes
    row, wide_row = GATES * width, wide(width, lanes)

    def tile(rows: list[Value]) -> None:
        walk = Walk(b, rows)

        def step(turn: Value, _: list[Value]) -> list[Value]:
            s = b.sub(b.sub(walk.lengths[0], I64(1)), turn)
            current, offsets = walk.at_step(s)
            gates, deltas = (
                [b.at(array, b.mul(offset, I64(row))) for offset in offsets] for array in (a["gates"], a["deltas"])
            )
            tanhs = [b.at(a["tanhs"], b.mul(offset, I64(width))) for offset in offsets]
            old_cells = [b.at(a["cells"], b.mul(b.sub(offset, a["direction"]), I64(width))) for offset in offsets]
            upstream = [b.at(a["upstream"], b.mul(offset, a["upstream_stride"])) for offset in offsets]
            carried = [b.at(a["carried"], b.mul(r, I64(wide_row))) for r in current]
            # A row that has not started yet repeats the tile's longest row, so that row's inputs must not be
            # overwritten in the same step: two planes alternate.
            odd = b.and_(s, I64(1))
            plane = b.mul(a["rows"], I64(width))
            read, written = (
                [b.at(a["carried_cells"], b.add(b.mul(which, plane), b.mul(r, I64(width)))) for r in current]
                for which in (b.xor(odd, I64(1)), odd)
            )

            def block(index: Value, _: list[Value]) -> list[Value]:
                unit, column = b.mul(index, I64(lanes)), b.mul(index, I64(GATES * lanes))
                for together in activation_groups(len(rows)):
                    load = partial(load_rows, b, rows=together)
                    i, f, g, o = (load(gates, offset=b.add(column, I64(gate * lanes))) for gate in range(GATES))
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
                            b.store_vector(b.part(value, position), b.at(b.at(deltas[r], column), gate * lanes))
                        b.store_vector(b.part(dc_f, position), b.at(written[r], unit))
                return []

            b.loop(I64(blocks), [], block)
            mask = [b.at(a["masks"], b.mul(r, I64(GATES * wide_row))) for r in current if masks]
            emit_transposed(b, deltas, a["weights"], width, width, masks, mask, carried)
            return []

        b.loop(walk.lengths[0], [], step)

    emit_tiles(b, a["rows"], tile)
    return b
