"""Metrics agree with scikit-learn's on the same rows, and parts merge to the counts of the whole."""

import functools
import json
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from sklearn import calibration
from sklearn import metrics as reference
from sklearn.dummy import DummyClassifier

from lstm_ray.evaluate.counts import LOG_LOSS_EPSILON, SCORE_BINS, BinaryCounts, _score_bins

approx = functools.partial(pytest.approx, rel=1e-9, abs=1e-12)
"""Equal as far as sums of float64 are."""

PROBABILITY = st.one_of(
    st.floats(0, 1, width=32),
    st.floats(-100, 20, width=32).map(lambda logit: float(np.float32(1 / (1 + np.exp(-np.float64(logit)))))),
    st.sampled_from([float(np.float32(share)) for share in (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)]),
)


@st.composite
def scored_rows(draw, min_rows=1):
    """Labels int8[rows] and probabilities float32[rows], of one class or two, with ties and with edge values."""
    rows = draw(st.integers(min_rows, 60))
    labels = draw(npst.arrays(np.int8, rows, elements=st.integers(0, 1)))
    probabilities = draw(npst.arrays(np.float32, rows, elements=PROBABILITY))
    return labels, probabilities


def auc_error_bound(counts):
    """The largest possible difference of `auc` and the AUC without bins; None if `auc` is None.

    Two rows in one bin count as a tie, half right. So each pair of a positive and a negative row in the same bin can be
    wrong by a half.
    """
    if counts.positives == 0 or counts.negatives == 0:
        return None
    pairs = counts.positive_histogram.astype(np.float64) @ counts.negative_histogram.astype(np.float64)
    return 0.5 * pairs / counts.positives / counts.negatives


def assert_same_counts(left, right):
    np.testing.assert_allclose(left.to_array(), right.to_array(), rtol=1e-9, atol=1e-12)
    assert left.threshold == right.threshold


@given(scored_rows(), st.sampled_from([0.0, 0.3, 0.5, 0.9, 1.0]))
def test_ratios_are_those_of_scikit_learn(rows, threshold):
    labels, probabilities = rows
    predicted = (probabilities > np.float32(threshold)).astype(np.int8)
    wide = probabilities.astype(np.float64)  # in float32, scikit-learn's squares are off by 1e-7
    metrics = BinaryCounts.from_scores(labels, probabilities, threshold).metrics()

    assert metrics["rows"] == len(labels)
    assert metrics["positives"] == labels.sum()
    assert metrics["threshold"] == threshold
    assert [metrics[f"{kind}s"] for kind in ("true_negative", "false_positive", "false_negative", "true_positive")] == (
        reference.confusion_matrix(labels, predicted, labels=[0, 1]).ravel().tolist()
    )
    assert metrics["accuracy"] == approx(reference.accuracy_score(labels, predicted))
    right = labels == predicted
    assert metrics["accuracy_standard_error"] == approx(np.std(right) / np.sqrt(len(right)))
    always_larger = DummyClassifier(strategy="most_frequent").fit(labels[:, None], labels)
    assert metrics["base_rate"] == approx(always_larger.score(labels[:, None], labels))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # only one class occurs: scikit-learn takes the mean over that one
        expected = reference.balanced_accuracy_score(labels, predicted)
    assert metrics["balanced_accuracy"] == approx(expected)
    assert metrics["precision"] == approx(reference.precision_score(labels, predicted, zero_division=0))
    assert metrics["recall"] == approx(reference.recall_score(labels, predicted, zero_division=0))
    assert metrics["f1"] == approx(reference.f1_score(labels, predicted, zero_division=0))
    assert metrics["specificity"] == approx(reference.recall_score(labels, predicted, pos_label=0, zero_division=0))
    assert metrics["brier"] == approx(reference.brier_score_loss(labels, wide, pos_label=1))


@given(scored_rows())
def test_log_loss_is_that_of_scikit_learn(rows):
    labels, probabilities = rows
    wide = probabilities.astype(np.float64)  # in float32, scikit-learn's 1 - p is off by 1e-3 of a loss of 1e-5
    expected = reference.log_loss(labels, np.clip(wide, LOG_LOSS_EPSILON, 1 - LOG_LOSS_EPSILON), labels=[0, 1])
    assert BinaryCounts.from_scores(labels, probabilities).metrics()["log_loss"] == approx(expected)


@given(scored_rows())
def test_auc_is_within_its_stated_bound(rows):
    labels, probabilities = rows
    counts = BinaryCounts.from_scores(labels, probabilities)
    auc, bound = counts.metrics()["auc"], auc_error_bound(counts)
    if len(set(labels.tolist())) < 2:
        assert auc is None
        assert bound is None
    else:
        assert abs(auc - reference.roc_auc_score(labels, probabilities)) <= bound + 1e-9


@pytest.mark.parametrize(
    ("centre", "spread"),
    [
        (0, 1),
        (0, 4),
        (0, 20),
        (-14, 1),
        (-30, 3),
        (-6, 0.5),
        (6, 0.5),
        (12, 1),
        (16, 2),
        (0, 1e-2),
        (0, 1e-4),
        (1, 0.1),
    ],
)
@pytest.mark.parametrize("separation", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("positive_share", [0.5, 0.05])
def test_auc_is_that_of_scikit_learn_wherever_probabilities_pack(centre, spread, separation, positive_share):
    rng = np.random.default_rng(7)
    labels = (rng.random(20_000) < positive_share).astype(np.int8)
    logits = centre + spread * (rng.normal(size=labels.size) + separation * labels)
    probabilities = (1 / (1 + np.exp(-logits))).astype(np.float32)
    auc = BinaryCounts.from_scores(labels, probabilities).metrics()["auc"]
    assert auc == pytest.approx(reference.roc_auc_score(labels, probabilities), abs=1e-4)


def test_auc_of_few_rows_with_distinct_float32_next_to_one_and_to_a_half_is_exact():
    for centre in (1.0, 0.5):
        first = np.float32(centre)
        second = np.nextafter(first, np.float32(0))
        third = np.nextafter(second, np.float32(0))
        counts = BinaryCounts.from_scores(np.array([0, 1, 1]), np.array([third, second, first]))
        assert counts.metrics()["auc"] == 1.0
        assert auc_error_bound(counts) == 0.0


def test_auc_counts_ties_as_half():
    counts = BinaryCounts.from_scores(np.array([0, 1, 1, 0]), np.full(4, 0.7, dtype=np.float32))
    assert counts.metrics()["auc"] == 0.5


@given(npst.arrays(np.float32, st.integers(1, 200), elements=PROBABILITY))
def test_a_higher_probability_never_has_a_lower_bin(probabilities):
    bins = _score_bins(np.sort(probabilities))
    assert np.all(np.diff(bins) >= 0)
    assert bins[0] >= 0
    assert bins[-1] < SCORE_BINS


def test_score_bins_reach_from_the_first_to_the_last_and_rise_over_all_of_float32():
    every_997th = np.arange(0, np.float32(1).view(np.int32) + 1, 997, dtype=np.int32).view(np.float32)
    bins = _score_bins(np.append(every_997th, np.float32(1)))
    assert np.all(np.diff(bins) >= 0)
    assert (bins[0], bins[-1]) == (0, SCORE_BINS - 1)


@given(scored_rows())
def test_reliability_is_scikit_learns_calibration_curve(rows):
    labels, probabilities = rows
    counts = BinaryCounts.from_scores(labels, probabilities)
    curve = counts.reliability()
    share, mean = calibration.calibration_curve(labels, probabilities.astype(np.float64), n_bins=10, pos_label=1)
    np.testing.assert_allclose(curve.positive_share, share)
    np.testing.assert_allclose(curve.mean_probability, mean)
    error = np.average(np.abs(share - mean), weights=curve.rows)
    assert counts.metrics()["calibration_error"] == pytest.approx(error, abs=1e-12)


@pytest.mark.parametrize("rows", [500, 5_000])
def test_calibrated_probabilities_are_off_by_what_chance_explains(rows):
    generator = np.random.default_rng(0)
    probabilities = generator.beta(0.5, 0.5, rows).astype(np.float32)
    drawn = [BinaryCounts.from_scores((generator.random(rows) < probabilities) * 1, probabilities) for _ in range(300)]
    errors = [counts.metrics()["calibration_error"] for counts in drawn]
    assert drawn[0].calibration_error_by_chance() == pytest.approx(np.mean(errors), rel=0.05)
    assert np.quantile(errors, 0.95) < 1.5 * drawn[0].calibration_error_by_chance()


@given(scored_rows())
def test_roc_curve_rises_from_corner_to_corner_and_has_the_area_of_auc(rows):
    counts = BinaryCounts.from_scores(*rows)
    false_positive_rate, true_positive_rate = counts.roc_curve()
    if counts.metrics()["auc"] is None:
        assert false_positive_rate.size == true_positive_rate.size == 0
        return
    for rate in (false_positive_rate, true_positive_rate):
        assert (rate[0], rate[-1]) == (0.0, 1.0)
        assert np.all(np.diff(rate) >= 0)
    assert reference.auc(false_positive_rate, true_positive_rate) == pytest.approx(counts.metrics()["auc"])


@given(scored_rows(min_rows=0), scored_rows(min_rows=0), scored_rows(min_rows=0))
def test_merging_is_counting_the_concatenation_in_any_order(first, second, third):
    a, b, c = (BinaryCounts.from_scores(*rows, 0.4) for rows in (first, second, third))
    together = [np.concatenate(parts) for parts in zip(first, second, third, strict=True)]
    whole = BinaryCounts.from_scores(*together, 0.4)
    assert_same_counts(a + b + c, whole)
    assert_same_counts(a + (b + c), whole)
    assert_same_counts(c + b + a, whole)
    summed = sum(part.to_array() for part in (a, b, c))
    assert_same_counts(BinaryCounts.from_array(summed, threshold=0.4), whole)


@given(scored_rows())
def test_an_array_reads_back_as_the_counts_it_was_written_from(rows):
    counts = BinaryCounts.from_scores(*rows)
    again = BinaryCounts.from_array(counts.to_array(), threshold=0.5)
    assert again.metrics() == counts.metrics()
    np.testing.assert_array_equal(again.to_array(), counts.to_array())


def test_no_rows_give_no_ratios_but_are_a_part_that_merges():
    nothing = BinaryCounts.from_scores(np.zeros(0, np.int8), np.zeros(0, np.float32))
    metrics = nothing.metrics()
    assert {name for name, value in metrics.items() if value is None} == {
        "accuracy", "accuracy_standard_error", "base_rate", "balanced_accuracy", "precision", "recall", "f1",
        "specificity", "auc", "log_loss", "brier", "calibration_error",
    }  # fmt: skip
    assert metrics["rows"] == metrics["positives"] == 0
    assert nothing.reliability().rows.size == 0
    some = BinaryCounts.from_scores(np.array([0, 1]), np.array([0.2, 0.9], np.float32))
    assert (nothing + some).metrics() == some.metrics()


def test_metrics_are_plain_numbers_that_json_takes():
    counts = BinaryCounts.from_scores(np.array([1, 1]), np.array([0.2, 0.3], np.float32))
    metrics = json.loads(json.dumps(counts.metrics()))
    assert metrics["auc"] is None
    assert metrics["precision"] == 0.0


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([0, 1], [0.5, float("nan")], "got nan in row 1"),
        ([0, 1], [1.5, 0.5], "got 1.5 in row 0"),
        ([0, 1], [-0.1, 0.5], "from 0 to 1"),
        ([0, 2], [0.5, 0.5], "0 or 1, got 2 in row 1"),
        ([0, 1, 1], [0.5, 0.5], "one length"),
        ([[0, 1]], [[0.5, 0.5]], "two vectors"),
    ],
)
def test_unusable_scores_are_refused_with_the_row(labels, probabilities, message):
    with pytest.raises(ValueError, match=message):
        BinaryCounts.from_scores(np.array(labels), np.array(probabilities, dtype=np.float32))


def test_parts_with_different_thresholds_do_not_merge():
    labels, probabilities = np.array([0, 1]), np.array([0.2, 0.9], np.float32)
    with pytest.raises(ValueError, match=r"0\.5 and 0\.6"):
        BinaryCounts.from_scores(labels, probabilities, 0.5) + BinaryCounts.from_scores(labels, probabilities, 0.6)


def test_a_vector_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match="shape"):
        BinaryCounts.from_array(np.zeros(7), threshold=0.5)
