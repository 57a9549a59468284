"""Several workers end with the weights of one: whole runs of the loop, on threads, over real sockets."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from threads import on_workers

from lstm_ray.collective.protocol import Alone
from lstm_ray.collective.tcp import TcpCollective
from lstm_ray.config import TrainConfig, resolve
from lstm_ray.errors import TrainingError, WorkerLostError
from lstm_ray.progress import Event
from lstm_ray.runtime.tensorflow import start_tensorflow
from lstm_ray.text.sequences import Sequences
from lstm_ray.text.vocabulary import Vocabulary
from lstm_ray.train.data.batches import Batch
from lstm_ray.train.data.corpus import Corpus, Prepared
from lstm_ray.train.loop import checkpoints
from lstm_ray.train.loop.state import State

WriteModule = Callable[..., Path]

VOCABULARY_SIZE = 40
MAX_TOKENS = 16
TOLERANCE = 1e-5

# 5 rows a step: uneven shares for 2, 3 and 4 workers; 61 rows: the last batch has one row, fewer than the workers.
SMALL = {
    "preset": "none",
    "vocabulary_size": VOCABULARY_SIZE,
    "max_tokens": MAX_TOKENS,
    "embedding_size": 6,
    "units": 5,
    "global_batch_size": 5,
    "epochs": 2,
    "learning_rate": 0.01,
    "dropout": 0.0,
    "recurrent_dropout": 0.0,
}
NETWORKS: dict[str, dict[str, Any]] = {
    "lstm": {"preset": "lstm"},
    "bilstm": {"preset": "bilstm"},
    "masked": {"mask": True, "bidirectional": True, "pooling": "max"},
    "keras": {"mask": True, "pooling": "max", "engine": "keras"},
    "ngrams": {"mask": True, "ngrams": 2, "ngram_buckets": 300, "class_weights": "balanced"},
    "masked-weighted": {
        "mask": True,
        "padding": "post",
        "pooling": "mean",
        "class_weights": "0.5,3",
        "clip_norm": 0.05,
    },
    "adversarial": {"mask": True, "bidirectional": True, "pooling": "max", "adversarial": 0.3},
    "by-tokens": {"mask": True, "pooling": "max", "batch_by": "tokens"},
    "pretrained": {"mask": True, "bidirectional": True, "learn_vectors": True, "pretrain_epochs": 2},
}


def make_corpus(rows: int, seed: int) -> Corpus:
    """Returns rows of 1 to `MAX_TOKENS` ids."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, MAX_TOKENS + 1, rows)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    token_ids = generator.integers(4, VOCABULARY_SIZE, offsets[-1]).astype(np.int32)
    return Corpus(Sequences(token_ids, offsets), generator.integers(0, 2, rows).astype(np.int8))


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    """Returns 61 rows to train on, which are also the texts to learn words of, and 13 to validate on."""
    words = pa.array([f"word{number:02d}" for number in range(VOCABULARY_SIZE - 4)], pa.large_string())
    vocabulary = Vocabulary(words, pa.array(np.ones(len(words), np.int64)), VOCABULARY_SIZE)
    training = make_corpus(61, 0)
    return Prepared(training, make_corpus(13, 1), vocabulary, 0, texts=training.sequences)


class Member:
    """A worker on a thread, whose reports are ignored."""

    def __init__(self, group: TcpCollective) -> None:
        self.collective = group

    def begin(self, state: State) -> None:
        """Drops it."""

    def report(self, event: Event) -> None:
        """Drops it."""

    def is_interrupted(self) -> bool:
        """Returns False."""
        return False


class Listener(Member):
    """A worker on a thread, whose messages are kept."""

    def __init__(self, group: TcpCollective) -> None:
        super().__init__(group)
        self.heard: list[str] = []

    def report(self, event: Event) -> None:
        """Keeps messages, drops others."""
        if isinstance(event, str):
            self.heard.append(event)


@pytest.fixture
def one_builds_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets only one thread at a time build a model: Keras's seed is global to the process."""
    start_tensorflow()
    from lstm_ray.train.native import stepper
    from lstm_ray.train.step import keras_engine

    lock = threading.Lock()
    build = stepper.build_model

    def build_alone(*arguments: Any) -> Any:
        with lock:
            return build(*arguments)

    for module in (stepper, keras_engine):
        monkeypatch.setattr(module, "build_model", build_alone)


def train(
    config: TrainConfig, prepared: Prepared, world_size: int, join: Callable[[TcpCollective], Member] = Member
) -> list[State]:
    """Runs the loop on every worker."""
    from lstm_ray.train.loop import epochs

    return on_workers(world_size, lambda group: epochs.run(config, prepared, join(group)))


@pytest.mark.usefixtures("one_builds_at_a_time")
@pytest.mark.parametrize("network", NETWORKS)
def test_any_number_of_workers_learns_the_same(network: str, prepared: Prepared, tmp_path: Path) -> None:
    runs = {}
    sizes = {"keras": (1, 2), "masked": (1, 2, 3, 4)}.get(network, (1, 3))
    for world_size in sizes:
        output = tmp_path / str(world_size)
        config = resolve(TrainConfig, {**NETWORKS[network], **SMALL, "output": str(output)})
        states = train(config, prepared, world_size)
        checkpoint = checkpoints.latest(str(output))
        assert checkpoint is not None
        runs[world_size] = ([*checkpoint.variables, *checkpoint.ngrams], states[0])
        for state in states[1:]:
            for one, other in zip(states[0].history, state.history, strict=True):
                clocks = {"seconds", "rows_per_s"}
                assert {k: v for k, v in one.items() if k not in clocks} == {
                    k: v for k, v in other.items() if k not in clocks
                }
    alone, state = runs[1]
    for world_size in sizes[1:]:
        variables, shared = runs[world_size]
        for one, other in zip(alone, variables, strict=True):
            np.testing.assert_allclose(other, one, atol=TOLERANCE, rtol=TOLERANCE)
        assert shared.metrics["accuracy"] == state.metrics["accuracy"]
        assert shared.mix == pytest.approx(state.mix, abs=1e-4)


@pytest.mark.usefixtures("one_builds_at_a_time")
@pytest.mark.parametrize("world_size", [1, 2])
def test_what_sums_gradients_is_reported_once(prepared: Prepared, tmp_path: Path, world_size: int) -> None:
    members: list[Listener] = []

    def join(group: TcpCollective) -> Member:
        members.append(Listener(group))
        return members[-1]

    train(resolve(TrainConfig, {**SMALL, "output": str(tmp_path / "run")}), prepared, world_size, join)
    heard = {member.collective.rank: [line for line in member.heard if "are summed" in line] for member in members}
    assert [len(heard[rank]) for rank in range(world_size)] == ([0] if world_size == 1 else [1, 0])
    for line in heard[0]:
        assert re.fullmatch(r"gradients are summed by TCP, 0\.0\d+ MB a step from each worker", line), line


@pytest.mark.usefixtures("one_builds_at_a_time")
def test_any_number_of_workers_trains_on_from_the_same_model(prepared: Prepared, tmp_path: Path) -> None:
    from lstm_ray.train.step.choice import make_stepper

    def learned(corpus: Prepared, world_size: int) -> list[Any]:
        output = tmp_path / f"{len(corpus.weights)}-{world_size}"
        train(resolve(TrainConfig, {**settings, "output": str(output)}), corpus, world_size)
        checkpoint = checkpoints.latest(str(output))
        assert checkpoint is not None
        return [*checkpoint.variables, *checkpoint.ngrams]

    settings = {**NETWORKS["ngrams"], **SMALL, "epochs": 1}
    random = make_stepper(resolve(TrainConfig, settings), Alone(), prepared.training.labels).weights()
    weights = [2 * array for array in random if array.dtype == np.float32]
    table = np.random.default_rng(6).normal(size=300).astype(np.float32)
    begun = replace(prepared, weights=weights, ngram_table=table)
    alone = learned(begun, 1)
    for one, other in zip(alone, learned(begun, 2), strict=True):
        np.testing.assert_allclose(other, one, atol=TOLERANCE, rtol=TOLERANCE)
    anew = learned(prepared, 1)
    assert np.abs(alone[0] - anew[0]).max() > 0.01
    assert np.abs(alone[-2] - anew[-2]).max() > 1e-3, "the table of the n-grams"


OWN = """
import keras
from keras import layers, ops

def build(text, model):
    ids = keras.Input((text.max_tokens,), dtype="int32")
    places = layers.Embedding(text.max_tokens, model.embedding_size)(ops.arange(text.max_tokens))
    words = layers.Embedding(text.vocabulary_size, model.embedding_size, embeddings_regularizer="l2")(ids) + places
    states = layers.LayerNormalization()(layers.GRU(model.units, return_sequences=True, kernel_regularizer="l2")(words))
    state = layers.Dense(4)(layers.GlobalMaxPooling1D()(states))
    return keras.Model(ids, layers.Dense(1, activation="sigmoid")(state))
"""


@pytest.mark.second_tier
@pytest.mark.usefixtures("one_builds_at_a_time")
def test_two_workers_learn_the_same_with_a_users_network(
    write_module: WriteModule, prepared: Prepared, tmp_path: Path
) -> None:
    write_module("mine", OWN)
    changes = {"accumulate": 2, "class_weights": "0.5,3", "clip_norm": 0.05}
    runs = []
    for world_size in (1, 2):
        output = tmp_path / str(world_size)
        settings = {**SMALL, **changes, "network": "mine:build", "output": str(output)}
        train(TrainConfig.model_validate(settings), prepared, world_size)
        checkpoint = checkpoints.latest(str(output))
        assert checkpoint is not None
        runs.append(checkpoint.variables)
    for one, other in zip(*runs, strict=True):
        np.testing.assert_allclose(other, one, atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.usefixtures("one_builds_at_a_time")
def test_a_network_with_other_initial_weights_on_each_worker_is_refused(
    write_module: WriteModule, prepared: Prepared, tmp_path: Path
) -> None:
    counts = "import itertools\nnumber = itertools.count()\n"
    varied = OWN.replace(
        "layers.Dense(4)", "layers.Dense(4, bias_initializer=keras.initializers.Constant(next(number)))"
    )
    write_module("mine", counts + varied)
    config = TrainConfig.model_validate({**SMALL, "network": "mine:build", "output": str(tmp_path / "run")})
    with pytest.raises(TrainingError, match="network mine:build: its initial weights differ between workers"):
        train(config, prepared, 2)


@pytest.mark.usefixtures("one_builds_at_a_time")
def test_workers_end_with_equal_bits(prepared: Prepared, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Dropout differs between the workers, but all apply the same sums of gradients."""
    from lstm_ray.train.loop import epochs

    ends: list[list[np.ndarray]] = []
    validate = epochs._Worker.validate

    def remember(worker: Any) -> Any:
        ends.append(worker._stepper.weights())
        return validate(worker)

    monkeypatch.setattr(epochs._Worker, "validate", remember)
    config = TrainConfig.model_validate({**SMALL, "dropout": 0.4, "epochs": 1, "output": str(tmp_path)})
    train(config, prepared, 3)
    assert len(ends) == 3
    for other in ends[1:]:
        assert [array.tobytes() for array in other] == [array.tobytes() for array in ends[0]]


@pytest.mark.usefixtures("one_builds_at_a_time")
@pytest.mark.parametrize("engine", ["native", pytest.param("keras", marks=pytest.mark.second_tier)])
def test_weights_that_differ_after_an_epoch_end_the_run_and_are_not_saved(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, engine: str
) -> None:
    from lstm_ray.train.loop import epochs

    honest = epochs._Worker.train

    def flip_a_bit(worker: Any) -> Any:
        step_sums = honest(worker)
        if worker._collective.rank == 2 and worker.state.epoch == 1:
            state = worker._stepper.state()
            state[0].view(np.uint32)[7, 3] ^= 1
            worker._stepper.restore(state)
        return step_sums

    monkeypatch.setattr(epochs._Worker, "train", flip_a_bit)
    config = TrainConfig.model_validate({**SMALL, "dropout": 0.4, "engine": engine, "output": str(tmp_path)})
    with pytest.raises(TrainingError, match=r"^after epoch 2 worker 2 has other weights than worker 0, although"):
        train(config, prepared, 3)
    state = checkpoints.latest_state(str(tmp_path))
    assert state is not None
    assert state.epoch == 1


@pytest.mark.parametrize(
    ("engine", "recurrent_dropout"),
    [("native", 0.3), ("keras", 0.0), pytest.param("keras", 0.3, marks=pytest.mark.second_tier)],  # XLA compiles it
)
def test_dropout_of_a_step_depends_only_on_seed_epoch_step_and_rank(engine: str, recurrent_dropout: float) -> None:
    start_tensorflow()
    from lstm_ray.train.step.choice import make_stepper

    config = TrainConfig.model_validate(
        {**SMALL, "dropout": 0.5, "recurrent_dropout": recurrent_dropout, "engine": engine}
    )
    stepper = make_stepper(config, Alone(), np.zeros(5, np.int8))
    token_ids = np.random.default_rng(0).integers(4, VOCABULARY_SIZE, (5, MAX_TOKENS)).astype(np.int32)
    batch = Batch(token_ids, np.zeros(5, np.float32), np.ones(5, np.float32), 5)
    state = stepper.state()

    def drawn(*position: int) -> bytes:
        stepper.restore(state)
        stepper.reseed(*position)
        return np.asarray(stepper.train(batch)).tobytes()

    first = drawn(0, 1, 2, 3)
    others = {drawn(1, 1, 2, 3), drawn(0, 2, 2, 3), drawn(0, 1, 3, 3), drawn(0, 1, 2, 0)}
    assert len(others | {first}) == 5
    assert drawn(0, 1, 2, 3) == first


@pytest.mark.usefixtures("one_builds_at_a_time")
def test_when_a_worker_fails_its_peers_stop(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from lstm_ray.train.loop import epochs

    validate = epochs._Worker.validate

    def fail_on_one(worker: Any) -> Any:
        if worker._collective.rank == 1:
            raise RuntimeError("this worker's memory is full")
        return validate(worker)

    monkeypatch.setattr(epochs._Worker, "validate", fail_on_one)
    config = TrainConfig.model_validate({**SMALL, "output": str(tmp_path)})
    errors: dict[int, BaseException] = {}

    def work(group: TcpCollective) -> None:
        try:
            epochs.run(config, prepared, Member(group))
        except (RuntimeError, WorkerLostError) as error:
            errors[group.rank] = error

    on_workers(2, work)
    assert str(errors[1]) == "this worker's memory is full"
    assert str(errors[0]).startswith("worker 1 at 127.0.0.1:")


def learnable(rows: int, seed: int) -> Corpus:
    """Returns noisy rows; the positive ones have more of the words 4 to 9 than of 10 to 15."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, rows).astype(np.int8)
    lengths = np.full(rows, MAX_TOKENS)
    base = np.where(labels == 1, 4, 10)[:, None]
    words = base + generator.integers(0, 6, (rows, MAX_TOKENS))
    noise = generator.random((rows, MAX_TOKENS)) < 0.7
    words[noise] = generator.integers(4, VOCABULARY_SIZE, noise.sum())
    return Corpus(Sequences.of(words.ravel().astype(np.int32), lengths), labels)


@pytest.mark.second_tier
@pytest.mark.usefixtures("one_builds_at_a_time")
def test_with_dropout_any_number_of_workers_is_as_good_over_five_seeds(prepared: Prepared, tmp_path: Path) -> None:
    """Dropout depends on the number of workers, so single runs differ; the means differ no more than seeds do."""
    rows = Prepared(learnable(600, 0), learnable(400, 1), prepared.vocabulary, 0)
    accuracies: dict[int, list[float]] = {1: [], 3: []}
    for seed in range(5):
        for world_size, found in accuracies.items():
            output = tmp_path / f"{seed}-{world_size}"
            config = TrainConfig.model_validate(
                {**SMALL, "dropout": 0.3, "recurrent_dropout": 0.2, "global_batch_size": 10, "seed": seed}
                | {"output": str(output), "epochs": 3}
            )
            found.append(train(config, rows, world_size)[0].metrics["accuracy"])
    alone, shared = (np.array(found) for found in accuracies.values())
    assert min(alone.min(), shared.min()) > 0.7, "both have learned something"
    noise = np.sqrt((alone.var(ddof=1) + shared.var(ddof=1)) / 5)
    assert abs(alone.mean() - shared.mean()) < max(3 * noise, 0.01)
