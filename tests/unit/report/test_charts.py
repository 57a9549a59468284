"""Ticks are round and cover the values; labels never touch; a ROC curve is drawn with a bounded number of points."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstm_ray.evaluate.counts import BinaryCounts
from lstm_ray.report.charts import epoch_ticks, keep_apart, roc_chart, value_ticks

unhurried = settings(deadline=None)  # the machine may be busy


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.03, 0.67, [0, 0.2, 0.4, 0.6, 0.8]),
        (0.758, 0.987, [0.75, 0.8, 0.85, 0.9, 0.95, 1.0]),
        (0.0, 1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.0, 0.0, [-1, -0.5, 0, 0.5, 1]),
    ],
)
def test_value_ticks_are_round(low, high, expected):
    assert value_ticks(low, high) == pytest.approx(expected)


@unhurried
@given(st.floats(0, 1e6), st.floats(1e-6, 1e6))
def test_value_ticks_cover_the_values_and_are_few(low, span):
    ticks = value_ticks(low, low + span)
    slack = 1e-6 * (ticks[-1] - ticks[0]) + 1e-9
    assert ticks[0] <= low + slack
    assert ticks[-1] >= low + span - slack
    assert 2 <= len(ticks) <= 8


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [
        ([1], [1]),
        ([1, 2, 3], [1, 2, 3]),
        (range(1, 31), list(range(2, 31, 2))),
        (range(1, 101), list(range(10, 101, 10))),
    ],
)
def test_epoch_ticks_are_whole_epochs_and_not_too_many(epochs, expected):
    assert epoch_ticks(epochs) == expected


@unhurried
@given(st.lists(st.floats(0, 100), max_size=2).map(sorted))
def test_two_labels_are_kept_apart_inside_the_panel(places):
    moved = keep_apart(places, 15, 0, 100)
    assert len(moved) == len(places)
    if len(places) == 2:
        assert moved[1] - moved[0] >= 15 - 1e-9
        assert moved[0] >= -1e-9
        assert moved[1] <= 100 + 1e-9


def test_a_roc_curve_of_many_rows_is_drawn_with_few_points():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 50_000)
    chart = roc_chart(BinaryCounts.from_scores(labels, rng.random(50_000).astype(np.float32)))
    assert len(chart) < 20_000
    assert "M50.0 284.0" in chart  # from the lower left corner
    assert "L330.0 12.0" in chart  # to the upper right one


def test_a_roc_curve_of_one_label_says_why_it_is_not_there():
    assert "needs both labels" in roc_chart(BinaryCounts.from_scores(np.array([1]), np.array([0.3], np.float32)))
