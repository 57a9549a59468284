"""A network's way forward and back on CPUs, in the compiled code of `lstm_ray/kernels`; no TensorFlow.

What is computed is what Keras computes for the model that `model/architectures.py` builds, its dropout included. Two
things are left out because they change nothing:

    padding of a masked network    has no place in memory: a row takes its own time, whatever its batch is padded to
    inputs of the first layer      meet its kernel once a word rather than once a place, if no dropout makes a word's
                                   places differ; and so on the way back
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import numpy.typing as npt

from lstm_ray.config import TrainConfig
from lstm_ray.kernels import products, recurrence
from lstm_ray.kernels.emitter import Target
from lstm_ray.kernels.function import Floats, aligned_empty
from lstm_ray.kernels.tiles import GATES
from lstm_ray.train.native.layout import DirectionLayout, WeightLayout
from lstm_ray.train.native.positions import RowPositions

Ids = npt.NDArray[np.int32]

_SUMMED_TOGETHER = 64  # rows: sums of sums round less than one long sum


@dataclass(frozen=True)
class Weights:
    """A network's numbers during a step.

    Attributes:
        embedding: float32[vocabulary_size, embedding_width].
        dense: float32[size], all others, as `WeightLayout` says.
        transposed: Kernel and recurrent weights of each direction for the way back; empty if there is none.
    """

    embedding: Floats
    dense: Floats
    transposed: dict[DirectionLayout, tuple[Floats, Floats]]


@dataclass(frozen=True)
class Dropout:
    """What a step drops: factors, 0 or 1 / (1 - rate). Where all would be 1 there are none.

    Attributes:
        embedding: float32[rows, time, embedding_width].
        inputs: Of a direction, float32[rows, 1 or 4, wide].
        recurrent: Of a direction, float32[rows, 4, wide].
    """

    embedding: Floats | None
    inputs: dict[DirectionLayout, Floats]
    recurrent: dict[DirectionLayout, Floats]

    def of(self, rows: npt.NDArray[np.intp]) -> Dropout:
        """Returns that of some rows."""
        return Dropout(
            None if self.embedding is None else self.embedding[rows],
            {direction: masks[rows] for direction, masks in self.inputs.items()},
            {direction: masks[rows] for direction, masks in self.recurrent.items()},
        )


NO_DROPOUT = Dropout(None, {}, {})


@dataclass(frozen=True)
class Gradients:
    """The gradient of a weighted sum of losses. Its arrays are good until the next call.

    Attributes:
        dense: float32[size].
        words: int64[n], the words of the rows.
        embedding: float32[n, embedding_width], their vectors'; None if vectors are frozen.
        logits: float32[rows], of the rows as they were given.
    """

    dense: Floats
    words: npt.NDArray[np.int64]
    embedding: Floats | None
    logits: Floats


class Network:
    """The network as one thread computes it; its buffers are kept from step to step."""

    def __init__(self, config: TrainConfig, layout: WeightLayout, target: Target) -> None:
        """Takes the settings of the network, and the processor, with as many lanes as the layout."""
        self._config, self._layout, self._target = config, layout, target
        self._buffers: dict[object, Floats] = {}

    @np.errstate(all="ignore")  # numbers that are none are found by whoever uses them
    def logits(self, token_ids: Ids, weights: Weights) -> Floats:
        """Returns what goes into the output's sigmoid, without dropout, float32[rows].

        Args:
            token_ids: int32[rows, time], padded.
            weights: The network's numbers.
        """
        rows = RowPositions.of(token_ids, self._config.mask)
        _, features = self._forward(rows, weights, NO_DROPOUT)
        return rows.as_given(self._output(features, weights))

    @np.errstate(all="ignore")
    def gradients(self, token_ids: Ids, labels: Floats, counts: Floats, weights: Weights, drop: Dropout) -> Gradients:
        """Returns the gradient of the sum of the rows' cross-entropies, each times its count.

        Args:
            token_ids: int32[rows, time], padded; at least one row.
            labels: float32[rows], 0 or 1.
            counts: float32[rows].
            weights: The network's numbers, those for the way back too.
            drop: What this step drops.
        """
        rows = RowPositions.of(token_ids, self._config.mask)
        drop = drop.of(rows.order)
        layers, features = self._forward(rows, weights, drop)
        logits = self._output(features, weights)
        by_logit = (sigmoid(logits) - labels[rows.order]) * counts[rows.order]
        layout = self._layout
        dense = self._buffer("dense", layout.size)
        dense[:] = 0
        dense[layout.output_kernel] = by_logit @ features
        dense[layout.output_bias] = by_logit.sum()
        by_state = by_logit[:, None] * weights.dense[layout.output_kernel]
        upstream = self._unpool(rows, layers[-1].hidden, by_state)
        if upstream is not None:
            by_state = np.zeros_like(by_state)
        for layer in reversed(layers):
            total: Floats | None = None
            for done in layer.passes:
                deltas = self._walk_back(rows, done, by_state, upstream, weights)
                deltas = self._learn(rows, layer, done, deltas, dense)
                if layer is layers[0] and self._config.freeze_embeddings:
                    continue
                by_source = self._by_source(rows, layer, done, deltas, weights)
                total = by_source if total is None else np.add(total, by_source, out=total)
            upstream = total
            by_state = np.zeros((len(rows.steps), layout.features), np.float32)
        embedding = None if upstream is None else self._by_word(rows, upstream, drop.embedding)
        return Gradients(dense, rows.words, embedding, rows.as_given(logits))

    def _forward(self, rows: RowPositions, weights: Weights, drop: Dropout) -> tuple[list[_Layer], Floats]:
        """Returns what the layers computed, and float32[rows, features]."""
        embedding = weights.embedding[rows.words]
        source = _Source(embedding, rows.word_of)
        if drop.embedding is not None:
            source = _Source(embedding[rows.word_of] * rows.by_place(drop.embedding, embedding.shape[1]), rows.all)
        layers: list[_Layer] = []
        for depth, directions in enumerate(self._layout.layers):
            hidden = self._buffer(("hidden", depth), len(rows.all), sum(direction.width for direction in directions))
            hidden[rows.empty] = 0
            passes = [self._walk(rows, source, direction, hidden, weights, drop) for direction in directions]
            layers.append(_Layer(source, hidden, passes))
            source = _Source(hidden, rows.all)
        return layers, self._pool(rows, hidden)

    def _walk(
        self,
        rows: RowPositions,
        source: _Source,
        direction: DirectionLayout,
        hidden: Floats,
        weights: Weights,
        drop: Dropout,
    ) -> _Pass:
        """Walks one direction of a layer through time, and fills its columns of `hidden`."""
        places, width = len(rows.all), direction.width
        masks = drop.inputs.get(direction)
        if masks is not None:
            fed = self._buffer(("inputs", direction), places, masks.shape[1], direction.inputs)
            products.feed(self._target, direction.inputs, _masks(masks))(
                places=places,
                source=source.values,
                source_size=source.values.shape[1],
                ids=source.ids,
                masks=masks,
                row_of=rows.row_of,
                out=fed,
            )
            source = _Source(fed, rows.all)
        gated = masks is not None and masks.shape[1] == GATES
        starts = self._buffer(("starts", direction), len(source.values), GATES * width)
        products.product(self._target, direction.inputs, width, gated)(
            rows=len(source.values),
            values=source.values,
            weights=weights.dense[direction.kernel],
            bias=weights.dense[direction.bias],
            out=starts,
        )
        own = source.ids is rows.all
        gates = starts if own else self._buffer(("gates", direction), places, GATES * width)
        cells = self._buffer(("cells", direction), places, width)
        tanhs = self._buffer(("tanhs", direction), places, width)
        cells[rows.empty] = 0
        recurrent = drop.recurrent.get(direction)
        state: Floats | None = None
        if recurrent is not None:
            state = self._buffer(("fed", direction), places, GATES, width)
            state[rows.empty] = 0
        recurrence.forward(self._tile(len(rows.steps)), width, _masks(recurrent))(
            rows=len(rows.steps),
            first=rows.first(direction.is_backward),
            lengths=rows.steps,
            direction=-1 if direction.is_backward else 1,
            starts=starts,
            start_ids=source.ids,
            weights=weights.dense[direction.recurrent],
            masks=recurrent,
            gates=gates,
            cells=cells,
            tanhs=tanhs,
            hidden=hidden[:, direction.column :],
            hidden_size=hidden.shape[1],
            fed=state,
        )
        return _Pass(direction, source, masks, recurrent, gates, cells, tanhs, state)

    def _walk_back(
        self,
        rows: RowPositions,
        done: _Pass,
        by_state: Floats,
        upstream: Floats | None,
        weights: Weights,
    ) -> Floats:
        """Returns the loss by what goes into the gates, float32[places, 4 * width].

        Args:
            rows: The rows.
            done: What the direction computed.
            by_state: The loss by the last hidden state, float32[rows, the layer's width].
            upstream: The loss by the hidden state of each step, float32[places, at least the layer's width].
            weights: The network's numbers.
        """
        direction = done.direction
        width, row_count = direction.width, len(rows.steps)
        deltas = self._buffer("deltas", len(rows.all), GATES * width)
        deltas[rows.empty] = 0
        carried = self._buffer("carried", row_count, products.wide(width, self._layout.lanes))
        carried[:, :width] = by_state[:, direction.column : direction.column + width]
        carried_cells = self._buffer("carried cells", 2, row_count, width)
        carried_cells[:] = 0
        recurrence.backward(self._tile(row_count), width, _masks(done.recurrent))(
            rows=row_count,
            first=rows.first(direction.is_backward),
            lengths=rows.steps,
            direction=-1 if direction.is_backward else 1,
            weights=weights.transposed[direction][1],
            masks=done.recurrent,
            gates=done.gates,
            cells=done.cells,
            tanhs=done.tanhs,
            upstream=np.zeros(width, np.float32) if upstream is None else upstream[:, direction.column :],
            upstream_size=0 if upstream is None else upstream.shape[1],
            carried=carried,
            carried_cells=carried_cells,
            deltas=deltas,
        )
        return deltas

    def _learn(self, rows: RowPositions, layer: _Layer, done: _Pass, deltas: Floats, dense: Floats) -> Floats:
        """Adds a direction's gradients to `dense`.

        Returns:
            `deltas`, added up for each row of what the direction read: float32[its rows, 4 * width].
        """
        direction, values = done.direction, done.source.values
        width, places = direction.width, len(rows.all)
        # The state that a place read is that of the place before it, on its own way.
        read, written = (slice(1, None), slice(-1)) if direction.is_backward else (slice(-1), slice(1, None))
        state = layer.hidden[:, direction.column :] if done.fed is None else done.fed
        products.outer(self._target, width, width, done.fed is not None)(
            places=places - 1,
            values=state[read],
            values_size=state.strides[0] // state.itemsize,
            deltas=deltas[written],
            out=dense[direction.recurrent],
        )
        if done.source.ids is not rows.all:
            by_row = self._buffer("by row", len(values), GATES * width)
            by_row[:] = 0
            self._add_rows(done.source.ids, deltas, by_row)
            deltas = by_row
        dense[direction.bias] = _sum_of_rows(deltas)
        products.outer(self._target, direction.inputs, width, values.ndim == 3 and values.shape[1] == GATES)(
            places=len(values),
            values=values,
            values_size=values.strides[0] // values.itemsize,
            deltas=deltas,
            out=dense[direction.kernel],
        )
        return deltas

    def _by_source(self, rows: RowPositions, layer: _Layer, done: _Pass, deltas: Floats, weights: Weights) -> Floats:
        """Returns the loss by the rows of a layer's source, float32[its rows, wide], from what `_learn` returned."""
        direction, lanes = done.direction, self._layout.lanes
        by_inputs = self._buffer(("by inputs", direction), len(deltas), products.wide(direction.inputs, lanes))
        products.spread(self._target, direction.inputs, direction.width, _masks(done.masks))(
            places=len(deltas),
            deltas=deltas,
            weights=weights.transposed[direction][0],
            masks=done.masks,
            row_of=rows.row_of,
            out=by_inputs,
        )
        if done.source.ids is layer.source.ids:
            return by_inputs
        by_source = self._buffer(("by source", direction), len(layer.source.values), by_inputs.shape[1])
        by_source[:] = 0
        self._add_rows(layer.source.ids, by_inputs, by_source)
        return by_source

    def _by_word(self, rows: RowPositions, by_source: Floats, dropped: Floats | None) -> Floats:
        """Returns the loss by the vectors of `rows.words`, float32[words, embedding_width]."""
        width = self._layout.embedding_width
        if dropped is None:
            return np.ascontiguousarray(by_source[:, :width])
        by_word = np.zeros((len(rows.words), width), np.float32)
        self._add_rows(rows.word_of, by_source[:, :width] * rows.by_place(dropped, width), by_word)
        return by_word

    def _add_rows(self, ids: Ids, values: Floats, out: Floats) -> None:
        products.add_rows(self._target)(
            rows=len(ids), ids=ids, values=values, values_size=values.shape[1], width=out.shape[1], out=out
        )

    def _pool(self, rows: RowPositions, hidden: Floats) -> Floats:
        """Returns what the output reads, float32[rows, features]."""
        if self._config.pooling == "max":
            return np.stack([hidden[steps].max(axis=0) for steps in rows.slices()])
        if self._config.pooling == "mean":
            sums: Floats = np.add.reduceat(hidden, rows.base, axis=0)
            return np.divide(sums, rows.steps[:, None], dtype=np.float32)
        last = np.empty((len(rows.steps), hidden.shape[1]), np.float32)
        for direction in self._layout.layers[-1]:
            columns = slice(direction.column, direction.column + direction.width)
            last[:, columns] = hidden[rows.first(not direction.is_backward), columns]
        return last

    def _unpool(self, rows: RowPositions, hidden: Floats, by_features: Floats) -> Floats | None:
        """Returns the loss by each step's hidden state, float32[places, features]; None if only the last one counts."""
        if self._config.pooling == "last":
            return None
        upstream = self._buffer("upstream", *hidden.shape)
        if self._config.pooling == "mean":
            np.take(by_features / rows.steps[:, None].astype(np.float32), rows.row_of, axis=0, out=upstream)
            return upstream
        for row, steps in enumerate(rows.slices()):
            states = hidden[steps]
            is_max = states == states.max(axis=0)  # of equal ones, each gets its share: long padding makes many
            np.multiply(is_max, by_features[row] / is_max.sum(axis=0, dtype=np.float32), out=upstream[steps])
        return upstream

    def _output(self, features: Floats, weights: Weights) -> Floats:
        layout = self._layout
        return features @ weights.dense[layout.output_kernel] + weights.dense[layout.output_bias]

    def _tile(self, rows: int) -> Target:
        """Returns the processor with the tile that leaves the fewest places in the last one empty."""
        most = self._target.tile_rows
        sizes = range(most, max(most // 2, 1), -1)
        return replace(self._target, tile_rows=min(sizes, key=lambda size: -(-rows // size) * size))

    def _buffer(self, name: object, *shape: int) -> Floats:
        """Returns room that was used for the same before: new memory costs a page fault for each 4 KiB."""
        size = int(np.prod(shape))
        room = self._buffers.get(name)
        if room is None or room.size < size:
            room = self._buffers[name] = aligned_empty(size)
        return room[:size].reshape(shape)


@dataclass(frozen=True)
class _Source:
    """What a layer reads.

    Attributes:
        values: float32[n, width], or float32[n, masks, width] under dropout.
        ids: int32[places], which of them a place reads.
    """

    values: Floats
    ids: Ids


@dataclass(frozen=True)
class _Pass:
    """What a direction computed on its way forward, for its way back; see the kernels.

    Attributes:
        direction: Which.
        source: What it read, under dropout.
        masks: That dropout.
        recurrent: The recurrent dropout.
        gates: float32[places, 4 * width].
        cells: float32[places, width].
        tanhs: float32[places, width].
        fed: float32[places, 4, width], the hidden state under recurrent dropout.
    """

    direction: DirectionLayout
    source: _Source
    masks: Floats | None
    recurrent: Floats | None
    gates: Floats
    cells: Floats
    tanhs: Floats
    fed: Floats | None


@dataclass(frozen=True)
class _Layer:
    """What a layer read and put out.

    Attributes:
        source: Before dropout.
        hidden: float32[places, the width of all its directions].
        passes: Of its directions.
    """

    source: _Source
    hidden: Floats
    passes: list[_Pass]


def _masks(dropout: Floats | None) -> products.Masks:
    return cast(products.Masks, 0 if dropout is None else dropout.shape[1])


def _sum_of_rows(rows: Floats) -> Floats:
    whole = len(rows) // _SUMMED_TOGETHER * _SUMMED_TOGETHER
    sums = rows[:whole].reshape(-1, _SUMMED_TOGETHER, rows.shape[1]).sum(axis=1)
    total: Floats = sums.sum(axis=0) + rows[whole:].sum(axis=0)
    return total


def sigmoid(logits: Floats) -> Floats:
    """Returns 1 / (1 + exp(-logits)), without an overflow."""
    half = np.float32(0.5)
    probabilities: Floats = half + half * np.tanh(half * logits)
    return probabilities
