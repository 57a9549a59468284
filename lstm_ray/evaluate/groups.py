"""Results by group: the rows with one value of a column, or with texts of similar length.

    a shard's rows -> outcomes of each value -> added up, value by value -> compared with the other rows

A group is four counts, so that groups merge by addition, and their number alone decides the memory they take.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lstm_ray.arrays import Integers
from lstm_ray.config import LENGTH
from lstm_ray.datasets.held_out import group_keys
from lstm_ray.errors import InputError
from lstm_ray.evaluate.counts import BinaryCounts
from lstm_ray.evaluate.intervals import LEVEL, Interval, adjusted, part_p_value, share_interval

MOST_GROUPS = 10_000
_BANDS = (10, 20, 50, 100, 200, 500, 1000)  # upper limits in words; the last band has none


class Group(NamedTuple):
    """The rows with one value of a column; `value` is None where the column is null."""

    by: str
    value: str | None


Outcomes: TypeAlias = dict[Group, Integers]
"""For each group int64[4]: true negatives, false positives, false negatives, true positives."""


@dataclass(frozen=True)
class GroupResult:
    """The results of a group.

    Attributes:
        by: The column.
        value: Its value as text, or the range of lengths in words; None where it is null.
        rows: Rows of the group.
        positives: Rows of label 1.
        accuracy: Share of the rows that are predicted right.
        accuracy_interval: 95 % confidence interval of the accuracy.
        precision: Share of the rows predicted 1 that have label 1; None if there are none.
        recall: Share of the rows of label 1 that are predicted 1; None if there are none.
        p_value: Probability that a group drawn at random differs from the other rows by as much in accuracy, corrected
            for the number of groups of the column. None if there are no other rows.
    """

    by: str
    value: str | None
    rows: int
    positives: int
    accuracy: float
    accuracy_interval: Interval
    precision: float | None
    recall: float | None
    p_value: float | None

    @property
    def stands_out(self) -> bool:
        """Returns whether the accuracy differs from that of the other rows by more than chance explains."""
        return self.p_value is not None and self.p_value < LEVEL

    def to_json(self) -> dict[str, Any]:
        """Returns the result for JSON."""
        return {**asdict(self), "stands_out": self.stands_out}


def count_outcomes(
    columns: Mapping[str, pa.ChunkedArray], labels: npt.NDArray[np.int8], predicted: npt.NDArray[np.bool_]
) -> Outcomes:
    """Counts the outcomes of each value of each column.

    Args:
        columns: The columns by name, each with one value per label.
        labels: int8[rows], 0 or 1.
        predicted: bool[rows], whether 1 is predicted.

    Raises:
        InputError: There are more groups than `MOST_GROUPS`.
    """
    outcome, found = 2 * labels.astype(np.int64) + predicted, Outcomes()
    for by, column in columns.items():
        keys = group_keys(column).dictionary_encode()
        codes = pc.fill_null(keys.indices, len(keys.dictionary)).to_numpy()
        values = [key.decode(errors="replace") for key in keys.dictionary.to_pylist()]
        counts = np.bincount(4 * codes.astype(np.int64) + outcome, minlength=4 * len(values) + 4).reshape(-1, 4)
        for value, rows in zip((*values, None), counts, strict=True):
            if rows.any():  # one by one: values that are not UTF-8 may decode to the same text, and are then one group
                add_outcomes(found, {Group(by, value): rows})
    return found


def add_outcomes(total: Outcomes, part: Outcomes) -> None:
    """Adds the outcomes of a part to `total`.

    Raises:
        InputError: There are more groups than `MOST_GROUPS`.
    """
    for group, rows in part.items():
        total[group] = total[group] + rows if group in total else rows
    if len(total) > MOST_GROUPS:
        by = max({group.by for group in total}, key=lambda name: sum(group.by == name for group in total))
        raise InputError(f"--by {by}: more than {MOST_GROUPS:,} groups: choose a column with fewer values")


def band_of_length(texts: pa.LargeStringArray) -> pa.ChunkedArray:
    """Returns the range of each text's number of words, split at white space: "11-20", "over 1000"."""
    words = pc.list_value_length(pc.utf8_split_whitespace(pc.utf8_trim_whitespace(texts)))
    bands = pa.array([*_band_names()])
    return pa.chunked_array([bands.take(pa.array(np.searchsorted(_BANDS, words.to_numpy())))])


def _band_names() -> list[str]:
    starts = [0, *(most + 1 for most in _BANDS)]
    return [f"{start}-{most}" for start, most in zip(starts, _BANDS, strict=False)] + [f"over {_BANDS[-1]}"]


def compare_groups(outcomes: Outcomes, counts: BinaryCounts) -> list[GroupResult]:
    """Compares each group with the other rows: Fisher's exact test, p-values corrected by Holm's method.

    The correction counts the groups of one column only, so that its results do not depend on the other columns.

    Args:
        outcomes: Outcomes of all groups.
        counts: Counts of all rows.

    Returns:
        The groups, column by column, with values in rising order and null last.
    """
    right, results = counts.true_positives + counts.true_negatives, []
    for by in dict.fromkeys(group.by for group in outcomes):
        groups = _in_order(group for group in outcomes if group.by == by)
        p_values = [
            part_p_value(int(outcomes[group][[0, 3]].sum()), int(outcomes[group].sum()), right, counts.rows)
            for group in groups
        ]
        results += [
            _result(group, outcomes[group], p_value) for group, p_value in zip(groups, adjusted(p_values), strict=True)
        ]
    return results


def _result(group: Group, outcome: Integers, p_value: float | None) -> GroupResult:
    true_negatives, alarms, missed, found = outcome.tolist()
    rows = true_negatives + alarms + missed + found
    interval = share_interval(true_negatives + found, rows)
    assert interval is not None  # a group has rows
    return GroupResult(
        group.by,
        group.value,
        rows,
        found + missed,
        (true_negatives + found) / rows,
        interval,
        found / (found + alarms) if found + alarms else None,
        found / (found + missed) if found + missed else None,
        p_value,
    )


def _in_order(groups: Iterable[Group]) -> Sequence[Group]:
    """Sorts groups by value: ranges of lengths and numbers by size, other values by code point."""
    bands = _band_names()

    def key(group: Group) -> tuple[bool, float, str]:
        value = group.value or ""
        number = bands.index(value) if group.by == LENGTH else _number(value)
        return group.value is None, number, value

    return sorted(groups, key=key)


def _number(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        return float("inf")
    return number if number == number else float("inf")
