"""Explanations: a word's weight follows from `predict` on the text without it; the decisive words weigh most."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lstm_ray
from lstm_ray.config import TextSettings
from lstm_ray.datasets.demo import write_demo
from lstm_ray.datasets.demo_grammar import NEGATIVE, POSITIVE
from lstm_ray.model import explain as module
from lstm_ray.model.bundle import read_bundle
from lstm_ray.model.explain import explain
from lstm_ray.score.scorer import Scorer
from lstm_ray.text.ngrams import bags
from lstm_ray.text.sequences import Sequences
from lstm_ray.text.tokenize import tokenize
from lstm_ray.text.vocabulary import Vocabulary

# No longer than the tiny bundles' max_tokens, 6.
TEXTS = ["a good film", "bad", "Good, GOOD: not bad", "unknown words only", "", "film a film a film"]
NETWORKS = {
    "lstm": {},
    "post": {"padding": "post", "truncating": "post", "pooling": "mean"},
    "masked": {"mask": True, "bidirectional": True, "pooling": "max"},
    "masked-ngrams": {"mask": True, "ngrams": 3, "ngram_buckets": 997, "punctuation": "keep", "max_tokens": 8},
}


def log_odds(probability: float) -> float:
    """Returns the log odds of a probability."""
    return float(np.log(probability) - np.log1p(-probability))


@pytest.mark.parametrize("engine", ["native", "keras"])
@pytest.mark.parametrize("network", NETWORKS)
def test_a_weight_is_the_difference_to_the_text_without_the_word(
    make_bundle: Callable[..., Path], network: str, engine: Any
) -> None:
    bundle = read_bundle(str(make_bundle(**NETWORKS[network])))
    scorer = Scorer(bundle, engine, threads=1)
    explained = scorer.explain(pa.array(TEXTS))
    for text, found in zip(TEXTS, explained, strict=True):
        words = tokenize(pa.array([text], pa.large_string()), bundle.text).to_pylist()[0]
        assert {one.word.lower() for one in found} == set(words)
        assert [abs(one.weight) for one in found] == sorted((abs(one.weight) for one in found), reverse=True)
        without = [" ".join(word for word in words if word != one.word.lower()) for one in found]
        scores = scorer.score(pa.array([text, *without], pa.string())).probability.to_pylist()
        for one, rest, score in zip(found, without, scores[1:], strict=True):
            if rest:  # a text without words has no score
                assert one.weight == pytest.approx(log_odds(scores[0]) - log_odds(score), abs=1e-4)
    assert np.ptp([one.weight for found in explained for one in found]) > 0.1, "the words differ"
    assert explained[4] == []


WORDS = ["good", "bad", "film", "a", "unlisted", "fine"]


@given(
    st.lists(st.lists(st.sampled_from(WORDS), max_size=12), max_size=4),
    st.sampled_from(["pre", "post", "middle"]),
    st.sampled_from(["oov", "drop"]),
    st.integers(1, 7),
)
def test_rows_are_those_that_the_model_reads_without_a_word(
    vocabulary: Vocabulary, texts: list[list[str]], truncating: Any, unlisted: Any, max_tokens: int
) -> None:
    text = TextSettings(truncating=truncating, unlisted_words=unlisted, max_tokens=max_tokens)
    asked: list[list[int]] = []

    def logits(sequences: Sequences) -> Any:
        asked.extend(map(list, np.split(sequences.token_ids, sequences.offsets[1:-1])))
        return sequences.token_ids.size - np.arange(len(sequences), dtype=np.float64)

    found = explain(pa.array(map(" ".join, texts), pa.large_string()), text, vocabulary, logits)
    id_of = {word: number for number, word in enumerate(vocabulary.words.to_pylist(), 4)}
    expected = []
    for row, weights in zip(texts, found, strict=True):
        read = [(None, 1), *((word, id_of.get(word, 2)) for word in row if unlisted == "oov" or word in id_of)]
        first = {"pre": 0, "post": max_tokens, "middle": max_tokens - max_tokens // 2}[truncating]
        if len(read) > max_tokens:
            read = read[:first] + read[len(read) - max_tokens + first :]
        words = list(dict.fromkeys(word for word, _ in read if word is not None))
        expected += [[number for word, number in read if word != one or one is None] for one in [None, *words]]
        assert sorted(one.word for one in weights) == sorted(words)
        for one in weights:
            assert len(one.spans) == sum(word == one.word for word, _ in read)
            assert {" ".join(row)[start:end] for start, end in one.spans} == {one.word}
    assert asked == expected


def test_the_ngrams_count_what_their_table_says(vocabulary: Vocabulary) -> None:
    table = np.random.default_rng(0).normal(size=97).astype(np.float32)
    text = TextSettings(max_tokens=20)

    def logits(sequences: Sequences) -> Any:
        return bags(sequences, 2, 97).sums(table)

    (found,) = explain(pa.array(["good bad good"], pa.large_string()), text, vocabulary, logits)
    good, bad = (4 + vocabulary.words.to_pylist().index(word) for word in ("good", "bad"))
    whole, of_bad, of_good = logits(
        Sequences(np.array([1, good, bad, good, 1, bad, 1, good, good]), np.array([0, 4, 6, 9]))
    )
    assert {one.word: one.weight for one in found} == {"good": whole - of_bad, "bad": whole - of_good}


def test_many_and_long_rows_are_computed_in_pieces(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = Scorer(read_bundle(str(tiny_bundle)), "native", threads=1)
    texts = pa.array(TEXTS * 3)
    expected = scorer.explain(texts)
    monkeypatch.setattr(module, "_MOST_TOKENS", 7)
    assert scorer.explain(texts) == expected


@pytest.mark.second_tier
def test_on_the_demo_corpus_the_words_that_decide_weigh_most(tmp_path: Path) -> None:
    """Trains for a minute. Words of praise and blame decide these reviews, and the words that reverse them."""
    from lstm_ray.cli.demo import SETTINGS

    files = write_demo(tmp_path / "corpus", rows=20_000)
    run = lstm_ray.train(files.train, output=tmp_path / "run", **SETTINGS)
    assert run.metrics["accuracy"] > 0.95
    explained = lstm_ray.load(run.model).explain(pq.read_table(files.test)["text"].slice(0, 400))
    phrases = " ".join(phrase for side in (POSITIVE, NEGATIVE) for kind in side.values() for phrase in kind)
    opinions = {word for phrase in phrases.split() for word in phrase.split("-")} - {"a", "an"}

    def share(words: list[str]) -> float:
        return sum(word.lower() in opinions for word in words) / len(words)

    assert share([one.word for text in explained for one in text.words]) < 0.15
    assert share([text.words[0].word for text in explained]) > 0.6
    assert np.mean([share([one.word for one in text.words[:2]]) > 0 for text in explained]) > 0.8
