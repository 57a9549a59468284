"""A network's forward and backward pass on CPUs, in the compiled code of `lstm_ray/kernels`; no TensorFlow.

It computes what Keras computes for the model that `model/architectures.py` builds, dropout included. Two things are
left out because they change nothing:

    padding of a masked network    is not computed: a row has as many steps as tokens, whatever its batch is padded to
    inputs of the first layer      are multiplied by its kernel once a word rather than once a step, unless dropout
                                   makes the steps of a word differ; likewise in the backward pass
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import numpy.typing as npt

from lstm_ray.config import TrainConfig
from lstm_ray.kernels import products
from lstm_ray.kernels.backward import backward
from lstm_ray.kernels.emitter import Target
from lstm_ray.kernels.forward import forward
from lstm_ray.kernels.function import Floats, aligned_empty
from lstm_ray.kernels.layout import GATES, wide
from lstm_ray.train.native.layout import DirectionLayout, WeightLayout
from lstm_ray.train.native.rows import BatchRows, Ids

_SUMMED_TOGETHER = 64  # rows: sums of sums round less than one long sum


@dataclass(frozen=True)
class Weights:
    """A network's weights during a step.

    Attributes:
        words: int64[n], the words of the batch, rising.
        vectors: float32[n, embedding_width], theirs.
        dense: float32[size], all other weights, as `WeightLayout` says.
        transposed: Kernel and recurrent weights of each direction for the backward pass; empty without one.
    """

    words: npt.NDArray[np.int64]
    vectors: Floats
    dense: Floats
    transposed: dict[DirectionLayout, tuple[Floats, Floats]]


@dataclass(frozen=True)
class Dropout:
    """Dropout of a step: factors of 0 or 1 / (1 - rate). A dropout whose rate is 0 is left out.

    Attributes:
        embedding: float32[rows, time, embedding_size].
        inputs: By direction, float32[rows, 1 or 4, wide].
        recurrent: By direction, float32[rows, 4, wide].
    """

    embedding: Floats | None
    inputs: dict[DirectionLayout, Floats]
    recurrent: dict[DirectionLayout, Floats]

    def of(self, rows: npt.NDArray[np.intp]) -> Dropout:
        """Returns the dropout of some rows."""
        return Dropout(
            None if self.embedding is None else self.embedding[rows],
            {direction: masks[rows] for direction, masks in self.inputs.items()},
            {direction: masks[rows] for direction, masks in self.recurrent.items()},
        )


NO_DROPOUT = Dropout(None, {}, {})


@dataclass(frozen=True)
class Gradients:
    """The gradient of a weighted sum of losses. Its arrays are valid until the next call.

    Attributes:
        dense: float32[size].
        words: int64[n], the words of the rows.
        embedding: float32[n, embedding_width], by their vectors; None if vectors are frozen.
        logits: float32[rows], of the rows as they were given.
    """

    dense: Floats
    words: npt.NDArray[np.int64]
    embedding: Floats | None
    logits: Floats


class Network:
    """The network as one thread computes it; its buffers are kept from step to step."""

    def __init__(self, config: TrainConfig, layout: WeightLayout, target: Target) -> None:
        """Takes the settings of the network, its layout and the processor, which agree about `lanes`."""
        self._config, self._layout, self._target = config, layout, target
        self._buffers: dict[object, Floats] = {}

    @np.errstate(all="ignore")  # `Stepper.is_finite` finds what overflows
    def logits(self, token_ids: Ids, weights: Weights) -> Floats:
        """Returns what goes into the output's sigmoid, without dropout, float32[rows].

        Args:
            token_ids: int32[rows, time], padded.
            weights: The network's weights.
        """
        rows = BatchRows.of(token_ids, self._config.mask)
        _, features = self._forward(rows, self._look_up(rows, weights, NO_DROPOUT), weights, NO_DROPOUT)
        return rows.as_given(self._output(features, weights))

    @np.errstate(all="ignore")
    def gradients(self, token_ids: Ids, labels: Floats, counts: Floats, weights: Weights, drop: Dropout) -> Gradients:
        """Returns the gradient of the sum of the rows' losses (train/step/loss.py), each times its count.

        Args:
            token_ids: int32[rows, time], padded; at least one row.
            labels: float32[rows], 0 or 1.
            counts: float32[rows].
            weights: The network's weights, transposed ones included.
            drop: The step's dropout.
        """
        rows = BatchRows.of(token_ids, self._config.mask)
        drop = drop.of(rows.order)
        labels, counts = labels[rows.order], counts[rows.order]
        dense = self._buffer("dense", self._layout.size)
        dense[:] = 0
        source = self._look_up(rows, weights, drop)
        if self._config.adversarial and source.ids is not rows.all:
            source = _Source(source.values[source.ids], rows.all)  # a step is shifted by itself, not with its word
        logits, by_source = self._differentiate(rows, source, labels, counts, weights, drop, dense)
        if by_source is None:
            return Gradients(dense, rows.words, None, rows.as_given(logits))
        embedding = self._by_word(rows, source, by_source, drop.embedding)
        if self._config.adversarial:
            shifted = _Source(source.values + self._shift(rows, source.values, by_source), rows.all)
            _, by_source = self._differentiate(rows, shifted, labels, counts, weights, drop, dense)
            assert by_source is not None  # as in the first pass
            embedding += self._by_word(rows, shifted, by_source, drop.embedding)
        return Gradients(
            dense, rows.words, None if self._config.freeze_embeddings else embedding, rows.as_given(logits)
        )

    def _differentiate(
        self,
        rows: BatchRows,
        source: _Source,
        labels: Floats,
        counts: Floats,
        weights: Weights,
        drop: Dropout,
        dense: Floats,
    ) -> tuple[Floats, Floats | None]:
        """Adds the gradient of the sum of the rows' cross-entropies, each times its count, to `dense`.

        Args:
            rows: The rows.
            source: What the first layer reads.
            labels: float32[rows], in the order of `rows`.
            counts: float32[rows], likewise.
            weights: The network's weights.
            drop: The step's dropout.
            dense: float32[size].

        Returns:
            The logits, float32[rows]; and the gradient by the source's values, float32[n, wide], or None if nothing
            needs it.
        """
        layers, features = self._forward(rows, source, weights, drop)
        logits = self._output(features, weights)
        by_logit = (sigmoid(logits) - labels) * counts
        layout = self._layout
        dense[layout.output_kernel] += by_logit @ features
        dense[layout.output_bias] += by_logit.sum()
        by_state = by_logit[:, None] * weights.dense[layout.output_kernel]
        upstream = self._unpool(rows, layers[-1].hidden, by_state)
        if upstream is not None:
            by_state = np.zeros_like(by_state)
        for layer in reversed(layers):
            total: Floats | None = None
            for done in layer.passes:
                deltas = self._walk_back(rows, done, by_state, upstream, weights)
                deltas = self._add_gradients(rows, layer, done, deltas, dense)
                if layer is layers[0] and self._config.freeze_embeddings and not self._config.adversarial:
                    continue
                by_source = self._by_source(rows, layer, done, deltas, weights)
                total = by_source if total is None else np.add(total, by_source, out=total)
            upstream = total
            by_state = np.zeros((len(rows), layout.features), np.float32)
        return logits, upstream

    def _look_up(self, rows: BatchRows, weights: Weights, drop: Dropout) -> _Source:
        """Returns what the first layer reads."""
        vectors = weights.vectors[np.searchsorted(weights.words, rows.words)]
        if drop.embedding is None:
            return _Source(vectors, rows.word_of)
        return _Source(vectors[rows.word_of] * rows.by_offset(drop.embedding, vectors.shape[1]), rows.all)

    def _shift(self, rows: BatchRows, values: Floats, by_values: Floats) -> Floats:
        """Returns the shifts of adversarial training, float32[offsets, width], from gradients by such values."""
        shift = np.zeros_like(values)
        for steps in rows.slices():
            gradient = by_values[steps, : values.shape[1]]
            norm = np.linalg.norm(gradient)
            if norm > 0:
                length = self._config.adversarial * np.linalg.norm(values[steps]) / np.sqrt(len(gradient))
                np.multiply(gradient, np.float32(length / norm), out=shift[steps])
        return shift

    def _forward(
        self, rows: BatchRows, source: _Source, weights: Weights, drop: Dropout
    ) -> tuple[list[_Layer], Floats]:
        """Returns what the layers computed from what the first one reads, and float32[rows, features]."""
        layers: list[_Layer] = []
        for depth, directions in enumerate(self._layout.layers):
            hidden = self._buffer(("hidden", depth), len(rows.all), sum(direction.width for direction in directions))
            hidden[rows.unused] = 0
            passes = [self._walk(rows, source, direction, hidden, weights, drop) for direction in directions]
            layers.append(_Layer(source, hidden, passes))
            source = _Source(hidden, rows.all)
        return layers, self._pool(rows, hidden)

    def _walk(
        self,
        rows: BatchRows,
        source: _Source,
        direction: DirectionLayout,
        hidden: Floats,
        weights: Weights,
        drop: Dropout,
    ) -> _Pass:
        """Walks one direction of a layer through time, and fills its columns of `hidden`."""
        size, width = rows.offsets.size, direction.width
        masks = drop.inputs.get(direction)
        if masks is not None:
            fed = self._buffer(("inputs", direction), size, masks.shape[1] * direction.inputs)
            products.feed(self._target, direction.inputs, _masks(masks))(
                source=source.values, ids=source.ids, masks=masks, row_of=rows.row_of, out=fed
            )
            source = _Source(fed, rows.all)
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

    def _walk_back(
        self,
        rows: BatchRows,
        done: _Pass,
        by_state: Floats,
        upstream: Floats | None,
        weights: Weights,
    ) -> Floats:
        """Returns the gradients by what goes into the gates, float32[offsets, 4 * width].

        Args:
            rows: The rows.
            done: What the direction computed.
            by_state: The gradients by the last hidden state, float32[rows, the layer's width].
            upstream: The gradients by the hidden state of each step, float32[offsets, at least the layer's width].
            weights: The network's weights.
        """
        direction, size = done.direction, rows.offsets.size
        width = direction.width
        deltas = self._buffer("deltas", size, GATES * width)
        deltas[rows.unused] = 0
        carried = self._buffer("carried", len(rows), wide(width, self._layout.lanes))
        carried[:, :width] = by_state[:, direction.column : direction.column + width]
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

    def _add_gradients(self, rows: BatchRows, layer: _Layer, done: _Pass, deltas: Floats, dense: Floats) -> Floats:
        """Adds a direction's gradients to `dense`.

        Returns:
            `deltas`, added up for each row of what the direction read: float32[its rows, 4 * width].
        """
        direction, values = done.direction, done.source.values
        width = direction.width
        # A step read the state at the offset before its own, in its direction.
        read, written = (slice(1, None), slice(-1)) if direction.is_backward else (slice(-1), slice(1, None))
        state = layer.hidden[:, direction.column :] if done.fed is None else done.fed.reshape(len(done.fed), -1)
        products.outer(self._target, width, width, done.fed is not None)(
            values=state[read], deltas=deltas[written], out=dense[direction.recurrent]
        )
        if done.source.ids is not rows.all:
            deltas = self._sum_by(done.source.ids, deltas, self._buffer("by row", len(values), GATES * width))
        dense[direction.bias] += _sum_of_rows(deltas)
        products.outer(self._target, direction.inputs, width, _masks(done.masks) == GATES)(
            values=values, deltas=deltas, out=dense[direction.kernel]
        )
        return deltas

    def _by_source(self, rows: BatchRows, layer: _Layer, done: _Pass, deltas: Floats, weights: Weights) -> Floats:
        """Returns the gradients by the rows of a layer's source, float32[n, wide], from those of `_add_gradients`."""
        direction, lanes = done.direction, self._layout.lanes
        by_inputs = self._buffer(("by inputs", direction), len(deltas), wide(direction.inputs, lanes))
        products.spread(self._target, direction.inputs, direction.width, _masks(done.masks))(
            deltas=deltas,
            weights=weights.transposed[direction][0],
            out=by_inputs,
            **({} if done.masks is None else {"masks": done.masks, "row_of": rows.row_of}),
        )
        if done.source.ids is layer.source.ids:
            return by_inputs
        by_source = self._buffer(("by source", direction), len(layer.source.values), by_inputs.shape[1])
        return self._sum_by(layer.source.ids, by_inputs, by_source)

    def _by_word(self, rows: BatchRows, source: _Source, by_source: Floats, dropped: Floats | None) -> Floats:
        """Returns the gradients by the vectors of `rows.words`, float32[words, embedding_width]."""
        width = self._layout.embedding_width
        by_source = by_source[:, :width]
        if source.ids is not rows.all:
            return np.ascontiguousarray(by_source)
        if dropped is not None:
            by_source = by_source * rows.by_offset(dropped, width)
        return self._sum_by(rows.word_of, by_source, np.empty((len(rows.words), width), np.float32))

    def _sum_by(self, ids: Ids, values: Floats, out: Floats) -> Floats:
        """Fills `out` with the sums of the rows of `values` that have the same id, and returns it."""
        out[:] = 0
        products.add_rows(self._target, out.shape[1])(ids=ids, values=values, out=out)
        return out

    def _pool(self, rows: BatchRows, hidden: Floats) -> Floats:
        """Returns what the output reads, float32[rows, features]."""
        if self._config.pooling == "max":
            return np.stack([hidden[steps].max(axis=0) for steps in rows.slices()])
        if self._config.pooling == "mean":
            sums: Floats = np.add.reduceat(hidden, rows.offsets.begin - 1, axis=0)
            return np.divide(sums, rows.offsets.steps[:, None], dtype=np.float32)
        last = np.empty((len(rows), hidden.shape[1]), np.float32)
        for direction in self._layout.layers[-1]:
            columns = slice(direction.column, direction.column + direction.width)
            ends = rows.offsets.walk(not direction.is_backward)["first"]
            last[:, columns] = hidden[ends, columns]
        return last

    def _unpool(self, rows: BatchRows, hidden: Floats, by_features: Floats) -> Floats | None:
        """Returns the gradients by the hidden states, float32[offsets, features]; None if only the last ones count."""
        if self._config.pooling == "last":
            return None
        upstream = self._buffer("upstream", *hidden.shape)
        if self._config.pooling == "mean":
            np.take(by_features / rows.offsets.steps[:, None].astype(np.float32), rows.row_of, axis=0, out=upstream)
            return upstream
        for row, steps in enumerate(rows.slices()):
            states = hidden[steps]
            is_max = states == states.max(axis=0)  # equal ones share the gradient; long padding makes many
            np.multiply(is_max, by_features[row] / is_max.sum(axis=0, dtype=np.float32), out=upstream[steps])
        return upstream

    def _output(self, features: Floats, weights: Weights) -> Floats:
        layout = self._layout
        return features @ weights.dense[layout.output_kernel] + weights.dense[layout.output_bias]

    def _tile(self, rows: int) -> Target:
        """Returns the processor with the tile size that repeats the fewest rows to fill the last tile."""
        most = self._target.tile_rows
        sizes = range(most, max(most // 2, 1), -1)
        return replace(self._target, tile_rows=min(sizes, key=lambda size: -(-rows // size) * size))

    def _buffer(self, name: object, *shape: int) -> Floats:
        """Returns memory that had the same use before: new memory costs a page fault for each 4 KiB."""
        size = int(np.prod(shape))
        memory = self._buffers.get(name)
        if memory is None or memory.size < size:
            memory = self._buffers[name] = aligned_empty(size)
        return memory[:size].reshape(shape)


@dataclass(frozen=True)
class _Source:
    """What a layer reads.

    Attributes:
        values: float32[n, width], or float32[n, masks * width] under dropout.
        ids: int32[offsets], which of them a step reads.
    """

    values: Floats
    ids: Ids


@dataclass(frozen=True)
class _Pass:
    """What a direction computed in its forward pass, for its backward pass; see `kernels/forward.py`.

    Attributes:
        direction: Which one.
        source: What it read, under dropout.
        masks: That dropout.
        recurrent: The recurrent dropout.
        gates: float32[offsets, 4 * width].
        cells: float32[offsets, width].
        tanhs: float32[offsets, width].
        fed: float32[offsets, 4, width], the hidden state under recurrent dropout.
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
    """What a layer read and returned.

    Attributes:
        source: What it read, before dropout.
        hidden: float32[offsets, the width of all its directions].
        passes: One for each direction.
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
