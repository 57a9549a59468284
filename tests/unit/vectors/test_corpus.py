"""Texts as numbers of words."""

from __future__ import annotations

import pyarrow as pa
import pytest

from lstm_ray.config import SkipGramSettings, TokenSettings
from lstm_ray.errors import InputError
from lstm_ray.vectors.corpus import TextCorpus, read_corpus


def read(*shards: list[str], **settings: int) -> TextCorpus:
    """Returns the corpus of shards of texts."""
    reads = [lambda texts=texts: pa.array(texts, pa.large_string()) for texts in shards]
    return read_corpus(reads, TokenSettings(), SkipGramSettings(**{"min_count": 2, **settings}), "here.parquet")


def test_rare_words_are_left_out_and_texts_stay_apart() -> None:
    corpus = read(["A good film.<br />", "a bad one"], [], ["", "good good"], ["film?"])
    assert corpus.words.to_pylist() == ["good", "a", "film"]
    assert corpus.counts.tolist() == [3, 2, 2]
    rows = [
        corpus.texts.token_ids[a:b].tolist()
        for a, b in zip(corpus.texts.offsets, corpus.texts.offsets[1:], strict=False)
    ]
    assert rows == [[1, 0, 2], [1], [], [0, 0], [2]]


def test_the_most_frequent_words_are_kept() -> None:
    assert read(["c c c b b b b a a"], max_words=2).words.to_pylist() == ["b", "c"]


def test_the_fingerprint_is_of_texts_and_words() -> None:
    same = [read(["a b", "a b"]), read(["a b"], ["A b!"])]
    assert same[0].fingerprint() == same[1].fingerprint()
    others = [read(["a c", "a c"]), read(["a b a b"]), read(["b a", "a b"])]
    assert len({corpus.fingerprint() for corpus in [same[0], *others]}) == 4


def test_texts_without_frequent_words_are_refused() -> None:
    for shards in ((), (["one film", "two ends"],)):
        with pytest.raises(
            InputError, match=r"^here.parquet: nothing to learn word vectors from: no word occurs 2 times .*: give more"
        ):
            read(*shards)
