"""The LSTM's forward pass, for scoring and training alike, as machine code for the processor that it runs on.

A step of an LSTM with n units is a matrix product [inputs + n] x [4 n] per row, and then about 80 cheap operations per
unit. The recipe:

1. The part of the product that reads the token is the same for every occurrence of a word, so it is computed once per
   word (`products.product`), and a step starts from its word's row of that table. That halves the arithmetic. Deeper
   layers start from the bias, and read their inputs in a second product.
2. A tile of 6 rows x 4 gates x one vector of units stays in 24 registers through the whole product (`tiles.py`): 24
   multiply-adds in each iteration, for only 4 loads of weights and 6 of the state. It runs at the full speed of the
   multipliers.
3. When the product is done, the four gates of a unit are in registers of the same tile, and the activations follow at
   once (`cell.py`): a tenth of the time.
4. The whole walk over time happens inside one call, which does not hold Python's lock, so threads scale.

Every row goes through the same operations in the same order whatever its tile, thread or vector width, and
multiply-adds round once everywhere, so a row's bits depend on nothing but the row and the weights. (An x86 processor
from before 2013 rounds multiply-adds twice, and differs in the last bits.)

What is kept is up to the caller. Scoring keeps a state for each row, which is overwritten in each step and never leaves
the first cache. Training keeps what the backward pass reads of every step, and finds the state before a step at the
offset before it: before the first one there is an offset of zeros. So in either direction no step is special.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lstm_ray.kernels.cell import emit_cell
from lstm_ray.kernels.emitter import I32, I64, POINTER, Emitter, Target, Value
from lstm_ray.kernels.function import compiled
from lstm_ray.kernels.layout import GATES, padded, wide
from lstm_ray.kernels.products import Masks
from lstm_ray.kernels.tiles import Walk, emit_product, emit_tiles, load_rows, side_by_side

Output = Literal["last", "max", "mean", "mean_max", "sequence", "steps"]
"""What is kept: the last state; with it the maximum, sum, both or sequence of hidden states; or all of each step."""

PLANES: dict[Output, tuple[str, ...]] = {
    "last": ("hidden", "cell"),
    "max": ("hidden", "cell", "max"),
    "mean": ("hidden", "cell", "sum"),
    "mean_max": ("hidden", "cell", "sum", "max"),
    "sequence": ("hidden", "cell"),
}
"""Arrays in a row's state; the sum and the maximum are those of the hidden states so far."""

_CACHE_LINE_FLOATS = 16


def _arguments(lanes: int, units: int, inputs: int, output: Output, masks: Masks) -> dict[str, str]:
    width = padded(units, lanes)
    row = GATES * width
    arguments = {
        **Walk.ARGUMENTS,
        "starts": f"float32[table, {row}]",  # gates: what the sums of a step start from
        "start_ids": "int32[offsets]",  # which of them
        "recurrent_weights": f"float32[{units * row}]",  # packed
    }
    if inputs:
        arguments["inputs"] = f"float32[offsets, {inputs}]"
        arguments["input_weights"] = f"float32[{inputs * row}]"  # packed
    if output == "steps":
        arguments["gates"] = f"float32[offsets, {row}] out"  # may be `starts`, if each offset has its own
        arguments["cells"] = f"float32[offsets, {width}] out"
        arguments["tanhs"] = f"float32[offsets, {width}] out"  # of the cells
        arguments["hidden"] = f"float32[offsets, {width}+] out"
        if masks:
            arguments["masks"] = f"float32[rows, {GATES}, {wide(width, lanes)}]"  # recurrent dropout's
            arguments["fed"] = f"float32[offsets, {GATES}, {width}] out"  # `hidden` as each gate's product reads it
    else:
        # A row starts from the state at [0] and ends with the one at [length % 2].
        arguments["state"] = f"float32[2, {len(PLANES[output])}, rows, {width}] out"
        arguments["is_cold"] = "int64"  # 1 if every hidden state is 0 before the first step: no recurrent product then
    if output == "sequence":
        arguments["sequence"] = f"float32[offsets, {width}+] out"
    return arguments


@compiled
def forward(target: Target, units: int, inputs: int, output: Output, masks: Masks = 0) -> Emitter:
    """Computes one direction of a layer over all steps of some rows; see `_arguments`.

    Each tile of rows walks through its whole time, then the next tile does.

    A tile's state stays in the first cache and the recurrent weights in the second; those of 128 units are 256 KiB.
    Going through time with all rows of a call abreast was 1 to 3 % slower, and 10 % slower above 96 rows, whose states
    push the weights out of the cache.

    Args:
        target: The processor.
        units: Rows of the recurrent weights.
        inputs: Values that a step reads in a second product; 0 if it has none, as the first layer.
        output: What is kept. "steps" begins with zeros, others with the state that they are given.
        masks: With "steps": 4 for recurrent dropout, which makes each gate read a hidden state of its own.
    """
    b = Emitter(target, "forward", _arguments(target.lanes, units, inputs, output, masks))
    a = b.arguments
    lanes = target.lanes
    width = padded(units, lanes)
    block_size = GATES * lanes

    # Scoring's table of starts is far larger than the caches, so its lines are prefetched a step ahead: 20 % faster.
    # One line in each iteration of the product, because 24 requests in a burst held up the loads of the weights: 4 %
    # slower. The table of a training step has only the words of the batch.
    prefetches = output != "steps"
    lines_per_row = block_size // _CACHE_LINE_FLOATS
    lines = target.tile_rows * lines_per_row
    slots = 1 << (lines - 1).bit_length()
    ahead = b.on_stack(slots, POINTER)

    def start_at(offset: Value) -> Value:
        return b.at(a["starts"], b.mul(b.load_integer(a["start_ids"], offset, I32), I64(GATES * width)))

    def tile(rows: list[Value]) -> None:
        walk = Walk(b, rows)

        def step(s: Value, _: list[Value]) -> list[Value]:
            current, offsets = walk.at_step(s)
            starts = [start_at(offset) for offset in offsets]
            inputs_at = [b.at(a["inputs"], b.mul(offset, I64(inputs))) for offset in offsets if inputs]
            is_first = b.icmp_signed("==", s, I64(0))
            if output == "steps":
                state = _kept_by_step(b, width, masks, current, offsets)
            else:
                state = _kept_by_row(b, width, output, current, offsets, s)
                is_first = b.and_(is_first, b.icmp_signed("!=", a["is_cold"], I64(0)))
            recurrent_size = b.select(is_first, I64(0), I64(units))
            if prefetches:
                more = [b.icmp_signed("<", b.add(s, I64(1)), length) for length in walk.lengths]
                next_starts = [
                    start_at(b.select(on, b.add(offset, a["direction"]), offset))
                    for on, offset in zip(more, offsets, strict=True)
                ]
                for slot in range(slots):
                    row, line = divmod(slot % lines, lines_per_row)
                    b.store(b.at(next_starts[row], line * _CACHE_LINE_FLOATS), b.at(ahead, slot, POINTER))

            def block(index: Value, _: list[Value]) -> list[Value]:
                unit, column = b.mul(index, I64(lanes)), b.mul(index, I64(block_size))

                def prefetch(k: Value) -> None:
                    line = b.load(b.at(ahead, b.and_(k, I64(slots - 1)), POINTER), typ=POINTER)
                    b.prefetch(b.at(line, column))

                sums = [
                    b.load_vector(b.at(b.at(start, column), gate * lanes)) for start in starts for gate in range(GATES)
                ]
                if inputs:
                    input_weights = b.at(a["input_weights"], b.mul(column, I64(inputs)))
                    sums = emit_product(b, sums, inputs_at, I64(inputs), input_weights)
                weights = b.at(a["recurrent_weights"], b.mul(column, I64(units)))
                gate_size = width if masks else None
                meanwhile = prefetch if prefetches else None
                sums = emit_product(b, sums, state.read, recurrent_size, weights, meanwhile, gate_size)
                for together in side_by_side(target.tile_rows):
                    _emit_units(b, width, output, masks, state, sums, together, unit, column)
                return []

            return b.loop(I64(width // lanes), [], block)

        b.loop(walk.lengths[0], [], step)

    emit_tiles(b, a["rows"], tile)
    return b


@dataclass(frozen=True)
class _State:
    """Where each row of a tile reads and writes in one step: addresses for unit 0.

    Attributes:
        read: What the recurrent product reads.
        old_cells, cells: The cell state before and after.
        hidden: Where the hidden state goes.
        pools: Before and after: each sum or maximum of the hidden states.
        sequence: Where the hidden state goes too.
        gates, tanhs: Where these go.
        masks, fed: Recurrent dropout, and where the hidden state under it goes.
    """

    read: list[Value]
    old_cells: list[Value]
    cells: list[Value]
    hidden: list[Value]
    pools: Sequence[tuple[list[Value], list[Value]]] = ()
    sequence: Sequence[Value] = ()
    gates: Sequence[Value] = ()
    tanhs: Sequence[Value] = ()
    masks: Sequence[Value] = ()
    fed: Sequence[Value] = ()


def _kept_by_row(b: Emitter, width: int, output: Output, rows: list[Value], offsets: list[Value], s: Value) -> _State:
    """Returns addresses in `state`, whose two halves take turns as the old one and the new one.

    A product reads every unit of the old one, and so does a row that is repeated in a tile.
    """
    a = b.arguments
    odd = b.and_(s, I64(1))
    plane = b.mul(a["rows"], I64(width))

    def planes(half: Value) -> list[list[Value]]:
        count = len(PLANES[output])
        start = b.at(a["state"], b.mul(half, b.mul(plane, I64(count))))
        at = [b.at(start, b.mul(plane, I64(number))) for number in range(count)]
        return [[b.at(one, b.mul(row, I64(width))) for row in rows] for one in at]

    old, new = planes(odd), planes(b.xor(odd, I64(1)))
    return _State(
        read=old[0],
        old_cells=old[1],
        cells=new[1],
        hidden=new[0],
        pools=list(zip(old[2:], new[2:], strict=True)),
        sequence=_rows_at(b, "sequence", offsets, a["sequence_stride"]) if output == "sequence" else (),
    )


def _kept_by_step(b: Emitter, width: int, masks: Masks, rows: list[Value], offsets: list[Value]) -> _State:
    """Returns addresses in the arrays that have an element for each step; the old state is at the offset before."""
    before = [b.sub(offset, b.arguments["direction"]) for offset in offsets]
    stride, row = b.arguments["hidden_stride"], I64(GATES * width)
    hidden = _rows_at(b, "hidden", offsets, stride)
    return _State(
        read=_rows_at(b, "fed", before, row) if masks else _rows_at(b, "hidden", before, stride),
        old_cells=_rows_at(b, "cells", before, I64(width)),
        cells=_rows_at(b, "cells", offsets, I64(width)),
        hidden=hidden,
        gates=_rows_at(b, "gates", offsets, row),
        tanhs=_rows_at(b, "tanhs", offsets, I64(width)),
        masks=_rows_at(b, "masks", rows, I64(GATES * wide(width, b.target.lanes))) if masks else (),
        fed=_rows_at(b, "fed", offsets, row) if masks else (),
    )


def _rows_at(b: Emitter, name: str, numbers: Sequence[Value], stride: Value) -> list[Value]:
    return [b.at(b.arguments[name], b.mul(number, stride)) for number in numbers]


def _emit_units(
    b: Emitter,
    width: int,
    output: Output,
    masks: Masks,
    state: _State,
    sums: Sequence[Value],
    rows: range,
    unit: Value,
    column: Value,
) -> None:
    """Turns the finished sums of a few rows and one vector of units, at `unit` and `column`, into their new state."""
    gates = [b.join([sums[row * GATES + gate] for row in rows]) for gate in range(GATES)]
    cell = emit_cell(b, gates, load_rows(b, state.old_cells, rows, unit))

    def store(values: Value, addresses: Sequence[Value], offset: Value) -> None:
        for position, row in enumerate(rows):
            b.store_vector(b.part(values, position), b.at(addresses[row], offset))

    if output == "steps":
        for gate, value in enumerate(cell.gates):
            store(value, state.gates, b.add(column, I64(gate * b.target.lanes)))
        store(cell.tanh, state.tanhs, unit)
    store(cell.cell, state.cells, unit)
    store(cell.hidden, state.hidden, unit)
    if output == "sequence":
        store(cell.hidden, state.sequence, unit)
    elif output != "steps":
        for kind, (old, new) in zip(PLANES[output][2:], state.pools, strict=True):
            pool = load_rows(b, old, rows, unit)
            store(b.fadd(pool, cell.hidden) if kind == "sum" else b.larger(pool, cell.hidden), new, unit)
    for gate in range(masks):
        kept = load_rows(b, state.masks, rows, b.add(unit, I64(gate * wide(width, b.target.lanes))))
        store(b.fmul(cell.hidden, kept), state.fed, b.add(unit, I64(gate * width)))
