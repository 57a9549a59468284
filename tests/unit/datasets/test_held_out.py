"""Which rows are held out: rows with equal keys together, as large a share as asked for, whatever the key's type."""

from __future__ import annotations

import datetime
import hashlib
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_ray.datasets.held_out import group_keys, hash_keys, held_out, keys_of_rows, share_that_divides


def keys(values: list[Any], kind: pa.DataType | None = None) -> list[bytes | None]:
    """Returns the keys of a column in two chunks."""
    column = pa.array(values, kind)
    keys: list[bytes | None] = group_keys(pa.chunked_array([column[:1], column[1:]])).to_pylist()
    return keys


@given(st.lists(st.binary(max_size=4), max_size=60), st.integers(0, 2**32 - 1))
def test_equal_keys_have_equal_hashes_those_of_blake2b(distinct: list[bytes], seed: int) -> None:
    doubled = distinct + distinct[::-1]
    hashes = hash_keys(pa.array(doubled, pa.large_binary()), seed)
    for key, found in zip(doubled, hashes.tolist(), strict=True):
        digest = hashlib.blake2b(key, digest_size=8, key=seed.to_bytes(8, "little")).digest()
        assert found == int.from_bytes(digest, "little")


@pytest.mark.parametrize("fraction", [0.0, 0.05, 0.1, 0.5, 0.9])
def test_the_share_held_out_is_the_one_asked_for(fraction: float) -> None:
    texts = pa.array([f"review {number}".encode() for number in range(20_000)], pa.large_binary())
    sides = [held_out(hash_keys(texts, *how), fraction) for how in ((0,), (1,), (0, b"data split"))]
    for side in sides:
        assert abs(side.mean() - fraction) <= 4 * np.sqrt(fraction * (1 - fraction) / len(texts))
    if fraction:
        for one, other in ((0, 1), (0, 2)):  # another seed or purpose: independent
            both = (sides[one] & sides[other]).mean()
            assert abs(both - fraction**2) <= 4 * np.sqrt(fraction**2 * (1 - fraction**2) / len(texts))


def test_the_highest_hash_is_held_out_by_no_fraction_below_one() -> None:
    assert not held_out(np.array([2**64 - 1], np.uint64), np.nextafter(1.0, 0.0)).any()


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["a", None, "a", "b"], pa.string()),
        (["a", None, "a", "b"], pa.large_string()),
        (["a", None, "a", "b"], pa.string_view()),
        (["a", None, "a", "b"], pa.dictionary(pa.int8(), pa.string())),
        ([b"\xff", None, b"\xff", b""], pa.binary()),
        ([b"ab", None, b"ab", b"\0\0"], pa.binary(2)),
        ([7, None, 7, -7], pa.int8()),
        ([2**64 - 1, None, 2**64 - 1, 2**63], pa.uint64()),
        ([7, None, 7, 8], pa.dictionary(pa.int32(), pa.int64())),
        ([0.1, None, 0.1, 0.25], pa.float32()),
        ([True, None, True, False], pa.bool_()),
        ([datetime.date(2020, 1, 1), None, datetime.date(2020, 1, 1), datetime.date(2020, 1, 2)], pa.date32()),
        ([1, None, 1, 2], pa.timestamp("ns", "UTC")),
        ([1, None, 1, 2], pa.duration("s")),
        ([Decimal("1.5"), None, Decimal("1.5"), Decimal("-1.5")], pa.decimal128(4, 2)),
        ([[1, 2], None, [1, 2], [1]], pa.list_(pa.int64())),
        ([{"a": 1}, None, {"a": 1}, {"a": None}], pa.struct({"a": pa.int64()})),
        ([[("a", 1)], None, [("a", 1)], []], pa.map_(pa.string(), pa.int32())),
    ],
    ids=lambda value: str(value) if isinstance(value, pa.DataType) else "",
)
def test_a_group_may_have_any_type(values: list[Any], kind: pa.DataType) -> None:
    first, null, again, other = keys(values, kind)
    assert null is None
    assert first == again != other
    assert first is not None
    assert other is not None


def test_groups_are_the_same_in_files_that_store_them_differently() -> None:
    numbers = [7, 8, None]
    assert keys(numbers, pa.int8()) == keys(numbers, pa.int64()) == keys(["7", "8", None]) == [b"7", b"8", None]
    assert keys([7.0, 8.0, None], pa.float64()) == keys(numbers, pa.int64())
    assert keys([None, None], pa.null()) == [None, None]
    storage = pa.array([b"0123456789abcdef"] * 2, pa.binary(16))
    uuids = pa.ExtensionArray.from_storage(pa.uuid(), storage)
    assert group_keys(pa.chunked_array([uuids])).equals(group_keys(pa.chunked_array([storage])))


def test_a_row_without_a_group_goes_by_its_text() -> None:
    texts = pa.array(["one", "two", "\ttwo\u2003\n"], pa.large_string())
    assert keys_of_rows(texts, None).to_pylist() == [b"one", b"two", b"two"], "without white space around it"
    groups = pa.array([b"7", None, b"7"], pa.large_binary())
    assert keys_of_rows(texts, groups).to_pylist() == [b"7", b"two", b"7"]


@given(st.lists(st.integers(0, 2**64 - 1), max_size=8), st.floats(0.001, 0.999))
def test_the_share_that_divides_is_the_nearest_that_holds_out_some_keys_but_not_all(
    hashes: list[int], share: float
) -> None:
    dividing = [
        hundredths / 100
        for hundredths in range(1, 100)
        if len({hash < int(hundredths / 100 * 2**64) for hash in hashes}) == 2
    ]
    found = share_that_divides(np.array(hashes, np.uint64), share)
    assert (found is None) == (not dividing)
    assert found is None or abs(found - share) == min(abs(one - share) for one in dividing)
