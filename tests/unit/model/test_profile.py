"""Counts of a corpus as a model reads it: they add up, and survive JSON."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_ray.evaluate.counts import BinaryCounts
from lstm_ray.model.profile import (
    LENGTH_LIMITS,
    UNKNOWN_LIMITS,
    Profile,
    TrainingData,
    count_scores,
    count_texts,
)
from lstm_ray.text.sequences import Sequences, concatenate
from lstm_ray.text.vocabulary import OOV_ID, START_ID

Row = list[int]
# A row begins with the start id, unless truncation has cut that off, and has at least one id.
ROWS = st.lists(
    st.builds(
        lambda start, words: [START_ID] * start + words or [START_ID],
        st.booleans(),
        st.lists(st.integers(OOV_ID, 9), max_size=40),
    ),
    max_size=8,
)


def sequences(rows: list[Row]) -> Sequences:
    """Returns rows as arrays."""
    flat = np.array([token for row in rows for token in row], np.int32)
    return Sequences.of(flat, np.array([len(row) for row in rows], np.int64))


def in_bin(value: float, limits: tuple[float, ...]) -> int:
    """Returns the number of the bin that a value is in."""
    return sum(value > limit for limit in limits)


@given(ROWS)
def test_counts_are_those_of_one_row_after_the_other(rows: list[Row]) -> None:
    expected = Profile()
    for row in rows:
        words = [token for token in row if token != START_ID]
        unknown = words.count(OOV_ID)
        lengths, shares = np.zeros_like(expected.lengths), np.zeros_like(expected.unknown_shares)
        lengths[in_bin(len(words), LENGTH_LIMITS)] = 1
        shares[in_bin(unknown / len(words) if words else 1.0, UNKNOWN_LIMITS)] = 1
        expected += Profile(rows=1, words=len(words), unknown=unknown, lengths=lengths, unknown_shares=shares)
    assert count_texts(sequences(rows)).to_json() == expected.to_json()


@given(ROWS, ROWS)
def test_counts_of_parts_add_up_and_are_taken_away_again(some: list[Row], others: list[Row]) -> None:
    one, other = count_texts(sequences(some), 1), count_texts(sequences(others), 2)
    whole = count_texts(concatenate([sequences(some), sequences(others)]), 3)
    assert (one + other).to_json() == whole.to_json()
    assert (whole - other).to_json() == one.to_json()


@given(st.lists(st.floats(0, 1, width=32), max_size=30), st.sampled_from([0.3, 0.5]))
def test_scores_are_counted_as_an_evaluation_counts_them(scores: list[float], threshold: float) -> None:
    probabilities = np.array(scores, np.float32)
    counts = BinaryCounts.from_scores(np.zeros(len(scores), np.int8), probabilities, threshold)
    profile = count_scores(probabilities, threshold)
    assert profile.scores.tolist() == counts.calibration_rows.tolist()
    assert profile.positives == counts.false_positives


@given(ROWS)
def test_what_is_written_is_read(rows: list[Row]) -> None:
    profile = count_texts(sequences(rows), 1) + Profile(positives=2, without_words=3)
    assert Profile.from_json(profile.to_json()).to_json() == profile.to_json()
    assert Profile.from_array(profile.to_array()).to_json() == profile.to_json()
    both = TrainingData(profile, Profile())
    assert TrainingData.from_json(both.to_json()).to_json() == both.to_json()


@pytest.mark.parametrize(
    "change",
    [
        {"rows": -1},
        {"rows": 1.5},
        {"rows": True},
        {"rows": 2**80},
        {"rows": [1]},
        {"lengths": 3},
        {"lengths": [1, 2]},
        {"scores": ["0"] * 10},
        {"more": 1},
    ],
)
def test_what_is_not_counts_is_refused(change: dict[str, Any]) -> None:
    good = Profile().to_json()
    with pytest.raises(ValueError, match=r"counts"):
        Profile.from_json({**good, **change})
    with pytest.raises(ValueError, match=r"counts"):
        TrainingData.from_json({"training": good, "validation": {**good, **change}})


@pytest.mark.parametrize("described", [[], {}, {"training": {}}, {"training": [], "validation": []}, "profile"])
def test_what_is_not_training_and_validation_is_refused(described: Any) -> None:
    with pytest.raises(ValueError, match=r"counts|training and validation"):
        TrainingData.from_json(described)
