"""Distinct n-grams: against plain Python, and their sums against scikit-learn's matrix product."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from lstm_ray.text.ngrams import LONGEST, MULTIPLIERS, OFFSETS, PRIME, bags
from lstm_ray.text.sequences import Sequences

TEXTS = st.lists(st.lists(st.integers(0, 4) | st.integers(1, 2**20), max_size=12), max_size=9)


def sequences(texts: list[list[int]]) -> Sequences:
    """Returns the rows as two arrays."""
    offsets = np.cumsum([0, *map(len, texts)])
    return Sequences(np.array([token for text in texts for token in text], np.int32), offsets)


def bucket(ngram: list[int], buckets: int) -> int:
    """Returns the bucket by the module's formula, in Python's integers, which never overflow."""
    hashed = sum(multiplier * token for multiplier, token in zip(MULTIPLIERS, ngram, strict=False))
    return (hashed + OFFSETS[len(ngram)]) % PRIME % buckets


@given(TEXTS, st.integers(1, LONGEST), st.sampled_from([2, 1_000, 2**20, 2**28]))
def test_bags_hold_every_ngram_once(texts: list[list[int]], longest: int, buckets: int) -> None:
    found = bags(sequences(texts), longest, buckets)
    expected = []
    for text in texts:
        ngrams = [text[i : i + n] for n in range(1, longest + 1) for i in range(len(text) - n + 1)]
        expected.append(sorted({bucket(ngram, buckets) for ngram in ngrams if 0 not in ngram}))
    assert [found.buckets[a:b].tolist() for a, b in zip(found.offsets, found.offsets[1:], strict=False)] == expected


@given(TEXTS, st.integers(0, 2**32 - 1))
def test_sums_are_a_product_with_a_sparse_matrix_of_ones(texts: list[list[int]], seed: int) -> None:
    found = bags(sequences(texts), 2, 1_000)
    table = np.random.default_rng(seed).normal(size=1_000).astype(np.float32)
    ones = sparse.csr_matrix((np.ones(len(found.buckets)), found.buckets, found.offsets), (len(texts), 1_000))
    np.testing.assert_allclose(found.sums(table), ones @ table.astype(np.float64), atol=1e-9)


def test_rows_of_many_batches_are_those_of_each_alone() -> None:
    generator = np.random.default_rng(0)
    texts = [generator.integers(1, 50, generator.integers(0, 30)).tolist() for _ in range(700)]
    together = bags(sequences(texts), 3, 997)
    alone = [bags(sequences([text]), 3, 997).buckets for text in texts]
    np.testing.assert_array_equal(together.buckets, np.concatenate(alone))
    np.testing.assert_array_equal(np.diff(together.offsets), [len(buckets) for buckets in alone])


@pytest.mark.parametrize("buckets", [2**16, 2**18, 2**20, 2**22, 1_000_003])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_ngrams_spread_over_the_buckets_as_by_chance(n: int, buckets: int) -> None:
    """Ids are small consecutive numbers, some of them frequent."""
    ids = 4 + (20_000 * np.random.default_rng(n).random((100_000, n)) ** 3).astype(np.int64)
    distinct = np.unique(ids, axis=0)
    hashed = (distinct @ np.array(MULTIPLIERS[:n]) + OFFSETS[n]) % PRIME % buckets
    by_chance = buckets * (1 - np.exp(-len(distinct) / buckets))
    assert len(np.unique(hashed)) > 0.97 * by_chance
