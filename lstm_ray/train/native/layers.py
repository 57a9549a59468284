"""The LSTM layers of a network, forward through time and backward, with the compiled kernels of `lstm_ray/kernels`.

The inputs of the first layer are multiplied by its kernel once per word instead of once per step, unless dropout makes
the steps of a word differ; the same holds for the backward pass. This does not change the result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import numpy.typing as npt

from lstm_ray.arrays import Floats, Ids
from lstm_ray.kernels import products
from lstm_ray.kernels.backward import backward
from lstm_ray.kernels.emitter import Target
from lstm_ray.kernels.forward import forward
from lstm_ray.kernels.function import aligned_empty
from lstm_ray.kernels.layout import GATES, wide
from lstm_ray.train.native.layout import DirectionLayout, WeightLayout
from lstm_ray.train.native.rows import BatchRows

_SUMMED_TOGETHER = 64  # rows: sums of sums round less than one long sum


@dataclass(frozen=True)
class Weights:
    """A network's weights during a step.

    Attributes:
        words: int64[n], the distinct words of the batch, in ascending order.
        vectors: float32[n, embedding_width], the words' vectors.
        dense: float32[size], all other weights; `WeightLayout` describes the order.
        transposed: Kernel and recurrent weights of each direction, for the backward pass; empty if there is none.
    """

    words: npt.NDArray[np.int64]
    vectors: Floats
    dense: Floats
    transposed: dict[DirectionLayout, tuple[Floats, Floats]]


@dataclass(frozen=True)
class Dropout:
    """Dropout masks of a step: factors of 0 or 1 / (1 - rate). There is no mask where the rate is 0.

    Attributes:
        embedding: float32[rows, time, embedding_size], or float32[rows, 1, embedding_size] if all steps share a mask.
        inputs: For each direction, float32[rows, 1 or 4, wide].
        recurrent: For each direction, float32[rows, 4, wide].
        output: float32[rows, features], of what the output reads.
    """

    embedding: Floats | None
    inputs: dict[DirectionLayout, Floats]
    recurrent: dict[DirectionLayout, Floats]
    output: Floats | None

    def of(self, rows: npt.NDArray[np.intp]) -> Dropout:
        """Returns the masks of the given rows."""
        return Dropout(
            None if self.embedding is None else self.embedding[rows],
            {direction: masks[rows] for direction, masks in self.inputs.items()},
            {direction: masks[rows] for direction, masks in self.recurrent.items()},
            None if self.output is None else self.output[rows],
        )


NO_DROPOUT = Dropout(None, {}, {}, None)


@dataclass(frozen=True)
class Source:
    """The input of a layer.

    Attributes:
        values: float32[n, width], or float32[n, masks * width] under dropout.
        ids: int32[offsets], the row of `values` that each step reads.
    """

    values: Floats
    ids: Ids


@dataclass(frozen=True)
class _Pass:
    """The forward pass of a direction, as its backward pass needs it; see `kernels/forward.py`.

    Attributes:
        direction: The direction.
        source: What it read, after dropout.
        masks: The dropout masks of what it read.
        recurrent: The recurrent dropout masks.
        gates: float32[offsets, 4 * width].
        cells: float32[offsets, width].
        tanhs: float32[offsets, width].
        fed: float32[offsets, 4, width], the hidden state after recurrent dropout.
    """

    direction: DirectionLayout
    source: Source
    masks: Floats | None
    recurrent: Floats | None
    gates: Floats
    cells: Floats
    tanhs: Floats
    fed: Floats | None


@dataclass(frozen=True)
class Layer:
    """The forward pass of a layer.

    Attributes:
        source: What it read, before dropout.
        hidden: float32[offsets, sum of the directions' widths], its hidden states.
        passes: One for each direction.
    """

    source: Source
    hidden: Floats
    passes: list[_Pass]


class Buffers:
    """The memory of one thread, reused from step to step: new memory costs a page fault for each 4 KiB."""

    def __init__(self) -> None:
        self._memory: dict[object, Floats] = {}

    def __call__(self, name: object, *shape: int) -> Floats:
        """Returns uninitialised memory, the same for each name."""
        size = math.prod(shape)
        memory = self._memory.get(name)
        if memory is None or memory.size < size:
            memory = self._memory[name] = aligned_empty(size)
        return memory[:size].reshape(shape)


class LstmLayers:
    """The layers, for use by one thread."""

    def __init__(self, layout: WeightLayout, target: Target, buffer: Buffers, needs_source: bool) -> None:
        """Takes what the passes need.

        Args:
            layout: The layout of the weights, with the `lanes` of the processor.
            target: The processor.
            buffer: The thread's memory.
            needs_source: True if the backward pass returns the gradient of what the first layer read.
        """
        self._layout, self._target, self._buffer, self._needs_source = layout, target, buffer, needs_source

    def forward(self, rows: BatchRows, source: Source, weights: Weights, drop: Dropout) -> list[Layer]:
        """Returns what each layer computed."""
        layers: list[Layer] = []
        for depth, directions in enumerate(self._layout.layers):
            hidden = self._buffer(("hidden", depth), len(rows.all), sum(direction.width for direction in directions))
            hidden[rows.unused] = 0
            passes = [self._walk(rows, source, direction, hidden, weights, drop) for direction in directions]
            layers.append(Layer(source, hidden, passes))
            source = Source(hidden, rows.all)
        return layers

    def _walk(
        self,
        rows: BatchRows,
        source: Source,
        direction: DirectionLayout,
        hidden: Floats,
        weights: Weights,
        drop: Dropout,
    ) -> _Pass:
        """Runs one direction of a layer over all steps, and fills its columns of `hidden`."""
        size, width = rows.offsets.size, direction.width
        masks = drop.inputs.get(direction)
        if masks is not None:
            fed = self._buffer(("inputs", direction), size, masks.shape[1] * direction.inputs)
            products.feed(self._target, direction.inputs, _masks(masks))(
                source=source.values, ids=source.ids, masks=masks, row_of=rows.row_of, out=fed
            )
            source = Source(fed, rows.all)
        starts = self._buffer(("starts", direction), len(source.values), GATES * width)
        products.product(self._target, direction.inputs, width, _masks(masks) == GATES)(
            values=source.values,
            weights=weights.dense[direction.kernel],
            bias=weights.dense[direction.bias],
            out=starts,
        )
        own = source.ids is rows.all
        gates = starts if own else self._buffer(("gates", direction), size, GATES * width)
        cells = self._buffer(("cells", direction), size, width)
        tanhs = self._buffer(("tanhs", direction), size, width)
        cells[rows.unused] = 0
        recurrent = drop.recurrent.get(direction)
        dropout: dict[str, Floats] = {}
        if recurrent is not None:
            state = self._buffer(("fed", direction), size, GATES, width)
            state[rows.unused] = 0
            dropout = {"masks": recurrent, "fed": state}
        forward(self._tile(len(rows)), width, 0, "steps", _masks(recurrent))(
            **rows.offsets.walk(direction.is_backward),
            starts=starts,
            start_ids=source.ids,
            recurrent_weights=weights.dense[direction.recurrent],
            gates=gates,
            cells=cells,
            tanhs=tanhs,
            hidden=hidden[:, direction.column :],
            **dropout,
        )
        return _Pass(direction, source, masks, recurrent, gates, cells, tanhs, dropout.get("fed"))

    def backward(
        self,
        rows: BatchRows,
        layers: Sequence[Layer],
        d_state: Floats | None,
        upstream: Floats | None,
        weights: Weights,
        dense: Floats,
    ) -> Floats | None:
        """Adds the gradients of the layers' weights to `dense`.

        Args:
            rows: The rows.
            layers: What `forward` returned.
            d_state: The gradients with respect to the last layer's last hidden states, float32[rows, features]; None
                for 0.
            upstream: The gradients with respect to its hidden state of each step, float32[offsets, features]; None for
                0.
            weights: The network's weights.
            dense: float32[size].

        Returns:
            The gradient with respect to the values that the first layer read, float32[n, wide], or None if it is not
            needed.
        """
        no_state = np.zeros((len(rows), self._layout.features), np.float32)
        d_state = no_state if d_state is None else d_state
        for layer in reversed(layers):
            total: Floats | None = None
            for done in layer.passes:
                deltas = self._walk_back(rows, done, d_state, upstream, weights)
                deltas = self._add_gradients(rows, layer, done, deltas, dense)
                if layer is layers[0] and not self._needs_source:
                    continue
                d_source = self._source_gradient(rows, layer, done, deltas, weights)
                total = d_source if total is None else np.add(total, d_source, out=total)
            upstream, d_state = total, no_state
        return upstream

    def _walk_back(
        self,
        rows: BatchRows,
        done: _Pass,
        d_state: Floats,
        upstream: Floats | None,
        weights: Weights,
    ) -> Floats:
        """Returns the gradients with respect to the gates' pre-activations, float32[offsets, 4 * width].

        Args:
            rows: The rows.
            done: The forward pass of the direction.
            d_state: The gradients with respect to the last hidden state, float32[rows, the layer's width].
            upstream: The gradients with respect to the hidden state of each step, float32[offsets, at least the layer's
                width].
            weights: The network's weights.
        """
        direction, size = done.direction, rows.offsets.size
        width = direction.width
        deltas = self._buffer("deltas", size, GATES * width)
        deltas[rows.unused] = 0
        carried = self._buffer("carried", len(rows), wide(width, self._layout.lanes))
        carried[:, :width] = d_state[:, direction.column : direction.column + width]
        carried_cells = self._buffer("carried cells", 2, len(rows), width)
        carried_cells[:] = 0
        no_upstream = np.broadcast_to(np.zeros(width, np.float32), (size, width))
        backward(self._tile(len(rows)), width, _masks(done.recurrent))(
            **rows.offsets.walk(direction.is_backward),
            weights=weights.transposed[direction][1],
            gates=done.gates,
            cells=done.cells,
            tanhs=done.tanhs,
            upstream=no_upstream if upstream is None else upstream[:, direction.column :],
            carried=carried,
            carried_cells=carried_cells,
            deltas=deltas,
            **({} if done.recurrent is None else {"masks": done.recurrent}),
        )
        return deltas

    def _add_gradients(self, rows: BatchRows, layer: Layer, done: _Pass, deltas: Floats, dense: Floats) -> Floats:
        """Adds a direction's gradients to `dense`.

        Returns:
            `deltas`, summed for each row of the values that the direction read: float32[rows of values, 4 * width].
        """
        direction, values = done.direction, done.source.values
        width = direction.width
        # A step read the state at the offset before it, in the order of the direction.
        read, written = (slice(1, None), slice(-1)) if direction.is_backward else (slice(-1), slice(1, None))
        state = layer.hidden[:, direction.column :] if done.fed is None else done.fed.reshape(len(done.fed), -1)
        products.outer(self._target, width, width, done.fed is not None)(
            values=state[read], deltas=deltas[written], out=dense[direction.recurrent]
        )
        if done.source.ids is not rows.all:
            deltas = sum_by(self._target, done.source.ids, deltas, self._buffer("by row", len(values), GATES * width))
        dense[direction.bias] += _sum_of_rows(deltas)
        products.outer(self._target, direction.inputs, width, _masks(done.masks) == GATES)(
            values=values, deltas=deltas, out=dense[direction.kernel]
        )
        return deltas

    def _source_gradient(self, rows: BatchRows, layer: Layer, done: _Pass, deltas: Floats, weights: Weights) -> Floats:
        """Returns the gradients with respect to a layer's source, float32[n, wide], given `_add_gradients`' result."""
        direction, lanes = done.direction, self._layout.lanes
        d_inputs = self._buffer(("d_inputs", direction), len(deltas), wide(direction.inputs, lanes))
        products.spread(self._target, direction.inputs, direction.width, _masks(done.masks))(
            deltas=deltas,
            weights=weights.transposed[direction][0],
            out=d_inputs,
            **({} if done.masks is None else {"masks": done.masks, "row_of": rows.row_of}),
        )
        if done.source.ids is layer.source.ids:
            return d_inputs
        d_source = self._buffer(("d_source", direction), len(layer.source.values), d_inputs.shape[1])
        return sum_by(self._target, layer.source.ids, d_inputs, d_source)

    def _tile(self, rows: int) -> Target:
        """Returns the processor with the tile size for which the fewest rows are repeated to fill the last tile."""
        most = self._target.tile_rows
        sizes = range(most, max(most // 2, 1), -1)
        return replace(self._target, tile_rows=min(sizes, key=lambda size: -(-rows // size) * size))


def _masks(dropout: Floats | None) -> products.Masks:
    return cast(products.Masks, 0 if dropout is None else dropout.shape[1])


def _sum_of_rows(rows: Floats) -> Floats:
    whole = len(rows) // _SUMMED_TOGETHER * _SUMMED_TOGETHER
    sums = rows[:whole].reshape(-1, _SUMMED_TOGETHER, rows.shape[1]).sum(axis=1)
    total: Floats = sums.sum(axis=0) + rows[whole:].sum(axis=0)
    return total


def sum_by(target: Target, ids: Ids, values: Floats, out: Floats) -> Floats:
    """Fills `out` with the sums of the rows of `values` that have the same id, and returns it."""
    out[:] = 0
    products.add_rows(target, out.shape[1])(ids=ids, values=values, out=out)
    return out
