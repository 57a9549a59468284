"""Character n-grams of words."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer

from lstm_ray.text.subwords import subwords


def test_the_words_of_the_example() -> None:
    found = subwords(["sad", "mad"])
    assert found.buckets.tolist() == [0, 1, 2, 0, 1, 2]  # ad, d>, ad>
    assert found.offsets.tolist() == [0, 3, 6]


def test_a_long_word_has_none() -> None:
    assert np.diff(subwords(["x" * 41, "x" * 40, "x" * 39]).offsets).tolist()[0] == 0
    assert np.diff(subwords(["x" * 41, "x" * 40, "x" * 39]).offsets).min(initial=99, where=[False, True, True]) > 0


def test_no_words() -> None:
    assert subwords([]).offsets.tolist() == [0]
    assert len(subwords(["alone"]).buckets) == 0


@given(st.lists(st.text("aábcd😀", min_size=1, max_size=45), unique=True, max_size=12))
def test_they_are_scikit_learns_character_ngrams(words: list[str]) -> None:
    found = subwords(words)
    oracle = CountVectorizer(analyzer="char", ngram_range=(2, 5), lowercase=False).build_analyzer()
    parts = [set(oracle(f"\x02{word}\x03")) if len(word) <= 40 else set() for word in words]
    words_with = Counter(part for of_word in parts for part in of_word)
    shared = [{part for part in of_word if words_with[part] > 1} for of_word in parts]
    assert np.diff(found.offsets).tolist() == [len(of_word) for of_word in shared]
    numbers = [set(found.buckets[first:last]) for first, last in zip(found.offsets, found.offsets[1:], strict=False)]
    assert set().union(*numbers) == set(range(len(set().union(*shared))))
    # Two words share as many numbers as parts.
    for one, its_parts in zip(numbers, shared, strict=True):
        for other, other_parts in zip(numbers, shared, strict=True):
            assert len(one & other) == len(its_parts & other_parts)
