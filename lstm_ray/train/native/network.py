"""A network's forward and backward pass on CPUs, with the compiled kernels of `lstm_ray/kernels`, without TensorFlow.

The result is what Keras computes for the model that `model/architectures.py` builds, including dropout. Two
optimizations do not change it:

    padding of a masked network    is skipped: a row has as many steps as tokens, whatever length its batch is padded to
    inputs of the first layer      are multiplied by its kernel once per word instead of once per step, unless dropout
                                   makes the steps of a word differ; the same holds for the backward pass
"""

from __future__ import annotations

from collections.abc import Sequence
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
        output: float32[rows, features].
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
class Gradients:
    """The gradient of a weighted sum of losses. The arrays are overwritten by the next call.

    Attributes:
        dense: float32[size], with respect to all weights except the embedding.
        words: int64[n], the distinct words of the rows.
        embedding: float32[n, embedding_width], with respect to the words' vectors; None if these are frozen.
        logits: float32[rows], in the order in which the rows were passed.
    """

    dense: Floats
    words: npt.NDArray[np.int64]
    embedding: Floats | None
    logits: Floats


class Network:
    """The network, for use by one thread. Buffers are reused from step to step."""

    def __init__(self, config: TrainConfig, layout: WeightLayout, target: Target) -> None:
        """Takes the network's settings, its layout, and the processor; layout and processor have the same `lanes`."""
        self._config, self._layout, self._target = config, layout, target
        self._buffers: dict[object, Floats] = {}

    @np.errstate(all="ignore")  # `Stepper.is_finite` finds what overflows
    def logits(self, token_ids: Ids, weights: Weights) -> Floats:
        """Returns the logits, float32[rows], without dropout.

        Args:
            token_ids: int32[rows, time], padded.
            weights: The network's weights.
        """
        rows = BatchRows.of(token_ids, self._config.mask)
        layers = self._forward(rows, self._look_up(rows, weights, NO_DROPOUT), weights, NO_DROPOUT)
        return rows.as_given(self._output(self._pool(rows, layers[-1].hidden), weights))

    @np.errstate(all="ignore")
    def gradients(self, token_ids: Ids, labels: Floats, counts: Floats, weights: Weights, drop: Dropout) -> Gradients:
        """Returns the gradient of the sum of the rows' losses (train/step/loss.py), weighted by `counts`.

        Args:
            token_ids: int32[rows, time], padded; at least one row.
            labels: float32[rows], from 0 to 1.
            counts: float32[rows], the weight of each row's loss.
            weights: The network's weights, including the transposed ones.
            drop: The step's dropout.
        """
        rows = BatchRows.of(token_ids, self._config.mask)
        drop = drop.of(rows.order)
        labels, counts = labels[rows.order], counts[rows.order]
        dense = self._buffer("dense", self._layout.size)
        dense[:] = 0
        source = self._look_up(rows, weights, drop)
        if self._config.adversarial and source.ids is not rows.all:
            source = _Source(source.values[source.ids], rows.all)  # each step has its own shift, even for the same word
        logits, d_source = self._differentiate(rows, source, labels, counts, weights, drop, dense)
        if d_source is None:
            return Gradients(dense, rows.words, None, rows.as_given(logits))
        embedding = self._word_gradient(rows, source, d_source, drop.embedding)
        if self._config.adversarial:
            shifted = _Source(source.values + self._shift(rows, source.values, d_source), rows.all)
            _, d_source = self._differentiate(rows, shifted, labels, counts, weights, drop, dense)
            assert d_source is not None  # as in the first pass
            embedding += self._word_gradient(rows, shifted, d_source, drop.embedding)
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
        """Adds the gradient of the sum of the rows' cross-entropies, weighted by `counts`, to `dense`.

        Args:
            rows: The rows.
            source: What the first layer reads.
            labels: float32[rows], in the order of `rows`.
            counts: float32[rows], in the same order.
            weights: The network's weights.
            drop: The step's dropout.
            dense: float32[size].

        Returns:
            The logits, float32[rows]; and the gradient with respect to the source's values, float32[n, wide], or None
            if it is not needed.
        """
        layers = self._forward(rows, source, weights, drop)
        features = self._pool(rows, layers[-1].hidden)
        if drop.output is not None:
            features *= drop.output
        logits = self._output(features, weights)
        d_logits = (sigmoid(logits) - labels) * counts
        layout = self._layout
        dense[layout.output_kernel] += d_logits @ features
        dense[layout.output_bias] += d_logits.sum()
        d_features = d_logits[:, None] * weights.dense[layout.output_kernel]
        if drop.output is not None:
            d_features *= drop.output
        upstream = self._unpool(rows, layers[-1].hidden, d_features)
        d_state = d_features if upstream is None else None
        return logits, self._backward(rows, layers, d_state, upstream, weights, dense)

    def _backward(
        self,
        rows: BatchRows,
        layers: Sequence[_Layer],
        d_state: Floats | None,
        upstream: Floats | None,
        weights: Weights,
        dense: Floats,
    ) -> Floats | None:
        """Adds the gradients of the layers' weights to `dense`.

        Args:
            rows: The rows.
            layers: What `_forward` returned.
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
                if layer is layers[0] and self._config.freeze_embeddings and not self._config.adversarial:
                    continue
                d_source = self._source_gradient(rows, layer, done, deltas, weights)
                total = d_source if total is None else np.add(total, d_source, out=total)
            upstream, d_state = total, no_state
        return upstream

    def _look_up(self, rows: BatchRows, weights: Weights, drop: Dropout) -> _Source:
        """Returns what the first layer reads."""
        vectors = weights.vectors[np.searchsorted(weights.words, rows.words)]
        if drop.embedding is None:
            return _Source(vectors, rows.word_of)
        return _Source(vectors[rows.word_of] * rows.by_offset(drop.embedding, vectors.shape[1]), rows.all)

    def _shift(self, rows: BatchRows, values: Floats, d_values: Floats) -> Floats:
        """Returns the shifts of adversarial training, float32[offsets, width].

        Args:
            rows: The rows.
            values: float32[offsets, width], what the first layer reads.
            d_values: float32[offsets, at least width], the gradient with respect to `values`.
        """
        shift = np.zeros_like(values)
        for steps in rows.slices():
            gradient = d_values[steps, : values.shape[1]]
            norm = np.linalg.norm(gradient)
            if norm > 0:
                length = self._config.adversarial * np.linalg.norm(values[steps]) / np.sqrt(len(gradient))
                np.multiply(gradient, np.float32(length / norm), out=shift[steps])
        return shift

    def _forward(self, rows: BatchRows, source: _Source, weights: Weights, drop: Dropout) -> list[_Layer]:
        """Returns what each layer computed."""
        layers: list[_Layer] = []
        for depth, directions in enumerate(self._layout.layers):
            hidden = self._buffer(("hidden", depth), len(rows.all), sum(direction.width for direction in directions))
            hidden[rows.unused] = 0
            passes = [self._walk(rows, source, direction, hidden, weights, drop) for direction in directions]
            layers.append(_Layer(source, hidden, passes))
            source = _Source(hidden, rows.all)
        return layers

    def _walk(
        self,
        rows: BatchRows,
        source: _Source,
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

    def _add_gradients(self, rows: BatchRows, layer: _Layer, done: _Pass, deltas: Floats, dense: Floats) -> Floats:
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
            deltas = self._sum_by(done.source.ids, deltas, self._buffer("by row", len(values), GATES * width))
        dense[direction.bias] += _sum_of_rows(deltas)
        products.outer(self._target, direction.inputs, width, _masks(done.masks) == GATES)(
            values=values, deltas=deltas, out=dense[direction.kernel]
        )
        return deltas

    def _source_gradient(self, rows: BatchRows, layer: _Layer, done: _Pass, deltas: Floats, weights: Weights) -> Floats:
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
        return self._sum_by(layer.source.ids, d_inputs, d_source)

    def _word_gradient(self, rows: BatchRows, source: _Source, d_source: Floats, dropped: Floats | None) -> Floats:
        """Returns the gradients with respect to the vectors of `rows.words`, float32[words, embedding_width]."""
        width = self._layout.embedding_width
        d_source = d_source[:, :width]
        if source.ids is not rows.all:
            return np.ascontiguousarray(d_source)
        if dropped is not None:
            d_source = d_source * rows.by_offset(dropped, width)
        return self._sum_by(rows.word_of, d_source, np.empty((len(rows.words), width), np.float32))

    def _sum_by(self, ids: Ids, values: Floats, out: Floats) -> Floats:
        """Fills `out` with the sums of the rows of `values` that have the same id, and returns it."""
        out[:] = 0
        products.add_rows(self._target, out.shape[1])(ids=ids, values=values, out=out)
        return out

    def _pool(self, rows: BatchRows, hidden: Floats) -> Floats:
        """Returns what the output reads, float32[rows, features]."""
        pools: list[Floats] = []
        if self._config.pooling in ("mean", "mean_max"):
            sums = np.stack([hidden[steps].sum(axis=0) for steps in rows.slices()])  # `reduceat` takes 16 times as long
            pools.append(np.divide(sums, rows.offsets.steps[:, None], dtype=np.float32))
        if self._config.pooling in ("max", "mean_max"):
            pools.append(np.stack([hidden[steps].max(axis=0) for steps in rows.slices()]))
        if pools:
            return np.concatenate(pools, axis=1)
        last = np.empty((len(rows), hidden.shape[1]), np.float32)
        for direction in self._layout.layers[-1]:
            columns = slice(direction.column, direction.column + direction.width)
            ends = rows.offsets.walk(not direction.is_backward)["first"]
            last[:, columns] = hidden[ends, columns]
        return last

    def _unpool(self, rows: BatchRows, hidden: Floats, d_features: Floats) -> Floats | None:
        """Returns the gradients with respect to the hidden states, float32[offsets, features].

        Returns None if the output reads only the last hidden states.
        """
        if self._config.pooling == "last":
            return None
        upstream = self._buffer("upstream", *hidden.shape)
        if self._config.pooling == "max":
            upstream[:] = 0
        else:
            d_mean = d_features[:, : hidden.shape[1]]
            np.take(d_mean / rows.offsets.steps[:, None].astype(np.float32), rows.row_of, axis=0, out=upstream)
        if self._config.pooling in ("max", "mean_max"):
            d_max = d_features[:, -hidden.shape[1] :]
            for row, steps in enumerate(rows.slices()):
                states = hidden[steps]
                is_max = states == states.max(axis=0)  # equal maxima share the gradient; long padding makes many
                upstream[steps] += is_max * (d_max[row] / is_max.sum(axis=0, dtype=np.float32))
        return upstream

    def _output(self, features: Floats, weights: Weights) -> Floats:
        layout = self._layout
        return features @ weights.dense[layout.output_kernel] + weights.dense[layout.output_bias]

    def _tile(self, rows: int) -> Target:
        """Returns the processor with the tile size for which the fewest rows are repeated to fill the last tile."""
        most = self._target.tile_rows
        sizes = range(most, max(most // 2, 1), -1)
        return replace(self._target, tile_rows=min(sizes, key=lambda size: -(-rows // size) * size))

    def _buffer(self, name: object, *shape: int) -> Floats:
        """Returns uninitialised memory, reused for each name: new memory costs a page fault for each 4 KiB."""
        size = int(np.prod(shape))
        memory = self._buffers.get(name)
        if memory is None or memory.size < size:
            memory = self._buffers[name] = aligned_empty(size)
        return memory[:size].reshape(shape)


@dataclass(frozen=True)
class _Source:
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
    source: _Source
    masks: Floats | None
    recurrent: Floats | None
    gates: Floats
    cells: Floats
    tanhs: Floats
    fed: Floats | None


@dataclass(frozen=True)
class _Layer:
    """The forward pass of a layer.

    Attributes:
        source: What it read, before dropout.
        hidden: float32[offsets, sum of the directions' widths], its hidden states.
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
    """Returns 1 / (1 + exp(-logits)), without overflow."""
    half = np.float32(0.5)
    probabilities: Floats = half + half * np.tanh(half * logits)
    return probabilities
