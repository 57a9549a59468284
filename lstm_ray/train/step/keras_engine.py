"""The Keras engine: training steps with Keras and TensorFlow, on GPUs and CPUs.

    gradients, compiled  ->  summed over the workers (collective/)  ->  Adam, compiled

TensorFlow's collectives sum the tensors where they are; TCP copies them to the host and back. `tf.distribute` is not
used: in Keras 3 `keras.Model.fit` fails under its MultiWorkerMirroredStrategy. Only public Keras and TensorFlow API is
used here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from lstm_ray.collective.protocol import Collective, SparseRows
from lstm_ray.collective.tensorflow import Rows, TensorFlowCollective
from lstm_ray.config import TrainConfig
from lstm_ray.errors import TrainingError
from lstm_ray.model.architectures import build_model, summary_text
from lstm_ray.runtime.tensorflow import computing_in
from lstm_ray.text.word_vectors import WordVectors
from lstm_ray.train.data.batches import Batch
from lstm_ray.train.step.loss import Labels, class_weights
from lstm_ray.train.step.schedule import average_share, count_steps, is_scheduled, learning_rate_at

Gradient: TypeAlias = "tf.Tensor | tf.IndexedSlices"

_SUMS = 2  # loss and number of correct answers, which are summed together with the gradients


class KerasStepper:
    """A Keras model, its optimizer, and the compiled functions that train and apply it.

    Attributes:
        model: The Keras model.
        optimizer: Adam; with fp16 wrapped in Keras's loss scaling.
    """

    def __init__(self, config: TrainConfig, collective: Collective, labels: Labels) -> None:
        """Builds the model and the optimizer.

        Args:
            config: The run's settings.
            collective: Sums the gradients over the workers.
            labels: Labels of all training rows: a schedule's length and balanced class weights depend on them.
        """
        self._collective = collective
        self._config = config
        self._steps = count_steps(config, len(labels))
        self._class_weights = class_weights(config, labels)
        with computing_in(config.precision):
            self.model = build_model(config, config, config.seed)
        if config.network is None:
            self.model.get_layer("embedding").trainable = not config.freeze_embeddings
        self.optimizer = self._make_optimizer()
        variables = self.model.trainable_variables
        self.optimizer.build(variables)
        self._averages = [keras.Variable(v.numpy(), dtype=v.dtype, trainable=False) for v in variables if config.ema]
        # With recurrent dropout Keras cannot use its fused LSTM; XLA then halves the step (70 -> 30 ms, lstm preset, 2
        # CPU cores). Without it XLA is slower: no cuDNN on a GPU, and on a CPU the two directions run one after the
        # other (30 -> 36 ms, bilstm preset). By tokens nearly every batch has a shape of its own, and XLA
        # compiles for a second or more for each.
        self._differentiate = tf.function(
            self._compute_adversarial_gradients if config.adversarial else self._compute_gradients,
            jit_compile=config.recurrent_dropout > 0 and config.network is None and config.batch_by == "rows",
            reduce_retracing=True,
        )
        # Slices are cut outside of compiled code, which does not know how many rows a batch has.
        self._packed_gradients = (
            self._pack_gradients if config.accumulate > 1 else tf.function(self._pack_gradients, reduce_retracing=True)
        )
        # XLA turns Adam's 15 passes over the embedding and its moments into one (7.5 -> 3.2 ms, lstm preset, 1 core).
        self._update = tf.function(self._take_step, jit_compile=True)
        self._tables = [p for p, v in enumerate(variables) if v.path.endswith("embeddings") and len(v.shape) == 2]
        self._sizes = [0 if p in self._tables else int(np.prod(v.shape)) for p, v in enumerate(variables)]
        rows = [(tf.TensorSpec([None], tf.int64), tf.TensorSpec([None, variables[p].shape[1]])) for p in self._tables]
        dense = tf.TensorSpec([sum(self._sizes) + _SUMS])
        self._apply = tf.function(self._apply_sums, input_signature=[dense, rows])
        self._predict = tf.function(self._forward, reduce_retracing=True)
        self._seeds = [v for v in self.model.variables if v.path.endswith("seed_generator_state")]
        if config.adversarial:  # the model in two parts: up to what its first LSTM layer reads, and the rest
            vectors = self.model.get_layer("embedding_dropout" if config.embedding_dropout else "embedding").output
            self._embed = keras.Model(self.model.input, vectors)
            self._read = keras.Model([self.model.input, vectors], self.model.output)

    def _make_optimizer(self) -> keras.optimizers.Optimizer:
        # Adam does the clipping: it receives the sums over the workers, so the norm is that of the whole step.
        config = self._config
        rate = self._scheduled_rate if is_scheduled(config) else config.learning_rate
        self._adam = keras.optimizers.Adam(
            rate,
            beta_1=config.adam_beta_1,
            beta_2=config.adam_beta_2,
            weight_decay=config.weight_decay or None,
            global_clipnorm=config.clip_norm,
        )
        # fp16 has no numbers below 6e-8, so the loss is multiplied by about 2^15 before its gradients are computed. All
        # workers receive the same sums, so either all take the step, or all skip it and halve the scale.
        return keras.optimizers.LossScaleOptimizer(self._adam) if config.precision == "fp16" else self._adam

    def _scheduled_rate(self) -> tf.Tensor:
        number = keras.ops.cast(self._adam.iterations, "float32")
        return learning_rate_at(self._config, self._steps, number, keras.ops)

    def learning_rate(self) -> float:
        """Returns the learning rate of the last step."""
        if not is_scheduled(self._config):
            return self._config.learning_rate
        return float(learning_rate_at(self._config, self._steps, int(self._adam.iterations) - 1))

    def set_weights(self, weights: Sequence[npt.NDArray[np.float32]]) -> None:
        """Sets the weights that the model begins with; see `Stepper.set_weights`."""
        variables = [variable for variable in self.model.variables if variable.dtype == "float32"]
        for variable, value in zip(variables, weights, strict=False):
            whole = variable.numpy()
            whole[: len(value)] = value
            variable.assign(whole)
        self._start_averages()

    def set_word_vectors(self, words: WordVectors) -> None:
        """Sets the embeddings of the words that have a vector."""
        table = self.model.get_layer("embedding").embeddings
        values = table.numpy()
        values[words.ids] = words.vectors
        table.assign(values)
        self._start_averages()

    def _start_averages(self) -> None:
        for average, variable in self._averaged():
            average.assign(variable)

    def summary(self) -> str:
        """Returns Keras's summary of the model."""
        return summary_text(self.model)

    def weights(self) -> list[npt.NDArray[Any]]:
        """Returns copies of the model's variables; with `ema`, of their averages."""
        averages = {id(variable): average for average, variable in self._averaged()}
        return [averages.get(id(variable), variable).numpy() for variable in self.model.variables]

    def is_finite(self) -> bool:
        """Returns whether all weights are finite, and with fp16 whether steps are still taken.

        With fp16 a step whose gradient is not finite is skipped and the scale halved. If the scale falls below 1, the
        scale is not the cause.
        """
        if self.optimizer is not self._adam and float(self.optimizer.dynamic_scale) < 1:
            return False
        return all(np.isfinite(variable.numpy()).all() for variable in self.model.trainable_variables)

    def state(self) -> list[npt.NDArray[Any]]:
        """Returns copies of all variables of model and optimizer, in an order that depends only on the settings."""
        return [variable.numpy() for variable in self._variables()]

    def restore(self, state: list[npt.NDArray[Any]]) -> None:
        """Sets all variables to what `state` returned.

        Raises:
            TrainingError: The network has other variables: the user's function may have changed.
        """
        if [tuple(v.shape) for v in self._variables()] != [value.shape for value in state]:
            raise TrainingError(
                f"{self._config.output}: the shapes of the weights have changed since this run started: choose "
                "another --output, or use --fresh to delete that run and start over"
            )
        for variable, value in zip(self._variables(), state, strict=True):
            variable.assign(value)

    def _variables(self) -> list[Any]:
        return [*self.model.variables, *self.optimizer.variables, *self._averages]

    def _averaged(self) -> list[tuple[keras.Variable, keras.Variable]]:
        """Returns the moving averages with their variables; nothing if there are none."""
        return list(zip(self._averages, self.model.trainable_variables, strict=False))

    def reseed(self, seed: int, epoch: int, step: int, rank: int) -> None:
        """Makes the next step's dropout depend only on the arguments, so that a run can resume at any step.

        This takes 0.08 ms with the lstm preset, whose step takes 30 ms.
        """
        if self._seeds:
            states = np.random.SeedSequence([seed, epoch, step, rank]).generate_state(2 * len(self._seeds))
            for variable, state in zip(self._seeds, states.reshape(-1, 2), strict=True):
                variable.assign(state.astype(variable.dtype))

    def train(self, batch: Batch) -> tf.Tensor:
        """Takes one step.

        Returns:
            float32[2]: loss and number of correct answers, each summed over the step's rows on all workers.
        """
        arguments = (tf.constant(batch.token_ids), tf.constant(batch.labels), tf.constant(batch.weights))
        dense, rows = self._packed_gradients(*arguments, tf.constant(batch.global_rows, tf.float32))
        return self._apply(*self._summed(dense, rows))

    def _summed(self, dense: tf.Tensor, rows: list[Rows]) -> tuple[tf.Tensor, list[Rows]]:
        """Returns the sums over all workers."""
        if self._collective.world_size == 1:
            return dense, rows
        if isinstance(self._collective, TensorFlowCollective):
            return self._collective.all_reduce_tensors(dense, rows)
        total, totals = self._collective.all_reduce(
            dense.numpy(), [SparseRows(ids.numpy(), values.numpy()) for ids, values in rows]
        )
        return tf.constant(total), [(tf.constant(matrix.ids), tf.constant(matrix.values)) for matrix in totals]

    def predict(self, batch: Batch) -> npt.NDArray[np.float32]:
        """Returns the probabilities of this worker's rows, without filler rows, float32[rows]."""
        probabilities: npt.NDArray[np.float32] = self._predict(tf.constant(batch.token_ids)).numpy()
        return probabilities[batch.weights > 0]

    def _compute_gradients(
        self, token_ids: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor, global_rows: tf.Tensor
    ) -> tuple[list[Gradient], tf.Tensor]:
        with tf.GradientTape() as tape:
            probabilities = self.model(token_ids, training=True)
            losses = self._losses(probabilities, labels, weights)
            total = tf.reduce_sum(losses)
            if self.model.losses:  # regularizers of a user's network: each row contributes its share, on any worker
                total += tf.add_n(self.model.losses) * tf.reduce_sum(weights)
            loss = self.optimizer.scale_loss(total / global_rows)
        variables = self.model.trainable_variables
        gradients = [
            tf.zeros_like(v.value) if gradient is None else gradient  # a user's network may leave a weight unused
            for v, gradient in zip(variables, tape.gradient(loss, variables), strict=True)
        ]
        return gradients, _sums(probabilities, labels, weights, losses)

    def _compute_adversarial_gradients(
        self, token_ids: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor, global_rows: tf.Tensor
    ) -> tuple[list[Gradient], tf.Tensor]:
        """Same as `_compute_gradients`, with the loss of adversarial training (loss.py)."""
        variables = self.model.trainable_variables

        def differentiate(shift: Any) -> tuple[list[Gradient], tf.Tensor, tf.Tensor, tf.Tensor]:
            with tf.GradientTape() as tape:
                vectors = self._embed(token_ids, training=True) + shift
                tape.watch(vectors)  # they may be frozen
                probabilities = self._read([token_ids, vectors], training=True)
                losses = self._losses(probabilities, labels, weights)
                loss = self.optimizer.scale_loss(tf.reduce_sum(losses) / global_rows)
            *gradients, d_vectors = tape.gradient(loss, [*variables, vectors])
            return gradients, vectors, d_vectors, _sums(probabilities, labels, weights, losses)

        seeds = [tf.identity(seed.value) for seed in self._seeds]
        gradients, vectors, d_vectors, sums = differentiate(0.0)
        for seed, state in zip(self._seeds, seeds, strict=True):  # the same dropout again
            seed.assign(state)
        more, *_ = differentiate(self._shift(token_ids, vectors, d_vectors))
        return [_added(one, other) for one, other in zip(gradients, more, strict=True)], sums

    def _shift(self, token_ids: tf.Tensor, vectors: tf.Tensor, d_vectors: tf.Tensor) -> tf.Tensor:
        """Returns the shifts of adversarial training, with the shape and dtype of the vectors."""
        is_read = tf.cast(token_ids != 0, tf.float32) if self._config.mask else tf.ones_like(token_ids, tf.float32)
        steps = tf.reduce_sum(is_read, axis=1)[:, None, None]
        squares = tf.square(tf.cast(vectors, tf.float32)) * is_read[:, :, None]
        length = tf.sqrt(tf.reduce_sum(squares, axis=[1, 2], keepdims=True) / steps)
        gradients = tf.cast(d_vectors, tf.float32)
        directions = tf.math.divide_no_nan(gradients, tf.norm(gradients, axis=[1, 2], keepdims=True))
        return tf.cast(self._config.adversarial * length * directions, vectors.dtype)

    def _losses(self, probabilities: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        smoothing = self._config.label_smoothing
        losses = keras.losses.binary_crossentropy(labels[:, None], probabilities, label_smoothing=smoothing) * weights
        return losses * tf.where(labels > 0.5, self._class_weights[1], self._class_weights[0])

    def _pack_gradients(self, *arguments: tf.Tensor) -> tuple[tf.Tensor, list[Rows]]:
        """Returns the gradients in the form in which they are summed over the workers.

        An embedding's gradient has a row for each token of the batch and none for other words. Rows of the same word
        are added up: 0.3 MB are sent instead of 0.7 MB, or 10 MB for all words (lstm preset, 16 rows per worker).

        Returns:
            float32[n + 2], all other gradients one after the other, then the sums of `train`; and for each embedding
            its ids, int64[words], and rows, float32[words, width].
        """
        compute = self._accumulate if self._config.accumulate > 1 else self._differentiate
        gradients, sums = compute(*arguments)
        dense, rows = [], []
        for position, gradient in enumerate(gradients):
            if position in self._tables:
                rows.append(_rows_of(gradient))
            else:
                dense.append(tf.reshape(gradient, [-1]))
        return tf.concat([*dense, sums], 0), rows

    def _accumulate(
        self, token_ids: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor, global_rows: tf.Tensor
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        """Adds up the gradients of slices of the rows, computed one after the other.

        The embedding's gradient is added up as a full matrix: the sparse rows of all slices would take more memory.
        """
        rows = -(-token_ids.shape[0] // self._config.accumulate)
        gradients, sums = self._dense_gradients(token_ids[:rows], labels[:rows], weights[:rows], global_rows)
        for start in range(rows, token_ids.shape[0], rows):
            part = [array[start : start + rows] for array in (token_ids, labels, weights)]
            more, more_sums = self._dense_gradients(*part, global_rows)
            gradients = [one + other for one, other in zip(gradients, more, strict=True)]
            sums += more_sums
        return gradients, sums

    def _dense_gradients(self, *arguments: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor]:
        gradients, sums = self._differentiate(*arguments)
        return [tf.convert_to_tensor(gradient) for gradient in gradients], sums

    def _apply_sums(self, dense: tf.Tensor, rows: list[Rows]) -> tf.Tensor:
        """Applies the result of `_pack_gradients`, summed over the workers; returns the two sums of `train`."""
        variables = self.model.trainable_variables
        *parts, sums = tf.split(dense, [*self._sizes, _SUMS])
        gradients = [
            tf.reshape(part, v.shape) if size else part
            for part, v, size in zip(parts, variables, self._sizes, strict=True)
        ]
        for position, (ids, values) in zip(self._tables, rows, strict=True):
            # Adam updates every word in every step, because of the moments of earlier steps: it needs the zeros too.
            shape = tf.constant(list(variables[position].shape), tf.int64)
            gradients[position] = tf.scatter_nd(ids[:, None], values, shape)
        self._update(gradients)
        return sums

    def _take_step(self, gradients: list[tf.Tensor]) -> None:
        number = tf.cast(self._adam.iterations, tf.float32)
        self.optimizer.apply(gradients, self.model.trainable_variables)
        for average, variable in self._averaged():
            average.assign_add((variable - average) * average_share(self._config.ema, number, keras.ops))

    def _forward(self, token_ids: tf.Tensor) -> tf.Tensor:
        if not self._averages:
            return self.model(token_ids, training=False)[:, 0]
        others = self.model.non_trainable_variables
        probabilities, _ = self.model.stateless_call(self._averages, others, token_ids, training=False)
        return probabilities[:, 0]


def _sums(probabilities: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor, losses: tf.Tensor) -> tf.Tensor:
    is_correct = tf.cast(tf.equal(probabilities[:, 0] > 0.5, labels > 0.5), tf.float32) * weights
    return tf.stack([tf.reduce_sum(losses), tf.reduce_sum(is_correct)])


def _added(one: Gradient, other: Gradient) -> Gradient:
    """Adds two gradients of a variable; those of an embedding are concatenated and may repeat a word."""
    if not isinstance(one, tf.IndexedSlices):
        return one + other
    return tf.IndexedSlices(
        tf.concat([one.values, other.values], 0), tf.concat([one.indices, other.indices], 0), one.dense_shape
    )


def _rows_of(gradient: Gradient) -> Rows:
    """Returns the rows of an embedding's gradient that are not zero, each once: int64[words], float32[words, width]."""
    if isinstance(gradient, tf.IndexedSlices):
        ids, positions = tf.unique(tf.cast(gradient.indices, tf.int64))
        return ids, tf.math.unsorted_segment_sum(gradient.values, positions, tf.size(ids))
    ids = tf.where(tf.reduce_any(gradient != 0, axis=1))[:, 0]
    return ids, tf.gather(gradient, ids)
