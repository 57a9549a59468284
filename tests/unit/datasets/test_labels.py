"""Labels: numbers, star ratings and texts become 1, 0 or neither."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from lstm_ray.datasets.labels import OTHER, ZERO_AND_ONE, LabelMapping, propose_mapping

STARS = LabelMapping(("4", "5.0"), ("1", "2"))
WORDS = LabelMapping(("pos",), ("neg", "very neg"))


@pytest.mark.parametrize(
    ("mapping", "values", "kind", "expected"),
    [
        (ZERO_AND_ONE, [1, 0, 2, None, -1], pa.int64(), [1, 0, OTHER, OTHER, OTHER]),
        (ZERO_AND_ONE, [True, False, None], pa.bool_(), [1, 0, OTHER]),
        (ZERO_AND_ONE, [1.0, 0.5, float("nan")], pa.float32(), [1, OTHER, OTHER]),
        (STARS, [1, 2, 3, 4, 5, None], pa.uint8(), [0, 0, OTHER, 1, 1, OTHER]),
        (STARS, [1.0, 4.5, 5.0], pa.float64(), [0, OTHER, 1]),
        (LabelMapping(("false",), ("true",)), [True, False], pa.bool_(), [0, 1]),
        (WORDS, ["pos", "neg", "very neg", "Pos", None], pa.string(), [1, 0, 0, OTHER, OTHER]),
        (WORDS, [b"pos", b"\xff", b"neg"], pa.binary(), [1, OTHER, 0]),
        (WORDS, ["pos", "neg", "pos", None], pa.dictionary(pa.int32(), pa.string()), [1, 0, 1, OTHER]),
        (WORDS, [], pa.string(), []),
    ],
)
def test_labels_are_decoded(mapping: LabelMapping, values: list[Any], kind: pa.DataType, expected: list[int]) -> None:
    assert mapping.problem(kind) is None or not mapping.is_given
    half = len(values) // 2
    column = pa.chunked_array([values[:half], values[half:]], kind)
    assert mapping.decode(column).tolist() == expected


@pytest.mark.parametrize(
    ("mapping", "kind", "problem"),
    [
        (ZERO_AND_ONE, pa.string(), "is string, expected 0 and 1"),
        (ZERO_AND_ONE, pa.date32(), "is date32[day], expected 0 and 1"),
        (WORDS, pa.date32(), "is date32[day], expected texts or numbers"),
        (WORDS, pa.int8(), "is int8, and the label 'pos' is no number"),
    ],
)
def test_a_column_that_cannot_be_read_is_explained(mapping: LabelMapping, kind: pa.DataType, problem: str) -> None:
    assert mapping.problem(kind) == problem


@pytest.mark.parametrize(
    ("texts", "options"),
    [
        (["neg", "pos", None, "neg"], "'neg', 'pos': say which is which: --positive-labels pos --negative-labels neg"),
        (["yes", "no"], "'no', 'yes': say which is which: --positive-labels yes --negative-labels no"),
        (["1 star", "5 stars"], "--positive-labels '5 stars' --negative-labels '1 star'"),
        ([str(number) for number in range(9)], "'0', '1', '2', '3', '4', '5', '6', '7', ...: say"),
    ],
)
def test_the_texts_of_a_column_make_a_proposal(texts: list[str | None], options: str) -> None:
    assert options in (propose_mapping(pa.array(texts, pa.large_string())) or "")


@pytest.mark.parametrize("texts", [[], ["one"], [None, None], [f"review {number}" for number in range(21)]])
def test_texts_that_are_no_labels_make_no_proposal(texts: list[str | None]) -> None:
    assert propose_mapping(pa.array(texts, pa.large_string())) is None
