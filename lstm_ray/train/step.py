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
from lstm_ray.train.batches import Batch
from lstm_ray.wording import reason

Gradient: TypeAlias = "tf.Tensor | tf.IndexedSlices"


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
        optimizer: Adam.
    """

    def __init__(self, config: TrainConfig, strategy: tf.distribute.Strategy) -> None:
        self._strategy = strategy
        self.model = build_model(config, config, config.seed)
        self.optimizer = keras.optimizers.Adam(config.learning_rate)
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
        """Returns the sum of a vector over all workers; each must call it."""
        reduced: npt.NDArray[np.float64] = self._reduce(tf.constant(values, tf.float64)).numpy()
        return reduced

    def _compute_gradients(
        self, token_ids: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor, global_rows: tf.Tensor
    ) -> tuple[list[Gradient], tf.Tensor]:
        with tf.GradientTape() as tape:
            probabilities = self.model(token_ids, training=True)
            losses = keras.losses.binary_crossentropy(labels[:, None], probabilities) * weights
            loss = tf.reduce_sum(losses) / global_rows
        gradients = tape.gradient(loss, self.model.trainable_variables)
        is_right = tf.cast(tf.equal(probabilities[:, 0] > 0.5, labels > 0.5), tf.float32) * weights
        return gradients, tf.stack([tf.reduce_sum(losses), tf.reduce_sum(is_right)])

    def _take_step(self, *arguments: tf.Tensor) -> tf.Tensor:
        gradients, sums = self._gradients(*arguments)
        *gradients, sums = self._sum_over_workers([*gradients, sums])
        self.optimizer.apply(gradients, self.model.trainable_variables)
        return sums

    def _forward(self, token_ids: tf.Tensor) -> tf.Tensor:
        return self.model(token_ids, training=False)[:, 0]

    def _sum_over_workers(self, gradients: list[Gradient]) -> list[tf.Tensor]:
        """Returns dense sums over all workers, equal to the bit on each."""
        if self._strategy.num_replicas_in_sync == 1:
            return [tf.convert_to_tensor(gradient) for gradient in gradients]
        return list(self._strategy.run(_all_reduce, args=(gradients,)))


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
