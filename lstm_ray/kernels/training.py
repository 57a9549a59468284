"""Machine code for learning: an LSTM's way forward that keeps what the way back needs, the way back, and Adam.

The recipe is that of scoring (`kernels/lstm.py`): a tile of rows walks through its whole time, a block of one vector of
units at a time, with the product and the gates in registers. What learning adds:

1. Rows of a batch lie one after the other, each step in a place of its own, with a place of zeros before each row and
   after the last. So "the state before the first step" is an ordinary place that holds zeros, in both directions, and a
   padded step of a masked network has no place at all.
2. The way back walks from a row's last step to its first: the gates' gradients of a step (elementwise), then the state's
   (a product with the transposed weights). Those of the weights and inputs of all steps are products over all places,
   made afterwards.
3. With recurrent dropout, Keras gives each gate a mask of its own. A product then multiplies a float per gate, not per
   row, which costs nothing: the processor broadcasts it while it multiplies.
4. Adam moves every word's vector in every step. A word that is not in the batch is left where it is, and takes the
   steps that it missed when it next is read, all in registers: the same operations in the same order.

Layouts as in `kernels/lstm.py`, with inputs and units padded to whole vectors: `width` = blocks * lanes. A gradient
with respect to gates is float32[places, blocks, 4, lanes]. "Wide" rows are padded to four vectors; a transposed matrix
is float32[wide / (4 * lanes), 4 * width, 4, lanes], its inner dimension in the order of the gates' gradients.

Source of the way back: K. Greff et al., "LSTM: A Search Space Odyssey", 2017, appendix; of Adam: D. Kingma, J. Ba,
"Adam: A Method for Stochastic Optimization", 2015, in the form of `keras.optimizers.Adam`.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Literal

from lstm_ray.kernels.emitter import F32, I32, I64, POINTER, Emitter, Target, Value
from lstm_ray.kernels.lstm import (
    GATES,
    LOG2_E,
    CompiledFunction,
    emit_exp2,
    emit_product,
    emit_tiles,
    emit_values,
)

Masks = Literal[0, 1, 4]  # dropout masks that a row has: none, one, or one for each gate
_TOGETHER = 3  # rows whose gates are computed side by side
_CHUNK = 64  # places whose inputs and gradients stay in the first cache while all of `outer` uses them


def wide(width: int, lanes: int) -> int:
    """Returns a width padded to four vectors."""
    return -(-width // (GATES * lanes)) * GATES * lanes


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
                    join = _joiner(b, together)
                    old = join(lambda r: b.load_vector(b.at(old_cells[r], unit)))
                    values = [join(lambda r, gate=gate: sums[r * GATES + gate]) for gate in range(GATES)]  # type: ignore[misc]
                    i, f, o = (_sigmoid(b, values[gate]) for gate in (0, 1, 3))
                    g = _tanh(b, values[2])
                    cell = b.multiply_add(f, old, b.fmul(i, g))
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
                            b.store_vector(
                                b.fmul(b.part(out, position), kept), b.at(b.at(fed[r], gate * width), unit)
                            )
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
                    join = _joiner(b, together)

                    def load(arrays: Sequence[Value], at: Value, join=join) -> Value:  # type: ignore[no-untyped-def]
                        return join(lambda r: b.load_vector(b.at(arrays[r], at)))

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
            _emit_transposed(b, deltas, a["weights"], width, width, masks, mask, carried)
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


@cache
def spread(target: Target, inputs: int, width: int, masks: Masks) -> CompiledFunction:
    """Returns the way from the gates' gradients to those of a layer's inputs; see `_SPREAD`."""
    b = Emitter(target, "spread", _SPREAD)
    a = b.arguments
    row, wide_row = GATES * width, wide(inputs, target.lanes)

    def tile(places: list[Value]) -> None:
        deltas = [b.at(a["deltas"], b.mul(place, I64(row))) for place in places]
        out = [b.at(a["out"], b.mul(place, I64(wide_row))) for place in places]
        mask = []
        if masks:
            of = [b.load_integer(a["row_of"], place, I32) for place in places]
            mask = [b.at(a["masks"], b.mul(r, I64(masks * wide_row))) for r in of]
        _emit_transposed(b, deltas, a["weights"], inputs, width, masks, mask, out)

    emit_tiles(b, a["places"], tile)
    return CompiledFunction(target, b)


_SPREAD = {
    "places": I64,
    "deltas": POINTER,  # float32[places, blocks, 4, lanes]
    "weights": POINTER,  # the kernel, transposed
    "masks": POINTER,  # float32[rows, masks, wide], the inputs' dropout
    "row_of": POINTER,  # int32[places]
    "out": POINTER,  # float32[places, wide], filled
}


def _emit_transposed(
    b: Emitter,
    deltas: Sequence[Value],
    weights: Value,
    outputs: int,
    width: int,
    masks: Masks,
    mask: Sequence[Value],
    out: Sequence[Value],
) -> None:
    """Writes out = deltas @ transposed weights, with each gate's part under its mask."""
    lanes = b.target.lanes
    inner, wide_row = GATES * width, wide(outputs, lanes)
    zero = [b.like(b.load_vector(deltas[0]), 0)] * (GATES * len(deltas))

    def block(index: Value, _: list[Value]) -> list[Value]:
        matrix = b.at(weights, b.mul(index, I64(inner * GATES * lanes)))
        column = b.mul(index, I64(GATES * lanes))

        def places() -> list[Value]:
            return [b.at(b.at(row, column), part * lanes) for row in out for part in range(GATES)]

        def kept(gate: int) -> list[Value]:
            return [
                b.load_vector(b.at(b.at(row, column), gate * wide_row + part * lanes))
                for row in mask
                for part in range(GATES)
            ]

        if masks < GATES:
            sums = emit_product(b, zero, deltas, I64(inner), matrix)
            if masks:
                sums = [b.fmul(value, factor) for value, factor in zip(sums, kept(0), strict=True)]
            for value, place in zip(sums, places(), strict=True):
                b.store_vector(value, place)
            return []
        for gate in range(GATES):

            def vector(number: Value, sums: list[Value], gate: int = gate) -> list[Value]:
                offset = b.add(b.mul(number, I64(GATES * lanes)), I64(gate * lanes))
                rows = [b.at(row, offset) for row in deltas]
                return emit_product(b, sums, rows, I64(lanes), b.at(matrix, b.mul(offset, I64(GATES * lanes))))

            sums = b.loop(I64(width // lanes), zero, vector)
            for value, factor, place in zip(sums, kept(gate), places(), strict=True):
                before = b.like(value, 0) if gate == 0 else b.load_vector(place)
                b.store_vector(b.multiply_add(value, factor, before), place)
        return []

    b.loop(I64(wide_row // (GATES * lanes)), [], block)


@cache
def product(target: Target, inputs: int, width: int, gated: bool) -> CompiledFunction:
    """Returns out = values @ weights + bias for many rows; see `_PRODUCT`."""
    b = Emitter(target, "product", _PRODUCT)
    a = b.arguments
    lanes = target.lanes
    row = GATES * width

    def tile(rows: list[Value]) -> None:
        sources = [b.at(a["values"], b.mul(r, I64(inputs * (GATES if gated else 1)))) for r in rows]
        targets = [b.at(a["out"], b.mul(r, I64(row))) for r in rows]

        def block(index: Value, _: list[Value]) -> list[Value]:
            offset = b.mul(index, I64(GATES * lanes))
            bias = [b.load_vector(b.at(b.at(a["bias"], offset), gate * lanes)) for gate in range(GATES)]
            weights = b.at(a["weights"], b.mul(offset, I64(inputs)))
            gate_size = I64(inputs) if gated else None
            sums = emit_product(b, bias * len(rows), sources, I64(inputs), weights, gate_size=gate_size)
            for position, value in enumerate(sums):
                r, gate = divmod(position, GATES)
                b.store_vector(value, b.at(b.at(targets[r], offset), gate * lanes))
            return []

        b.loop(I64(width // lanes), [], block)

    emit_tiles(b, a["rows"], tile)
    return CompiledFunction(target, b)


_PRODUCT = {
    "rows": I64,
    "values": POINTER,  # float32[rows, inputs], or float32[rows, 4, inputs] if each gate has its own
    "weights": POINTER,  # packed, `inputs` rows
    "bias": POINTER,  # float32[blocks, 4, lanes]
    "out": POINTER,  # float32[rows, blocks, 4, lanes], filled
}


@cache
def outer(target: Target, inputs: int, width: int, gated: bool) -> CompiledFunction:
    """Returns out += values, transposed, @ deltas: the gradient of weights over all places; see `_OUTER`.

    Places are taken in chunks, so that what a chunk reads stays in the first cache.
    """
    b = Emitter(target, "outer", _OUTER)
    a = b.arguments
    lanes = target.lanes
    tile_rows = target.tile_rows
    column = GATES * lanes
    gate_size = I64(inputs) if gated else None

    def chunk(number: Value, _: list[Value]) -> list[Value]:
        begin = b.mul(number, I64(_CHUNK))
        places = b.smaller(I64(_CHUNK), b.sub(a["places"], begin))
        values = b.at(a["values"], b.mul(begin, a["values_size"]))
        deltas = b.at(a["deltas"], b.mul(begin, I64(GATES * width)))

        def block(index: Value, _: list[Value]) -> list[Value]:
            delta_block = b.at(deltas, b.mul(index, I64(column)))
            out = b.at(a["out"], b.mul(index, I64(inputs * column)))

            def tile(which: Value, _: list[Value]) -> list[Value]:
                # The last tile repeats the last row to be full: all its sums are read before one is written.
                first = b.mul(which, I64(tile_rows))
                rows = [b.smaller(b.add(first, I64(r)), I64(inputs - 1)) for r in range(tile_rows)]
                targets = [b.at(b.at(out, b.mul(r, I64(column))), gate * lanes) for r in rows for gate in range(GATES)]
                columns = [b.at(values, r) for r in rows]

                def place(p: Value, sums: list[Value]) -> list[Value]:
                    gates = [b.load_vector(b.at(b.at(delta_block, b.mul(p, I64(GATES * width))), g * lanes)) for g in range(GATES)]
                    offset = b.mul(p, a["values_size"])
                    factors = [value for c in columns for value in emit_values(b, b.at(c, offset), gate_size)]
                    return [
                        b.multiply_add(value, gate, total)
                        for value, gate, total in zip(factors, gates * tile_rows, sums, strict=True)
                    ]

                sums = b.loop(places, [b.load_vector(target) for target in targets], place)
                for value, target in zip(sums, targets, strict=True):
                    b.store_vector(value, target)
                return []

            return b.loop(I64(-(-inputs // tile_rows)), [], tile)

        return b.loop(I64(width // lanes), [], block)

    b.loop(b.sdiv(b.add(a["places"], I64(_CHUNK - 1)), I64(_CHUNK)), [], chunk)
    b.ret_void()
    return CompiledFunction(target, b)


_OUTER = {
    "places": I64,
    "values": POINTER,  # float32[places, values_size], of which `inputs` are used, or 4 * inputs if gated
    "values_size": I64,
    "deltas": POINTER,  # float32[places, blocks, 4, lanes]
    "out": POINTER,  # packed, `inputs` rows, added to
}


@cache
def feed(target: Target, width: int, masks: Masks) -> CompiledFunction:
    """Returns the gathering of rows under their dropout masks; see `_FEED`."""
    b = Emitter(target, "feed", _FEED)
    a = b.arguments
    lanes = target.lanes

    def place(p: Value, _: list[Value]) -> list[Value]:
        source = b.at(a["source"], b.mul(b.load_integer(a["ids"], p, I32), a["source_size"]))
        mask = b.at(a["masks"], b.mul(b.load_integer(a["row_of"], p, I32), I64(masks * wide(width, lanes))))
        out = b.at(a["out"], b.mul(p, I64(masks * width)))

        def vector(index: Value, _: list[Value]) -> list[Value]:
            unit = b.mul(index, I64(lanes))
            value = b.load_vector(b.at(source, unit))
            for gate in range(masks):
                kept = b.load_vector(b.at(b.at(mask, gate * wide(width, lanes)), unit))
                b.store_vector(b.fmul(value, kept), b.at(b.at(out, gate * width), unit))
            return []

        return b.loop(I64(width // lanes), [], vector)

    b.loop(a["places"], [], place)
    b.ret_void()
    return CompiledFunction(target, b)


_FEED = {
    "places": I64,
    "source": POINTER,  # float32[ids, source_size]
    "source_size": I64,
    "ids": POINTER,  # int32[places]
    "masks": POINTER,  # float32[rows, masks, wide]
    "row_of": POINTER,  # int32[places]
    "out": POINTER,  # float32[places, masks, width], filled
}


@cache
def add_rows(target: Target) -> CompiledFunction:
    """Returns out[ids] += values, for ids that may repeat; see `_ADD_ROWS`."""
    b = Emitter(target, "add_rows", _ADD_ROWS)
    a = b.arguments

    def row(number: Value, _: list[Value]) -> list[Value]:
        source = b.at(a["values"], b.mul(number, a["values_size"]))
        out = b.at(a["out"], b.mul(b.load_integer(a["ids"], number, I32), a["width"]))

        def vector(index: Value, _: list[Value]) -> list[Value]:
            unit = b.mul(index, I64(target.lanes))
            place = b.at(out, unit)
            b.store_vector(b.fadd(b.load_vector(place), b.load_vector(b.at(source, unit))), place)
            return []

        return b.loop(b.sdiv(a["width"], I64(target.lanes)), [], vector)

    b.loop(a["rows"], [], row)
    b.ret_void()
    return CompiledFunction(target, b)


_ADD_ROWS = {
    "rows": I64,
    "ids": POINTER,  # int32[rows]
    "values": POINTER,  # float32[rows, values_size], of which `width` are added
    "values_size": I64,
    "width": I64,  # whole vectors
    "out": POINTER,  # float32[ids, width]
}


@cache
def adam(target: Target) -> CompiledFunction:
    """Returns Adam's steps over rows of a matrix, those that a row missed included; see `_ADAM`."""
    b = Emitter(target, "adam", _ADAM)
    a = b.arguments
    lanes = target.lanes
    take_first, take_second, epsilon = (
        b.broadcast(b.load(b.at(a["constants"], place), typ=F32)) for place in range(3)
    )
    zero = b.like(take_first, 0)

    def take_step(gradient: Value, number: Value, carried: Sequence[Value]) -> list[Value]:
        weight, first, second = carried
        rate = b.broadcast(b.load(b.at(a["rates"], number), typ=F32))
        first = b.multiply_add(b.fsub(gradient, first), take_first, first)
        second = b.multiply_add(b.fsub(b.fmul(gradient, gradient), second), take_second, second)
        root = b.intrinsic(f"llvm.sqrt.v{lanes}f32", second.type, [second])
        return [b.fsub(weight, b.fdiv(b.fmul(first, rate), b.fadd(root, epsilon))), first, second]

    def row(number: Value, _: list[Value]) -> list[Value]:
        identity = b.load_integer(a["ids"], number, I32)
        offset = b.mul(identity, a["width"])
        done = b.load_integer(a["done"], identity, I32)
        gradients = b.at(a["gradients"], b.mul(number, a["width"]))

        def vector(index: Value, _: list[Value]) -> list[Value]:
            unit = b.mul(index, I64(lanes))
            arrays = [b.at(b.at(a[name], offset), unit) for name in ("weights", "first", "second")]
            values = [b.load_vector(array) for array in arrays]
            missed = b.sub(a["missed_until"], done)
            values = b.loop(missed, values, lambda k, carried: take_step(zero, b.add(done, k), carried))

            def learn(_: Value, carried: list[Value]) -> list[Value]:
                return take_step(b.load_vector(b.at(gradients, unit)), a["missed_until"], carried)

            values = b.loop(a["has_gradients"], values, learn)
            for value, array in zip(values, arrays, strict=True):
                b.store_vector(value, array)
            return []

        return b.loop(b.sdiv(a["width"], I64(lanes)), [], vector)

    b.loop(a["rows"], [], row)
    b.ret_void()
    return CompiledFunction(target, b)


_ADAM = {
    "rows": I64,
    "ids": POINTER,  # int32[rows], which rows of the matrix; each once
    "width": I64,  # of a row, in whole vectors
    "weights": POINTER,  # float32[ids, width], changed, and the moments of their gradients:
    "first": POINTER,
    "second": POINTER,
    "done": POINTER,  # int32[ids], the number of the step that a row has next to take; left as it is
    "missed_until": I64,  # steps done[id] .. missed_until - 1 are taken with a gradient of 0
    "has_gradients": I64,  # 1: then step missed_until is taken with
    "gradients": POINTER,  # float32[rows, width]
    "rates": POINTER,  # float32[steps], the learning rate of each, with Adam's correction of its first steps
    "constants": POINTER,  # float32[3]: 1 - beta_1, 1 - beta_2, epsilon
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


def _joiner(b: Emitter, rows: range) -> Callable[[Callable[[int], Value]], Value]:
    return lambda of_row: b.join([of_row(row) for row in rows])


def _sigmoid(b: Emitter, z: Value) -> Value:
    one = b.like(z, 1)
    return b.fdiv(one, b.fadd(one, emit_exp2(b, b.fmul(z, b.like(z, -LOG2_E)))))


def _tanh(b: Emitter, z: Value) -> Value:
    one = b.like(z, 1)
    e = emit_exp2(b, b.fmul(z, b.like(z, -2 * LOG2_E)))
    return b.fdiv(b.fsub(one, e), b.fadd(one, e))
