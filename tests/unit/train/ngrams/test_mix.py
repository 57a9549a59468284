"""The mix against SciPy, and with few or uninformative rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from lstm_ray.model.weights import Mix
from lstm_ray.train.ngrams.mix import fit_mix, fit_shares, lstm_share


def rows(count: int, seed: int = 0, lstm: float = 1.0, ngrams: float = 1.0) -> tuple[np.ndarray, ...]:
    """Returns logits of both parts, each times a factor, and labels; without the factors both are worth something."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, count).astype(np.int8)
    signal = 2.0 * labels - 1
    parts = (factor * (signal + generator.normal(size=count) * 2) for factor in (lstm, ngrams))
    return *parts, labels


def best_mix(lstm: np.ndarray, ngrams: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> Mix:
    """Returns the mix with the lowest loss."""
    return Mix(*fit_shares([lstm, ngrams], labels, weights).tolist())


@settings(max_examples=50)
@given(
    st.integers(1, 200),
    st.integers(0, 1000),
    st.sampled_from([-1.0, 0.0, 1e-4, 1.0, 30.0]),
    st.sampled_from([-1.0, 1.0]),
    st.sampled_from([1.0, 3.0]),
)
def test_the_loss_is_the_lowest(count: int, seed: int, factor: float, other: float, weight: float) -> None:
    lstm, ngrams, labels = rows(count, seed, factor, other)
    weights = np.where(labels == 1, weight, 1.0)
    spreads = [np.sqrt(np.square(part).mean()) or 1.0 for part in (lstm, ngrams)]
    center = np.array([np.mean(spreads) / 2, np.mean(spreads) / 2, 0])

    def loss(at: np.ndarray) -> float:
        logits = at[0] * lstm / spreads[0] + at[1] * ngrams / spreads[1] + at[2]
        return float(weights @ np.logaddexp(0, -(2.0 * labels - 1) * logits) + np.square(at - center).sum() / 2)

    mix = best_mix(lstm, ngrams, labels, weights)
    assert min(mix.lstm, mix.ngrams) >= 0
    bounds = [(0, None), (0, None), (None, None)]
    expected = minimize(loss, center, bounds=bounds, method="L-BFGS-B", tol=1e-12)
    assert loss(np.array([mix.lstm * spreads[0], mix.ngrams * spreads[1], mix.bias])) <= expected.fun + 1e-6


def test_without_rows_it_is_the_plain_average() -> None:
    none = np.zeros(0)
    assert fit_mix(none, none, np.zeros(0, np.int8), none) == Mix(0.5, 0.5, 0.0)


def test_a_few_rows_lean_to_the_average_of_equal_spread() -> None:
    lstm, ngrams, labels = rows(3, lstm=20.0)
    share = lstm_share(best_mix(lstm, ngrams, labels, np.ones(3)), lstm, ngrams)
    assert share == pytest.approx(0.5, abs=0.1)


def test_separable_rows_do_not_explode() -> None:
    labels = np.tile(np.array([0, 1], np.int8), 10)
    for scale in (0.1, 1.0, 16.0):
        logits = scale * (2.0 * labels - 1)
        mix = best_mix(logits, logits, labels, np.ones(20))
        assert 0.3 < mix.lstm * scale < 20
        assert mix.lstm == pytest.approx(mix.ngrams)
        assert mix.bias == pytest.approx(0, abs=1e-6)


def test_rows_of_one_class_give_a_finite_bias() -> None:
    lstm, ngrams, _ = rows(50)
    mix = fit_mix(lstm, ngrams, np.ones(50, np.int8), np.ones(50))
    assert 0 < mix.bias < 10


@pytest.mark.parametrize(("lstm", "ngrams"), [(0.0, 1.0), (-1.0, 1.0)])
def test_a_part_that_knows_nothing_gets_no_share(lstm: float, ngrams: float) -> None:
    parts = rows(2000, lstm=lstm, ngrams=ngrams)
    mix = fit_mix(*parts, np.ones(2000))
    assert lstm_share(mix, parts[0], parts[1]) == 0
    assert mix.ngrams > 0.3


def test_the_part_that_errs_less_gets_the_larger_share() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 2000).astype(np.int8)
    good, poor = (2.0 * labels - 1 + generator.normal(size=2000) * noise for noise in (1, 4))
    mix = fit_mix(good, 5 * poor, labels, np.ones(2000))
    assert 0.7 < lstm_share(mix, good, 5 * poor) < 0.95


def test_any_number_of_parts_is_mixed() -> None:
    lstm, ngrams, labels = rows(500)
    third = np.random.default_rng(1).normal(size=500)
    shares = fit_shares([lstm, third, ngrams], labels, np.ones(500))
    assert shares.shape == (4,)
    both = fit_shares([lstm, ngrams], labels, np.ones(500))
    np.testing.assert_allclose(shares[[0, 2]], both[:2], rtol=0.2)
    assert 0 <= shares[1] < 0.5 * both[:2].min()


def test_the_lstm_gets_no_share_where_few_rows_do_not_show_that_it_helps() -> None:
    _, ngrams, labels = rows(60)
    lstm = ngrams + np.random.default_rng(2).normal(size=60)  # it knows no more than the n-grams
    assert best_mix(lstm, ngrams, labels, np.ones(60)).lstm > 0
    mix = fit_mix(lstm, ngrams, labels, np.ones(60))
    assert mix.lstm == 0
    assert mix.ngrams > 0


def test_on_many_rows_the_mix_is_close_to_the_best() -> None:
    lstm, ngrams, labels = rows(50_000)
    mix, best = (fit(lstm, ngrams, labels, np.ones(50_000)) for fit in (fit_mix, best_mix))
    assert 0.8 * best.lstm < mix.lstm <= best.lstm
    near, lowest = (
        np.logaddexp(0, -(2.0 * labels - 1) * (one.lstm * lstm + one.ngrams * ngrams + one.bias)).mean()
        for one in (mix, best)
    )
    assert lowest <= near < lowest + 0.001
