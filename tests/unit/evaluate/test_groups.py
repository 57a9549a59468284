"""Groups are counted as a loop over the rows would; they add up; those that stand out do so by more than chance."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as reference

from lstm_ray.config import LENGTH
from lstm_ray.errors import InputError
from lstm_ray.evaluate import groups
from lstm_ray.evaluate.counts import BinaryCounts
from lstm_ray.evaluate.groups import (
    Group,
    GroupResult,
    Outcomes,
    add_outcomes,
    band_of_length,
    compare_groups,
    count_outcomes,
)

ROWS = st.lists(st.tuples(st.sampled_from(["a", "b", "10", "9", None]), st.integers(0, 1), st.booleans()), max_size=40)
Row = tuple[str | None, int, bool]


def counted(rows: list[Row], by: str = "shop") -> Outcomes:
    """Counts rows of (value, label, predicted)."""
    column = pa.chunked_array([pa.array([value for value, _, _ in rows], pa.string())])
    labels = np.array([label for _, label, _ in rows], np.int8)
    return count_outcomes({by: column}, labels, np.array([predicted for _, _, predicted in rows], bool))


def compared(rows: list[Row]) -> list[GroupResult]:
    """Compares the groups of rows with each other."""
    labels = np.array([label for _, label, _ in rows], np.int8)
    probabilities = np.array([0.9 if predicted else 0.1 for _, _, predicted in rows], np.float32)
    return compare_groups(counted(rows), BinaryCounts.from_scores(labels, probabilities))


@given(ROWS, ROWS)
def test_groups_of_parts_add_up_to_those_of_all_rows(first: list[Row], second: list[Row]) -> None:
    total = counted(first)
    add_outcomes(total, counted(second))
    whole = counted(first + second)
    assert {group: rows.tolist() for group, rows in total.items()} == {
        group: rows.tolist() for group, rows in whole.items()
    }


@settings(max_examples=25)  # scikit-learn and SciPy take milliseconds a figure
@given(ROWS)
def test_a_groups_figures_are_those_of_scikit_learn_and_scipy(rows: list[Row]) -> None:
    found = compared(rows)
    assert [result.value for result in found] == [
        value for value in ["9", "10", "a", "b", None] if value in {value for value, _, _ in rows}
    ]
    right = sum(label == predicted for _, label, predicted in rows)
    p_values = []
    for result in found:
        labels, predicted = zip(
            *[(label, int(one)) for value, label, one in rows if value == result.value], strict=True
        )
        assert (result.rows, result.positives) == (len(labels), sum(labels))
        assert result.accuracy == pytest.approx(reference.accuracy_score(labels, predicted), abs=1e-9)
        for value, score, among in (
            (result.precision, reference.precision_score, predicted),
            (result.recall, reference.recall_score, labels),
        ):
            assert value == (pytest.approx(score(labels, predicted), abs=1e-9) if any(among) else None)
        inside = round(result.accuracy * result.rows)
        table = [[inside, result.rows - inside], [right - inside, len(rows) - result.rows - right + inside]]
        tails = [stats.fisher_exact(table, alternative=tail).pvalue for tail in ("less", "greater")]
        p_values.append(min(1.0, 2 * min(tails)))
    if len(found) > 1:
        smallest = min(p_values)
        assert min(result.p_value or 0.0 for result in found) == pytest.approx(
            min(1.0, smallest * len(found)), rel=1e-6
        )


def test_a_group_that_is_much_worse_stands_out_and_chance_does_not() -> None:
    random = np.random.default_rng(1)
    rows: list[Row] = [(str(shop), 1, bool(random.random() < 0.9)) for shop in range(40) for _ in range(100)]
    assert not any(result.stands_out for result in compared(rows))
    rows += [("bad", 1, bool(random.random() < 0.6)) for _ in range(100)]
    assert [result.value for result in compared(rows) if result.stands_out] == ["bad"]


def test_all_rows_in_one_group_have_none_to_compare_with() -> None:
    (result,) = compared([("a", 1, True), ("a", 0, True)])
    assert (result.p_value, result.stands_out) == (None, False)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        (pa.array([4, 5, None], pa.int8()), ["4", "5", None]),
        (pa.array([4.5, 1.0, None]), ["1", "4.5", None]),
        (pa.array([True, False, None]), ["false", "true", None]),
        (pa.array([date(2024, 5, 1), date(2023, 1, 1), None]), ["2023-01-01", "2024-05-01", None]),
        (pa.array([Decimal("1.50"), Decimal("2.00"), None]), ["1.50", "2.00", None]),
        (pa.array(["x", "y", None]).dictionary_encode(), ["x", "y", None]),
        (pa.array([b"\xff", b"a", None]), ["a", "\N{REPLACEMENT CHARACTER}", None]),
    ],
)
def test_columns_of_any_type_are_grouped_by_their_text(column: pa.Array, values: list[Any]) -> None:
    found = count_outcomes({"c": pa.chunked_array([column])}, np.array([0, 1, 1], np.int8), np.array([True] * 3))
    counts = BinaryCounts.from_scores(np.array([0, 1, 1]), np.full(3, 0.9, np.float32))
    assert [result.value for result in compare_groups(found, counts)] == values


def test_values_that_read_alike_are_one_group() -> None:
    column = pa.chunked_array([pa.array([b"\xff", b"\xfe", b"a"])])
    found = count_outcomes({"c": column}, np.array([0, 1, 1], np.int8), np.array([False, True, True]))
    assert found[Group("c", "\N{REPLACEMENT CHARACTER}")].tolist() == [1, 0, 0, 1]
    assert sum(rows.sum() for rows in found.values()) == 3


def test_lengths_fall_into_bands_in_their_order() -> None:
    lengths = [1001, 1, 10, 11, 20, 21, 500, 501]
    bands = band_of_length(pa.array([" ".join(["w"] * words) for words in lengths], pa.large_string()))
    assert bands.to_pylist() == ["over 1000", "0-10", "0-10", "11-20", "11-20", "21-50", "201-500", "501-1000"]
    found = count_outcomes({LENGTH: bands}, np.ones(8, np.int8), np.ones(8, bool))
    counts = BinaryCounts.from_scores(np.ones(8, np.int8), np.full(8, 0.9, np.float32))
    order = ["0-10", "11-20", "21-50", "201-500", "501-1000", "over 1000"]
    assert [result.value for result in compare_groups(found, counts)] == order


def test_more_groups_than_can_be_read_are_refused_with_their_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "MOST_GROUPS", 3)
    total = counted([("a", 1, True), ("b", 1, True), ("c", 1, True)])
    with pytest.raises(InputError, match=r"^--by shop: more than 3 groups: choose a column with fewer values$"):
        add_outcomes(total, {**counted([("d", 1, True)])})
    assert Group("shop", "a") in total
