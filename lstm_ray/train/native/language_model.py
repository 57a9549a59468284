"""A language model with the weights of a run's network: in each direction it predicts the next word.

    tokens of a text -> embedding, LSTM        the run's own, network.py
    hidden state of a step @ head              a vector of the embedding's size; one head for each direction
    that vector . a word's vector              how much more likely the word is here than elsewhere

    P(word | state) = frequency of the word * exp(vector . word's vector) / sum of the same over all words

The sum over all words is estimated from the true word and words drawn by frequency, the same for all steps of a batch:
importance sampling. The words are read and predicted with the same vectors.

Sources: A. Dai, Q. Le, "Semi-supervised Sequence Learning", 2015; Y. Bengio, J.-S. Senécal, "Adaptive Importance
Sampling to Accelerate Training of a Neural Probabilistic Language Model", 2008; O. Press, L. Wolf, "Using the Output
Embedding to Improve Language Models", 2017.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from lstm_ray.arrays import Floats
from lstm_ray.collective.protocol import Collective
from lstm_ray.config import TrainConfig
from lstm_ray.errors import InputError
from lstm_ray.text.sequences import Sequences
from lstm_ray.text.vocabulary import FIRST_WORD_ID
from lstm_ray.train.data.batches import Batch
from lstm_ray.train.native.adam import FIRST, SECOND, VALUES
from lstm_ray.train.native.layers import NO_DROPOUT, Weights, sum_by
from lstm_ray.train.native.layout import WeightLayout
from lstm_ray.train.native.network import Network
from lstm_ray.train.native.rows import BatchRows
from lstm_ray.train.native.stepper import NativeStepper, Variable, VariablePart

_DRAWN = 512  # words with which the sum over all words is estimated


@dataclass(frozen=True)
class _WordGradients:
    """The gradient of a sum of losses. `dense` is overwritten by the next call.

    Attributes:
        dense: float32[size], with respect to all weights except the embedding.
        words: int64[n], the distinct words of the rows.
        embedding: float32[n, embedding_width], with respect to their vectors.
        drawn: float32[drawn, embedding_width], with respect to the vectors of the drawn words.
        loss: The sum of the losses, in nats.
        predictions: Number of predicted words.
    """

    dense: Floats
    words: npt.NDArray[np.int64]
    embedding: Floats
    drawn: Floats
    loss: float
    predictions: int


class LanguageModelStepper(NativeStepper):
    """The language model's weights and their optimizer. A batch's labels are not used."""

    def __init__(self, config: TrainConfig, collective: Collective, texts: Sequences) -> None:
        """Builds the model.

        Args:
            config: Settings of the network, and of this training in place of the run's.
            collective: Sums gradients over the workers.
            texts: All texts to learn from, as token ids.

        Raises:
            InputError: No word of the texts is in the vocabulary.
        """
        counts = np.bincount(texts.token_ids, minlength=config.vocabulary_size)[: config.vocabulary_size].astype(float)
        counts[:FIRST_WORD_ID] = 0  # they are read, but not predicted
        if not counts.any():
            raise InputError("no word of the texts is in the vocabulary: nothing to predict: use --pretrain-epochs 0")
        self._drawn_below = np.cumsum(counts) / counts.sum()
        with np.errstate(divide="ignore"):
            self._log_frequencies = np.log(counts / counts.sum()).astype(np.float32)
        self._mean_length = len(texts.token_ids) / max(len(texts), 1)
        super().__init__(config, collective, np.zeros(len(texts), np.int8))
        self._language_networks = [_LanguageNetwork(config, self._layout, self._target) for _ in self._networks]
        heads = np.zeros(self._head_shape)
        heads[:, : config.units, : config.embedding_size] = np.random.default_rng([config.seed, 0]).normal(
            0, config.units**-0.5, (len(heads), config.units, config.embedding_size)
        )
        self._dense.write(VALUES, (0, self._heads), heads.ravel())

    def _lay_out(self, lanes: int) -> WeightLayout:
        """Returns the network's layout with room for the heads at its end."""
        layout = super()._lay_out(lanes)
        last = layout.layers[-1]
        self._head_shape = len(last), last[0].width, layout.embedding_width
        self._heads = slice(layout.size, layout.size + math.prod(self._head_shape))
        return replace(layout, size=self._heads.stop)

    def reseed(self, seed: int, epoch: int, step: int, rank: int) -> None:
        """Seeds all workers alike: they draw the same words, so that a step is the same for any number of them."""
        super().reseed(seed, epoch, step, 0)

    @np.errstate(all="ignore")  # `is_finite` finds what overflows
    def train(self, batch: Batch) -> npt.NDArray[np.float32]:
        """Takes one step.

        Returns:
            float32[2], the losses in nats and the number of predicted words, each summed over all workers' rows.
        """
        drawn = np.searchsorted(self._drawn_below, self._random.random(_DRAWN), side="right")
        words = np.unique(np.concatenate([batch.token_ids.ravel(), drawn]))
        return self._learn(words, *self._word_gradients(batch, drawn, self._weights(words, with_transposed=True)))

    def _word_gradients(self, batch: Batch, drawn: npt.NDArray[np.int64], weights: Weights) -> tuple[Floats, Floats]:
        """Returns the gradients of this worker's rows as `_gradients` does, with what `train` returns at the end."""
        dense = np.zeros(self._layout.size + 2, np.float32)
        d_vectors = np.zeros_like(weights.vectors)
        at = np.searchsorted(weights.words, drawn)
        heads = weights.dense[self._heads].reshape(self._head_shape)
        scale = np.float32(1 / (len(heads) * batch.global_rows * self._mean_length))
        real = batch.token_ids[batch.weights > 0]

        def gradients(task: tuple[_LanguageNetwork, npt.NDArray[np.intp]]) -> _WordGradients:
            network, share = task
            return network.word_gradients(real[share], drawn, weights, self._log_frequencies, heads, scale)

        for rows in self._shares(replace(batch, token_ids=real)) if len(real) else ():
            for found in self._threads.map(gradients, zip(self._language_networks, rows, strict=False)):
                dense[:-2] += found.dense
                d_vectors[np.searchsorted(weights.words, found.words)] += found.embedding
                np.add.at(d_vectors, at, found.drawn)
                dense[-2:] += (found.loss, found.predictions)
        return dense, d_vectors

    def lstm_weights(self) -> list[npt.NDArray[np.float32]]:
        """Returns the weights of embedding and LSTM, as `Stepper.set_weights` takes them."""
        parts = [part for part in self._model_variables if isinstance(part, VariablePart)]
        return [self._read(part) for part in parts[:-2]]  # without the output's kernel and bias, which learn nothing

    def _state_variables(self) -> list[Variable]:
        heads = (VariablePart(self._dense, array, (0, self._heads)) for array in (VALUES, FIRST, SECOND))
        return [*super()._state_variables(), *heads]


class _LanguageNetwork(Network):
    """The network as a language model, for use by one thread."""

    @np.errstate(all="ignore")  # `Stepper.is_finite` finds what overflows
    def word_gradients(
        self,
        token_ids: npt.NDArray[np.int32],
        drawn: npt.NDArray[np.int64],
        weights: Weights,
        log_frequencies: Floats,
        heads: Floats,
        scale: np.float32,
    ) -> _WordGradients:
        """Returns the gradient of the sum of the losses of all predicted words, times `scale`.

        Args:
            token_ids: int32[rows, time], padded with 0; at least one row.
            drawn: int64[drawn], words drawn by frequency.
            weights: The network's weights, with the vectors of the rows' words and of the drawn ones.
            log_frequencies: float32[vocabulary_size], logarithm of each word's share of all words; -inf for token ids
                that are not predicted.
            heads: float32[directions, width, embedding_width].
            scale: A factor.
        """
        rows = BatchRows.of(token_ids, True)
        dense = self._buffer("dense", self._layout.size)
        dense[:] = 0
        d_heads = dense[-heads.size :].reshape(heads.shape)
        source = self._look_up(rows, weights, NO_DROPOUT)
        layers = self._layers.forward(rows, source, weights, NO_DROPOUT)
        upstream = self._buffer("upstream", *layers[-1].hidden.shape)
        upstream[:] = 0
        others = weights.vectors[np.searchsorted(weights.words, drawn)]
        d_words, d_others = np.zeros_like(source.values), np.zeros_like(others)
        loss, predictions = 0.0, 0
        neighbours = np.flatnonzero(rows.is_step[:-1] & rows.is_step[1:])
        for direction, head, d_head in zip(self._layout.layers[-1], heads, d_heads, strict=True):
            at, to = (neighbours + 1, neighbours) if direction.is_backward else (neighbours, neighbours + 1)
            is_predicted = np.isfinite(log_frequencies[rows.words[rows.word_of[to]]])
            at, to = at[is_predicted], to[is_predicted]
            columns = slice(direction.column, direction.column + direction.width)
            states, words = layers[-1].hidden[at, columns], rows.word_of[to]
            targets = rows.words[words]
            vectors = states @ head
            true = np.einsum("ij,ij->i", vectors, source.values[words]) + log_frequencies[targets]
            logits = self._buffer("logits", len(at), len(drawn))
            np.matmul(vectors, others.T, out=logits)
            logits -= np.log(np.float32(len(drawn)))
            logits[targets[:, None] == drawn] = -np.inf  # the true word is counted once
            # The loss is log(exp(true) + sum of exp(logits)) - true.
            largest = np.maximum(logits.max(axis=1, initial=-np.inf), true)
            np.exp(np.subtract(logits, largest[:, None], out=logits), out=logits)
            of_true = np.exp(true - largest)
            total = logits.sum(axis=1) + of_true
            loss += float((np.log(total) - true + largest).sum(dtype=np.float64))
            predictions += len(at)
            logits *= (scale / total)[:, None]
            d_true = ((of_true / total - 1) * scale)[:, None]
            d_vectors = logits @ others + d_true * source.values[words]
            d_others += logits.T @ vectors
            d_words += sum_by(self._target, words, d_true * vectors, self._buffer("d_words", *d_words.shape))
            d_head += states.T @ d_vectors
            upstream[at, columns] = d_vectors @ head.T
        d_source = self._layers.backward(rows, layers, None, upstream, weights, dense)
        if d_source is not None:
            d_words += self._word_gradient(rows, source, d_source, None)
        return _WordGradients(dense, rows.words, d_words, d_others, loss, predictions)
