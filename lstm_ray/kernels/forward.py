"""The LSTM's forward pass as machine code, compiled for the processor at hand; scoring and training share it.

A step of an LSTM with n units is a matrix product [inputs + n] x [4 n] per row, and then about 80 cheap operations per
unit. What makes it fast:

1. The part of the product that reads the token is the same for every occurrence of a word, so it is computed once per
   word (`products.product`), and a step starts from its word's row of that table. That halves the arithmetic. Upper
   layers start from the bias, and read their inputs in a second product.
2. A tile of 6 rows x 4 gates x one vector of units stays in 24 registers during the whole product (`tiles.py`): each
   iteration has 24 multiply-adds for only 4 loads of weights and 6 of the state, and keeps the multipliers fully busy.
3. After the product, the four gates of a unit are in registers of the same tile, and the activations follow at once
   (`cell.py`). They take a tenth of the time.
4. One call computes all time steps without holding the GIL, so threads scale.

Every row goes through the same operations in the same order, whatever its tile, thread or vector width, and
multiply-adds round once everywhere. So a row's bits depend only on the row and the weights. (x86 processors from before
2013 round multiply-adds twice, and differ in the last bits.)

The caller chooses what is kept. Scoring keeps a state for each row, which is overwritten in each step and stays in the
first-level cache. Training keeps what the backward pass needs of every step, and reads the previous state at the
previous offset; the offset before a row's first step contains zeros, so that the first step needs no special case.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lstm_ray.config import Precision
from lstm_ray.kernels.cell import emit_cell
from lstm_ray.kernels.emitter import F32, I32, I64, POINTER, Emitter, Target, Value
from lstm_ray.kernels.function import compiled
from lstm_ray.kernels.layout import GATES, rounded_up, wide
from lstm_ray.kernels.precision.base import NumberFormat
from lstm_ray.kernels.precision.choice import FORMATS
from lstm_ray.kernels.products import Masks
from lstm_ray.kernels.tiles import Walk, activation_groups, emit_tiles, load_rows

Output = Literal["last", "max", "mean", "mean_max", "sequence", "steps"]
"""What is kept: the last state, optionally with the maximum, sum, both, or sequence of the hidden states; or every
step's values."""

PLANES: dict[Output, tuple[str, ...]] = {
    "last": ("hidden", "cell"),
    "max": ("hidden", "cell", "max"),
    "mean": ("hidden", "cell", "sum"),
    "mean_max": ("hidden", "cell", "sum", "max"),
    "sequence": ("hidden", "cell"),
}
"""The arrays of a row's state. Sum and maximum are over the hidden states so far."""

_CACHE_LINE_FLOATS = 16


def _arguments(lanes: int, units: int, inputs: int, output: Output, masks: Masks, form: NumberFormat) -> dict[str, str]:
    width = rounded_up(units, lanes)
    row = GATES * width

    def packed(inner: int) -> str:
        return f"{form.dtype}[{form.block_rows(inner) * form.per_element * row}]"

    arguments = {
        **Walk.ARGUMENTS,
        "starts": f"float32[table, {row}]",  # initial values of a step's gate sums
        "start_ids": "int32[offsets]",  # the row of `starts` for each step
        "recurrent_weights": packed(units),
    }
    if inputs:
        arguments["inputs"] = f"{form.dtype}[offsets, {inputs}]"
        arguments["input_weights"] = packed(inputs)
    if output == "steps":
        arguments["gates"] = f"float32[offsets, {row}] out"  # may be `starts` itself, if each offset has its own row
        arguments["cells"] = f"float32[offsets, {width}] out"
        arguments["tanhs"] = f"float32[offsets, {width}] out"  # of the cells
        arguments["hidden"] = f"float32[offsets, {width}+] out"
        if masks:
            arguments["masks"] = f"float32[rows, {GATES}, {wide(width, lanes)}]"  # of recurrent dropout
            arguments["fed"] = f"float32[offsets, {GATES}, {width}] out"  # `hidden` as each gate's product reads it
    else:
        # A row starts from the state at [0] and ends with the one at [length % 2].
        arguments["state"] = f"float32[2, {len(PLANES[output])}, rows, {width}] out"
        if form.per_element > 1:  # the hidden state as the product reads it, likewise
            arguments["stored"] = f"{form.dtype}[2, rows, {width}] out"
        arguments["is_cold"] = "int64"  # 1 if all hidden states are 0: the first step needs no recurrent product
    if output == "sequence":
        arguments["sequence"] = f"{form.dtype}[offsets, {width}+] out"
    return arguments


@compiled
def forward(
    target: Target, units: int, inputs: int, output: Output, masks: Masks = 0, precision: Precision = "float32"
) -> Emitter:
    """Computes one direction of a layer over all steps of some rows; see `_arguments`.

    All steps of a tile are computed before the next tile starts. A tile's state stays in the first-level cache, and the
    recurrent weights (256 KiB for 128 units) in the second-level cache. Computing each step for all rows of a call was
    1 to 3 % slower, and 10 % slower above 96 rows, whose states displace the weights.

    Args:
        target: The processor.
        units: Rows of the recurrent weights.
        inputs: Number of values that a step reads in a second product; 0 for the first layer.
        output: What is kept. "steps" starts with zeros, the others with the state that is passed.
        masks: With "steps": 4 for recurrent dropout, in which each gate has its own mask of the hidden state.
        precision: Of the weights, and of hidden states that a product reads; "steps" is float32.
    """
    form = FORMATS[precision]
    b = Emitter(target, "forward", _arguments(target.lanes, units, inputs, output, masks, form))
    a = b.arguments
    lanes = target.lanes
    width = rounded_up(units, lanes)
    block_size = GATES * lanes

    # In scoring, the table `starts` is far larger than the caches, so its lines are prefetched one step ahead: 20 %
    # faster. The iterations of the product prefetch one line each, or as many as it takes, because a burst of 24
    # requests delayed the loads of the weights (4 % slower). In training the table has only the words of the batch, and
    # needs no prefetching.
    prefetches = output != "steps"
    lines_per_row = block_size // _CACHE_LINE_FLOATS
    lines = target.tile_rows * lines_per_row
    lines_at_once = -(-lines // form.elements(units))
    slots = 1 << (lines - 1).bit_length()
    ahead = b.on_stack(slots, POINTER)

    # Scoring computes the activations of a whole tile at once, which makes float32 1 % faster, bf16 3 % and int8 8 %.
    # Training keeps more values; for it, this was not measured.
    groups = activation_groups(target.tile_rows) if output == "steps" else [range(target.tile_rows)]

    def start_at(offset: Value) -> Value:
        return b.at(a["starts"], b.mul(b.load_integer(a["start_ids"], offset, I32), I64(GATES * width)))

    def tile(rows: list[Value]) -> None:
        walk = Walk(b, rows)

        def step(s: Value, _: list[Value]) -> list[Value]:
            current, offsets = walk.at_step(s)
            starts = [start_at(offset) for offset in offsets]
            inputs_at = [b.at(a["inputs"], b.mul(offset, I64(inputs)), form.stored) for offset in offsets if inputs]
            is_first = b.icmp_signed("==", s, I64(0))
            if output == "steps":
                state = _state_by_step(b, width, masks, current, offsets)
            else:
                state = _state_by_row(b, width, output, form, current, offsets, s)
                is_first = b.and_(is_first, b.icmp_signed("!=", a["is_cold"], I64(0)))
            recurrent_size = b.select(is_first, I64(0), I64(form.elements(units)))
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

                def prefetch(iteration: Value) -> None:
                    for number in range(lines_at_once):
                        slot = b.add(b.mul(iteration, I64(lines_at_once)), I64(number))
                        line = b.load(b.at(ahead, b.and_(slot, I64(slots - 1)), POINTER), typ=POINTER)
                        b.prefetch(b.at(line, column))

                def start() -> list[Value]:
                    at = [b.at(b.at(one, column), gate * lanes) for one in starts for gate in range(GATES)]
                    return [b.load_vector(address) for address in at]

                def add_inputs() -> list[Value]:
                    weights = b.at(a["input_weights"], b.mul(column, I64(form.block_rows(inputs))))
                    return form.emit_product(b, start, inputs_at, I64(form.elements(inputs)), weights)

                sums = add_inputs if inputs else start
                weights = b.at(a["recurrent_weights"], b.mul(column, I64(form.block_rows(units))))
                gate_size = width if masks else None
                meanwhile = prefetch if prefetches else None
                gates = form.emit_product(b, sums, state.read, recurrent_size, weights, meanwhile, gate_size)
                for together in groups:
                    _emit_units(b, width, output, masks, form, state, gates, together, unit, column)
                return []

            return b.loop(I64(width // lanes), [], block)

        b.loop(walk.lengths[0], [], step)

    emit_tiles(b, a["rows"], tile)
    return b


@dataclass(frozen=True)
class _State:
    """Addresses, for unit 0, that each row of a tile reads and writes in one step.

    Attributes:
        read: Input of the recurrent product.
        old_cells, cells: The cell state before and after the step.
        hidden: The new hidden state.
        pools: For each sum or maximum of the hidden states: before and after the step.
        copies: Copies of the new hidden state, as products read it.
        gates, tanhs: The gates, and the tanh of the cell state.
        masks, fed: Recurrent dropout masks, and the new hidden state after dropout.
    """

    read: list[Value]
    old_cells: list[Value]
    cells: list[Value]
    hidden: list[Value]
    pools: Sequence[tuple[list[Value], list[Value]]] = ()
    copies: Sequence[list[Value]] = ()
    gates: Sequence[Value] = ()
    tanhs: Sequence[Value] = ()
    masks: Sequence[Value] = ()
    fed: Sequence[Value] = ()


def _state_by_row(
    b: Emitter, width: int, output: Output, form: NumberFormat, rows: list[Value], offsets: list[Value], s: Value
) -> _State:
    """Returns addresses in `state` and `stored`, whose two halves alternate as the old and the new state.

    The old state must not be overwritten: a product reads all of its units, also for a row that a tile repeats.
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
    read, copies = old[0], []
    if form.per_element > 1:
        halves = [b.at(a["stored"], b.mul(half, plane), form.stored) for half in (odd, b.xor(odd, I64(1)))]
        read, new_read = ([b.at(one, b.mul(row, I64(width)), form.stored) for row in rows] for one in halves)
        copies.append(new_read)
    if output == "sequence":
        copies.append(_rows_at(b, "sequence", offsets, a["sequence_stride"], form.stored))
    return _State(
        read=read,
        old_cells=old[1],
        cells=new[1],
        hidden=new[0],
        pools=list(zip(old[2:], new[2:], strict=True)),
        copies=copies,
    )


def _state_by_step(b: Emitter, width: int, masks: Masks, rows: list[Value], offsets: list[Value]) -> _State:
    """Returns addresses in the arrays that keep every step. The old state is at the previous offset."""
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


def _rows_at(b: Emitter, name: str, rows: Sequence[Value], stride: Value, element: Value = F32) -> list[Value]:
    return [b.at(b.arguments[name], b.mul(row, stride), element) for row in rows]


def _emit_units(
    b: Emitter,
    width: int,
    output: Output,
    masks: Masks,
    form: NumberFormat,
    state: _State,
    sums: Sequence[Value],
    rows: range,
    unit: Value,
    column: Value,
) -> None:
    """Computes and stores the new state of a few rows and one vector of units, at `unit` and `column`."""
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
    for addresses in state.copies:
        for position, row in enumerate(rows):
            stored = form.emit_stored(b, b.part(cell.hidden, position))
            b.store_vector(stored, b.at(addresses[row], unit, form.stored))
    if output != "steps":
        for kind, (old, new) in zip(PLANES[output][2:], state.pools, strict=True):
            pool = load_rows(b, old, rows, unit)
            store(b.fadd(pool, cell.hidden) if kind == "sum" else b.larger(pool, cell.hidden), new, unit)
    for gate in range(masks):
        kept = load_rows(b, state.masks, rows, b.add(unit, I64(gate * wide(width, b.target.lanes))))
        store(b.fmul(cell.hidden, kept), state.fed, b.add(unit, I64(gate * width)))
