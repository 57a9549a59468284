"""The chosen threshold is as good as the best that scikit-learn finds, and its metrics are exact."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from sklearn import metrics as reference

from lstm_ray.errors import InputError
from lstm_ray.evaluate.counts import SCORE_BINS, BinaryCounts, _score_bins, bin_ends, bin_starts
from lstm_ray.evaluate.thresholds import Sweep, choose_threshold, histogram, thinned, threshold_table

few = settings(max_examples=25)  # scikit-learn takes a millisecond a metric
SCORES = {
    "accuracy": reference.accuracy_score,
    "balanced_accuracy": reference.balanced_accuracy_score,
    "f1": reference.f1_score,
    "precision": lambda labels, predicted: reference.precision_score(labels, predicted, zero_division=0),
    "recall": reference.recall_score,
}
Rows = tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]


@st.composite
def scored_rows(draw: st.DrawFn) -> Rows:
    """Rows of both labels, whose probabilities are the ends of score bins, so that rows in one bin are ties."""
    rows = draw(st.integers(2, 12))
    labels = draw(npst.arrays(np.int8, rows, elements=st.integers(0, 1)))
    labels[:2] = 0, 1
    picked = draw(npst.arrays(np.int64, rows, elements=st.integers(1, SCORE_BINS - 1)))
    return labels, bin_ends()[picked]


def reached(rows: Rows, threshold: float) -> dict[str, float]:
    """Returns what a threshold reaches; scikit-learn agrees, but takes milliseconds."""
    is_positive, predicted = rows[0] == 1, rows[1] > np.float32(threshold)
    found, above = (is_positive & predicted).sum(), max(1, predicted.sum())
    recall, specificity = found / is_positive.sum(), (~is_positive & ~predicted).sum() / (~is_positive).sum()
    return {
        "accuracy": float((is_positive == predicted).mean()),
        "balanced_accuracy": float(recall + specificity) / 2,
        "f1": float(2 * found / (is_positive.sum() + predicted.sum())),
        "precision": float(found / above),
        "recall": float(recall),
    }


@settings(max_examples=8)
@given(scored_rows(), st.floats(0, 1, width=32))
def test_what_a_threshold_reaches_is_what_scikit_learn_measures(rows: Rows, threshold: float) -> None:
    predicted = (rows[1] > np.float32(threshold)).astype(np.int8)
    expected = {name: float(score(rows[0], predicted)) for name, score in SCORES.items()}
    assert reached(rows, threshold) == pytest.approx(expected, abs=1e-9)


def all_reached(rows: Rows) -> list[dict[str, float]]:
    """Returns what scikit-learn measures at every threshold that differs."""
    _, probabilities = rows
    return [reached(rows, threshold) for threshold in [0.0, *np.unique(probabilities).tolist()]]


def test_a_bin_has_the_probabilities_from_its_start_to_its_end() -> None:
    starts, ends, bins = bin_starts(), bin_ends(), np.arange(SCORE_BINS)
    has_floats = starts <= ends
    assert has_floats.sum() > 50_000
    np.testing.assert_array_equal(_score_bins(starts[has_floats]), bins[has_floats])
    np.testing.assert_array_equal(_score_bins(ends[has_floats]), bins[has_floats])
    assert np.all(np.diff(starts) >= 0)


@few
@given(scored_rows(), st.sampled_from(["accuracy", "balanced_accuracy", "f1"]))
def test_the_threshold_that_maximizes_is_the_best_of_all(rows: Rows, metric: str) -> None:
    found = choose_threshold(BinaryCounts.from_scores(*rows), ("maximize", metric))
    assert reached(rows, found.threshold)[metric] == pytest.approx(max(one[metric] for one in all_reached(rows)))
    again = BinaryCounts.from_scores(*rows, threshold=found.threshold)
    assert found.metrics() == again.metrics()  # no rounding moves a row to the other side


@few
@given(scored_rows(), st.sampled_from(["precision", "recall"]), st.sampled_from([0.05, 0.5, 0.8, 0.95, 1.0]))
def test_a_target_is_reached_at_the_least_cost_or_refused_with_the_best(rows: Rows, target: str, wanted: float) -> None:
    counts, other = BinaryCounts.from_scores(*rows), {"precision": "recall", "recall": "precision"}[target]
    possible = [one for one in all_reached(rows) if one[target] >= wanted]
    if not possible:
        best = max(one[target] for one in all_reached(rows))
        with pytest.raises(InputError, match=f"the highest {target} is {best:.4f}, at threshold"):
            choose_threshold(counts, (f"target_{target}", wanted))
        return
    found = reached(rows, choose_threshold(counts, (f"target_{target}", wanted)).threshold)
    assert found[target] >= wanted
    assert found[other] == pytest.approx(max(one[other] for one in possible))


def test_a_threshold_is_a_short_number_in_the_middle_of_its_gap() -> None:
    counts = BinaryCounts.from_scores(np.array([0, 1]), np.array([0.2, 0.9], np.float32))
    assert choose_threshold(counts, ("maximize", "accuracy")).threshold == 0.55
    assert Sweep.of(counts).accuracy.max() == 1.0


def test_rows_of_one_label_have_no_threshold() -> None:
    counts = BinaryCounts.from_scores(np.array([1, 1]), np.array([0.2, 0.9], np.float32))
    with pytest.raises(InputError, match=r"^--maximize needs rows of both labels"):
        choose_threshold(counts, ("maximize", "f1"))


@few
@given(scored_rows())
def test_average_precision_and_the_curve_are_scikit_learns(rows: Rows) -> None:
    counts, (labels, probabilities) = BinaryCounts.from_scores(*rows), rows
    assert counts.average_precision() == pytest.approx(
        reference.average_precision_score(labels, probabilities.astype(np.float64)), abs=1e-9
    )
    curve = counts.precision_recall_curve()
    precision, recall, _ = reference.precision_recall_curve(labels, probabilities)
    np.testing.assert_allclose(curve.precision, precision[-2::-1], atol=1e-9)
    np.testing.assert_allclose(curve.recall, recall[-2::-1], atol=1e-9)


@few
@given(
    npst.arrays(np.int8, 40, elements=st.integers(0, 1)),
    npst.arrays(np.float32, 40, elements=st.floats(0, 1, width=32) | st.floats(0.625, 0.6259765625, width=32)),
)
def test_average_precision_is_within_the_order_of_rows_in_one_bin(
    labels: npt.NDArray[np.int8], probabilities: npt.NDArray[np.float32]
) -> None:
    counts = BinaryCounts.from_scores(labels, probabilities)
    if not labels.any():
        assert counts.average_precision() is None
        return
    least = greatest = found = alarms = 0.0
    occupied = np.flatnonzero(counts.positive_histogram + counts.negative_histogram)[::-1]
    for positives, negatives in zip(
        counts.positive_histogram[occupied], counts.negative_histogram[occupied], strict=True
    ):
        for rank in range(1, int(positives) + 1):
            # Equal probabilities all have the precision after the last of them.
            greatest += (found + positives) / (found + positives + alarms) / counts.positives
            least += (found + rank) / (found + rank + alarms + negatives) / counts.positives
        found, alarms = found + positives, alarms + negatives
    exact = reference.average_precision_score(labels, probabilities.astype(np.float64))
    for value in (exact, counts.average_precision()):
        assert least - 1e-9 <= value <= greatest + 1e-9


@few
@given(
    npst.arrays(np.int8, 60, elements=st.integers(0, 1)),
    npst.arrays(np.float32, 60, elements=st.floats(0, 1, width=32)),
)
def test_the_table_of_thresholds_is_exact_at_the_thresholds_in_it(
    labels: npt.NDArray[np.int8], probabilities: npt.NDArray[np.float32]
) -> None:
    labels[:2] = 0, 1
    table = threshold_table(BinaryCounts.from_scores(labels, probabilities))
    assert [round(row["threshold"], 2) for row in table] == pytest.approx([0.05 * step for step in range(1, 20)])
    for row, shown in zip(table, range(1, 20), strict=True):
        assert -1e-12 <= row["threshold"] - 0.05 * shown < 0.0005
        expected = reached((labels, probabilities), row["threshold"])
        assert {name: row[name] for name in SCORES} == pytest.approx(expected, abs=1e-9)


def test_the_histogram_counts_each_row_once_by_class() -> None:
    random = np.random.default_rng(3)
    labels, probabilities = random.integers(0, 2, 5000), random.random(5000).astype(np.float32)
    bins = histogram(BinaryCounts.from_scores(labels, probabilities))
    for side, label in (("negatives", 0), ("positives", 1)):
        expected, edges = np.histogram(probabilities[labels == label], bins=20, range=(0, 1))
        near = sum(np.abs(probabilities[:, None] - edges[None]).min(axis=1) < 0.0005)
        assert np.abs(np.array([row[side] for row in bins]) - expected).sum() <= 2 * near
        assert sum(row[side] for row in bins) == (labels == label).sum()
    assert [row["from"] for row in bins] == pytest.approx(edges[:-1])


def test_a_thinned_curve_keeps_its_ends() -> None:
    random = np.random.default_rng(3)
    labels, probabilities = random.integers(0, 2, 5000), random.random(5000).astype(np.float32)
    curve = BinaryCounts.from_scores(labels, probabilities).precision_recall_curve()
    thin = thinned(curve)
    assert 90 < len(thin.recall) <= 101
    assert (thin.precision[-1], thin.recall[-1]) == (curve.precision[-1], 1.0)
    nothing = BinaryCounts.from_scores(np.zeros(0, np.int8), np.zeros(0, np.float32)).precision_recall_curve()
    assert thinned(nothing).recall.size == 0
