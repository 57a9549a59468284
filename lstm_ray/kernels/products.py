"""Matrix products over all steps of a batch, and gathering and summing of rows, as machine code.

Memory layouts and offsets are described in `kernels/layout.py`; `width` and `inputs` are rounded up to whole vectors.

With Keras's recurrent dropout each gate has its own mask. A product then loads one float per gate instead of one per
row, and has no more multiplications than before.
"""

from collections.abc import Sequence
from typing import Literal

from llvmlite import ir

from lstm_ray.kernels.emitter import F32, F64, I32, I64, Emitter, Target, Value
from lstm_ray.kernels.function import compiled
from lstm_ray.kernels.layout import GATES, wide
from lstm_ray.kernels.tiles import emit_product, emit_tiles

Masks = Literal[0, 1, 4]
"""Dropout masks of a row: none, one, or one for each gate."""

_CHUNK = 64  # offsets whose inputs and gradients stay in the first-level cache while `outer` uses them
_LARGE_SUMS = 1 << 18  # floats that fill the second-level cache: the weights of 256 units
_LONG_CHUNK = 256  # for at least that many sums: 79 -> 90 GFLOP/s for the recurrent weights of 512 units


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
    """Emits out = deltas @ transposed weights, with each gate's part multiplied by its mask.

    Args:
        b: The kernel.
        deltas: Addresses of the gates' gradients, one for each row of the tile.
        weights: Address of the transposed matrix.
        outputs: Columns of the result, without padding.
        width: Units of the layer.
        masks: Number of masks of a row.
        mask: Addresses of the rows' masks; empty without dropout.
        out: Addresses of the results.
    """
    lanes = b.target.lanes
    inner, wide_row = GATES * width, wide(outputs, lanes)
    zero = [ir.Constant(b.vector, None)] * (GATES * len(deltas))

    def block(index: Value, _: list[Value]) -> list[Value]:
        matrix = b.at(weights, b.mul(index, I64(inner * GATES * lanes)))
        column = b.mul(index, I64(GATES * lanes))

        def vectors() -> list[Value]:
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
            for value, address in zip(sums, vectors(), strict=True):
                b.store_vector(value, address)
            return []
        for gate in range(GATES):

            def vector(number: Value, sums: list[Value], gate: int = gate) -> list[Value]:
                offset = b.add(b.mul(number, I64(GATES * lanes)), I64(gate * lanes))
                rows = [b.at(row, offset) for row in deltas]
                return emit_product(b, sums, rows, I64(lanes), b.at(matrix, b.mul(offset, I64(GATES * lanes))))

            sums = b.loop(I64(width // lanes), zero, vector)
            # All rows are read before any is written, so that a row that a tile repeats is added to only once.
            before = zero if gate == 0 else [b.load_vector(address) for address in vectors()]
            after = [b.multiply_add(*terms) for terms in zip(sums, kept(gate), before, strict=True)]
            for value, address in zip(after, vectors(), strict=True):
                b.store_vector(value, address)
        return []

    b.loop(I64(wide_row // (GATES * lanes)), [], block)


@compiled
def spread(target: Target, inputs: int, width: int, masks: Masks) -> Emitter:
    """Computes out = deltas @ transposed weights: the gradients of a layer's inputs."""
    row, wide_row = GATES * width, wide(inputs, target.lanes)
    arguments = {
        "deltas": f"float32[offsets, {row}]",
        "weights": f"float32[{row * wide_row}]",  # the kernel, transposed
        "out": f"float32[offsets, {wide_row}] out",
    }
    if masks:
        arguments["masks"] = f"float32[rows, {masks}, {wide_row}]"  # the inputs' dropout
        arguments["row_of"] = "int32[offsets]"
    b = Emitter(target, "spread", arguments)
    a = b.arguments

    def tile(offsets: list[Value]) -> None:
        deltas = [b.at(a["deltas"], b.mul(offset, I64(row))) for offset in offsets]
        out = [b.at(a["out"], b.mul(offset, I64(wide_row))) for offset in offsets]
        mask = []
        if masks:
            rows = [b.load_integer(a["row_of"], offset, I32) for offset in offsets]
            mask = [b.at(a["masks"], b.mul(r, I64(masks * wide_row))) for r in rows]
        emit_transposed(b, deltas, a["weights"], inputs, width, masks, mask, out)

    emit_tiles(b, a["offsets"], tile)
    return b


@compiled
def product(target: Target, inputs: int, width: int, gated: bool) -> Emitter:
    """Computes out = values @ weights + bias for many rows. With `gated`, each gate has its own values."""
    row, gates = GATES * width, GATES if gated else 1
    arguments = {
        "values": f"float32[rows, {gates * inputs}]",
        "weights": f"float32[{inputs * row}]",  # packed
        "bias": f"float32[{row}]",
        "out": f"float32[rows, {row}] out",
    }
    b = Emitter(target, "product", arguments)
    a = b.arguments
    lanes = target.lanes

    def tile(rows: list[Value]) -> None:
        sources = [b.at(a["values"], b.mul(r, I64(inputs * gates))) for r in rows]
        targets = [b.at(a["out"], b.mul(r, I64(row))) for r in rows]

        def block(index: Value, _: list[Value]) -> list[Value]:
            column = b.mul(index, I64(GATES * lanes))
            bias = [b.load_vector(b.at(b.at(a["bias"], column), gate * lanes)) for gate in range(GATES)]
            weights = b.at(a["weights"], b.mul(column, I64(inputs)))
            gate_size = inputs if gated else None
            sums = emit_product(b, bias * len(rows), sources, I64(inputs), weights, gate_size=gate_size)
            for position, value in enumerate(sums):
                r, gate = divmod(position, GATES)
                b.store_vector(value, b.at(b.at(targets[r], column), gate * lanes))
            return []

        b.loop(I64(width // lanes), [], block)

    emit_tiles(b, a["rows"], tile)
    return b


@compiled
def outer(target: Target, inputs: int, width: int, gated: bool) -> Emitter:
    """Computes out += values, transposed, @ deltas: the gradient of weights over all steps.

    Offsets are processed in chunks: a chunk's data stays in the first-level cache, and sums of sums round less than one
    long sum. A chunk reads and writes all sums, so chunks are longer where there are many. A tile is some inputs x some
    vectors of one gate, so that a value is loaded once for several vectors, even if each gate has its own values.
    """
    arguments = {
        "values": f"float32[offsets, {inputs * GATES if gated else inputs}+]",
        "deltas": f"float32[offsets, {GATES * width}]",
        "out": f"float32[{inputs * GATES * width}] out",  # packed
    }
    b = Emitter(target, "outer", arguments)
    a = b.arguments
    lanes, blocks = target.lanes, width // target.lanes
    chunk_size = _LONG_CHUNK if inputs * GATES * width >= _LARGE_SUMS else _CHUNK
    column = GATES * lanes
    groups = -(-blocks // GATES)
    vectors = -(-blocks // groups)
    tile_rows = target.tile_rows * GATES // vectors
    zero = [ir.Constant(b.vector, None)] * (tile_rows * vectors)

    def chunk(which: Value, _: list[Value]) -> list[Value]:
        begin = b.mul(which, I64(chunk_size))
        offsets = b.smaller(I64(chunk_size), b.sub(a["offsets"], begin))
        values = b.at(a["values"], b.mul(begin, a["values_stride"]))
        deltas = b.at(a["deltas"], b.mul(begin, I64(GATES * width)))

        def gate_group(index: Value, _: list[Value]) -> list[Value]:
            gate, group = b.sdiv(index, I64(groups)), b.srem(index, I64(groups))
            # The last tile is filled by repeating the last block and row: all sums are read before any is written.
            block = [b.smaller(b.add(b.mul(group, I64(vectors)), I64(v)), I64(blocks - 1)) for v in range(vectors)]
            of_gate = b.at(values, b.mul(gate, I64(inputs))) if gated else values
            in_gate = b.mul(gate, I64(lanes))
            sources = [b.at(deltas, b.add(b.mul(one, I64(column)), in_gate)) for one in block]
            targets = [b.at(a["out"], b.add(b.mul(one, I64(inputs * column)), in_gate)) for one in block]

            def tile(index: Value, _: list[Value]) -> list[Value]:
                first = b.mul(index, I64(tile_rows))
                rows = [b.smaller(b.add(first, I64(r)), I64(inputs - 1)) for r in range(tile_rows)]
                sums_at = [b.at(one, b.mul(r, I64(column))) for r in rows for one in targets]
                columns = [b.at(of_gate, r) for r in rows]

                def one_offset(number: Value, sums: list[Value]) -> list[Value]:
                    gradients = [b.load_vector(b.at(one, b.mul(number, I64(GATES * width)))) for one in sources]
                    offset = b.mul(number, a["values_stride"])
                    factors = [b.broadcast(b.load(b.at(one, offset), typ=F32)) for one in columns]
                    terms = [(factor, gradient) for factor in factors for gradient in gradients]
                    return [b.multiply_add(*term, total) for term, total in zip(terms, sums, strict=True)]

                sums = b.loop(offsets, zero, one_offset)
                sums = [b.fadd(b.load_vector(target), value) for target, value in zip(sums_at, sums, strict=True)]
                for value, target in zip(sums, sums_at, strict=True):
                    b.store_vector(value, target)
                return []

            return b.loop(I64(-(-inputs // tile_rows)), [], tile)

        return b.loop(I64(GATES * groups), [], gate_group)

    b.loop(b.sdiv(b.add(a["offsets"], I64(chunk_size - 1)), I64(chunk_size)), [], chunk)
    b.ret_void()
    return b


@compiled
def feed(target: Target, width: int, masks: Masks) -> Emitter:
    """Gathers rows and multiplies them by their dropout masks."""
    wide_row = wide(width, target.lanes)
    arguments = {
        "source": f"float32[sources, {width}+]",
        "ids": "int32[offsets]",  # which of the sources
        "masks": f"float32[rows, {masks}, {wide_row}]",
        "row_of": "int32[offsets]",
        "out": f"float32[offsets, {masks * width}] out",
    }
    b = Emitter(target, "feed", arguments)
    a = b.arguments
    lanes = target.lanes

    def one_offset(number: Value, _: list[Value]) -> list[Value]:
        source = b.at(a["source"], b.mul(b.load_integer(a["ids"], number, I32), a["source_stride"]))
        mask = b.at(a["masks"], b.mul(b.load_integer(a["row_of"], number, I32), I64(masks * wide_row)))
        out = b.at(a["out"], b.mul(number, I64(masks * width)))

        def vector(index: Value, _: list[Value]) -> list[Value]:
            unit = b.mul(index, I64(lanes))
            value = b.load_vector(b.at(source, unit))
            for gate in range(masks):
                kept = b.load_vector(b.at(b.at(mask, gate * wide_row), unit))
                b.store_vector(b.fmul(value, kept), b.at(b.at(out, gate * width), unit))
            return []

        return b.loop(I64(width // lanes), [], vector)

    b.loop(a["offsets"], [], one_offset)
    b.ret_void()
    return b


@compiled
def add_rows(target: Target, width: int) -> Emitter:
    """Computes out[ids] += values, for ids that may repeat."""
    arguments = {
        "ids": "int32[rows]",
        "values": f"float32[rows, {width}+]",
        "out": f"float32[sums, {width}] out",
    }
    b = Emitter(target, "add_rows", arguments)
    a = b.arguments

    def row(number: Value, _: list[Value]) -> list[Value]:
        source = b.at(a["values"], b.mul(number, a["values_stride"]))
        out = b.at(a["out"], b.mul(b.load_integer(a["ids"], number, I32), I64(width)))

        def vector(index: Value, _: list[Value]) -> list[Value]:
            unit = b.mul(index, I64(target.lanes))
            total = b.at(out, unit)
            b.store_vector(b.fadd(b.load_vector(total), b.load_vector(b.at(source, unit))), total)
            return []

        return b.loop(I64(width // target.lanes), [], vector)

    b.loop(a["rows"], [], row)
    b.ret_void()
    return b


@compiled
def gathered_sums(target: Target) -> Emitter:
    """Computes out[row] = sum of table[ids] over the row's ids, in float64 and in order.

    This takes a third of the time of NumPy's `take` and `add.reduceat`, and threads do not wait for each other.
    """
    arguments = {
        "table": "float32[entries]",
        "ids": "int32[total]",  # ids of all rows, one row after another
        "begin": "int64",  # where the ids of the first row begin
        "ends": "int64[rows]",  # where the ids of each row end
        "out": "float64[rows] out",
    }
    b = Emitter(target, "gathered_sums", arguments)
    a = b.arguments

    def row(number: Value, carried: list[Value]) -> list[Value]:
        begin = carried[0]
        end = b.load_integer(a["ends"], number, I64)

        def add(offset: Value, total: list[Value]) -> list[Value]:
            index = b.load_integer(a["ids"], b.add(begin, offset), I32)
            return [b.fadd(total[0], b.fpext(b.load(b.at(a["table"], index), typ=F32), F64))]

        total = b.loop(b.sub(end, begin), [F64(0)], add)
        b.store(total[0], b.at(a["out"], number, F64))
        return [end]

    b.loop(a["rows"], [a["begin"]], row)
    b.ret_void()
    return b
