"""Learned vectors: words with similar contexts become neighbours; the same seed gives the same vectors."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from lstm_ray.config import SkipGramSettings, TokenSettings
from lstm_ray.datasets.demo import write_demo
from lstm_ray.progress import Count, Event, ignore
from lstm_ray.text.sequences import Sequences
from lstm_ray.vectors import learn
from lstm_ray.vectors.corpus import TextCorpus, read_corpus

SETTINGS = SkipGramSettings(size=24, epochs=3, window=4)


@pytest.fixture(scope="module")
def demo_corpus(tmp_path_factory: pytest.TempPathFactory) -> TextCorpus:
    train = write_demo(tmp_path_factory.mktemp("demo"), rows=1500).train
    texts = pq.read_table(train)["text"].combine_chunks().cast(pa.large_string())
    return read_corpus([lambda: texts], TokenSettings(), SETTINGS, "")


def learned(corpus: TextCorpus, settings: SkipGramSettings = SETTINGS) -> NDArray[np.float32]:
    return learn.learn_vectors(corpus, settings, ignore)


def test_words_that_stand_for_each_other_become_neighbours() -> None:
    """Each topic has its own words, which occur only with each other."""
    rng = np.random.default_rng(0)
    topics = rng.integers(0, 4, 600)
    texts = (topics[:, None] * 5 + rng.integers(0, 5, (600, 12))).astype(np.int32)
    words = pa.array([f"word{number}" for number in range(20)], pa.large_string())
    sequences = Sequences(texts.ravel(), np.arange(601) * 12)
    corpus = TextCorpus(sequences, words, np.bincount(texts.ravel(), minlength=20))
    vectors = learned(corpus, SkipGramSettings(size=10, epochs=20, learning_rate=0.1, subsample=0))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    likeness = (unit @ unit.T).reshape(4, 5, 4, 5).mean(axis=(1, 3))
    assert likeness[np.eye(4, dtype=bool)].min() > likeness[~np.eye(4, dtype=bool)].max() + 0.5


def test_the_same_seed_gives_the_same_bits(demo_corpus: TextCorpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learn, "_PART_WORDS", 5_000)
    first = learned(demo_corpus)
    np.testing.assert_array_equal(learned(demo_corpus), first)
    other = learned(demo_corpus, SETTINGS.model_copy(update={"seed": 1}))
    assert np.abs(other - first).max() > 0.01


def test_every_text_is_learned_from_once_an_epoch_and_progress_ends_at_the_total(demo_corpus: TextCorpus) -> None:
    calls: list[Count] = []

    def record(event: Event) -> None:
        assert isinstance(event, Count)
        calls.append(event)

    vectors = learn.learn_vectors(demo_corpus, SETTINGS, record)
    assert vectors.shape == (len(demo_corpus.words), 24)
    assert (calls[-1].done, calls[-1].total) == (3 * len(demo_corpus.texts.token_ids),) * 2
    assert [call.done for call in calls] == sorted({call.done for call in calls})


@pytest.mark.parametrize("part_words", [1, 7, 100, 10_000])
def test_the_parts_of_an_epoch_have_every_text_once(part_words: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learn, "_PART_WORDS", part_words)
    lengths = np.random.default_rng(0).integers(0, 30, 40)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    texts = Sequences(np.arange(offsets[-1], dtype=np.int32), offsets)
    parts = list(learn._parts(texts, SETTINGS.model_copy(update={"epochs": 2})))
    orders = []
    for epoch in (parts[: len(parts) // 2], parts[len(parts) // 2 :]):
        order = np.concatenate([part.token_ids for part in epoch])
        np.testing.assert_array_equal(np.sort(order), texts.token_ids)
        np.testing.assert_array_equal(np.sort(np.concatenate([part.lengths for part in epoch])), np.sort(lengths))
        orders.append(order.tolist())
    assert orders[0] != orders[1]
    assert max(len(part.token_ids) for part in parts) < 2 * part_words + 30


def test_windows_stay_within_their_text_and_frequent_words_are_skipped() -> None:
    counts = np.array([9_000, 900, 100])
    sampler = learn._Sampler(counts, SkipGramSettings(window=3, subsample=0.01))
    ids = np.random.default_rng(0).choice(3, 30_000, p=counts / counts.sum()).astype(np.int32)
    drawn = sampler.draw(Sequences(ids, np.arange(0, 30_001, 100)), 1)
    kept = np.bincount(drawn["words"]) / np.bincount(ids)
    shares = counts / counts.sum()
    np.testing.assert_allclose(kept, np.minimum(np.sqrt(0.01 / shares) + 0.01 / shares, 1), atol=0.03)
    positions = np.arange(len(drawn["words"]))
    assert (drawn["begin"] <= positions).all()
    assert (drawn["end"] > positions).all()
    assert (drawn["end"] - drawn["begin"]).max() == 7
    words = counts**0.75 / (counts**0.75).sum()
    np.testing.assert_allclose(np.bincount(drawn["negatives"].ravel()) / drawn["negatives"].size, words, atol=0.02)
    one = learn._Sampler(counts, SkipGramSettings(window=3, subsample=0)).draw(Sequences(ids[:3], np.arange(4)), 1)
    assert (one["begin"].tolist(), one["end"].tolist()) == ([0, 1, 2], [1, 2, 3]), "texts of one word"
