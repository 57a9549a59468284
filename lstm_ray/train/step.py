"""One training step, the same for one worker and for many.

    gradients, compiled  ->  summed over the workers (train/collective.py)  ->  Adam, compiled

The loss of a step is the sum over its rows, on all workers, divided by their number. So each worker divides its own
sum by the global number of rows, and the gradients are added up over the workers.

Every worker holds the whole model in plain variables. They begin equal (the seed decides) and stay equal, because each
applies the same sum of gradients, equal to the bit. `tf.distribute` is not used: `keras.Model.fit` fails under its
MultiWorkerMirroredStrategy in Keras 3, and its collectives on CPUs cost more than a step. Everything here is public
Keras and TensorFlow API.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from lstm_ray.config import TrainConfig
from lstm_ray.model.architectures import build_model
from lstm_ray.train.batches import Batch
from lstm_ray.train.collective import Collective, Rows


class Stepper:
    """A model, its optimizer, and the compiled functions that train and apply it.

    Attributes:
        model: The Keras model.
        optimizer: Adam.
    """

    def __init__(self, config: TrainConfig, collective: Collective) -> None:
        self._collective = collective
        self.model = build_model(config, config, config.seed)
        self.optimizer = keras.optimizers.Adam(config.learning_rate)
        self.optimizer.build(self.model.trainable_variables)
        # Recurrent dropout keeps Keras off its fused LSTM; XLA then halves the step (70 -> 30 ms, lstm preset, 2 CPU
        # cores). Without it XLA loses: cuDNN on a GPU, both directions at once on a CPU (30 -> 36 ms, bilstm preset).
        self._differentiate = tf.function(
            self._compute_gradients, jit_compile=config.recurrent_dropout > 0, reduce_retracing=True
        )
        self._gradients = tf.function(self._gather_gradients, reduce_retracing=True)
        # XLA turns Adam's 15 passes over the embedding and its moments into one (7.5 -> 3.2 ms, lstm preset, 1 core).
        self._update = tf.function(self._apply_gradients, jit_compile=True)
        variables = self.model.trainable_variables
        self._tables = [place for place, v in enumerate(variables) if v.path.endswith("embeddings")]
        self._sizes = [0 if place in self._tables else int(np.prod(v.shape)) for place, v in enumerate(variables)]
        rows = [(tf.TensorSpec([None], tf.int64), tf.TensorSpec([None, variables[p].shape[1]])) for p in self._tables]
        self._apply = tf.function(self._apply_sums, input_signature=[tf.TensorSpec([sum(self._sizes)]), rows])
        self._predict = tf.function(self._forward, reduce_retracing=True)
        self._seeds = [v for v in self.model.variables if v.path.endswith("seed_generator_state")]

    def variables(self) -> list[Any]:
        """Returns all state of model and optimizer, in an order that depends on the configuration alone."""
        return [*self.model.variables, *self.optimizer.variables]

    def reseed(self, seed: int, epoch: int, step: int, rank: int) -> None:
        """Makes the dropout of the next step a function of (seed, epoch, step, rank), wherever a run was resumed."""
        if self._seeds:
            states = np.random.SeedSequence([seed, epoch, step, rank]).generate_state(2 * len(self._seeds))
            for variable, state in zip(self._seeds, states.reshape(-1, 2), strict=True):
                variable.assign(state.astype(variable.dtype))

    def train(self, batch: Batch) -> tf.Tensor:
        """Takes one step.

        Returns:
            float32[2]: loss and number of right answers, each summed over this worker's rows.
        """
        arguments = (tf.constant(batch.token_ids), tf.constant(batch.labels), tf.constant(batch.weights))
        dense, rows, sums = self._gradients(*arguments, tf.constant(batch.global_rows, tf.float32))
        if self._collective.world_size > 1:  # alone, nothing leaves the device
            total, totals = self._collective.all_reduce(
                dense.numpy(), [Rows(ids.numpy(), values.numpy()) for ids, values in rows]
            )
            dense = tf.constant(total)
            rows = [(tf.constant(matrix.ids), tf.constant(matrix.values)) for matrix in totals]
        self._apply(dense, rows)
        return sums

    def predict(self, batch: Batch) -> npt.NDArray[np.float32]:
        """Returns the probabilities of this worker's rows that count, float32[rows]."""
        probabilities: npt.NDArray[np.float32] = self._predict(tf.constant(batch.token_ids)).numpy()
        return probabilities[batch.weights > 0]

    def all_reduce(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Returns the sum of a vector over all workers; each must call it."""
        return self._collective.sum(values)

    def _compute_gradients(
        self, token_ids: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor, global_rows: tf.Tensor
    ) -> tuple[list[tf.Tensor | tf.IndexedSlices], tf.Tensor]:
        with tf.GradientTape() as tape:
            probabilities = self.model(token_ids, training=True)
            losses = keras.losses.binary_crossentropy(labels[:, None], probabilities) * weights
            loss = tf.reduce_sum(losses) / global_rows
        gradients = tape.gradient(loss, self.model.trainable_variables)
        is_right = tf.cast(tf.equal(probabilities[:, 0] > 0.5, labels > 0.5), tf.float32) * weights
        return gradients, tf.stack([tf.reduce_sum(losses), tf.reduce_sum(is_right)])

    def _gather_gradients(
        self, *arguments: tf.Tensor
    ) -> tuple[tf.Tensor, list[tuple[tf.Tensor, tf.Tensor]], tf.Tensor]:
        """Returns the gradients as they travel, and the sums of `train`.

        An embedding's gradient has a row for each token of the batch and none for other words. Rows of the same word
        are added up: 0.3 MB travel rather than 0.7 MB, or 10 MB with all words (lstm preset, 16 rows a worker).

        Returns:
            float32[n], all other gradients one after the other; ids int64[words] and rows float32[words, width] of
            each embedding; float32[2].
        """
        gradients, sums = self._differentiate(*arguments)
        dense, rows = [], []
        for place, gradient in enumerate(gradients):
            if place in self._tables:
                ids, places = tf.unique(tf.cast(gradient.indices, tf.int64))
                rows.append((ids, tf.math.unsorted_segment_sum(gradient.values, places, tf.size(ids))))
            else:
                dense.append(tf.reshape(gradient, [-1]))
        return tf.concat(dense, 0), rows, sums

    def _apply_sums(self, dense: tf.Tensor, rows: list[tuple[tf.Tensor, tf.Tensor]]) -> None:
        """Takes Adam's step with the gradients that `_gather_gradients` returned, summed over the workers."""
        variables = self.model.trainable_variables
        gradients = [
            tf.reshape(part, v.shape) if size else part
            for part, v, size in zip(tf.split(dense, self._sizes), variables, self._sizes, strict=True)
        ]
        for place, (ids, values) in zip(self._tables, rows, strict=True):
            # Adam moves every word in every step, by the moments of earlier ones: it wants the zeros too.
            shape = tf.constant(list(variables[place].shape), tf.int64)
            gradients[place] = tf.scatter_nd(ids[:, None], values, shape)
        self._update(gradients)

    def _apply_gradients(self, gradients: list[tf.Tensor]) -> None:
        self.optimizer.apply(gradients, self.model.trainable_variables)

    def _forward(self, token_ids: tf.Tensor) -> tf.Tensor:
        return self.model(token_ids, training=False)[:, 0]
