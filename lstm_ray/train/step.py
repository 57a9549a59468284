"""One training step, the same for one worker and for many.

The loss of a step is the sum over its rows, on all workers, divided by their number. So each worker divides its own
sum by the global number of rows, and the gradients are added up over the workers.

Every worker holds the whole model in plain variables. They begin equal (the seed decides) and stay equal, because each
applies the same sum of gradients; `tf.distribute` does the adding up and nothing else. Letting it mirror the variables
instead would go through `keras.Model.fit`'s path, which fails in Keras 3 under MultiWorkerMirroredStrategy, and would
send the embedding's gradient in full. Everything here is public Keras and TensorFlow API.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from lstm_ray.config import TrainConfig
from lstm_ray.errors import WorkerLostError
from lstm_ray.model.architectures import build_model
from lstm_ray.text.word_vectors import WordVectors
from lstm_ray.train.batches import Batch
from lstm_ray.train.schedule import count_steps, learning_rate_at
from lstm_ray.wording import reason

Gradient: TypeAlias = "tf.Tensor | tf.IndexedSlices"

_NO_LABELS = np.zeros(0, np.int8)
_POLICIES = {"float32": "float32", "bf16": "mixed_bfloat16", "fp16": "mixed_float16"}


_LOSSES = (
    tf.errors.UnavailableError,
    tf.errors.DeadlineExceededError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
)
"""What TensorFlow raises on a worker whose collective does not come to an end."""


def make_strategy(world_size: int, timeout_s: float | None = None) -> tf.distribute.Strategy:
    """Returns how gradients meet: not at all for one worker, else through TF_CONFIG's workers (NCCL or ring).

    Args:
        world_size: Workers in all.
        timeout_s: Seconds that a worker waits for the others in a step; None waits for ever.
    """
    if world_size == 1:
        return tf.distribute.get_strategy()
    has_gpu = bool(tf.config.list_physical_devices("GPU"))
    implementation = tf.distribute.experimental.CommunicationImplementation
    return tf.distribute.MultiWorkerMirroredStrategy(
        communication_options=tf.distribute.experimental.CommunicationOptions(
            implementation=implementation.NCCL if has_gpu else implementation.RING, timeout_seconds=timeout_s
        )
    )


@contextmanager
def worker_losses() -> Iterator[None]:
    """Raises what TensorFlow says of a worker that died or does not answer as a WorkerLostError."""
    try:
        yield
    except _LOSSES as error:
        raise WorkerLostError(f"another worker does not answer: {reason(error)[:300]}") from error


class Stepper:
    """A model, its optimizer, and the compiled functions that train and apply it.

    Attributes:
        model: The Keras model.
        optimizer: Adam; with fp16 inside Keras's loss scaling.
    """

    def __init__(
        self, config: TrainConfig, strategy: tf.distribute.Strategy, labels: npt.NDArray[np.int8] = _NO_LABELS
    ) -> None:
        """Builds them.

        Args:
            config: The run's settings.
            strategy: From `make_strategy`.
            labels: Of all training rows: a schedule's length and balanced class weights depend on them.
        """
        self._strategy = strategy
        self._config = config
        self._steps = count_steps(config, len(labels))
        self._class_weights = class_weights(config, labels)
        with _dtype_policy(_POLICIES[config.precision]):
            self.model = build_model(config, config, config.seed)
        self.model.get_layer("embedding").trainable = not config.freeze_embeddings
        self.optimizer = self._make_optimizer()
        self.optimizer.build(self.model.trainable_variables)
        # Recurrent dropout keeps Keras off its fused LSTM; XLA then halves the step (70 -> 30 ms, lstm preset, 2 CPU
        # cores). Without it XLA loses: cuDNN on a GPU, both directions at once on a CPU (30 -> 36 ms, bilstm preset).
        self._gradients = tf.function(
            self._compute_gradients, jit_compile=config.recurrent_dropout > 0, reduce_retracing=True
        )
        self._train = tf.function(self._take_step, reduce_retracing=True)
        self._predict = tf.function(self._forward, reduce_retracing=True)
        self._reduce = tf.function(lambda values: self._sum_over_workers([values])[0])
        self._seeds = [v for v in self.model.variables if v.path.endswith("seed_generator_state")]

    def _make_optimizer(self) -> keras.optimizers.Optimizer:
        # Clipping is Adam's: it gets the sum over the workers, so that the norm is that of the whole step.
        rate = self._scheduled_rate if self._is_scheduled else self._config.learning_rate
        self._adam = keras.optimizers.Adam(rate, global_clipnorm=self._config.clip_norm)
        # fp16 has no numbers below 6e-8, so gradients are computed of a loss some 2^15 times as large. All workers see
        # the same sums, so that all find them finite, or all skip the step and halve the scale.
        return keras.optimizers.LossScaleOptimizer(self._adam) if self._config.precision == "fp16" else self._adam

    @property
    def _is_scheduled(self) -> bool:
        return self._config.schedule != "constant" or self._config.warmup_steps > 0

    def _scheduled_rate(self) -> tf.Tensor:
        return learning_rate_at(self._config, self._steps, self._adam.iterations)

    def learning_rate(self) -> float:
        """Returns the learning rate of the last step."""
        if not self._is_scheduled:
            return self._config.learning_rate
        return float(learning_rate_at(self._config, self._steps, int(self._adam.iterations) - 1))

    def set_word_vectors(self, words: WordVectors) -> None:
        """Gives the words that have a vector theirs."""
        table = self.model.get_layer("embedding").embeddings
        values = table.numpy()
        values[words.ids] = words.vectors
        table.assign(values)

    def variables(self) -> list[Any]:
        """Returns all state of model and optimizer, in an order that depends on the configuration alone."""
        return [*self.model.variables, *self.optimizer.variables]

    def reseed(self, seed: int, epoch: int, step: int, rank: int) -> None:
        """Makes the next step's dropout a function of these four alone, so that a run can go on at any step.

        It takes 0.08 ms for the lstm preset, whose step takes 30 ms.
        """
        for number, variable in enumerate(self._seeds):
            state = np.random.SeedSequence([seed, epoch, step, rank, number]).generate_state(2)
            variable.assign(state.astype(variable.dtype))

    def train(self, batch: Batch) -> tf.Tensor:
        """Takes one step.

        Returns:
            float32[2]: loss and number of right answers, each summed over the step's rows on all workers.
        """
        arguments = (tf.constant(batch.token_ids), tf.constant(batch.labels), tf.constant(batch.weights))
        return self._train(*arguments, tf.constant(batch.global_rows, tf.float32))

    def predict(self, batch: Batch) -> npt.NDArray[np.float32]:
        """Returns the probabilities of this worker's rows that count, float32[rows]."""
        probabilities: npt.NDArray[np.float32] = self._predict(tf.constant(batch.token_ids)).numpy()
        return probabilities[batch.weights > 0]

    def all_reduce(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Returns the sum of an array over all workers; each must call it."""
        reduced: npt.NDArray[np.float64] = self._reduce(tf.constant(values, tf.float64)).numpy()
        return reduced

    def _compute_gradients(
        self, token_ids: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor, global_rows: tf.Tensor
    ) -> tuple[list[Gradient], tf.Tensor]:
        with tf.GradientTape() as tape:
            probabilities = self.model(token_ids, training=True)
            losses = keras.losses.binary_crossentropy(labels[:, None], probabilities) * weights
            losses *= tf.where(labels > 0.5, self._class_weights[1], self._class_weights[0])
            loss = self.optimizer.scale_loss(tf.reduce_sum(losses) / global_rows)
        gradients = tape.gradient(loss, self.model.trainable_variables)
        is_right = tf.cast(tf.equal(probabilities[:, 0] > 0.5, labels > 0.5), tf.float32) * weights
        return gradients, tf.stack([tf.reduce_sum(losses), tf.reduce_sum(is_right)])

    def _take_step(self, *arguments: tf.Tensor) -> tf.Tensor:
        gradients, sums = self._accumulate(*arguments) if self._config.accumulate > 1 else self._gradients(*arguments)
        *gradients, sums = self._sum_over_workers([*gradients, sums])
        self.optimizer.apply(gradients, self.model.trainable_variables)
        return sums

    def _accumulate(
        self, token_ids: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor, global_rows: tf.Tensor
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        """Adds up the gradients of slices of the rows, each computed when the one before it is done.

        The embedding's is added up in full: row by row, those of all slices would be most of the memory.
        """
        rows = -(-token_ids.shape[0] // self._config.accumulate)
        gradients, sums = self._dense_gradients(token_ids[:rows], labels[:rows], weights[:rows], global_rows)
        for start in range(rows, token_ids.shape[0], rows):
            # Without this TensorFlow would run the slices side by side, and hold all their activations at once.
            with tf.control_dependencies([sums, *gradients]):
                part = [tf.identity(array[start : start + rows]) for array in (token_ids, labels, weights)]
            more, more_sums = self._dense_gradients(*part, global_rows)
            gradients = [one + other for one, other in zip(gradients, more, strict=True)]
            sums += more_sums
        return gradients, sums

    def _dense_gradients(self, *arguments: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor]:
        gradients, sums = self._gradients(*arguments)
        return [tf.convert_to_tensor(gradient) for gradient in gradients], sums

    def _forward(self, token_ids: tf.Tensor) -> tf.Tensor:
        return self.model(token_ids, training=False)[:, 0]

    def _sum_over_workers(self, gradients: list[Gradient]) -> list[tf.Tensor]:
        """Returns dense sums over all workers, equal to the bit on each."""
        if self._strategy.num_replicas_in_sync == 1:
            return [tf.convert_to_tensor(gradient) for gradient in gradients]
        return list(self._strategy.run(_all_reduce, args=(gradients,)))


def class_weights(config: TrainConfig, labels: npt.NDArray[np.int8]) -> tuple[float, float]:
    """Returns what the loss of a negative and of a positive row counts, as `class_weight` in Keras's `fit`.

    Balanced, a class of n of all rows counts rows / (2 n), so that both together count what they did.
    """
    fixed = config.fixed_class_weights
    if fixed is not None:
        return fixed
    negatives, positives = np.bincount(labels, minlength=2).tolist()
    return len(labels) / (2 * negatives), len(labels) / (2 * positives)


@contextmanager
def _dtype_policy(name: str) -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _all_reduce(gradients: list[Gradient]) -> list[tf.Tensor]:
    """Adds up gradients over the workers; called in a replica's context.

    An embedding's gradient touches only the words of the batch. On CPUs these rows are gathered and added up on each
    worker in the same order: 1.3 MB a step instead of 10 MB for the lstm preset. A GPU adds rows up in any order, so
    that workers would drift apart; there the whole gradient goes through the all-reduce.
    """
    context = tf.distribute.get_replica_context()
    has_gpu = bool(tf.config.list_physical_devices("GPU"))
    sums: list[tf.Tensor] = [None] * len(gradients)
    dense = []
    for place, gradient in enumerate(gradients):
        if isinstance(gradient, tf.IndexedSlices) and not has_gpu:
            values = context.all_gather(tf.identity(gradient.values), axis=0)
            indices = context.all_gather(tf.identity(gradient.indices), axis=0)
            sums[place] = tf.convert_to_tensor(tf.IndexedSlices(values, indices, gradient.dense_shape))
        else:
            # tf.identity places the tensor on the replica's device, which all_reduce wants to know.
            dense.append((place, tf.identity(tf.convert_to_tensor(gradient))))
    reduced = context.all_reduce(tf.distribute.ReduceOp.SUM, [tensor for _, tensor in dense])
    for (place, _), tensor in zip(dense, reduced, strict=True):
        sums[place] = tensor
    return sums
