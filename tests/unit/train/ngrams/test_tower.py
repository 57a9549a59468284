"""The n-gram part: fitted on the workers' training rows, mixed on the validation rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from threads import on_workers

from lstm_ray.collective.protocol import Alone, Collective
from lstm_ray.config import TrainConfig
from lstm_ray.evaluate.counts import BinaryCounts
from lstm_ray.text.ngrams import bags
from lstm_ray.text.sequences import Sequences
from lstm_ray.text.vocabulary import Vocabulary
from lstm_ray.train.data.corpus import Corpus, Prepared
from lstm_ray.train.ngrams.fit import NgramPart
from lstm_ray.train.ngrams.mix import fit_mix
from lstm_ray.train.ngrams.tower import Mixed, Mixer, fit_on, unmeasured_mix

CONFIG = TrainConfig(preset="none", ngrams=2, ngram_buckets=1000, vocabulary_size=50, class_weights="1,2")


WORDS = pa.array([f"word{number}" for number in range(60)], pa.large_string())


def corpus(rows: int, seed: int) -> Corpus:
    """Returns rows of 1 to 12 ids; the positive ones have more of the ids below 20."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, rows).astype(np.int8)
    lengths = generator.integers(1, 13, rows)
    ids = generator.integers(4, 50, lengths.sum())
    is_likely = (np.repeat(labels, lengths) == 1) & (generator.random(lengths.sum()) < 0.3)
    ids[is_likely] = ids[is_likely] % 16 + 4
    return Corpus(Sequences.of(ids.astype(np.int32), lengths), labels)


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    """Gives 200 rows to train on and 31 to validate on."""
    return Prepared(corpus(200, 0), corpus(31, 1), Vocabulary(WORDS, pa.array([1] * len(WORDS)), 50), 0)


def lstm_probabilities(rows: int) -> np.ndarray:
    return np.random.default_rng(2).random(rows, np.float32)


@pytest.mark.parametrize("has_table", [False, True])
def test_the_workers_share_the_rows(prepared: Prepared, has_table: bool) -> None:
    before = np.random.default_rng(5).normal(size=1000).astype(np.float32) if has_table else None

    def work(group: Collective) -> NgramPart:
        return fit_on(CONFIG, prepared.training, prepared.vocabulary, group, 2, lambda: None, before)

    fitted = {n: on_workers(n, work) for n in (1, 3)}
    for part in fitted[3]:
        assert part.table.tobytes() == fitted[3][0].table.tobytes()
        np.testing.assert_allclose(part.table, fitted[1][0].table, atol=2e-4)
    logits = fitted[1][0].logits(bags(prepared.training.sequences, 2, 1000))
    is_positive = prepared.training.labels == 1
    assert logits[is_positive].mean() > logits[~is_positive].mean()


def mixed_by(world_size: int, prepared: Prepared, part: NgramPart) -> list[Mixed]:
    """Returns each worker's mix; a worker's rows of LSTM predictions differ from its rows of n-grams."""
    rows = len(prepared.validation)
    order = np.random.default_rng(3).permutation(rows)

    def work(group: Collective) -> Mixed:
        mine = order[group.rank :: group.world_size]
        return Mixer(CONFIG, prepared, part, group).mix(mine, lstm_probabilities(rows)[mine], 0.5)

    return on_workers(world_size, work)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_all_workers_measure_the_mix_of_all_rows(prepared: Prepared, world_size: int) -> None:
    validation = prepared.validation
    part = NgramPart(np.random.default_rng(4).normal(size=1000).astype(np.float32), 0.3)
    probabilities = lstm_probabilities(len(validation))
    lstm = np.log(probabilities / (1 - probabilities.astype(np.float64)))
    ngrams = part.logits(bags(validation.sequences, 2, 1000))
    mix = fit_mix(lstm, ngrams, validation.labels, np.array([1, 2])[validation.labels])
    logits = mix.lstm * lstm + mix.ngrams * ngrams + mix.bias
    for mixed in mixed_by(world_size, prepared, part):
        for one, other in zip(vars(mixed.mix).values(), vars(mix).values(), strict=True):
            assert one == pytest.approx(other, abs=1e-5)
        for counts, found in ((mixed.counts, logits), (mixed.lstm, lstm), (mixed.ngrams, ngrams)):
            expected = BinaryCounts.from_scores(validation.labels, 1 / (1 + np.exp(-found))).metrics()
            assert counts.metrics() == pytest.approx(expected, abs=1e-5)
        assert mixed.columns()["validation_ngram_accuracy"] == mixed.ngrams.metrics()["accuracy"]
        assert mixed.columns()["lstm_share"] == mixed.lstm_share


def test_probabilities_of_0_and_1_have_finite_logits(prepared: Prepared) -> None:
    part = NgramPart(np.zeros(1000, np.float32), 0.0)
    validation = prepared.validation
    rows = np.arange(len(validation))
    mixed = Mixer(CONFIG, prepared, part, Alone()).mix(rows, validation.labels.astype(np.float32), 0.5)
    assert mixed.counts.metrics()["accuracy"] == mixed.lstm.metrics()["accuracy"] == 1
    assert mixed.lstm_share == pytest.approx(1)


def test_without_validation_rows_both_count_half() -> None:
    mix = unmeasured_mix()
    assert (mix.lstm, mix.ngrams, mix.bias) == (0.5, 0.5, 0)
