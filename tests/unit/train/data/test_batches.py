"""Batches: however many workers share a step, its rows, weights and order are the same."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_ray.config import TrainConfig
from lstm_ray.text.sequences import Sequences
from lstm_ray.train.data.batches import (
    Batch,
    drop_words,
    epoch_steps,
    in_steps,
    validation_steps,
    worker_batches,
)
from lstm_ray.train.data.corpus import Corpus

MAX_TOKENS = 16


def make_corpus(rows: int) -> Corpus:
    """Returns rows of 1 to `MAX_TOKENS` tokens; the first token, 10 plus the row's number, names it."""
    generator = np.random.default_rng(rows)
    lengths = generator.integers(1, MAX_TOKENS + 1, rows)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    token_ids = np.ones(offsets[-1], np.int32)
    token_ids[offsets[:-1]] = 10 + np.arange(rows)
    return Corpus(Sequences(token_ids, offsets), (np.arange(rows) % 3 == 0).astype(np.int8))


def config(**changes: Any) -> TrainConfig:
    """Returns settings."""
    return TrainConfig.model_validate({"preset": "none", "max_tokens": MAX_TOKENS, "padding": "post", **changes})


def batches(
    corpus: Corpus,
    world_size: int,
    steps: int | list[np.ndarray],
    first_step: int = 0,
    epoch: int | None = None,
    **changes: Any,
) -> list[list[Batch]]:
    """Returns each worker's batches: of the given steps, or of so many rows in file order."""
    if isinstance(steps, int):
        steps = in_steps(np.arange(len(corpus)), steps)
    shared = {"world_size": world_size, "first_step": first_step, "epoch": epoch}
    return [list(worker_batches(corpus, steps, config(**changes), rank=rank, **shared)) for rank in range(world_size)]


def rows_of(batch: Batch) -> list[int]:
    """Returns the numbers of the rows that count (with padding behind, a row's first token names it)."""
    return [int(token_ids[0]) - 10 for token_ids in batch.token_ids[batch.weights > 0]]


sizes = {"rows": st.integers(0, 70), "world_size": st.integers(1, 9), "batch_size": st.integers(1, 30)}


BATCHES = [{"mask": False}, {"mask": True}, {"mask": True, "batch_by": "tokens"}]


@given(**sizes, chosen=st.sampled_from(BATCHES), seed=st.integers(0, 99))
def test_workers_share_out_each_step_and_every_row_is_seen_once(
    rows: int, world_size: int, batch_size: int, chosen: dict[str, Any], seed: int
) -> None:
    corpus = make_corpus(rows)
    steps = epoch_steps(corpus.sequences.lengths, config(**chosen, seed=seed, global_batch_size=batch_size), 1)
    workers = batches(corpus, world_size, steps, **chosen)
    assert {len(worker) for worker in workers} == {-(-rows // batch_size)}
    seen: list[int] = []
    for step, shares in enumerate(zip(*workers, strict=True)):
        expected = steps[step].tolist()
        together = [row for share in shares for row in rows_of(share)]
        assert sorted(together) == sorted(expected)
        assert {share.global_rows for share in shares} == {len(expected)}
        assert sum(float(share.weights.sum()) for share in shares) == len(expected)
        assert len({share.token_ids.shape for share in shares}) == 1, "all workers run the same compiled step"
        seen += together
    assert sorted(seen) == list(range(rows))


@given(**sizes, first_step=st.integers(0, 80))
def test_an_epoch_may_be_begun_at_any_step(rows: int, world_size: int, batch_size: int, first_step: int) -> None:
    corpus = make_corpus(rows)
    whole = batches(corpus, world_size, batch_size)
    rest = batches(corpus, world_size, batch_size, first_step=first_step)
    for worker, expected in zip(rest, whole, strict=True):
        assert [rows_of(batch) for batch in worker] == [rows_of(batch) for batch in expected[first_step:]]


@given(**sizes)
def test_labels_go_with_their_rows_and_fillers_weigh_nothing(rows: int, world_size: int, batch_size: int) -> None:
    corpus = make_corpus(rows)
    for worker in batches(corpus, world_size, batch_size):
        for batch in worker:
            assert batch.labels[batch.weights > 0].tolist() == [corpus.labels[row] for row in rows_of(batch)]
            assert set(batch.weights.tolist()) <= {0.0, 1.0}
            assert (batch.token_ids != 0).any(axis=1).all(), "a filler row has a token too: cuDNN refuses it otherwise"
            assert (batch.token_ids.dtype, batch.labels.dtype, batch.weights.dtype) == (
                np.int32,
                np.float32,
                np.float32,
            )


def test_a_step_of_all_rows_has_no_filler_rows_beyond_them() -> None:
    """Otherwise `--global-batch-size 1000000000` would fill the memory."""
    corpus = make_corpus(5)
    for (batch,), rows in zip(batches(corpus, 2, 10**12), (3, 2), strict=True):
        assert batch.token_ids.shape[0] == 3
        assert batch.weights.sum() == rows


@given(rows=st.integers(1, 70), batch_size=st.integers(1, 30))
def test_only_a_masked_batch_is_as_short_as_its_rows(rows: int, batch_size: int) -> None:
    corpus = make_corpus(rows)
    lengths = corpus.sequences.lengths
    for mask in (False, True):
        (worker,) = batches(corpus, 1, batch_size, mask=mask)
        for batch in worker:
            time = batch.token_ids.shape[1]
            longest = int(lengths[rows_of(batch)].max())
            assert longest <= time <= MAX_TOKENS
            assert time % 2 == 0, "an eighth of max_tokens: 8 shapes at most"
            assert time == MAX_TOKENS if not mask else time - longest < 2


def test_the_length_of_a_step_is_that_of_all_its_rows() -> None:
    """Otherwise workers would differ in the shape, and in the padding that an unmasked part sees."""
    corpus = Corpus(Sequences(np.ones(13, np.int32), np.array([0, 2, 13])), np.zeros(2, np.int8))
    short, long = (worker[0] for worker in batches(corpus, 2, 2, mask=True))
    assert short.token_ids.shape == long.token_ids.shape == (1, 12)


@pytest.mark.parametrize(("padding", "expected"), [("pre", [0, 0, 10, 1]), ("post", [10, 1, 0, 0])])
def test_rows_are_padded_on_the_side_asked_for(padding: str, expected: list[int]) -> None:
    corpus = Corpus(Sequences(np.array([10, 1], np.int32), np.array([0, 2])), np.ones(1, np.int8))
    ((batch,),) = batches(corpus, 1, 1, padding=padding, max_tokens=4)
    assert batch.token_ids.tolist() == [expected]


@given(
    rows=st.integers(0, 200),
    seed=st.integers(0, 2**32 - 1),
    epoch=st.integers(1, 50),
    batch_size=st.integers(1, 30),
    chosen=st.sampled_from(BATCHES),
)
def test_the_steps_are_a_permutation_and_a_function_of_seed_and_epoch(
    rows: int, seed: int, epoch: int, batch_size: int, chosen: dict[str, Any]
) -> None:
    lengths = make_corpus(rows).sequences.lengths
    settings = config(**chosen, seed=seed, global_batch_size=batch_size)
    steps = epoch_steps(lengths, settings, epoch)
    assert sorted(row for step in steps for row in step.tolist()) == list(range(rows))
    again = epoch_steps(lengths, settings.model_copy(update={"workers": 3}), epoch)
    assert [step.tolist() for step in steps] == [step.tolist() for step in again]


@pytest.mark.parametrize("chosen", BATCHES)
def test_another_seed_or_epoch_is_another_order(chosen: dict[str, Any]) -> None:
    lengths = make_corpus(50).sequences.lengths
    settings = [config(**chosen, seed=seed, global_batch_size=8) for seed in range(4)]
    orders = [np.concatenate(epoch_steps(lengths, one, epoch)) for one in settings for epoch in range(4)]
    assert len({tuple(order) for order in orders}) == 16


def test_a_masked_models_batches_hold_rows_of_like_lengths_in_shuffled_order() -> None:
    """Every row of a pool of 32 batches: the batches' spans of lengths do not overlap, nor rise from step to step."""
    batch_size = 10
    lengths = np.random.default_rng(0).permutation(32 * batch_size + 7)  # all different; 7 rows are left over
    steps = epoch_steps(lengths, config(mask=True, global_batch_size=batch_size), 1)
    of_batches = [lengths[step] for step in steps[:32]]
    spans = sorted((int(batch.min()), int(batch.max())) for batch in of_batches)
    assert all(end < start for (_, end), (start, _) in pairwise(spans))
    assert (np.diff([batch[0] for batch in of_batches]) < 0).sum() > 5
    unmasked = epoch_steps(lengths, config(global_batch_size=batch_size), 1)
    assert np.array_equal(unmasked[-1], steps[-1]), "the short last batch is of any lengths"


@given(
    lengths=st.lists(st.integers(1, 400), min_size=32, max_size=320),
    batch_size=st.integers(1, 10),
    seed=st.integers(0, 99),
)
def test_by_tokens_the_batches_of_a_pool_differ_by_less_than_their_longest_rows(
    lengths: list[int], batch_size: int, seed: int
) -> None:
    """A batch ends with the row that crosses the limit; where a row is longer than a batch, each has a row."""
    of_row = np.array(lengths[: 32 * batch_size])
    settings = config(mask=True, batch_by="tokens", seed=seed, global_batch_size=batch_size)
    steps = epoch_steps(of_row, settings, 1)[: len(of_row) // batch_size]
    assert all(len(step) for step in steps)
    tokens = np.array([of_row[step].sum() for step in steps])
    if of_row.max() <= tokens.mean():
        assert np.abs(tokens - tokens.mean()).max() < of_row.max()


def test_by_tokens_a_batch_has_many_short_rows_or_few_long_ones() -> None:
    lengths = np.repeat([10, 100], [300, 20])  # 5,000 tokens in 32 batches
    steps = epoch_steps(lengths, config(mask=True, batch_by="tokens", global_batch_size=10), 1)
    assert sorted({len(step) for step in steps}) == [1, 2, 5, 15, 16]
    (worker,) = batches(
        Corpus(Sequences(np.ones(5000, np.int32), np.cumsum([0, *lengths])), np.zeros(320)),
        1,
        steps,
        mask=True,
        batch_by="tokens",
        max_tokens=100,
    )
    assert [len(batch.weights) for batch in worker] == [len(step) for step in steps], "no filler rows"


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=30), rate=st.floats(0.01, 0.99), seed=st.integers(0, 99)
)
def test_dropped_words_leave_the_others_in_order_and_the_start_token(
    lengths: list[int], rate: float, seed: int
) -> None:
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    rows = Sequences(np.arange(2, offsets[-1] + 2, dtype=np.int32), offsets)  # different words
    rows.token_ids[offsets[:-1:2]] = 1  # every other row has its start token still
    dropped = drop_words(rows, rate, np.random.default_rng(seed))
    for number in range(len(lengths)):
        before, after = (one.take(np.array([number])).token_ids.tolist() for one in (rows, dropped))
        assert after
        assert after == [word for word in before if word in after]
        assert (after[0] == 1) == (number % 2 == 0)


def test_the_asked_for_share_of_words_is_dropped_anywhere_in_a_row() -> None:
    rows = Sequences(np.tile(np.arange(1, 51, dtype=np.int32), 400), np.arange(401) * 50)
    dropped = drop_words(rows, 0.3, np.random.default_rng(0))
    shares = np.bincount(dropped.token_ids, minlength=51)[1:] / 400
    assert shares[0] == 1
    np.testing.assert_allclose(shares[1:], 0.7, atol=0.1)
    assert shares[1:].mean() == pytest.approx(0.7, abs=0.01)


@given(**{**sizes, "rows": st.integers(1, 70)}, epoch=st.integers(1, 3))
def test_any_number_of_workers_drops_the_same_words_and_none_in_validation(
    rows: int, world_size: int, batch_size: int, epoch: int
) -> None:
    corpus = make_corpus(rows)
    drop: dict[str, Any] = {"word_dropout": 0.5, "mask": True}
    (alone,) = batches(corpus, 1, batch_size, epoch=epoch, **drop)
    for step, shares in enumerate(zip(*batches(corpus, world_size, batch_size, epoch=epoch, **drop), strict=True)):
        for rank, share in enumerate(shares):
            mine = alone[step].token_ids[rank : alone[step].global_rows : world_size]
            np.testing.assert_array_equal(share.token_ids[share.weights > 0], mine)
    kept = [[batch.token_ids.tolist() for batch in one] for one in batches(corpus, 1, batch_size, mask=True)]
    assert kept == [[batch.token_ids.tolist() for batch in one] for one in batches(corpus, 1, batch_size, **drop)]


def test_other_words_are_dropped_in_each_epoch_and_step_and_the_batch_is_shorter() -> None:
    words = Sequences(np.tile(np.arange(2, 18, dtype=np.int32), 8), np.arange(9) * 16)
    corpus = Corpus(words, np.zeros(8, np.int8))
    kept = [
        batch.token_ids
        for epoch in (1, 2)
        for worker in batches(corpus, 1, 4, epoch=epoch, word_dropout=0.5, mask=True)
        for batch in worker
    ]
    assert len({tuple(row.tolist()) for batch in kept for row in batch}) == 16
    assert all(batch.shape[1] < 16 for batch in kept)
    (whole,) = batches(corpus, 1, 4, epoch=2, word_dropout=0.5, mask=True)
    (rest,) = batches(corpus, 1, 4, epoch=2, word_dropout=0.5, mask=True, first_step=1)
    np.testing.assert_array_equal(rest[0].token_ids, whole[1].token_ids)


def test_validation_goes_by_length() -> None:
    lengths = np.array([3, 1, 2, 1])
    assert [step.tolist() for step in validation_steps(lengths, 3)] == [[1, 3, 2], [0]]
