"""A network's forward and backward pass on CPUs, without TensorFlow: word vectors, LSTM layers, pooling, output.

The result is what Keras computes for the model that `model/architectures.py` builds, including dropout. Two
optimizations do not change it: padding of a masked network is skipped (a row has as many steps as tokens, whatever
length its batch is padded to), and so is what the first layer would compute twice for a word (layers.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lstm_ray.arrays import Floats, Ids
from lstm_ray.config import TrainConfig
from lstm_ray.kernels.emitter import Target
from lstm_ray.train.native.layers import NO_DROPOUT, Buffers, Dropout, LstmLayers, Source, Weights, sum_by
from lstm_ray.train.native.layout import WeightLayout
from lstm_ray.train.native.rows import BatchRows


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
        self._buffer = Buffers()
        needs_source = not config.freeze_embeddings or config.adversarial > 0
        self._layers = LstmLayers(layout, target, self._buffer, needs_source)

    @np.errstate(all="ignore")  # `Stepper.is_finite` finds what overflows
    def logits(self, token_ids: Ids, weights: Weights) -> Floats:
        """Returns the logits, float32[rows], without dropout.

        Args:
            token_ids: int32[rows, time], padded.
            weights: The network's weights.
        """
        rows = BatchRows.of(token_ids, self._config.mask)
        layers = self._layers.forward(rows, self._look_up(rows, weights, NO_DROPOUT), weights, NO_DROPOUT)
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
            source = Source(source.values[source.ids], rows.all)  # each step has its own shift, even for the same word
        logits, d_source = self._differentiate(rows, source, labels, counts, weights, drop, dense)
        if d_source is None:
            return Gradients(dense, rows.words, None, rows.as_given(logits))
        embedding = self._word_gradient(rows, source, d_source, drop.embedding)
        if self._config.adversarial:
            shifted = Source(source.values + self._shift(rows, source.values, d_source), rows.all)
            _, d_source = self._differentiate(rows, shifted, labels, counts, weights, drop, dense)
            assert d_source is not None  # as in the first pass
            embedding += self._word_gradient(rows, shifted, d_source, drop.embedding)
        return Gradients(
            dense, rows.words, None if self._config.freeze_embeddings else embedding, rows.as_given(logits)
        )

    def _differentiate(
        self,
        rows: BatchRows,
        source: Source,
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
        layers = self._layers.forward(rows, source, weights, drop)
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
        return logits, self._layers.backward(rows, layers, d_state, upstream, weights, dense)

    def _look_up(self, rows: BatchRows, weights: Weights, drop: Dropout) -> Source:
        """Returns what the first layer reads."""
        vectors = weights.vectors[np.searchsorted(weights.words, rows.words)]
        if drop.embedding is None:
            return Source(vectors, rows.word_of)
        return Source(vectors[rows.word_of] * rows.by_offset(drop.embedding, vectors.shape[1]), rows.all)

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

    def _word_gradient(self, rows: BatchRows, source: Source, d_source: Floats, dropped: Floats | None) -> Floats:
        """Returns the gradients with respect to the vectors of `rows.words`, float32[words, embedding_width]."""
        width = self._layout.embedding_width
        d_source = d_source[:, :width]
        if source.ids is not rows.all:
            return np.ascontiguousarray(d_source)
        if dropped is not None:
            d_source = d_source * rows.by_offset(dropped, width)
        return sum_by(self._target, rows.word_of, d_source, np.empty((len(rows.words), width), np.float32))

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


def sigmoid(logits: Floats) -> Floats:
    """Returns 1 / (1 + exp(-logits)), without overflow."""
    half = np.float32(0.5)
    probabilities: Floats = half + half * np.tanh(half * logits)
    return probabilities
