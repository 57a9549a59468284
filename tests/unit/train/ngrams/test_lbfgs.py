"""L-BFGS against SciPy's, and when it must stop."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from lstm_ray.arrays import Floats
from lstm_ray.train.ngrams.lbfgs import Evaluate, Iterate, minimise


def dot(one: Floats, other: Floats) -> float:
    return float(one.astype(np.float64) @ other)


def never(_: Iterate) -> bool:
    return False


def logistic(size: int, seed: int) -> Evaluate:
    """Returns a penalised logistic loss; its features differ in scale by a factor of 10."""
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(3 * size, size)) * np.logspace(-0.5, 0.5, size)
    signs = generator.choice([-1.0, 1.0], 3 * size)

    def evaluate(at: Floats) -> Iterate:
        margins = signs * (features @ at)
        slopes = -signs * np.exp(-np.logaddexp(0, margins))
        value = np.logaddexp(0, -margins).sum() + at.astype(np.float64) @ at / 20
        return Iterate(at, float(value), (features.T @ slopes + at / 10).astype(np.float32))

    return evaluate


@pytest.mark.parametrize("size", [1, 5, 40])
@pytest.mark.parametrize("seed", range(5))
def test_finds_the_lowest_point(size: int, seed: int) -> None:
    evaluate, evaluations = logistic(size, seed), 0

    def counted(at: Floats) -> Iterate:
        nonlocal evaluations
        evaluations += 1
        return evaluate(at)

    def in_float64(at: np.ndarray) -> tuple[float, np.ndarray]:
        point = evaluate(at)
        return point.value, point.gradient.astype(np.float64)

    expected = minimize(in_float64, np.zeros(size), jac=True, method="L-BFGS-B", tol=1e-9)
    found = minimise(counted, np.zeros(size, np.float32), dot, lambda point: point.value <= expected.fun * (1 + 1e-6))
    assert found.dtype == np.float32
    assert evaluate(found).value == pytest.approx(expected.fun, rel=1e-6)
    assert evaluations <= 1.5 * expected.nfev + 3


def test_stays_where_it_is_low_enough() -> None:
    start = np.full(5, 3, np.float32)
    assert minimise(logistic(5, 0), start, dot, lambda _: True) is start


def test_stops_at_the_exact_minimum() -> None:
    """At the minimum the gradient is 0, and no direction leads down."""

    def bowl(at: Floats) -> Iterate:
        return Iterate(at, dot(at, at) / 2, at.copy())

    found = minimise(bowl, np.array([3, -4], np.float32), dot, never)
    np.testing.assert_allclose(found, 0, atol=1e-6)


def test_comes_back_from_where_there_is_no_value() -> None:
    """The first step, of length 1, leads to 1.01."""

    @np.errstate(divide="ignore", invalid="ignore")
    def barrier(at: Floats) -> Iterate:
        value = float((-np.log(at) - np.log(1 - at))[0])
        return Iterate(at, value, 1 / (1 - at) - 1 / at)

    found = minimise(barrier, np.array([0.01], np.float32), dot, never)
    assert found[0] == pytest.approx(0.5, abs=1e-3)
