"""Machine code for the products of learning, over all places of a batch at once, and for what moves rows around them.

Layouts as in `kernels/lstm.py`, with inputs and units padded to whole vectors: `width` = blocks * lanes. A gradient
with respect to gates is float32[places, blocks, 4, lanes]. "Wide" rows are padded to four vectors; a transposed matrix
is float32[wide / (4 * lanes), 4 * width, 4, lanes], its inner dimension in the order of the gates' gradients.

Under Keras's recurrent dropout each gate has a mask of its own. A product then loads a float per gate, not per row,
and multiplies no more than before.
"""

from collections.abc import Sequence
from typing import Literal

from llvmlite import ir

from lstm_ray.kernels.emitter import F32, I32, I64, POINTER, Emitter, Target, Value
from lstm_ray.kernels.function import compiled
from lstm_ray.kernels.tiles import GATES, emit_product, emit_tiles

Masks = Literal[0, 1, 4]  # dropout masks that a row has: none, one, or one for each gate
_CHUNK = 64  # places whose inputs and gradients stay in the first cache while all of `outer` uses them


def wide(width: int, lanes: int) -> int:
    """Returns a width padded to four vectors."""
    return -(-width // (GATES * lanes)) * GATES * lanes


def emit_transposed(
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
    zero = [ir.Constant(b.vector, None)] * (GATES * len(deltas))

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
            # Rows that stand in a tile twice are all read before one is written, so none is added to twice.
            before = zero if gate == 0 else [b.load_vector(place) for place in places()]
            after = [b.multiply_add(*terms) for terms in zip(sums, kept(gate), before, strict=True)]
            for value, place in zip(after, places(), strict=True):
                b.store_vector(value, place)
        return []

    b.loop(I64(wide_row // (GATES * lanes)), [], block)


@compiled
def spread(target: Target, inputs: int, width: int, masks: Masks) -> Emitter:
    """Goes the way from the gates' gradients to those of a layer's inputs; see `_SPREAD`."""
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
        emit_transposed(b, deltas, a["weights"], inputs, width, masks, mask, out)

    emit_tiles(b, a["places"], tile)
    return b


_SPREAD = {
    "places": I64,
    "deltas": POINTER,  # float32[places, blocks, 4, lanes]
    "weights": POINTER,  # the kernel, transposed
    "masks": POINTER,  # float32[rows, masks, wide], the inputs' dropout
    "row_of": POINTER,  # int32[places]
    "out": POINTER,  # float32[places, wide], filled
}


@compiled
def product(target: Target, inputs: int, width: int, gated: bool) -> Emitter:
    """Computes out = values @ weights + bias for many rows; see `_PRODUCT`."""
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
    return b


_PRODUCT = {
    "rows": I64,
    "values": POINTER,  # float32[rows, inputs], or float32[rows, 4, inputs] if each gate has its own
    "weights": POINTER,  # packed, `inputs` rows
    "bias": POINTER,  # float32[blocks, 4, lanes]
    "out": POINTER,  # float32[rows, blocks, 4, lanes], filled
}


@compiled
def outer(target: Target, inputs: int, width: int, gated: bool) -> Emitter:
    """Computes out += values, transposed, @ deltas: the gradient of weights over all places; see `_OUTER`.

    Places are taken in chunks: what a chunk reads stays in the first cache, and sums of sums round less than one long
    sum. A tile is some inputs x vectors of one gate, so that a value is loaded once for several vectors, whether or not
    gates have values of their own.
    """
    b = Emitter(target, "outer", _OUTER)
    a = b.arguments
    lanes, blocks = target.lanes, width // target.lanes
    column = GATES * lanes
    groups = -(-blocks // GATES)
    vectors = -(-blocks // groups)
    tile_rows = target.tile_rows * GATES // vectors
    zero = [ir.Constant(b.vector, None)] * (tile_rows * vectors)

    def chunk(number: Value, _: list[Value]) -> list[Value]:
        begin = b.mul(number, I64(_CHUNK))
        places = b.smaller(I64(_CHUNK), b.sub(a["places"], begin))
        values = b.at(a["values"], b.mul(begin, a["values_size"]))
        deltas = b.at(a["deltas"], b.mul(begin, I64(GATES * width)))

        def gate_group(index: Value, _: list[Value]) -> list[Value]:
            gate, group = b.sdiv(index, I64(groups)), b.srem(index, I64(groups))
            # The last tile repeats the last block and row to be full: all its sums are read before one is written.
            block = [b.smaller(b.add(b.mul(group, I64(vectors)), I64(v)), I64(blocks - 1)) for v in range(vectors)]
            of_gate = b.at(values, b.mul(gate, I64(inputs))) if gated else values
            in_gate = b.mul(gate, I64(lanes))
            sources = [b.at(deltas, b.add(b.mul(one, I64(column)), in_gate)) for one in block]
            targets = [b.at(a["out"], b.add(b.mul(one, I64(inputs * column)), in_gate)) for one in block]

            def tile(which: Value, _: list[Value]) -> list[Value]:
                first = b.mul(which, I64(tile_rows))
                rows = [b.smaller(b.add(first, I64(r)), I64(inputs - 1)) for r in range(tile_rows)]
                sums_at = [b.at(one, b.mul(r, I64(column))) for r in rows for one in targets]
                columns = [b.at(of_gate, r) for r in rows]

                def place(p: Value, sums: list[Value]) -> list[Value]:
                    gradients = [b.load_vector(b.at(one, b.mul(p, I64(GATES * width)))) for one in sources]
                    offset = b.mul(p, a["values_size"])
                    factors = [b.broadcast(b.load(b.at(one, offset), typ=F32)) for one in columns]
                    terms = [(factor, gradient) for factor in factors for gradient in gradients]
                    return [b.multiply_add(*term, total) for term, total in zip(terms, sums, strict=True)]

                sums = b.loop(places, zero, place)
                sums = [b.fadd(b.load_vector(target), value) for target, value in zip(sums_at, sums, strict=True)]
                for value, target in zip(sums, sums_at, strict=True):
                    b.store_vector(value, target)
                return []

            return b.loop(I64(-(-inputs // tile_rows)), [], tile)

        return b.loop(I64(GATES * groups), [], gate_group)

    b.loop(b.sdiv(b.add(a["places"], I64(_CHUNK - 1)), I64(_CHUNK)), [], chunk)
    b.ret_void()
    return b


_OUTER = {
    "places": I64,
    "values": POINTER,  # float32[places, values_size], of which `inputs` are used, or 4 * inputs if gated
    "values_size": I64,
    "deltas": POINTER,  # float32[places, blocks, 4, lanes]
    "out": POINTER,  # packed, `inputs` rows, added to
}


@compiled
def feed(target: Target, width: int, masks: Masks) -> Emitter:
    """Gathers rows under their dropout masks; see `_FEED`."""
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
    return b


_FEED = {
    "places": I64,
    "source": POINTER,  # float32[ids, source_size]
    "source_size": I64,
    "ids": POINTER,  # int32[places]
    "masks": POINTER,  # float32[rows, masks, wide]
    "row_of": POINTER,  # int32[places]
    "out": POINTER,  # float32[places, masks, width], filled
}


@compiled
def add_rows(target: Target) -> Emitter:
    """Computes out[ids] += values, for ids that may repeat; see `_ADD_ROWS`."""
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
    return b


_ADD_ROWS = {
    "rows": I64,
    "ids": POINTER,  # int32[rows]
    "values": POINTER,  # float32[rows, values_size], of which `width` are added
    "values_size": I64,
    "width": I64,  # whole vectors
    "out": POINTER,  # float32[ids, width]
}
