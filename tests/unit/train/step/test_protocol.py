"""Steps of both engines, against Keras's own `fit` and against each other."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pytest
from steps import MAX_TOKENS, VOCABULARY_SIZE, batches, dense_adam, make_corpus, settings, train

from lstm_ray.collective.protocol import Alone, SparseRows
from lstm_ray.config import TrainConfig
from lstm_ray.runtime.tensorflow import start_tensorflow
from lstm_ray.text.sequences import Sequences
from lstm_ray.text.word_vectors import WordVectors
from lstm_ray.train.data.batches import Batch
from lstm_ray.train.data.corpus import Corpus

Arrays: TypeAlias = list[npt.NDArray[Any]]


_fitted: dict[tuple[object, ...], tuple[Arrays, list[float]]] = {}


def fit_with_keras(
    config: TrainConfig, corpus: Corpus, rate: Any = None, adam: Any = None, **fit: Any
) -> tuple[Arrays, list[float]]:
    """Returns the variables after `keras.Model.fit` on the same batches, and the losses of the epochs.

    Both engines are compared with the same fit.
    """
    ours = config.model_copy(update={"engine": "auto"}).model_dump_json()
    key = ours, corpus.sequences.token_ids.tobytes(), corpus.labels.tobytes(), id(rate), adam, str(fit)
    if key not in _fitted:
        _fitted[key] = _fit(config, corpus, rate, adam, fit)
    return _fitted[key]


def _fit(config: TrainConfig, corpus: Corpus, rate: Any, adam: Any, fit: dict[str, Any]) -> tuple[Arrays, list[float]]:
    start_tensorflow()
    import keras

    from lstm_ray.model.architectures import build_model

    model = build_model(config, config, config.seed)
    adam = (adam or dense_adam())(
        rate or config.learning_rate,
        beta_1=config.adam_beta_1,
        beta_2=config.adam_beta_2,
        weight_decay=config.weight_decay or None,
        global_clipnorm=config.clip_norm,
    )
    model.compile(adam, keras.losses.BinaryCrossentropy(label_smoothing=config.label_smoothing))
    epoch = batches(config.model_copy(update={"epochs": 1}), corpus)
    rows, labels = np.concatenate([one.token_ids[one.weights > 0] for one in epoch]), corpus.labels.astype(np.float32)
    past = model.fit(
        rows, labels, batch_size=config.global_batch_size, epochs=config.epochs, shuffle=False, verbose=0, **fit
    )
    return [variable.numpy() for variable in model.variables], past.history["loss"]


def assert_same_weights(one: Arrays, other: Arrays, tolerance: float = 1e-5) -> None:
    """Compares two models' weights within an absolute tolerance."""
    for left, right in zip(floats(one), floats(other), strict=True):
        np.testing.assert_allclose(left, right, atol=tolerance, rtol=0)


def differ(one: Arrays, other: Arrays) -> bool:
    """Returns whether a weight of two models differs by more than 0.01."""
    return any(np.abs(left - right).max() > 0.01 for left, right in zip(floats(one), floats(other), strict=True))


def floats(variables: Arrays) -> Arrays:
    """Returns the variables that are not states of random generators."""
    return [variable for variable in variables if variable.dtype == np.float32]


@cache
def plain_weights(engine: str, rows: int = 129) -> Arrays:
    """Returns the weights that an engine learns with the usual settings, to compare others with."""
    stepper, _ = train(settings(engine=engine), make_corpus(rows))
    return floats(stepper.weights())


@pytest.fixture(params=["native", "keras"])
def engine(request: pytest.FixtureRequest) -> str:
    """Returns the engine's name."""
    return str(request.param)


@pytest.mark.parametrize(
    "changes", [{}, {"bidirectional": True, "pooling": "mean"}], ids=["lstm", "bilstm-mean-pooling"]
)
def test_50_steps_equal_keras_fit(changes: dict[str, Any], engine: str) -> None:
    config = settings(epochs=1, engine=engine, **changes)
    corpus = make_corpus(347, shortest=2)  # the last batch has 4 rows
    ours, sums = train(config, corpus)
    assert len(sums) == 50
    assert_same_weights(ours.weights(), fit_with_keras(config, corpus)[0])


def test_50_steps_equal_keras_fit_with_its_own_adam_where_no_word_repeats() -> None:
    start_tensorflow()
    import keras

    config = settings(epochs=1, global_batch_size=1)
    generator = np.random.default_rng(0)
    rows = [generator.permutation(np.arange(1, VOCABULARY_SIZE, dtype=np.int32))[:MAX_TOKENS] for _ in range(50)]
    corpus = Corpus(Sequences(np.concatenate(rows), np.arange(51) * MAX_TOKENS), make_corpus(50).labels)
    ours, _ = train(config, corpus)
    assert_same_weights(ours.weights(), fit_with_keras(config, corpus, adam=keras.optimizers.Adam)[0])


@pytest.mark.parametrize(
    ("engine", "adversarial"),
    [("native", 0.0), ("native", 0.5), ("keras", 0.0), pytest.param("keras", 0.5, marks=pytest.mark.second_tier)],
)
def test_a_row_of_weight_0_changes_nothing(engine: str, adversarial: float) -> None:
    start_tensorflow()
    from lstm_ray.train.step.choice import make_stepper

    config = settings(mask=True, pooling="max", engine=engine, global_batch_size=16, epochs=1, adversarial=adversarial)
    corpus = make_corpus(16 + 5, shortest=2)
    _, batch = batches(config, corpus)
    exact = Batch(batch.token_ids[:5], batch.labels[:5], batch.weights[:5], batch.global_rows)
    assert len(batch.token_ids) == 16
    results = []
    for shape in (batch, exact):
        stepper = make_stepper(config, Alone(), corpus.labels)
        sums = np.asarray(stepper.train(shape))
        results.append((sums, stepper.predict(shape), stepper.weights()))
    (sums, probabilities, weights), (exact_sums, exact_probabilities, exact_weights) = results
    np.testing.assert_allclose(sums, exact_sums, rtol=1e-6)
    np.testing.assert_allclose(probabilities, exact_probabilities, atol=1e-6)
    assert_same_weights(weights, exact_weights, 1e-6)


def test_clipping_is_that_of_keras_and_does_something(engine: str) -> None:
    corpus = make_corpus()
    config = settings(clip_norm=0.001, engine=engine)
    ours, _ = train(config, corpus)
    assert_same_weights(ours.weights(), fit_with_keras(config, corpus)[0])
    assert differ(ours.weights(), plain_weights(engine))


def test_clipping_holds_for_gradients_whose_squares_overflow() -> None:
    """In float32 the norm would be infinite, and the step would change nothing."""
    start_tensorflow()
    from lstm_ray.train.native.stepper import NativeStepper

    class Exploding(Alone):
        def all_reduce(self, dense: Any, sparse: Sequence[SparseRows]) -> Any:
            return np.where(dense == 0, dense, np.float32(1e25)), sparse

    corpus = make_corpus()
    config = settings(clip_norm=1.0, engine="native")
    stepper = NativeStepper(config, Exploding(), corpus.labels)
    before = floats(stepper.weights())
    stepper.train(next(batches(config, corpus)))
    assert stepper.is_finite()
    assert differ(before, floats(stepper.weights()))


def test_any_number_of_threads_takes_the_same_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    start_tensorflow()
    from lstm_ray.train.native import stepper

    corpus = make_corpus()
    config = settings(engine="native", accumulate=2)
    expected = fit_with_keras(config, corpus)[0]
    for threads in (1, 3, 16):
        monkeypatch.setattr(stepper, "threads_given", lambda threads=threads: threads)
        assert_same_weights(train(config, corpus)[0].weights(), expected)


def test_each_dropout_drops_its_share_and_enlarges_the_rest() -> None:
    start_tensorflow()
    from lstm_ray.train.native.stepper import NativeStepper

    corpus = make_corpus(700)
    rates = {"dropout": 0.2, "recurrent_dropout": 0.35, "embedding_dropout": 0.5}
    config = settings(global_batch_size=700, units=32, engine="native", **rates)
    stepper = NativeStepper(config, Alone(), corpus.labels)
    dropout = stepper._draw(next(batches(config, corpus)).token_ids)
    (inputs,), (recurrent,) = dropout.inputs.values(), dropout.recurrent.values()
    for rate, factors in zip(rates.values(), (inputs, recurrent, dropout.embedding), strict=True):
        assert factors is not None
        np.testing.assert_array_equal(np.unique(factors), np.float32([0, 1 / (1 - rate)]))
        assert np.mean(factors == 0) == pytest.approx(rate, abs=0.02)
    shared = NativeStepper(config.model_copy(update={"shared_dropout": True}), Alone(), corpus.labels)
    factors = shared._draw(next(batches(config, corpus)).token_ids).embedding
    assert factors is not None
    assert factors.shape == (700, 1, config.embedding_size)


@pytest.mark.parametrize(
    "changes",
    [{"weight_decay": 0.4, "clip_norm": 0.5, "adam_beta_1": 0.0, "adam_beta_2": 0.95}, {"label_smoothing": 0.3}],
    ids=str,
)
def test_options_of_the_step_are_those_of_keras_and_do_something(changes: dict[str, Any], engine: str) -> None:
    corpus = make_corpus(126)  # Keras's mean over the epoch counts every batch alike: none may be short
    config = settings(engine=engine, **changes)
    ours, sums = train(config, corpus)
    theirs, losses = fit_with_keras(config, corpus)
    assert_same_weights(ours.weights(), theirs, 2e-5)
    by_epoch = np.array(sums).reshape(2, -1, 2).sum(axis=1)
    np.testing.assert_allclose(by_epoch[:, 0] / len(corpus), losses, rtol=1e-4)
    assert by_epoch[1, 1] > len(corpus) / 2, "right answers are those of the labels as they were given"
    assert differ(theirs, plain_weights(engine, len(corpus)))


@pytest.mark.parametrize(("schedule", "engine"), [("linear", "keras"), ("cosine", "native")])
def test_a_schedule_is_that_of_keras(schedule: str, engine: str) -> None:
    start_tensorflow()
    import keras

    corpus = make_corpus()
    config = settings(schedule=schedule, engine=engine)
    steps = 2 * -(-len(corpus) // 7)
    rate = (
        keras.optimizers.schedules.CosineDecay(0.02, steps)
        if schedule == "cosine"
        else keras.optimizers.schedules.PolynomialDecay(0.02, steps, end_learning_rate=0.0)
    )
    ours, _ = train(config, corpus)
    assert_same_weights(ours.weights(), fit_with_keras(config, corpus, rate)[0])
    assert ours.learning_rate() == pytest.approx(float(rate(steps - 1)), rel=1e-4)
    assert differ(ours.weights(), plain_weights(engine))


@pytest.mark.parametrize(
    ("given", "weights", "engine"),
    [
        ("1,3", {0: 1.0, 1: 3.0}, "native"),
        ("0.5,0", {0: 0.5, 1: 0.0}, "keras"),
        ("0.5,0", {0: 0.5, 1: 0.0}, "native"),
        ("balanced", None, "keras"),
    ],
)
def test_class_weights_are_those_of_keras(given: str, weights: dict[int, float] | None, engine: str) -> None:
    corpus = make_corpus(126)  # Keras's mean over the epoch counts every batch alike: none may be short
    config = settings(class_weights=given, engine=engine)
    if weights is None:
        positives = int(corpus.labels.sum())
        weights = {0: 126 / 2 / (126 - positives), 1: 126 / 2 / positives}
        assert weights[1] > 1.2 > 0.9 > weights[0]
    ours, sums = train(config, corpus)
    theirs, losses = fit_with_keras(config, corpus, class_weight=weights)
    assert_same_weights(ours.weights(), theirs, 2e-5)
    by_epoch = np.array(sums).reshape(2, -1, 2).sum(axis=1)
    np.testing.assert_allclose(by_epoch[:, 0] / len(corpus), losses, rtol=1e-4)
    assert by_epoch[0, 1] == int(by_epoch[0, 1]), "right answers are counted, not weighed"


@pytest.mark.parametrize(
    ("engine", "recurrent_dropout"),
    [("native", 0.3), ("keras", 0.0), pytest.param("keras", 0.3, marks=pytest.mark.second_tier)],  # XLA compiles it
)
def test_a_tiny_shift_doubles_the_gradient_and_reports_the_same(engine: str, recurrent_dropout: float) -> None:
    """So both passes have the same dropout. Adam's first moments after a step are 0.1 of the gradients."""
    start_tensorflow()
    from lstm_ray.train.step.choice import make_stepper

    corpus = make_corpus()
    found = []
    for adversarial in (0.0, 1e-5):
        rates = {"dropout": 0.3, "embedding_dropout": 0.3, "recurrent_dropout": recurrent_dropout}
        config = settings(engine=engine, adversarial=adversarial, bidirectional=True, pooling="mean", **rates)
        stepper = make_stepper(config, Alone(), corpus.labels)
        stepper.reseed(0, 1, 1, 0)
        sums = np.asarray(stepper.train(next(batches(config, corpus))))
        arrays = [array for array in floats(stepper.state()) if array.shape]  # Keras keeps the learning rate, a number
        found.append((sums, arrays[len(floats(stepper.weights())) :: 2]))
    (sums, moments), (adversarial_sums, adversarial_moments) = found
    np.testing.assert_allclose(adversarial_sums, sums, rtol=1e-6)
    assert all(moment.any() for moment in moments)
    for one, other in zip(moments, adversarial_moments, strict=True):
        np.testing.assert_allclose(other, 2 * one, rtol=0, atol=1e-3 * np.abs(one).max())


SLICES: dict[str, tuple[int, dict[str, Any]]] = {
    "2": (2, {}),
    "3-masked": (3, {"mask": True, "pooling": "max", "bidirectional": True}),
    "3-adversarial": (3, {"mask": True, "pooling": "max", "bidirectional": True, "adversarial": 0.3}),
    "100": (100, {}),
    "2-by-tokens": (2, {"mask": True, "pooling": "max", "batch_by": "tokens"}),
}


@pytest.mark.parametrize(
    ("engine", "slices", "changes"),
    [
        *(pytest.param("native", *case, id=f"native-{name}") for name, case in SLICES.items()),
        pytest.param("keras", *SLICES["2-by-tokens"], id="keras-2-by-tokens"),
        *(  # each compiles for seconds
            pytest.param("keras", *SLICES[name], id=f"keras-{name}", marks=pytest.mark.second_tier)
            for name in ("2", "3-masked", "3-adversarial", "100")
        ),
    ],
)
def test_slices_of_a_batch_add_up_to_the_whole(slices: int, changes: dict[str, Any], engine: str) -> None:
    corpus = make_corpus()  # the last batch has 3 rows of 7: by tokens arrays of another shape
    whole, sums = train(settings(engine=engine, **changes), corpus)
    sliced, sliced_sums = train(settings(accumulate=slices, clip_norm=10.0, engine=engine, **changes), corpus)
    np.testing.assert_allclose(sliced_sums, sums, rtol=1e-4, atol=1e-5)
    assert_same_weights(whole.weights(), sliced.weights(), 1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"mask": True, "pooling": "max", "bidirectional": True, "layers": 2, "units": 20},
        {"mask": True, "pooling": "mean_max", "padding": "post", "units": 17, "embedding_size": 33, "clip_norm": 0.1},
        {"ema": 0.99, "weight_decay": 0.3, "embeddings": "not read here", "freeze_embeddings": True},
        {"adversarial": 0.3, "layers": 2, "mask": True, "pooling": "max", "class_weights": "0.5,3", "clip_norm": 0.1},
        *(
            pytest.param(changes, marks=pytest.mark.second_tier)
            for changes in (
                {},
                {"bidirectional": True, "pooling": "mean", "epochs": 20},
                {"embeddings": "not read here", "freeze_embeddings": True, "clip_norm": 0.02},
                {"layers": 3, "schedule": "cosine", "warmup_steps": 3, "learning_rate": 0.005},
                {"ema": 0.9, "bidirectional": True},
                {"adversarial": 1.0, "embeddings": "not read here", "freeze_embeddings": True, "pooling": "mean"},
            )
        ),
    ],
    ids=str,
)
def test_both_engines_learn_the_same_and_resume_from_each_other(changes: dict[str, Any]) -> None:
    corpus = make_corpus()
    steppers = {}
    for engine in ("native", "keras"):
        steppers[engine], _ = train(settings(engine=engine, **changes), corpus)
    native, theirs = steppers["native"], steppers["keras"]
    for one, other in zip(native.state(), theirs.state(), strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        np.testing.assert_allclose(one, other, atol=1e-4, rtol=0)
    batch = next(batches(settings(**changes), corpus))
    np.testing.assert_allclose(native.predict(batch), theirs.predict(batch), atol=1e-5)
    assert native.learning_rate() == pytest.approx(theirs.learning_rate(), rel=1e-5)
    native.restore(theirs.state())
    theirs.restore(native.state())  # as it was, if nothing is lost on the way through the other's memory
    assert [array.tobytes() for array in native.state()] == [array.tobytes() for array in theirs.state()]
    np.testing.assert_allclose(native.train(batch), theirs.train(batch), rtol=1e-5)
    assert_same_weights(native.weights(), theirs.weights(), 1e-6)


def test_averaged_weights_are_kept_and_predict(engine: str) -> None:
    start_tensorflow()
    from lstm_ray.train.step.choice import make_stepper

    corpus, config = make_corpus(), settings(engine=engine, ema=0.6)
    averaging = make_stepper(config, Alone(), corpus.labels)
    averaging.set_word_vectors(WordVectors(np.array([4], np.int32), np.array([[1, 2, 3, 4, 5, 6]], np.float32)))
    expected = averaging.weights()
    for step, batch in enumerate(batches(config, corpus), 1):
        averaging.train(batch)
        share = np.float32(1 - min(0.6, (1 + step) / (10 + step)))
        last = averaging.state()[: len(expected)]
        expected = [average + share * (weights - average) for average, weights in zip(expected, last, strict=True)]
    assert_same_weights(averaging.weights(), expected, 1e-6)
    assert differ(floats(averaging.weights()), floats(last))
    plain, _ = train(settings(engine=engine), corpus)
    plain.restore([*averaging.weights(), *plain.state()[len(last) :]])
    np.testing.assert_allclose(averaging.predict(batch), plain.predict(batch), atol=1e-6)


def test_a_run_that_resumes_with_averages_ends_in_the_same_bits(engine: str) -> None:
    corpus, config = make_corpus(), settings(engine=engine, ema=0.9)
    resumed, _ = train(config, corpus)
    whole, _ = train(config, corpus)
    resumed.restore(whole.state())
    for batch in batches(config, corpus):
        for stepper in (whole, resumed):
            stepper.train(batch)
    assert [array.tobytes() for array in resumed.state()] == [array.tobytes() for array in whole.state()]


@pytest.mark.parametrize(
    ("engine", "adversarial"),
    [("native", 0.0), ("native", 0.5), ("keras", 0.0), pytest.param("keras", 0.5, marks=pytest.mark.second_tier)],
)
def test_frozen_word_vectors_stay_in_both_engines(engine: str, adversarial: float, tmp_path: Path) -> None:
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("good 1 2 3 4 5 6\n")
    corpus = make_corpus()
    config = settings(
        engine=engine, embeddings=str(vectors), freeze_embeddings=True, clip_norm=0.1, adversarial=adversarial
    )
    start_tensorflow()
    from lstm_ray.train.step.choice import make_stepper

    class Watched(Alone):
        def all_reduce(self, dense: Any, sparse: Sequence[SparseRows]) -> Any:
            assert not sparse, "what does not learn need not travel"
            return super().all_reduce(dense, sparse)

    stepper = make_stepper(config, Watched(), corpus.labels)
    stepper.set_word_vectors(WordVectors(np.array([4], np.int32), np.array([[1, 2, 3, 4, 5, 6]], np.float32)))
    before = floats(stepper.weights())
    for batch in batches(config, corpus):
        stepper.train(batch)
    after = floats(stepper.weights())
    np.testing.assert_array_equal(after[0], before[0])
    np.testing.assert_array_equal(after[0][4], [1, 2, 3, 4, 5, 6])
    assert all((one != other).any() for one, other in zip(before[1:], after[1:], strict=True))


def test_a_weight_that_is_not_finite_is_found(engine: str) -> None:
    stepper, _ = train(settings(engine=engine, epochs=1), make_corpus())
    for position in range(2):
        assert stepper.is_finite()
        state = stepper.state()
        sound = state[position].flat[7]
        state[position].flat[7] = np.nan
        stepper.restore(state)
        assert not stepper.is_finite()
        state[position].flat[7] = sound
        stepper.restore(state)
