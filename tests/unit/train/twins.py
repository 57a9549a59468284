"""The same network twice, in Keras and compiled, for tests that compare their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_ray.config import TrainConfig
from lstm_ray.kernels.emitter import Target
from lstm_ray.kernels.function import aligned_empty
from lstm_ray.kernels.layout import transpose
from lstm_ray.runtime.tensorflow import start_tensorflow
from lstm_ray.train.native.layers import NO_DROPOUT, Dropout, Weights
from lstm_ray.train.native.layout import directions, lay_out
from lstm_ray.train.native.network import Network, sigmoid

VOCABULARY_SIZE = 40
TOLERANCE = 3e-6  # of the largest gradient

Arrays = list[npt.NDArray[Any]]


def settings(**changes: Any) -> TrainConfig:
    """Returns the settings of a small network without dropout."""
    small = {"preset": "none", "max_tokens": 9, "embedding_size": 6, "units": 5, "dropout": 0.0}
    return TrainConfig.model_validate({**small, "vocabulary_size": VOCABULARY_SIZE, **changes})


class Both:
    """The same network twice."""

    def __init__(self, config: TrainConfig, seed: int = 0, target: Target | None = None, noise: float = 0.2) -> None:
        start_tensorflow()
        from lstm_ray.model.architectures import build_model

        generator = np.random.default_rng(seed)
        target = target or Target.host()
        self.config = config
        self.model = build_model(config, config, seed)
        for variable in self.model.trainable_variables:  # biases begin at 0, which would hide a mistake
            variable.assign(variable.numpy() + generator.normal(0, noise, variable.shape).astype(np.float32))
        self.layout = lay_out(config, target.lanes)
        table, *others = (variable.numpy() for variable in self.model.trainable_variables)
        embedding = aligned_empty(VOCABULARY_SIZE, self.layout.embedding_width)
        embedding[:] = 0
        embedding[:, : config.embedding_size] = table
        dense = aligned_empty(self.layout.size)
        dense[:] = 0
        for offsets, values in zip(self.layout.offsets, others, strict=True):
            dense[offsets] = values
        self.weights = Weights(
            np.arange(VOCABULARY_SIZE),
            embedding,
            dense,
            {
                direction: (
                    transpose(dense[direction.kernel], direction.inputs, target.lanes),
                    transpose(dense[direction.recurrent], direction.width, target.lanes),
                )
                for direction in directions(self.layout)
            },
        )
        self.network = Network(config, self.layout, target)

    def rows(self, lengths: list[int], seed: int = 0) -> npt.NDArray[np.int32]:
        """Returns int32[rows, time] with so many tokens each."""
        generator = np.random.default_rng(seed)
        time = self.config.max_tokens
        token_ids = generator.integers(1, VOCABULARY_SIZE, (len(lengths), time)).astype(np.int32)
        for row, length in zip(token_ids, lengths, strict=True):
            padding = slice(0, time - length) if self.config.padding == "pre" else slice(length, time)
            row[padding] = 0
        return token_ids

    def keras(self, token_ids: Any, labels: Any, counts: Any, training: bool = False) -> tuple[Any, Arrays]:
        """Returns Keras's probabilities, and TensorFlow's gradients of the weighted sum of losses."""
        import keras
        import tensorflow as tf

        with tf.GradientTape() as tape:
            probabilities = self.model(token_ids, training=training)
            loss = tf.reduce_sum(keras.losses.binary_crossentropy(labels[:, None], probabilities) * counts)
        gradients = tape.gradient(loss, self.model.trainable_variables)
        return probabilities.numpy()[:, 0], [tf.convert_to_tensor(gradient).numpy() for gradient in gradients]

    def ours(self, token_ids: Any, labels: Any, counts: Any, drop: Dropout = NO_DROPOUT) -> tuple[Any, Arrays]:
        """Returns the same, by the compiled code."""
        found = self.network.gradients(token_ids, labels, counts, self.weights, drop)
        table = np.zeros_like(self.weights.vectors)
        table[found.words] = found.embedding
        columns = self.config.embedding_size
        assert not table[:, columns:].any(), "padding learns nothing"
        is_used = np.zeros(self.layout.size, np.bool_)
        for offsets in self.layout.offsets:
            is_used[offsets] = True
        assert not found.dense[~is_used].any(), "padding learns nothing"
        dense = [found.dense[offsets].copy() for offsets in self.layout.offsets]
        return sigmoid(found.logits), [table[:, :columns], *dense]


def assert_equal(ours: tuple[Any, Arrays], theirs: tuple[Any, Arrays], tolerance: float = TOLERANCE) -> None:
    """Compares probabilities, and gradients relative to the largest of their numbers."""
    np.testing.assert_allclose(ours[0], theirs[0], atol=1e-6)
    largest = max(np.abs(gradient).max() for gradient in theirs[1])
    for one, other in zip(ours[1], theirs[1], strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, atol=tolerance * max(largest, 1e-6), rtol=0)
