"""The kernel's sums over distinct n-grams are those of the definition in text/ngrams.py."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_ray.kernels.emitter import Target
from lstm_ray.kernels.ngrams import WORD_BITS, ngram_sums
from lstm_ray.text.ngrams import bags
from lstm_ray.text.sequences import Sequences

TEXTS = st.lists(st.lists(st.integers(0, 9) | st.integers(0, 2**20), max_size=12), max_size=9)


@given(TEXTS, st.integers(1, 3), st.sampled_from([2, 31, 33, 1_000, 2**20]))
def test_sums_are_those_of_bags(texts: list[list[int]], longest: int, buckets: int) -> None:
    lengths = np.array([len(text) for text in texts], np.int64)
    token_ids = np.array([token for text in texts for token in text], np.int32)
    rows = Sequences.of(token_ids, lengths)
    table = np.random.default_rng(buckets).normal(size=buckets).astype(np.float32)
    seen = np.zeros(-(-buckets // WORD_BITS), np.int32)
    sums = np.full(len(rows), np.nan)
    order = np.argsort(-lengths)  # rows may come in any order
    ngram_sums(Target.host(), longest, buckets)(
        token_ids=token_ids,
        begin=rows.offsets[order],
        lengths=lengths[order],
        table=table,
        seen=seen,
        listed=np.empty(longest * max(lengths, default=0), np.int32),
        out=sums,
    )
    np.testing.assert_allclose(sums, bags(rows, longest, buckets).sums(table)[order], rtol=1e-12, atol=1e-12)
    assert not seen.any()


@pytest.mark.parametrize("missing", ["table", "seen"])
def test_arrays_of_another_size_are_refused(missing: str) -> None:
    arrays = {"table": np.zeros(100, np.float32), "seen": np.zeros(4, np.int32)}
    with pytest.raises(ValueError, match=missing):
        ngram_sums(Target.host(), 1, 100)(
            token_ids=np.ones(1, np.int32),
            begin=np.zeros(1, np.int64),
            lengths=np.ones(1, np.int64),
            listed=np.empty(1, np.int32),
            out=np.empty(1),
            **{**arrays, missing: arrays[missing][:-1]},
        )
