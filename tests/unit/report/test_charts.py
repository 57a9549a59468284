"""Ticks are round and cover the values; labels never overlap; charts show every value, hover text included."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_ray.evaluate.counts import BinaryCounts
from lstm_ray.report.charts import (
    accuracy_chart,
    epoch_ticks,
    keep_apart,
    loss_chart,
    reliability_chart,
    roc_chart,
    value_ticks,
)
from lstm_ray.report.curves import read_curves
from lstm_ray.report.marks import Area, Chart, Dot, Label, Line


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
        (range(1, 121), [20, 40, 60, 80, 100, 120]),
    ],
)
def test_epoch_ticks_are_whole_epochs_and_not_too_many(epochs, expected):
    assert epoch_ticks(epochs) == expected


@given(st.lists(st.floats(0, 100), max_size=2).map(sorted))
def test_two_labels_are_kept_apart_inside_the_panel(positions):
    moved = keep_apart(positions, 15, 0, 100)
    assert len(moved) == len(positions)
    if len(positions) == 2:
        assert moved[1] - moved[0] >= 15 - 1e-9
        assert moved[0] >= -1e-9
        assert moved[1] <= 100 + 1e-9


def texts(chart: Chart) -> list[str]:
    return [mark.text for mark in chart.marks if isinstance(mark, Label)]


def hovers(chart: Chart) -> list[str]:
    return [mark.hover for mark in chart.marks if isinstance(mark, Dot)]


def lines(chart: Chart, colour: str) -> list[Line]:
    return [mark for mark in chart.marks if isinstance(mark, Line) and mark.colour == colour]


def curves(loss, validation_loss, best=None):
    epochs = range(1, len(loss) + 1)
    table = {"epoch": epochs, "loss": loss, "accuracy": loss, "validation_loss": validation_loss}
    return read_curves(pa.table({**table, "best": [epoch == best for epoch in epochs]}), "auc")


def test_an_epoch_chart_shows_both_curves_the_best_epoch_and_where_overfitting_begins():
    chart = loss_chart(curves([0.6, 0.4, 0.3, 0.2], [0.5, 0.4, 0.45, 0.5], best=2))
    assert {"epoch 1, training 0.600", "epoch 4, training 0.200", "epoch 2, validation 0.400"} < set(hovers(chart))
    assert hovers(chart)[-1] == "best: epoch 2, 0.400"
    assert {"overfits from epoch 3", "▲ best by AUC", "training 0.200", "validation 0.500", "1", "4"} <= set(
        texts(chart)
    )
    (band,) = (mark for mark in chart.marks if isinstance(mark, Area))
    (training,), (validation,) = lines(chart, "training"), lines(chart, "validation")
    assert min(x for x, _ in band.points) == (training.points[1][0] + training.points[2][0]) / 2
    assert [y for _, y in training.points] == sorted(y for _, y in training.points)  # falling: y grows downwards
    assert validation.points[1][1] > validation.points[0][1]
    assert "training 20.0%" in texts(accuracy_chart(curves([0.6, 0.4, 0.3, 0.2], [None] * 4)))


def test_a_curve_is_interrupted_where_a_value_is_missing_or_not_finite():
    chart = loss_chart(curves([0.6, math.nan, 0.3, 0.2], [None, 0.4, 0.5, math.inf]))
    assert [len(line.points) for line in lines(chart, "training")] == [1, 2]
    assert [len(line.points) for line in lines(chart, "validation")] == [2]
    assert "no finite values" in texts(loss_chart(curves([math.nan], [None])))


def test_a_chart_of_many_epochs_has_no_dots():
    assert hovers(loss_chart(curves([0.5] * 41, [0.5] * 41))) == []


def test_a_roc_curve_of_many_rows_is_drawn_with_few_points():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 50_000)
    chart = roc_chart(BinaryCounts.from_scores(labels, rng.random(50_000).astype(np.float32)))
    (curve,) = lines(chart, "validation")
    assert len(curve.points) < 500
    assert (curve.points[0], curve.points[-1]) == ((50, 284), (330, 12))  # from the lower left to the upper right


def test_a_roc_curve_shows_its_area_and_the_threshold():
    counts = BinaryCounts.from_scores(np.array([0, 0, 1, 1]), np.array([0.1, 0.7, 0.6, 0.8], np.float32))
    chart = roc_chart(counts)
    assert hovers(chart) == ["threshold 0.5: true positive rate 100.0%, false positive rate 50.0%"]
    assert "AUC 0.750" in texts(chart)


def test_a_reliability_diagram_has_a_dot_for_each_bin_with_rows():
    labels, probabilities = np.array([0, 1, 1, 1]), np.array([0.25, 0.25, 0.25, 0.9], np.float32)
    chart = reliability_chart(BinaryCounts.from_scores(labels, probabilities))
    assert hovers(chart) == ["3 rows: predicted 25.0%, positive 66.7%", "1 row: predicted 90.0%, positive 100.0%"]
    larger, smaller = (mark.radius for mark in chart.marks if isinstance(mark, Dot))
    assert larger > smaller


def test_charts_without_enough_rows_say_so():
    one_label = BinaryCounts.from_scores(np.array([1]), np.array([0.3], np.float32))
    assert "needs both labels" in texts(roc_chart(one_label))
    nothing = BinaryCounts.from_scores(np.zeros(0, np.int8), np.zeros(0, np.float32))
    assert "no rows" in texts(reliability_chart(nothing))
