"""The language model's steps, compared with the same computed by TensorFlow."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from steps import settings

from lstm_ray.collective.protocol import Alone
from lstm_ray.config import TrainConfig
from lstm_ray.runtime.tensorflow import start_tensorflow
from lstm_ray.text.sequences import Sequences
from lstm_ray.text.vocabulary import FIRST_WORD_ID, OOV_ID, START_ID
from lstm_ray.train.data.batches import Batch, worker_batches
from lstm_ray.train.data.corpus import Corpus

STEPS = 2
DRAWN = 512


def texts(config: TrainConfig) -> Sequences:
    """Returns five texts of 2 to `max_tokens` tokens; some words are unknown, and the last word never occurs."""
    generator = np.random.default_rng(5)
    lengths = generator.integers(2, config.max_tokens + 1, 5)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = generator.integers(FIRST_WORD_ID, config.vocabulary_size - 1, offsets[-1]).astype(np.int32)
    ids[generator.random(len(ids)) < 0.2] = OOV_ID
    ids[offsets[:-1]] = START_ID
    return Sequences(ids, offsets)


def batch_of(config: TrainConfig, rank: int = 0, workers: int = 1) -> Batch:
    """Returns a worker's share of a batch of all texts."""
    rows = texts(config)
    corpus = Corpus(rows, np.zeros(len(rows), np.int8))
    (batch,) = worker_batches(corpus, [np.arange(len(rows))], config, rank=rank, world_size=workers, epoch=1)
    return batch


def stepped(config: TrainConfig) -> tuple[list[float], list[np.ndarray]]:
    """Returns the loss of each step and the final weights."""
    start_tensorflow()
    from lstm_ray.train.native.language_model import LanguageModelStepper

    stepper, losses = LanguageModelStepper(config, Alone(), texts(config)), []
    for step in range(STEPS):
        stepper.reseed(config.seed, 1, step, 0)
        loss, predictions = stepper.train(batch_of(config))
        losses.append(float(loss) / float(predictions))
    return losses, stepper.lstm_weights()


def stepped_by_tensorflow(config: TrainConfig) -> tuple[list[float], list[np.ndarray]]:
    """Returns the same, from the formulas."""
    start_tensorflow()
    import keras
    import tensorflow as tf

    from lstm_ray.model.architectures import build_model

    model = build_model(config, config, config.seed)
    directions = 2 if config.bidirectional else 1
    weights = [tf.Variable(value) for value in model.get_weights()[: 1 + 3 * directions]]
    random = np.random.default_rng([config.seed, 0])
    shape = (directions, config.units, config.embedding_size)
    heads = tf.Variable(random.normal(0, config.units**-0.5, shape).astype(np.float32))
    rows, ids = texts(config), batch_of(config).token_ids
    counts = np.bincount(rows.token_ids, minlength=config.vocabulary_size).astype(float)
    counts[:FIRST_WORD_ID] = 0
    frequencies = counts / counts.sum()
    scale = 1 / (directions * len(rows) * len(rows.token_ids) / len(rows))
    optimizer = keras.optimizers.Adam(config.learning_rate, global_clipnorm=config.clip_norm)
    optimizer.build([*weights, heads])
    losses = []
    for step in range(STEPS):
        chosen = np.random.default_rng([config.seed, 1, step, 0]).random(DRAWN)
        drawn = np.searchsorted(np.cumsum(frequencies), chosen, side="right")
        with tf.GradientTape() as tape:
            total, predictions = tf.constant(0.0), 0
            for direction in range(directions):
                kernel, recurrent, bias = weights[1 + 3 * direction : 4 + 3 * direction]
                for row in ids:
                    real = row[row > 0][:: -1 if direction else 1]
                    h, c = tf.zeros((1, config.units)), tf.zeros((1, config.units))
                    for token, following in pairwise(real):
                        gates = tf.gather(weights[0], [token]) @ kernel + h @ recurrent + bias
                        i, f, g, o = tf.split(gates, 4, axis=1)
                        c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
                        h = tf.sigmoid(o) * tf.tanh(c)
                        if following < FIRST_WORD_ID:
                            continue
                        vector = h @ heads[direction]
                        true = tf.reduce_sum(vector * tf.gather(weights[0], [following])) + np.log(
                            np.float32(frequencies[following])
                        )
                        others = tf.gather(weights[0], drawn[drawn != following]) @ tf.transpose(vector)
                        everything = tf.concat([[true], others[:, 0] - np.log(np.float32(DRAWN))], axis=0)
                        total += tf.reduce_logsumexp(everything) - true
                        predictions += 1
            scaled = total * scale
        gradients = [tf.convert_to_tensor(one) for one in tape.gradient(scaled, [*weights, heads])]
        optimizer.apply_gradients(zip(gradients, [*weights, heads], strict=True))
        losses.append(float(total) / predictions)
    return losses, [weight.numpy() for weight in weights]


@pytest.mark.parametrize("changes", [{"bidirectional": True}, {"units": 7, "clip_norm": 0.01}])
def test_steps_are_those_of_the_formulas(changes: dict[str, Any]) -> None:
    config = settings(**{"mask": True, "vocabulary_size": 30, "learning_rate": 0.01, "embedding_size": 6, **changes})
    losses, weights = stepped(config)
    expected_losses, expected = stepped_by_tensorflow(config)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
    for one, other in zip(weights, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


def test_from_texts_of_unknown_words_nothing_is_learned() -> None:
    config = settings(mask=True, bidirectional=True, vocabulary_size=30)
    start_tensorflow()
    from lstm_ray.train.native.language_model import LanguageModelStepper

    stepper = LanguageModelStepper(config, Alone(), texts(config))
    before = stepper.lstm_weights()
    unknown = Corpus(Sequences(np.array([START_ID, OOV_ID, OOV_ID], np.int32), np.array([0, 3])), np.zeros(1, np.int8))
    (batch,) = worker_batches(unknown, [np.arange(1)], config, rank=0, world_size=1, epoch=1)
    assert stepper.train(batch).tolist() == [0, 0]
    for one, other in zip(stepper.lstm_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_two_workers_take_the_steps_of_one() -> None:
    config = settings(mask=True, bidirectional=True, vocabulary_size=30, learning_rate=0.01)
    start_tensorflow()
    from lstm_ray.train.native.language_model import LanguageModelStepper

    sums = []
    for workers in (1, 2):
        found: np.ndarray = np.zeros(2)
        for rank in range(workers):
            stepper = LanguageModelStepper(config, Alone(), texts(config))
            stepper.reseed(config.seed, 1, 0, 0)
            found = found + stepper.train(batch_of(config, rank, workers))
        sums.append(found)
    np.testing.assert_allclose(sums[0], sums[1], rtol=1e-6)


def test_frozen_vectors_stay() -> None:
    config = settings(mask=True, freeze_embeddings=True, learn_vectors=True)
    start_tensorflow()
    from lstm_ray.model.architectures import build_model

    _, weights = stepped(config)
    np.testing.assert_array_equal(weights[0], build_model(config, config, config.seed).get_weights()[0])
