"""Ragged token ids: padding and truncation are Keras's, and rows survive being gathered, taken and concatenated."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_ray.runtime.tensorflow import start_tensorflow
from lstm_ray.text.sequences import PAD_ID, Sequences, bucket_length, concatenate, gather, pad, pad_batch, truncate

Rows = list[list[int]]

any_rows = st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=12), max_size=8)
side = st.sampled_from(["pre", "post"])


def sequences_of(rows: Rows) -> Sequences:
    lengths = [len(row) for row in rows]
    flat = np.array([token for row in rows for token in row], np.int32)
    return Sequences(flat, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


def rows_of(sequences: Sequences) -> Rows:
    assert sequences.token_ids.dtype == np.int32
    assert sequences.offsets.dtype == np.int64
    assert sequences.offsets[0] == 0
    assert sequences.offsets[-1] == len(sequences.token_ids)
    bounds = zip(sequences.offsets[:-1], sequences.offsets[1:], strict=True)
    return [sequences.token_ids[start:stop].tolist() for start, stop in bounds]


@pytest.fixture(scope="module")
def pad_sequences() -> Any:
    start_tensorflow()
    import keras

    return keras.utils.pad_sequences


@given(rows=any_rows, length=st.integers(1, 14), padding=side, truncating=side)
def test_padding_and_truncation_are_keras_s(
    pad_sequences: Any, rows: Rows, length: int, padding: Any, truncating: Any
) -> None:
    padded = pad(truncate(sequences_of(rows), length, truncating), length, padding)
    expected = pad_sequences(rows, maxlen=length, dtype="int32", padding=padding, truncating=truncating, value=PAD_ID)
    assert padded.dtype == np.int32
    np.testing.assert_array_equal(padded, expected.reshape(len(rows), length))


@pytest.mark.parametrize(
    ("padding", "expected"), [("pre", [[0, 1, 6, 7], [0, 0, 0, 1]]), ("post", [[1, 6, 7, 0], [1, 0, 0, 0]])]
)
def test_a_short_batch_is_filled_up_with_rows_of_one_token(padding: Any, expected: Rows) -> None:
    batch = pad_batch(sequences_of([[1, 6, 7]]), 2, 4, padding)
    assert batch.tolist() == expected
    assert batch.dtype == np.int32


@pytest.mark.parametrize(
    ("padding", "expected"), [("pre", [[0, 5, 6, 7], [0, 0, 0, 8]]), ("post", [[5, 6, 7, 0], [8, 0, 0, 0]])]
)
def test_the_worked_example_of_padding(padding: Any, expected: Rows) -> None:
    assert pad(sequences_of([[5, 6, 7], [8]]), 4, padding).tolist() == expected


@pytest.mark.parametrize(
    ("truncating", "expected"),
    [
        ("pre", [[3, 4], [5], [], [6, 7]]),
        ("post", [[1, 2], [5], [], [6, 7]]),
        ("middle", [[1, 4], [5], [], [6, 7]]),
    ],
)
def test_truncation_keeps_the_end_the_beginning_or_some_of_both(truncating: Any, expected: Rows) -> None:
    assert rows_of(truncate(sequences_of([[1, 2, 3, 4], [5], [], [6, 7]]), 2, truncating)) == expected


def test_a_row_longer_than_the_padded_length_is_refused() -> None:
    with pytest.raises(ValueError, match="a row has 3 tokens, more than the padded length 2"):
        pad(sequences_of([[1], [1, 2, 3]]), 2, "pre")


def test_no_rows() -> None:
    none = sequences_of([])
    assert len(none) == 0
    assert pad(none, 3, "pre").shape == (0, 3)
    for same in (truncate(none, 3, "pre"), none.take(np.zeros(0, np.int64)), concatenate([]), concatenate([none])):
        assert rows_of(same) == []


@given(rows=any_rows)
def test_rows_are_made_of_all_tokens_and_their_lengths(rows: Rows) -> None:
    lengths = [len(row) for row in rows]
    tokens = np.array([token for row in rows for token in row], np.int32)
    sequences = Sequences.of(tokens, np.array(lengths, np.int32))
    assert rows_of(sequences) == rows
    assert sequences.lengths.tolist() == lengths


@given(rows=any_rows)
def test_tokens_are_left_out_and_put_in_front(rows: Rows) -> None:
    sequences = sequences_of(rows)
    is_even = sequences.token_ids % 2 == 0
    assert rows_of(sequences.only(is_even)) == [[token for token in row if token % 2 == 0] for row in rows]
    assert rows_of(sequences.prepended(9)) == [[9, *row] for row in rows]


@given(rows=any_rows.filter(bool), chosen=st.lists(st.integers(0, 7), max_size=12))
def test_take_picks_rows_in_the_order_asked_for(rows: Rows, chosen: list[int]) -> None:
    chosen = [row % len(rows) for row in chosen]
    assert rows_of(sequences_of(rows).take(np.array(chosen, np.int64))) == [rows[row] for row in chosen]


@given(parts=st.lists(any_rows, max_size=4))
def test_concatenate_puts_the_parts_one_after_the_other(parts: list[Rows]) -> None:
    whole = concatenate([sequences_of(rows) for rows in parts])
    assert rows_of(whole) == [row for rows in parts for row in rows]


@given(
    tokens=st.lists(st.integers(0, 99), max_size=20),
    spans=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=6),
)
def test_gather_takes_any_spans(tokens: list[int], spans: list[tuple[int, int]]) -> None:
    spans = [(start, stop) for start, stop in spans if start <= stop <= len(tokens)]
    starts = np.array([start for start, _ in spans], np.int64)
    lengths = np.array([stop - start for start, stop in spans], np.int64)
    gathered = gather(np.array(tokens, np.int32), starts, lengths)
    assert rows_of(gathered) == [tokens[start:stop] for start, stop in spans]


@given(rows=any_rows, length=st.integers(1, 14))
def test_the_middle_is_cut_out_of_longer_rows_alone(rows: Rows, length: int) -> None:
    expected = [row if len(row) <= length else row[: -(-length // 2)] + row[len(row) - length // 2 :] for row in rows]
    assert rows_of(truncate(sequences_of(rows), length, "middle")) == expected


@given(rows=any_rows, length=st.integers(1, 14), truncating=st.sampled_from(["pre", "post", "middle"]))
def test_truncation_never_aliases_its_input(rows: Rows, length: int, truncating: Any) -> None:
    sequences = sequences_of(rows)
    truncate(sequences, length, truncating).token_ids[:] = -1
    assert rows_of(sequences) == rows


@given(max_tokens=st.integers(1, 100_000), data=st.data())
def test_a_bucket_holds_its_longest_row_and_wastes_less_than_an_eighth(max_tokens: int, data: st.DataObject) -> None:
    longest = data.draw(st.integers(0, max_tokens))
    length = bucket_length(longest, max_tokens)
    eighth = -(-max_tokens // 8)
    assert max(longest, 1) <= length <= max_tokens
    assert length - max(longest, 1) < eighth
    assert bucket_length(length, max_tokens) == length, "a bucket's length is its own bucket"


@pytest.mark.parametrize("max_tokens", [1, 2, 7, 8, 9, 15, 80, 81, 100, 400, 1001])
def test_there_are_at_most_eight_buckets_and_they_rise(max_tokens: int) -> None:
    lengths = [bucket_length(longest, max_tokens) for longest in range(max_tokens + 1)]
    assert lengths == sorted(lengths)
    assert len(set(lengths)) <= 8
    assert lengths[-1] == max_tokens


def test_bucket_lengths_of_the_presets() -> None:
    assert [bucket_length(longest, 80) for longest in (0, 1, 10, 11, 79, 80)] == [10, 10, 10, 20, 80, 80]
