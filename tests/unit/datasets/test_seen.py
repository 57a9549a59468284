"""Texts that were seen are recognised, others are not, whatever the order and number of shards."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_ray.datasets.seen import SeenTexts, describe_seen, hash_texts, sum_of


def hashed(texts: list[str]) -> np.ndarray:
    return hash_texts(pa.array(texts, pa.large_string()))


def written(seen: SeenTexts) -> bytes:
    stream = io.BytesIO()
    seen.write(stream)
    return stream.getvalue()


TEXTS = st.lists(st.text("aAbßÄä \t\r\n\v\u00a0\u2003\u3000\U0001f600", max_size=5))


def alike(texts: list[str]) -> list[str]:
    """Returns the texts as they are compared: without letter case, and with white space as Python splits at it."""
    return [" ".join(text.lower().split()) for text in texts]


@given(TEXTS, TEXTS, st.integers(0, 5))
def test_rows_are_counted_as_a_set_of_texts_would(learned: list[str], measured: list[str], cut: int) -> None:
    seen = SeenTexts([hashed(learned[:cut]), hashed(learned[cut:])])
    assert seen.count(hashed(measured)) == sum(text in alike(learned) for text in alike(measured))
    assert len(seen) == len(set(alike(learned)))
    assert written(seen) == written(SeenTexts([hashed(learned[::-1])])), "any order, any shards: the same bytes"
    assert SeenTexts.read(pa.BufferReader(written(seen))).count(hashed(learned)) == len(learned)


def test_copies_of_a_text_with_other_case_or_spaces_are_seen() -> None:
    copies = ["A good film", " a  good\tFILM\n", "a\u00a0good film"]
    assert SeenTexts([hashed(["a good film"])]).count(hashed([*copies, "a good-film", "agood film"])) == 3


@given(TEXTS, TEXTS, st.integers(0, 3))
def test_a_sum_tells_rows_from_others_in_any_order_and_cut_into_any_parts(
    rows: list[str], others: list[str], cut: int
) -> None:
    assert sum_of(hashed(rows[:cut])) + sum_of(hashed(rows[cut:])) == sum_of(hashed(rows))
    assert (sum_of(hashed(rows)) == sum_of(hashed(others))) == (sorted(alike(rows)) == sorted(alike(others)))
    assert sum_of(np.full(2**10, 2**62)) == 2**72


def test_the_hash_is_that_of_bundles_that_exist() -> None:
    """With another hash, existing bundles would seem to have seen nothing."""
    assert hashed(["", "a good film", "\N{SNOWMAN}"]).tolist() == [811375724596, 90968484916, 164391490513]


def test_a_text_takes_few_bytes() -> None:
    seen = SeenTexts([np.random.default_rng(0).integers(0, 2**40, 25_000)])
    assert len(written(seen)) / len(seen) < 3.7


def test_what_is_no_list_of_hashes_is_an_error_of_arrow() -> None:
    with pytest.raises(pa.ArrowException):
        SeenTexts.read(pa.BufferReader(b"no Parquet"))


def test_the_share_is_told() -> None:
    assert describe_seen(35, 5_000, "validation") == (
        "35 of 5,000 validation rows (0.7%) also occur in the training data: on new reviews the model's accuracy may "
        "be lower than measured here"
    )
    assert describe_seen(1, 2, "evaluation", "old").endswith(
        "training data of old: on new reviews its accuracy may be lower than measured here"
    )
    assert describe_seen(9, 9, "validation").endswith("training data: nothing here is measured on new reviews")


@pytest.mark.parametrize(
    ("seen", "right", "most"),
    [(500, 900, 10.0), (200, 900, 2.5), (1, 900, 0.1), (900, 100, 10.0), (200, 1_000, 0.1)],
)
def test_the_accuracy_on_new_rows_is_lowest_if_all_that_were_seen_are_right(seen: int, right: int, most: float) -> None:
    others_right = max(0, right - seen)
    assert max(0.1, 100 * (right / 1_000 - others_right / (1_000 - seen))) == pytest.approx(most)
    said = describe_seen(seen, 1_000, "evaluation", "the model", right / 1_000)
    assert said.endswith(f"may be up to {most} points lower than measured here")


def test_a_file_that_unpacks_to_more_than_hashes_is_refused() -> None:
    bomb = pa.BufferOutputStream()
    pq.write_table(pa.table({"hash": pa.repeat(7, 3_000_000)}), bomb)
    content = bomb.getvalue()
    assert len(content) < 100_000
    with pytest.raises(pa.ArrowInvalid, match="3,000,000 rows in"):
        SeenTexts.read(pa.BufferReader(content))


def test_hashes_are_found_by_search() -> None:
    seen = SeenTexts([np.array([5, 1, 9])])
    assert seen.contains(np.array([0, 1, 9])).tolist() == [False, True, True]
    assert seen.count(np.array([0, 1, 1, 4, 9, 10])) == 3
    assert seen.count(np.zeros(0, np.int64)) == 0
    assert SeenTexts().count(np.array([1])) == 0
