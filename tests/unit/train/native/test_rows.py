"""Rows of a batch in memory."""

from __future__ import annotations

import numpy as np

from lstm_ray.train.native.rows import BatchRows

PADDED = np.array([[0, 0, 7], [5, 7, 5], [0, 9, 7]], np.int32)


def test_masked_rows_take_their_own_time_longest_first() -> None:
    rows = BatchRows.of(PADDED, masked=True)
    assert rows.order.tolist() == [1, 2, 0]
    assert rows.offsets.steps.tolist() == [3, 2, 1]
    assert rows.offsets.begin.tolist() == [1, 5, 8]
    assert rows.unused.tolist() == [0, 4, 7, 9]
    assert rows.words.tolist() == [5, 7, 9]
    assert rows.words[rows.word_of][rows.is_step].tolist() == [5, 7, 5, 9, 7, 7]
    assert rows.row_of.tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert rows.all.tolist() == list(range(10))


def test_unmasked_rows_read_their_padding() -> None:
    rows = BatchRows.of(PADDED, masked=False)
    assert rows.offsets.steps.tolist() == [3, 3, 3]
    assert rows.words.tolist() == [0, 5, 7, 9]
    assert rows.words[rows.word_of][rows.is_step].tolist() == PADDED.ravel().tolist()


def test_the_offset_before_a_first_step_is_unused_in_both_directions() -> None:
    rows = BatchRows.of(PADDED, masked=True)
    forward, backward = (rows.offsets.walk(is_backward)["first"] for is_backward in (False, True))
    assert set((forward - 1).tolist()) <= set(rows.unused.tolist())
    assert set((backward + 1).tolist()) <= set(rows.unused.tolist())
    for steps, first, last in zip(rows.slices(), forward, backward, strict=True):
        assert (steps.start, steps.stop - 1) == (first, last)


def test_values_go_to_offsets_and_back() -> None:
    rows = BatchRows.of(PADDED, masked=True)
    values = np.repeat(PADDED[:, :, None], 2, axis=2).astype(np.float32)
    arranged = rows.by_offset(values[rows.order], 4)
    assert arranged[:, 0].tolist() == [0, 5, 7, 5, 0, 9, 7, 0, 7, 0]
    assert not arranged[:, 2:].any()
    of_rows = np.array([[[1]], [[2]], [[3]]], np.float32)[rows.order]  # the same at all steps
    assert rows.by_offset(of_rows, 1)[:, 0].tolist() == [0, 2, 2, 2, 0, 3, 3, 0, 1, 0]
    np.testing.assert_array_equal(rows.as_given(rows.offsets.steps.astype(np.float32)), [1, 3, 2])
