"""Intervals and tests agree with SciPy's, and with formulas that are written out row by row."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from lstm_ray.evaluate.intervals import (
    adjusted,
    auc_interval,
    compare_paired,
    part_p_value,
    share_interval,
    show_interval,
)

few = settings(max_examples=50)  # SciPy takes milliseconds a test
COUNT = st.one_of(st.integers(0, 30), st.integers(0, 10**7))


@few
@given(COUNT, COUNT)
def test_the_interval_of_a_share_is_wilsons(successes: int, failures: int) -> None:
    rows = successes + failures
    if not rows:
        assert share_interval(0, 0) is None
        return
    expected = stats.binomtest(successes, rows).proportion_ci(method="wilson")
    assert share_interval(successes, rows) == pytest.approx((expected.low, expected.high), abs=1e-9)


@few
@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=40))
def test_the_interval_of_auc_is_delongs_row_by_row(rows: list[tuple[int, bool]]) -> None:
    histograms = np.zeros((2, 10), np.int64)
    for score, is_positive in rows:
        histograms[int(is_positive), score] += 1
    found = auc_interval(histograms[1], histograms[0])
    positives = np.array([score for score, is_positive in rows if is_positive])
    negatives = np.array([score for score, is_positive in rows if not is_positive])
    if min(len(positives), len(negatives)) < 2:
        assert found is None
        return
    # psi of each pair: 1 in order, 1/2 for a tie; a row's component is its mean over the other class.
    psi = (np.sign(positives[:, None] - negatives[None, :]) + 1) / 2
    variance = np.var(psi.mean(axis=1), ddof=1) / len(positives) + np.var(psi.mean(axis=0), ddof=1) / len(negatives)
    if variance < 1e-18:
        assert found is None
        return
    margin = stats.norm.ppf(0.975) * math.sqrt(variance)
    assert found == pytest.approx((max(0.0, psi.mean() - margin), min(1.0, psi.mean() + margin)), abs=1e-9)


@few
@given(st.integers(0, 300), st.integers(0, 300))
def test_the_exact_test_of_two_models_is_a_binomial_test(only_first: int, only_second: int) -> None:
    assume(only_first + only_second)
    compared = compare_paired(only_first, only_second, 1000)
    expected = stats.binomtest(only_first, only_first + only_second).pvalue
    assert compared.p_value == pytest.approx(expected, abs=1e-9)
    assert compared.test == "McNemar, exact"


@pytest.mark.parametrize(("only_first", "only_second"), [(700, 600), (501, 500), (2000, 2000), (10**6, 10**6 + 5000)])
def test_the_corrected_test_of_two_models_is_a_chi_squared_test(only_first: int, only_second: int) -> None:
    compared = compare_paired(only_first, only_second, 10**7)
    statistic = max(0, abs(only_first - only_second) - 1) ** 2 / (only_first + only_second)
    assert compared.p_value == pytest.approx(stats.chi2.sf(statistic, 1), rel=1e-9)
    assert compared.test == "McNemar, corrected"
    exact = stats.binomtest(only_first, only_first + only_second).pvalue
    assert compared.p_value == pytest.approx(exact, abs=2e-3)  # so nothing jumps where the method changes


def test_the_interval_of_a_difference_covers_it_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    rows, shares = 200, (0.06, 0.02, 0.92)  # only the first right, only the second, both or neither
    drawn = random.multinomial(rows, shares, size=4000)
    intervals = [compare_paired(first, second, rows).interval for first, second, _ in drawn.tolist()]
    covered = np.mean([low <= shares[0] - shares[1] <= high for low, high in intervals])
    assert 0.94 < covered < 0.98


@few
@given(st.data(), st.integers(2, 3000))
def test_the_test_of_a_part_is_fishers(data: st.DataObject, all_rows: int) -> None:
    all_successes = data.draw(st.integers(0, all_rows))
    rows = data.draw(st.integers(1, all_rows))
    successes = data.draw(st.integers(max(0, rows + all_successes - all_rows), min(rows, all_successes)))
    found = part_p_value(successes, rows, all_successes, all_rows)
    if rows == all_rows:
        assert found is None
        return
    drawn = stats.hypergeom(all_rows, all_successes, rows)
    upper, lower = drawn.sf(successes - 1), drawn.cdf(successes)
    expected = 2 * (upper if successes > rows * all_successes / all_rows else lower)
    assert found == pytest.approx(min(1.0, expected), rel=1e-7, abs=1e-300)


def test_a_part_of_millions_of_rows_is_tested_in_no_time() -> None:
    found = part_p_value(4_501_500, 5_000_000, 90_000_000, 100_000_000)
    assert found is not None
    assert found == pytest.approx(2 * stats.hypergeom(10**8, 9 * 10**7, 5 * 10**6).sf(4_501_499), rel=1e-5)


@few
@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=12))
def test_holms_correction_rejects_step_by_step(p_values: list[float | None]) -> None:
    corrected = adjusted(p_values)
    known = sorted(value for value in p_values if value is not None)
    rejected = 0  # Holm: the smallest against level / n, the next against level / (n - 1), until one is not rejected
    while rejected < len(known) and known[rejected] * (len(known) - rejected) < 0.05:
        rejected += 1
    assert sum(value is not None and value < 0.05 for value in corrected) == rejected
    assert [value is None for value in corrected] == [value is None for value in p_values]


def test_an_interval_stands_in_brackets_after_its_figure() -> None:
    assert f"0.8{show_interval((0.81234, 0.9))}" == "0.8 (0.8123 to 0.9000)"
    assert f"0.8{show_interval(None)}" == "0.8"
