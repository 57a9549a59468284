"""The compiled forward and backward pass of the whole network against Keras and TensorFlow's gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as example_settings
from hypothesis import strategies as st
from twins import TOLERANCE, Arrays, Both, assert_equal, settings

from lstm_ray.config import TrainConfig
from lstm_ray.runtime.tensorflow import start_tensorflow
from lstm_ray.train.native.network import sigmoid


@st.composite
def networks(draw: st.DrawFn) -> TrainConfig:
    """Draws every kind of network that a run can train."""
    return settings(
        embedding_size=draw(st.sampled_from([1, 6, 16, 33])),
        units=draw(st.sampled_from([1, 5, 16, 40, 70])),
        layers=draw(st.integers(1, 3)),
        bidirectional=draw(st.booleans()),
        pooling=draw(st.sampled_from(["last", "max", "mean", "mean_max"])),
        mask=draw(st.booleans()),
        padding=draw(st.sampled_from(["pre", "post"])),
    )


@given(config=networks(), lengths=st.lists(st.integers(1, 9), min_size=1, max_size=14), seed=st.integers(0, 99))
@example_settings(max_examples=15)
def test_gradients_are_those_of_keras(config: TrainConfig, lengths: list[int], seed: int) -> None:
    both = Both(config, seed)
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, len(lengths)).astype(np.float32)
    counts = generator.random(len(lengths)).astype(np.float32)
    token_ids = both.rows(lengths, seed)
    for label in (0, 1):
        # Rows of one label at a time count: those of two could cancel, and leave no scale for rounding.
        of_label = counts * (labels == label)
        ours = both.ours(token_ids, labels, of_label)
        assert_equal(ours, both.keras(token_ids, labels, of_label))
    np.testing.assert_array_equal(sigmoid(both.network.logits(token_ids, both.weights)), ours[0])


def keras_gradients_with_shifts(both: Both, token_ids: Any, labels: Any, counts: Any) -> Arrays:
    """Returns the gradients of adversarial training as `train/step/loss.py` defines them, by Keras and TensorFlow.

    In a network in which each step of each row is a word of its own, with the vector of the step's word, gradients by
    the vectors are gradients by the steps, and vectors can be shifted step by step.
    """
    from lstm_ray.model.architectures import build_model

    config, size = both.config, token_ids.size + 1
    is_read = token_ids != 0 if config.mask else np.ones(token_ids.shape, np.bool_)
    steps = np.where(is_read, np.arange(1, size).reshape(token_ids.shape), 0).astype(np.int32)
    table, *others = (variable.numpy() for variable in both.model.trainable_variables)
    vectors = np.concatenate([table[:1], table[token_ids.reshape(-1)]])
    apart = config.model_copy(update={"vocabulary_size": size})
    both.model = build_model(apart, apart, 0)
    both.model.set_weights([vectors, *others])
    _, (by_vectors, *dense) = both.keras(steps, labels, counts)
    for row, read in zip(steps, is_read, strict=True):
        x, g = vectors[row[read]], by_vectors[row[read]]
        if g.any():
            shift = config.adversarial * np.linalg.norm(x) / np.sqrt(read.sum()) * g / np.linalg.norm(g)
            np.testing.assert_allclose(
                np.linalg.norm(shift) ** 2, config.adversarial**2 * np.square(x).sum(1).mean(), rtol=1e-5
            )
            vectors[row[read]] += shift
    both.model.set_weights([vectors, *others])
    _, (by_shifted, *more) = both.keras(steps, labels, counts)
    by_word = np.zeros_like(table)
    np.add.at(by_word, token_ids.reshape(-1), (by_vectors + by_shifted)[1:] * is_read.reshape(-1, 1))
    return [by_word, *(one + other for one, other in zip(dense, more, strict=True))]


@given(config=networks(), lengths=st.lists(st.integers(1, 9), min_size=1, max_size=14), seed=st.integers(0, 99))
@example_settings(max_examples=6)
def test_adversarial_gradients_are_those_of_the_definition(config: TrainConfig, lengths: list[int], seed: int) -> None:
    both = Both(config.model_copy(update={"adversarial": 0.5}), seed)
    generator = np.random.default_rng(seed)
    token_ids, label = both.rows(lengths, seed), np.float32(seed % 2)
    labels, counts = np.full(len(lengths), label), generator.integers(0, 3, len(lengths)).astype(np.float32)
    probabilities, _ = both.keras(token_ids, labels, counts)
    ours = both.ours(token_ids, labels, counts)
    theirs = keras_gradients_with_shifts(both, token_ids, labels, counts)
    assert_equal(ours, (probabilities, theirs), 10 * TOLERANCE)


@pytest.mark.parametrize("noise", [0.02, 0.2], ids=["as a network begins", "large weights, which enlarge rounding"])
def test_gradients_round_about_as_much_as_those_of_keras(noise: float) -> None:
    start_tensorflow()
    import keras

    from lstm_ray.model.architectures import build_model

    config = settings(max_tokens=80, embedding_size=128, units=128)
    both = Both(config, noise=noise)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    try:
        network = build_model(config, config, 0).get_config()
        network["layers"][-1]["config"]["dtype"] = "float64"  # which is float32 whatever the policy
        exact = keras.Model.from_config(network)
    finally:
        keras.config.set_dtype_policy(policy)
    exact.set_weights(both.model.get_weights())
    generator = np.random.default_rng(0)
    rows = both.rows(generator.integers(1, 81, 32).tolist())
    labels, counts = generator.integers(0, 2, 32).astype(np.float32), np.ones(32, np.float32)
    _, ours = both.ours(rows, labels, counts)
    _, theirs = both.keras(rows, labels, counts)
    both.model = exact
    _, right = both.keras(rows, labels, counts)
    for one, other, true in zip(ours, theirs, right, strict=True):
        off, usual = (np.abs(gradient - true).max() / np.abs(true).max() for gradient in (one, other))
        assert off < 4 * usual + 2e-6


@pytest.mark.parametrize(
    ("pooling", "padding", "bidirectional"),  # each two of them in every combination
    [("max", "pre", False), ("max", "post", True), ("mean_max", "pre", True), ("mean_max", "post", False)],
)
def test_equal_maxima_share_the_gradient(pooling: str, padding: str, bidirectional: bool) -> None:
    """On long padding the state converges to the same bits for hundreds of steps, any of which may be the maximum."""
    config = settings(max_tokens=300, units=40, pooling=pooling, padding=padding, bidirectional=bidirectional)
    both = Both(config, noise=0.0)
    rows = both.rows(list(range(2, 30, 4)))
    labels, counts = np.arange(len(rows), dtype=np.float32) % 2, np.ones(len(rows), np.float32)
    assert_equal(both.ours(rows, labels, counts), both.keras(rows, labels, counts), 10 * TOLERANCE)


def test_a_masked_row_without_a_token_is_refused() -> None:
    both = Both(settings(mask=True))
    rows = both.rows([3, 0, 2])
    with pytest.raises(ValueError, match="row 1 has no token"):
        both.network.logits(rows, both.weights)
