"""A small network, rows for it, and its training steps, for the tests of both engines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from lstm_ray.collective.protocol import Alone
from lstm_ray.config import TrainConfig
from lstm_ray.runtime.tensorflow import start_tensorflow
from lstm_ray.text.sequences import Sequences
from lstm_ray.train.data.batches import Batch, in_steps, worker_batches
from lstm_ray.train.data.corpus import Corpus

VOCABULARY_SIZE = 30
MAX_TOKENS = 10


def settings(**changes: Any) -> TrainConfig:
    """Returns settings of a small network without dropout."""
    return TrainConfig.model_validate(
        {
            "preset": "none",
            "vocabulary_size": VOCABULARY_SIZE,
            "max_tokens": MAX_TOKENS,
            "embedding_size": 6,
            "units": 5,
            "dropout": 0.0,
            "global_batch_size": 7,
            "epochs": 2,
            "learning_rate": 0.02,
            **changes,
        }
    )


def make_corpus(rows: int = 129, shortest: int = MAX_TOKENS) -> Corpus:
    """Returns rows of `shortest` to `MAX_TOKENS` ids; one in three is positive, and then begins with id 4."""
    generator = np.random.default_rng(0)
    labels = (generator.random(rows) < 1 / 3).astype(np.int8)
    token_ids = generator.integers(5, VOCABULARY_SIZE, (rows, MAX_TOKENS)).astype(np.int32)
    token_ids[:, 0] = np.where(labels == 1, 4, 5)
    lengths = generator.integers(shortest, MAX_TOKENS + 1, rows)
    is_token = np.arange(MAX_TOKENS) < lengths[:, None]
    return Corpus(Sequences.of(token_ids[is_token], lengths), labels)


def batches(config: TrainConfig, corpus: Corpus) -> Iterator[Batch]:
    """Yields the batches of all epochs, rows in file order."""
    for _ in range(config.epochs):
        steps = in_steps(np.arange(len(corpus)), config.global_batch_size)
        yield from worker_batches(corpus, steps, config, rank=0, world_size=1)


def dense_adam() -> Any:
    """Returns Keras's Adam class, except that the gradients of a word repeated in a batch are added up first, as here.

    Keras 3 (to 3.15 at least) gives Adam one slice for each occurrence, which squares them one by one.
    """
    start_tensorflow()
    import keras
    import tensorflow as tf

    class DenseAdam(keras.optimizers.Adam):
        def apply(self, grads: Any, trainable_variables: Any = None) -> None:
            super().apply([tf.convert_to_tensor(gradient) for gradient in grads], trainable_variables)

    return DenseAdam


def train(config: TrainConfig, corpus: Corpus) -> tuple[Any, list[np.ndarray]]:
    """Trains a run's steps; returns the engine, and the sums of each step."""
    start_tensorflow()
    from lstm_ray.train.step.choice import make_stepper

    stepper = make_stepper(config, Alone(), corpus.labels)
    return stepper, [np.asarray(stepper.train(batch)) for batch in batches(config, corpus)]
