"""The training loop in this process, with TensorFlow and without Ray."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from steps import MAX_TOKENS, VOCABULARY_SIZE
from steps import settings as step_settings

from lstm_ray import progress
from lstm_ray.config import TrainConfig
from lstm_ray.errors import TrainingError
from lstm_ray.evaluate.counts import BinaryCounts
from lstm_ray.model.bundle import read_bundle
from lstm_ray.runtime.tensorflow import start_tensorflow
from lstm_ray.text.sequences import Sequences
from lstm_ray.text.vocabulary import Vocabulary
from lstm_ray.train.data.batches import Batch
from lstm_ray.train.data.corpus import Corpus, Prepared
from lstm_ray.train.local import LocalContext
from lstm_ray.train.loop import checkpoints
from lstm_ray.train.loop.state import State

GOOD, BAD = 4, 5  # the two ids that decide a row's label


def settings(output: Path | str = "", **changes: Any) -> TrainConfig:
    """Returns settings of a network small enough to train within a second."""
    return step_settings(**{"output": str(output), "global_batch_size": 16, "epochs": 3, **changes})


def make_corpus(rows: int, seed: int = 0) -> Corpus:
    """Returns rows of 2 to `MAX_TOKENS` ids; one of them is GOOD or BAD, which is the label."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(2, MAX_TOKENS + 1, rows)
    labels = generator.integers(0, 2, rows).astype(np.int8)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    token_ids = generator.integers(BAD + 1, VOCABULARY_SIZE, offsets[-1]).astype(np.int32)
    token_ids[offsets[:-1]] = 1
    token_ids[offsets[:-1] + 1 + generator.integers(0, lengths - 1)] = np.where(labels == 1, GOOD, BAD)
    return Corpus(Sequences(token_ids, offsets), labels)


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    """Returns 203 rows to train on, so that the last batch is short, and 61 to validate on."""
    words = pa.array([f"word{number:02d}" for number in range(VOCABULARY_SIZE - 4)], pa.large_string())
    vocabulary = Vocabulary(words, pa.array(np.ones(len(words), np.int64)), VOCABULARY_SIZE)
    return Prepared(make_corpus(203), make_corpus(61, seed=1), vocabulary, 0)


Train = Callable[[TrainConfig], State]


@pytest.fixture
def train(prepared: Prepared, watcher: Any) -> Train:
    """Returns a function that trains as `lstm-ray train --workers 0` does, on prepared rows."""
    start_tensorflow()
    from lstm_ray.train.loop import epochs

    return lambda config: epochs.run(config, prepared, LocalContext(watcher, threading.Event()))


def final_variables(output: Path) -> list[np.ndarray]:
    """Returns all state of model and optimizer after the last epoch."""
    checkpoint = checkpoints.latest(str(output))
    assert checkpoint is not None
    return checkpoint.variables


def without_times(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns a history without its times."""
    return [{name: value for name, value in row.items() if name not in ("seconds", "rows_per_s")} for row in history]


def assert_identical(left: list[np.ndarray], right: list[np.ndarray]) -> None:
    """Compares arrays to the bit."""
    for one, other in zip(left, right, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_separable_corpus_is_learned_and_the_best_epoch_saved(train: Train, watcher: Any, tmp_path: Path) -> None:
    state = train(settings(tmp_path, epochs=6))
    assert state.epoch == 6
    assert [row["epoch"] for row in state.history] == [1, 2, 3, 4, 5, 6]
    assert watcher.epochs == state.history
    assert state.history[-1]["loss"] < 0.2 < state.history[0]["loss"]
    assert state.metrics["accuracy"] > 0.95
    best_row = max(state.history, key=lambda row: (row["validation_accuracy"], -row["validation_loss"]))
    assert state.best_epoch == best_row["epoch"]
    bundle = read_bundle(str(tmp_path / "model"))
    assert bundle.metrics == state.metrics
    assert bundle.profile is not None
    validated = bundle.profile.validation
    assert validated.scores.sum() == state.metrics["rows"]
    assert validated.positives == state.metrics["true_positives"] + state.metrics["false_positives"]
    best = checkpoints.latest(str(tmp_path)).best
    np.testing.assert_array_equal(bundle.weights().embedding, best[0])
    assert "lstm_1" in state.summary


# Probabilities of the validation rows after each epoch. By accuracy the first is best, by AUC the second, by loss the
# third; the fourth equals the first and second in these, with a lower loss; the fifth is the fourth once more.
LABELS = [0, 0, 1, 1]
VALIDATED = [[0.1, 0.99, 0.9, 0.9], [0.6, 0.7, 0.8, 0.9], [0.3, 0.52, 0.5, 0.9], *[[0.1, 0.6, 0.9, 0.9]] * 2]


@pytest.mark.parametrize(("best_by", "best"), [("accuracy", 1), ("auc", 2), ("loss", 3)])
def test_the_metric_of_best_by_decides_the_best_epoch_and_early_stopping(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, best_by: str, best: int
) -> None:
    from lstm_ray.train.loop import epochs

    def validate(worker: Any) -> epochs._Measured:
        probabilities = np.array(VALIDATED[worker.state.epoch], np.float32)
        return epochs._Measured(BinaryCounts.from_scores(np.array(LABELS), probabilities))

    monkeypatch.setattr(epochs._Worker, "validate", validate)
    state = train(settings(tmp_path / "run", best_by=best_by))
    assert state.best_epoch == best
    assert state.metrics["accuracy"] == state.history[best - 1]["validation_accuracy"]
    last = checkpoints.latest(str(tmp_path / "run"))
    alone = train(settings(tmp_path / "alone", best_by=best_by, epochs=best))
    assert alone.best_epoch == best
    assert_identical(last.best, checkpoints.latest(str(tmp_path / "alone")).best)
    assert train(settings(tmp_path / "run", best_by=best_by, epochs=5)).best_epoch == 4
    stopped = train(settings(tmp_path / "early", best_by=best_by, epochs=5, early_stopping=2))
    assert (stopped.epoch, stopped.best_epoch) == ((3, 1) if best_by == "accuracy" else (5, 4))


class InterruptingContext(LocalContext):
    """Interrupts the run after some calls of `is_interrupted`: one a step, and one a batch of validation.

    Those while n-grams are fitted do not count.
    """

    def __init__(self, watcher: Any, questions: int) -> None:
        super().__init__(self._hear, threading.Event())
        self._watcher, self._questions = watcher, questions
        self._is_fitting = False

    def _hear(self, event: progress.Event) -> None:
        """Records where the fit begins and ends."""
        self._watcher(event)
        if isinstance(event, str):
            self._is_fitting = event.startswith("fitting")

    def is_interrupted(self) -> bool:
        """Counts the calls."""
        self._questions -= not self._is_fitting
        return self._questions < 0


DROPOUT = {"dropout": 0.3, "embedding_dropout": 0.1, "output_dropout": 0.2}
NETWORKS: dict[str, dict[str, Any]] = {
    "dropout": {**DROPOUT, "checkpoint_every": "5steps"},
    "recurrent-dropout": {"dropout": 0.2, "recurrent_dropout": 0.2, "checkpoint_every": "4steps"},
    "xla": {"dropout": 0.2, "recurrent_dropout": 0.2, "engine": "keras"},
    "masked-bilstm": {"mask": True, "bidirectional": True, "pooling": "max", "dropout": 0.3, "checkpoint_every": "1s"},
    "averages": {**DROPOUT, "shared_dropout": True, "ema": 0.9, "word_dropout": 0.3, "checkpoint_every": "3steps"},
    "ngrams": {**DROPOUT, "ngrams": 2, "ngram_buckets": 300, "class_weights": "balanced", "checkpoint_every": "5steps"},
    "bf16": {**DROPOUT, "schedule": "linear", "warmup_steps": 5, "precision": "bf16", "accumulate": 2, "ema": 0.9},
}


@pytest.mark.parametrize(
    # Those of the Keras engine compile for seconds.
    "network",
    [pytest.param(name, marks=[pytest.mark.second_tier] * (name in ("xla", "bf16"))) for name in NETWORKS],
)
def test_a_run_ends_in_the_same_bits_where_it_was_interrupted(
    train: Train, prepared: Prepared, watcher: Any, tmp_path: Path, network: str
) -> None:
    from lstm_ray.train.loop import epochs

    changes = {**NETWORKS[network], "epochs": 2}
    once = train(settings(tmp_path / "once", **changes))
    expected = final_variables(tmp_path / "once")
    model = read_bundle(str(tmp_path / "once/model")).files["weights.npz"]
    for cut in {"dropout": (1, 7, 12, 13, 14, 20), "masked-bilstm": (3, 13)}.get(network, (6,)):
        output = tmp_path / str(cut)
        config = settings(output, **changes)
        with pytest.raises(KeyboardInterrupt, match=r"interrupted: saved at .*; the same command resumes there"):
            epochs.run(config, prepared, InterruptingContext(watcher, cut))
        between = checkpoints.latest_state(str(output))
        assert between is not None
        assert (between.epoch, between.step) != (0, 0)
        assert without_times(train(config).history) == without_times(once.history)
        assert_identical(expected, final_variables(output))
        assert read_bundle(str(output / "model")).files["weights.npz"] == model


@pytest.mark.parametrize(
    ("every", "kept"),
    [
        ("5steps", ["epochs_0000_steps_00000010", "epochs_0001_steps_00000000"]),
        ("12steps", ["epochs_0000_steps_00000012", "epochs_0001_steps_00000000"]),
        ("epoch", ["epochs_0001_steps_00000000"]),
        ("1h", ["epochs_0001_steps_00000000"]),
    ],
)
def test_a_run_is_saved_as_often_as_asked_for(train: Train, tmp_path: Path, every: str, kept: list[str]) -> None:
    train(settings(tmp_path, checkpoint_every=every, epochs=1))
    assert sorted(path.name.partition(".")[0] for path in (tmp_path / "checkpoints").iterdir()) == kept


def test_a_run_is_saved_after_the_time_asked_for(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lstm_ray.train.loop import epochs

    saved = []
    monkeypatch.setattr(epochs.checkpoints, "save", lambda _, checkpoint: saved.append(checkpoint.state.step))
    clock = iter(range(0, 10_000, 10))  # each look at it is 10 s after the one before
    monkeypatch.setattr(epochs.time, "monotonic", lambda: next(clock))
    train(settings(tmp_path, checkpoint_every="40s", epochs=1))
    assert saved == [4, 8, 12, 0]


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[Any]]:
    """Returns a function that sets weights to NaN after a given step from now; it returns the steps' sums."""
    from lstm_ray.train.native.stepper import NativeStepper

    def spoil_after(step: int) -> list[Any]:
        honest = NativeStepper.train
        steps = []

        def train(stepper: NativeStepper, batch: Batch) -> Any:
            sums = honest(stepper, batch)
            steps.append(sums)
            if len(steps) == step:
                stepper.restore([stepper.state()[0] * np.nan, *stepper.state()[1:]])
            return sums

        monkeypatch.setattr(NativeStepper, "train", train)
        return steps

    return spoil_after


def test_a_state_that_is_not_finite_is_never_saved(
    train: Train, tmp_path: Path, spoil: Callable[[int], list[Any]]
) -> None:
    spoil(18)  # the 5th of the second epoch
    with pytest.raises(TrainingError, match=r"in epoch 2, by step 6, at learning rate 0\.02"):
        train(settings(tmp_path, checkpoint_every="3steps", dropout=0.0))
    state = checkpoints.latest_state(str(tmp_path))
    assert state is not None
    assert (state.epoch, state.step) == (1, 3)
    assert train(settings(tmp_path, checkpoint_every="3steps")).epoch == 3


def test_a_loss_that_is_not_finite_is_found_long_before_the_end_of_the_epoch(
    train: Train, tmp_path: Path, spoil: Callable[[int], list[Any]]
) -> None:
    steps = spoil(203 + 60)
    config = settings(tmp_path, global_batch_size=1, epochs=2, schedule="linear", warmup_steps=6)
    # Of 406 steps, 6 to rise and 400 to fall: the 264th, which saw the loss, learns at 0.02 (1 - 257 / 400).
    with pytest.raises(TrainingError, match=r"in epoch 2, by step 61, at learning rate 0\.00715: try"):
        train(config)
    assert len(steps) == 203 + 100


def test_a_large_loss_is_no_error(train: Train, tmp_path: Path) -> None:
    """Class weights make it large, which does not disturb Adam. (At 1e30 its moments are infinite: such runs stop.)"""
    state = train(settings(tmp_path, epochs=2, class_weights=f"{10**15},{10**15}"))
    assert 1e14 < state.history[-1]["loss"] < 1e16
    assert state.history[-1]["accuracy"] > 0.4


def test_another_seed_gives_other_weights(train: Train, tmp_path: Path) -> None:
    for seed in (0, 1):
        train(settings(tmp_path / str(seed), epochs=1, seed=seed))
    left, right = final_variables(tmp_path / "0"), final_variables(tmp_path / "1")
    assert not np.array_equal(left[0], right[0])


def test_a_damaged_last_checkpoint_costs_one_epoch_only(
    train: Train, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = settings(tmp_path / "run")
    train(config)
    expected = final_variables(tmp_path / "run")
    (damaged,) = (tmp_path / "run/checkpoints").glob("epochs_0003*")
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    state = train(config)
    assert f"{damaged} is damaged" in caplog.text
    assert state.epoch == 3
    assert_identical(expected, final_variables(tmp_path / "run"))


def test_without_validation_the_last_epoch_is_saved(tmp_path: Path, prepared: Prepared, watcher: Any) -> None:
    start_tensorflow()
    from lstm_ray.train.loop import epochs

    alone = Prepared(prepared.training, make_corpus(0), prepared.vocabulary, 0)
    config = settings(tmp_path, epochs=2, validation_fraction=0.0)
    state = epochs.run(config, alone, LocalContext(watcher, threading.Event()))
    assert (state.best_epoch, state.metrics) == (2, {})
    assert state.history[-1]["validation_loss"] is None
    mixed = settings(tmp_path / "mixed", epochs=1, validation_fraction=0.0, ngrams=1, ngram_buckets=300)
    state = epochs.run(mixed, alone, LocalContext(watcher, threading.Event()))
    assert state.mix == {"lstm": 0.5, "ngrams": 0.5, "bias": 0.0}
    assert read_bundle(str(tmp_path / "mixed/model")).weights().ngrams == 1


@pytest.mark.parametrize("goal", [{"maximize": "f1"}, {"target_recall": 0.9}, {"threshold": 0.8}])
def test_the_model_is_saved_with_its_threshold_and_what_that_reaches(
    train: Train, prepared: Prepared, tmp_path: Path, goal: dict[str, Any]
) -> None:
    from lstm_ray.score.engine import NativeEngine

    state = train(settings(tmp_path, epochs=1, **goal))
    bundle = read_bundle(str(tmp_path / "model"))
    probabilities = NativeEngine(bundle.weights(), 1).probabilities(prepared.validation.sequences)
    counts = BinaryCounts.from_scores(prepared.validation.labels, probabilities, bundle.threshold)
    assert bundle.metrics == pytest.approx(counts.metrics(), abs=1e-5)
    assert bundle.metrics["threshold"] == bundle.threshold != 0.5
    assert state.metrics["threshold"] == goal.get("threshold", 0.5)


@pytest.mark.parametrize("mask", [False, True])
def test_the_model_that_is_saved_scores_as_the_mix_was_measured(
    train: Train, prepared: Prepared, watcher: Any, tmp_path: Path, mask: bool
) -> None:
    from lstm_ray.score.engine import NativeEngine

    state = train(settings(tmp_path, ngrams=2, ngram_buckets=300, mask=mask))
    assert watcher.said[0].startswith("fitting n-grams of up to 2 words")
    bundle = read_bundle(str(tmp_path / "model"))
    probabilities = NativeEngine(bundle.weights(), 1).probabilities(prepared.validation.sequences)
    measured = BinaryCounts.from_scores(prepared.validation.labels, probabilities).metrics()
    assert bundle.metrics == state.metrics
    for name in ("accuracy", "auc", "log_loss"):
        assert measured[name] == pytest.approx(state.metrics[name], abs=1e-5), name
    row = state.best_row()
    assert row["validation_accuracy"] == state.metrics["accuracy"]
    assert row["validation_ngram_accuracy"] > 0.9
    assert 0 <= row["lstm_share"] < 1
    assert {row["validation_ngram_loss"] for row in state.history} == {row["validation_ngram_loss"]}, (
        "it is fitted once"
    )


def test_the_ngrams_leave_the_lstm_as_it_is(train: Train, tmp_path: Path) -> None:
    alone = train(settings(tmp_path / "alone", epochs=2))
    mixed = train(settings(tmp_path / "mixed", epochs=2, ngrams=3, ngram_buckets=300))
    assert_identical(final_variables(tmp_path / "alone"), final_variables(tmp_path / "mixed"))
    for one, other in zip(alone.history, mixed.history, strict=True):
        assert other["validation_lstm_accuracy"] == one["validation_accuracy"]
        assert other["validation_lstm_loss"] == one["validation_loss"]
        assert "lstm_share" not in one


def test_a_resumed_run_does_not_fit_the_ngrams_again(train: Train, watcher: Any, tmp_path: Path) -> None:
    changes = {"ngrams": 1, "ngram_buckets": 300}
    train(settings(tmp_path, epochs=1, **changes))
    assert any("fitting" in message for message in watcher.said)
    watcher.said.clear()
    train(settings(tmp_path, epochs=2, **changes))
    assert watcher.said == []


def test_the_fit_of_the_ngrams_can_be_interrupted_and_tells_its_progress(
    train: Train, prepared: Prepared, watcher: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lstm_ray.train.loop import epochs

    monkeypatch.setattr(epochs, "_REPORT_EVERY_S", 0.0)
    config = settings(tmp_path / "cut", epochs=1, ngrams=2, ngram_buckets=300)
    interrupted = threading.Event()
    interrupted.set()
    with pytest.raises(KeyboardInterrupt, match=r"fitting n-grams at .*; the same command resumes there"):
        epochs.run(config, prepared, LocalContext(watcher, interrupted))
    train(config)
    assert any(re.fullmatch(r"fitting n-grams: \d+ evaluations, 0 s", message) for message in watcher.said)
    train(settings(tmp_path / "once", epochs=1, ngrams=2, ngram_buckets=300))
    assert_identical(
        checkpoints.latest(str(tmp_path / "cut")).ngrams, checkpoints.latest(str(tmp_path / "once")).ngrams
    )


def test_a_loss_that_is_not_finite_stops_the_run(train: Train, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"in epoch 1, by step \d+, at learning rate 3e\+38") as caught:
        train(settings(tmp_path, learning_rate=3e38))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("validation_rows", [0, 61])
def test_weights_that_are_not_finite_after_the_last_step_stop_the_run(
    tmp_path: Path, prepared: Prepared, watcher: Any, spoil: Callable[[int], list[Any]], validation_rows: int
) -> None:
    start_tensorflow()
    from lstm_ray.train.loop import epochs

    spoil(1)
    one_step = Prepared(make_corpus(16), make_corpus(validation_rows), prepared.vocabulary, 0)
    with pytest.raises(TrainingError, match=r"in epoch 1, by step 1, at learning rate 0\.02"):
        epochs.run(settings(tmp_path), one_step, LocalContext(watcher, threading.Event()))
    assert list(tmp_path.iterdir()) == []
