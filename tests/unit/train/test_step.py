"""One step and its variants, against Keras's own `fit` and against itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from lstm_ray.config import TrainConfig
from lstm_ray.model.runtime import start_tensorflow
from lstm_ray.text.sequences import Sequences
from lstm_ray.train.batches import Batch, worker_batches
from lstm_ray.train.corpus import Corpus

VOCABULARY_SIZE = 30
MAX_TOKENS = 10


def settings(**changes: Any) -> TrainConfig:
    """Returns settings of a small network without dropout."""
    return TrainConfig.model_validate(
        {
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


def make_corpus(rows: int = 129) -> Corpus:
    """Returns rows of `MAX_TOKENS` ids; one in three is positive, and then begins with id 4."""
    generator = np.random.default_rng(0)
    labels = (generator.random(rows) < 1 / 3).astype(np.int8)
    token_ids = generator.integers(5, VOCABULARY_SIZE, (rows, MAX_TOKENS)).astype(np.int32)
    token_ids[:, 0] = np.where(labels == 1, 4, 5)
    return Corpus(Sequences(token_ids.reshape(-1), np.arange(rows + 1) * MAX_TOKENS), labels)


def batches(config: TrainConfig, corpus: Corpus) -> Iterator[Batch]:
    """Yields the batches of all epochs, rows in file order."""
    for _ in range(config.epochs):
        order = np.arange(len(corpus))
        yield from worker_batches(corpus, order, config, rank=0, world_size=1, batch_size=config.global_batch_size)


def train(config: TrainConfig, corpus: Corpus) -> tuple[Any, list[np.ndarray]]:
    """Takes the steps of a run; returns what took them, and the sums of each step."""
    start_tensorflow()
    from lstm_ray.train.collective import Alone
    from lstm_ray.train.step import Stepper

    stepper = Stepper(config, Alone(), corpus.labels)
    return stepper, [stepper.train(batch).numpy() for batch in batches(config, corpus)]


def fit_with_keras(config: TrainConfig, corpus: Corpus, rate: Any = None, **fit: Any) -> tuple[Any, list[float]]:
    """Returns the model after `keras.Model.fit` on the same batches, and the losses of the epochs."""
    start_tensorflow()
    import keras
    import tensorflow as tf

    from lstm_ray.model.architectures import build_model

    class DenseAdam(keras.optimizers.Adam):
        # Keras hands Adam one slice for each time that a word stands in a batch, which squares them one by one.
        def apply(self, grads: Any, trainable_variables: Any = None) -> None:
            super().apply([tf.convert_to_tensor(gradient) for gradient in grads], trainable_variables)

    model = build_model(config, config, config.seed)
    model.compile(DenseAdam(rate or config.learning_rate, global_clipnorm=config.clip_norm), "binary_crossentropy")
    rows, labels = corpus.sequences.token_ids.reshape(-1, MAX_TOKENS), corpus.labels.astype(np.float32)
    past = model.fit(
        rows, labels, batch_size=config.global_batch_size, epochs=config.epochs, shuffle=False, verbose=0, **fit
    )
    return model, past.history["loss"]


def assert_same_weights(one: Any, other: Any, tolerance: float = 1e-5) -> None:
    """Compares two models' weights within an absolute tolerance."""
    for left, right in zip(one.trainable_variables, other.trainable_variables, strict=True):
        np.testing.assert_allclose(left.numpy(), right.numpy(), atol=tolerance, rtol=0, err_msg=left.path)


def differ(one: Any, other: Any) -> bool:
    """Says whether a weight of two models differs by more than a hundredth."""
    pairs = zip(one.trainable_variables, other.trainable_variables, strict=True)
    return any(np.abs(left.numpy() - right.numpy()).max() > 0.01 for left, right in pairs)


def test_clipping_is_that_of_keras_and_does_something() -> None:
    corpus = make_corpus()
    config = settings(clip_norm=0.001)
    ours, _ = train(config, corpus)
    assert_same_weights(ours.model, fit_with_keras(config, corpus)[0])
    assert differ(ours.model, train(settings(), corpus)[0].model)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_schedule_is_that_of_keras(schedule: str) -> None:
    start_tensorflow()
    import keras

    corpus = make_corpus()
    config = settings(schedule=schedule)
    steps = 2 * -(-len(corpus) // 7)
    rate = (
        keras.optimizers.schedules.CosineDecay(0.02, steps)
        if schedule == "cosine"
        else keras.optimizers.schedules.PolynomialDecay(0.02, steps, end_learning_rate=0.0)
    )
    ours, _ = train(config, corpus)
    assert_same_weights(ours.model, fit_with_keras(config, corpus, rate)[0])
    assert ours.learning_rate() == pytest.approx(float(rate(steps - 1)), rel=1e-4)
    assert differ(ours.model, train(settings(), corpus)[0].model)


@pytest.mark.parametrize(
    ("given", "weights"), [("1,3", {0: 1.0, 1: 3.0}), ("0.5,0", {0: 0.5, 1: 0.0}), ("balanced", None)]
)
def test_class_weights_are_those_of_keras(given: str, weights: dict[int, float] | None) -> None:
    corpus = make_corpus(126)  # Keras's mean over the epoch counts every batch alike: none may be short
    config = settings(class_weights=given)
    if weights is None:
        positives = int(corpus.labels.sum())
        weights = {0: 126 / 2 / (126 - positives), 1: 126 / 2 / positives}
        assert weights[1] > 1.2 > 0.9 > weights[0]
    ours, sums = train(config, corpus)
    theirs, losses = fit_with_keras(config, corpus, class_weight=weights)
    assert_same_weights(ours.model, theirs)
    by_epoch = np.array(sums).reshape(2, -1, 2).sum(axis=1)
    np.testing.assert_allclose(by_epoch[:, 0] / len(corpus), losses, rtol=1e-4)
    assert by_epoch[0, 1] == int(by_epoch[0, 1]), "right answers are counted, not weighed"


@pytest.mark.parametrize("slices", [2, 3, 100])
@pytest.mark.parametrize(
    "changes", [{}, {"mask": True, "pooling": "max", "bidirectional": True}], ids=["lstm", "masked"]
)
def test_slices_of_a_batch_come_to_the_whole(slices: int, changes: dict[str, Any]) -> None:
    corpus = make_corpus()  # the last batch has 3 rows of 7
    whole, sums = train(settings(**changes), corpus)
    sliced, sliced_sums = train(settings(accumulate=slices, clip_norm=10.0, **changes), corpus)
    np.testing.assert_allclose(sliced_sums, sums, rtol=1e-4, atol=1e-5)
    assert_same_weights(whole.model, sliced.model, 1e-5)


def test_the_gradient_of_slices_is_that_of_the_whole() -> None:
    start_tensorflow()
    import tensorflow as tf

    from lstm_ray.train.collective import Alone
    from lstm_ray.train.step import Stepper

    config = settings(accumulate=3)
    batch = next(batches(config, make_corpus()))
    stepper = Stepper(config, Alone())
    arguments = [tf.constant(array) for array in (batch.token_ids, batch.labels, batch.weights)]
    whole, sums = stepper._differentiate(*arguments, tf.constant(7.0))
    sliced, sliced_sums = tf.function(stepper._accumulate)(*arguments, tf.constant(7.0))
    np.testing.assert_allclose(sliced_sums, sums, rtol=1e-6)
    for one, other in zip(whole, sliced, strict=True):
        np.testing.assert_allclose(tf.convert_to_tensor(other), tf.convert_to_tensor(one), atol=1e-7)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize(
    "changes", [{}, {"mask": True, "pooling": "mean", "bidirectional": True}], ids=["lstm", "masked"]
)
def test_mixed_precision_learns_with_float32_weights(precision: str, changes: dict[str, Any]) -> None:
    corpus = make_corpus()
    stepper, sums = train(settings(precision=precision, epochs=8, **changes), corpus)
    steps = -(-len(corpus) // 7)
    losses = np.array(sums).reshape(8, steps, 2).sum(axis=1)[:, 0] / len(corpus)
    assert losses[-1] < 0.25 < 0.5 < losses[0]
    assert {variable.dtype for variable in stepper.model.trainable_variables} == {"float32"}
    assert stepper.model.get_layer("embedding").compute_dtype == {"bf16": "bfloat16", "fp16": "float16"}[precision]
    other, _ = train(settings(epochs=8, **changes), corpus)
    assert other.model.get_layer("embedding").compute_dtype == "float32", "the policy is not left behind"


def test_an_fp16_overflow_skips_the_step_and_halves_the_scale() -> None:
    corpus = make_corpus()
    stepper, _ = train(settings(precision="fp16", epochs=1), corpus)
    batch = next(batches(settings(), corpus))
    before = [variable.numpy() for variable in stepper.model.trainable_variables]
    scale = float(stepper.optimizer.dynamic_scale)
    overflowing = Batch(batch.token_ids, batch.labels, np.full_like(batch.weights, 1e38), batch.global_rows)
    stepper.train(overflowing)
    assert float(stepper.optimizer.dynamic_scale) == scale / 2
    for variable, value in zip(stepper.model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
