"""The LSTM as scoring needs it, as machine code generated for the processor it runs on.

What is computed. A step of an LSTM with n units is a matrix product [inputs + n] x [4 n] per row, and then about 80
cheap operations per unit. The recipe:

1. The part of the product that reads the token is the same for every occurrence of a word, so it is done once per
   word: `product` makes a table `embedding @ kernel + bias`, and a step of the first layer starts from a table row.
   That halves the arithmetic. Deeper layers start from the bias and read their inputs as a second product.
2. A tile of 6 rows x 4 gates x one vector of units stays in 24 registers through the whole product (`tiles.py`):
   24 multiply-adds in each turn of its loop, for only 4 loads of weights and 6 of the state. It runs at the full speed
   of the multipliers.
3. When the product is done, the four gates of a unit are in registers of the same tile, and the activations follow at
   once (`emit_cell`): a tenth of the time. Weights arrive scaled by -log2(e) or -2 log2(e), so that an exponential is a
   plain power of two, and the quotients of sigmoid and tanh are multiplied out: two divisions per unit, not five.
4. The whole walk over time happens inside one call, which does not hold Python's lock: threads scale.

Every row goes through the same operations in the same order whatever its tile, thread or vector width, and
multiply-adds round once everywhere, so a row's bits depend on nothing but the row and the weights. (An x86 processor
from before 2013 rounds multiply-adds twice, and differs in the last bits.)

Layouts. Units are padded with zeros to whole vectors and grouped in blocks of one vector. A "packed" matrix of k rows
is float32[blocks, k, 4, lanes]: a tile reads it from front to back. Table rows are float32[blocks, 4, lanes].
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lstm_ray.kernels.emitter import I32, I64, POINTER, Emitter, Target, Value
from lstm_ray.kernels.function import Floats, aligned_empty, compiled
from lstm_ray.kernels.tiles import (
    GATES,
    LOG2_E,
    Walk,
    emit_exp2,
    emit_product,
    emit_tiles,
    load_rows,
    side_by_side,
)

Output = Literal["last", "max", "mean", "sequence"]
PLANES: dict[Output, int] = {"last": 2, "max": 3, "mean": 3, "sequence": 2}  # hidden, cell, and perhaps a pool

CACHE_LINE_FLOATS = 16

# e = 2^z with z = GATE_SCALE * x makes sigmoid(x) = 1 / (1 + e) and, with the doubled scale,
# tanh(x) = (1 - e) / (1 + e). The cell state is kept multiplied by CELL_SCALE: tanh then needs no multiplication.
GATE_SCALE = (-LOG2_E, -LOG2_E, -2 * LOG2_E, -LOG2_E)
CELL_SCALE = -2 * LOG2_E


def emit_cell(b: Emitter, gates: Sequence[Value], cell: Value) -> tuple[Value, Value]:
    """Returns the next (cell, hidden) from the four scaled gates; the cell state is scaled too.

    With e = 2^gate, cell = cell / (1 + f) + scale (1 - g) / ((1 + i) (1 + g)) over one denominator, and
    hidden = (1 - c) / ((1 + o) (1 + c)) with c = 2^cell.
    """
    one = b.like(cell, 1)
    i, f, g, o = (emit_exp2(b, gate) for gate in gates)
    below_i, below_f, below_g, below_o = (b.fadd(one, e) for e in (i, f, g, o))
    below_candidate = b.fmul(below_i, below_g)
    candidate = b.multiply_add(g, b.like(cell, -CELL_SCALE), b.like(cell, CELL_SCALE))
    cell = b.fdiv(b.multiply_add(cell, below_candidate, b.fmul(candidate, below_f)), b.fmul(below_candidate, below_f))
    c = emit_exp2(b, cell)
    return cell, b.fdiv(b.fsub(one, c), b.fmul(below_o, b.fadd(one, c)))


_LAYER = {
    **Walk.ARGUMENTS,
    "token_ids": POINTER,  # int32[places]
    "starts": POINTER,  # float32[ids, start_size], the table; or the bias
    "start_size": I64,  # in floats; 0 makes every id start from the same row, the bias
    "inputs": POINTER,  # float32[places, input_size]
    "input_size": I64,  # 0 for a first layer, which has no second product
    "input_weights": POINTER,  # packed, input_size rows
    "recurrent_weights": POINTER,  # packed, `units` rows
    "units": I64,
    "blocks": I64,
    "state": POINTER,  # float32[2, planes, rows, blocks * lanes]; a row starts from [0] and ends in [length % 2]
    "is_cold": I64,  # 1 if every hidden state is 0 before the first step, which then needs no recurrent product
    "sequence": POINTER,  # float32[places, sequence_size], the output of every step
    "sequence_size": I64,
}


@compiled
def lstm_layer(target: Target, output: Output) -> Emitter:
    """Runs one direction of a layer; see `_LAYER`.

    Each tile of rows walks through its whole time, then the next tile does.

    A tile's state stays in the first cache and the recurrent weights in the second; those of 128 units are 256 KiB.
    Going through time with all rows of a call abreast was 1 to 3 % slower, and 10 % slower above 96 rows, whose states
    push the weights out of the cache.
    """
    b = Emitter(target, "layer", _LAYER)
    a = b.arguments
    width = GATES * target.lanes
    row_size = b.mul(a["blocks"], I64(target.lanes))
    plane = b.mul(a["rows"], row_size)
    state_size = b.mul(plane, I64(PLANES[output]))

    # The table is far larger than the caches, so its lines are asked for a step ahead: 20 % faster. One line in each
    # turn of the product, because 24 requests in a burst held up the loads of the weights: 4 % slower.
    lines_per_row = width // CACHE_LINE_FLOATS
    lines = target.tile_rows * lines_per_row
    asked = 1 << (lines - 1).bit_length()
    ahead = b.on_stack(asked, POINTER)

    def start_of(place: Value) -> Value:
        return b.at(a["starts"], b.mul(b.load_integer(a["token_ids"], place, I32), a["start_size"]))

    def tile(rows: list[Value]) -> None:
        walk = Walk(b, rows)

        def step(s: Value, _: list[Value]) -> list[Value]:
            # Old and new state lie apart: a product reads every unit of the old one, and so does a row that repeats.
            current, places = walk.at_step(s)
            more = [b.icmp_signed("<", b.add(s, I64(1)), length) for length in walk.lengths]
            next_places = [
                b.select(on, b.add(place, a["direction"]), place) for on, place in zip(more, places, strict=True)
            ]
            odd = b.and_(s, I64(1))
            old = b.at(a["state"], b.mul(odd, state_size))
            new = b.at(a["state"], b.mul(b.xor(odd, I64(1)), state_size))
            at_start = b.and_(b.icmp_signed("==", s, I64(0)), b.icmp_signed("!=", a["is_cold"], I64(0)))
            addresses = TileAddresses(
                starts=[start_of(place) for place in places],
                next_starts=[start_of(place) for place in next_places],
                inputs=[b.at(a["inputs"], b.mul(place, a["input_size"])) for place in places],
                old=[b.at(old, b.mul(row, row_size)) for row in current],
                new=[b.at(new, b.mul(row, row_size)) for row in current],
                sequence=[b.at(a["sequence"], b.mul(place, a["sequence_size"])) for place in places],
            )
            recurrent_size = b.select(at_start, I64(0), a["units"])
            for number in range(asked):
                row, line = divmod(number % lines, lines_per_row)
                b.store(b.at(addresses.next_starts[row], line * CACHE_LINE_FLOATS), b.at(ahead, number, POINTER))

            def block(index: Value, _: list[Value]) -> list[Value]:
                unit, offset = b.mul(index, I64(target.lanes)), b.mul(index, I64(width))

                def ask_ahead(k: Value) -> None:
                    line = b.load(b.at(ahead, b.and_(k, I64(asked - 1)), POINTER), typ=POINTER)
                    b.prefetch(b.at(line, offset))

                sums = [
                    b.load_vector(b.at(b.at(start, offset), gate * target.lanes))
                    for start in addresses.starts
                    for gate in range(GATES)
                ]
                input_weights = b.at(a["input_weights"], b.mul(offset, a["input_size"]))
                sums = emit_product(b, sums, addresses.inputs, a["input_size"], input_weights)
                recurrent_weights = b.at(a["recurrent_weights"], b.mul(offset, a["units"]))
                sums = emit_product(b, sums, addresses.old, recurrent_size, recurrent_weights, ask_ahead)
                for together in side_by_side(target.tile_rows):
                    emit_units(b, output, addresses, sums, together, unit, plane)
                return []

            return b.loop(a["blocks"], [], block)

        b.loop(walk.lengths[0], [], step)

    emit_tiles(b, a["rows"], tile)
    return b


@dataclass(frozen=True)
class TileAddresses:
    """Where each row of a tile reads and writes in one step, for unit 0.

    Attributes:
        starts: what the sums start from, float32[blocks, 4, lanes].
        next_starts: the same for the next step.
        inputs: what the layer below put out, float32[input_size].
        old, new: the hidden state; cell state and pool lie one and two planes further.
        sequence: where the output of this step goes.
    """

    starts: list[Value]
    next_starts: list[Value]
    inputs: list[Value]
    old: list[Value]
    new: list[Value]
    sequence: list[Value]


def emit_units(
    b: Emitter,
    output: Output,
    addresses: TileAddresses,
    sums: Sequence[Value],
    rows: range,
    unit: Value,
    plane: Value,
) -> None:
    """Turns the finished sums of a few rows and one vector of units into their new state."""
    at_cell = b.add(unit, plane)
    at_pool = b.add(at_cell, plane)
    gates = [b.join([sums[row * GATES + gate] for row in rows]) for gate in range(GATES)]
    cells, hiddens = emit_cell(b, gates, load_rows(b, addresses.old, rows, at_cell))
    for position, row in enumerate(rows):
        hidden = b.part(hiddens, position)
        b.store_vector(b.part(cells, position), b.at(addresses.new[row], at_cell))
        b.store_vector(hidden, b.at(addresses.new[row], unit))
        if output == "sequence":
            b.store_vector(hidden, b.at(addresses.sequence[row], unit))
        elif output != "last":
            pool = b.load_vector(b.at(addresses.old[row], at_pool))
            pool = b.fadd(pool, hidden) if output == "mean" else b.larger(pool, hidden)
            b.store_vector(pool, b.at(addresses.new[row], at_pool))


def pack(matrix: Floats, lanes: int) -> Floats:
    """Returns a matrix of Keras's gates float32[k, 4 * units], scaled, as float32[blocks, k, 4, lanes]."""
    inner, units = matrix.shape[0], matrix.shape[1] // GATES
    blocks = -(-units // lanes)
    padded = np.zeros((inner, GATES, blocks * lanes), np.float64)
    padded[:, :, :units] = matrix.reshape(inner, GATES, units) * np.array(GATE_SCALE)[:, None]
    packed = aligned_empty(blocks, inner, GATES, lanes)
    packed[:] = padded.reshape(inner, GATES, blocks, lanes).transpose(2, 0, 1, 3)
    return packed
