"""Fits how the logits of the LSTM and of the n-grams are mixed, on the validation rows.

The two logits are the features of a logistic regression with non-negative weights. Its prior is their average after
both are scaled to the same spread; it counts about as much as ten rows. So with few rows the mix stays close to that
average, perfectly separated rows still give finite weights, and without validation rows the mix is the plain average:
the spread on training rows, which the n-grams fit almost perfectly, says nothing about other rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import numpy.typing as npt

from lstm_ray.arrays import Doubles
from lstm_ray.model.weights import Mix
from lstm_ray.train.step.loss import Labels

_MIXES = 21  # number of mixes that are tried, from the n-grams alone to the best mix
_MOST_STEPS = 100
_CLOSE = 1e-12  # predicted decrease at which Newton's method ends


def fit_mix(lstm: npt.NDArray[np.floating], ngrams: npt.NDArray[np.floating], labels: Labels, weights: Doubles) -> Mix:
    """Returns a mix whose loss is close to the best, with as little of the LSTM as that allows.

    The best epoch is chosen on the same rows, so the LSTM looks better on them than on other rows. Therefore mixes
    between the n-grams alone (unscaled) and the best mix (`fit_shares`) are tried in order, and the first one is taken
    whose loss is at most one standard error above the best (the one-standard-error rule of Breiman et al.,
    "Classification and Regression Trees", 1984). The n-grams' logits are calibrated on more rows than these (fit.py):
    on 94 app reviews a new bias cost two percentage points on other rows. On thousands of rows the standard error is
    small, and the mix is close to the best.

    A run that starts from a model (`--from`) starts at the n-grams alone too. The path from that model's mix was tried,
    with 1,800 and 1,000 new rows: log loss on other rows changed by -0.0011 on app reviews (better in four of four
    runs) and by +0.0014 on sentences of film reviews (worse in three of four).

    Args:
        lstm: float[rows], the LSTM's logits.
        ngrams: float[rows], the n-grams' logits.
        labels: The rows' labels; may be empty.
        weights: float64[rows], the rows' weights in the loss.
    """
    best = fit_shares([lstm, ngrams], labels, weights)
    if not len(labels):
        return Mix(*best.tolist())
    alone = np.array([0.0, 1.0, 0.0])
    features, signs = np.stack([lstm, ngrams, np.ones(len(labels))], axis=1), np.where(labels == 1, 1.0, -1.0)

    def losses(at: Doubles) -> Doubles:
        return weights * np.logaddexp(0, -signs * (features @ at))

    for step in np.linspace(0, 1, _MIXES):
        at = (1 - step) * alone + step * best
        worse = losses(at) - losses(best)
        if worse.mean() <= worse.std() / np.sqrt(len(labels)):
            break
    return Mix(*at.tolist())


def fit_shares(parts: Sequence[npt.NDArray[np.floating]], labels: Labels, weights: Doubles) -> Doubles:
    """Returns the weight of each part's logits and the bias of their sum, float64[parts + 1].

    The spread of a part is the root mean square of its logits; z1, z2, ... are the logits divided by their spread. The
    loss is

        sum of weight * cross-entropy of a * z1 + b * z2 + ... + c   +   |(a, b, ..., c) - (m, m, ..., 0)|^2 / 2

    where m is the mean spread divided by the number of parts.

    Args:
        parts: The logits of each part, float[rows].
        labels: The rows' labels; may be empty.
        weights: float64[rows], the rows' weights in the loss.
    """
    spreads = _spreads(*parts)
    spreads[spreads == 0] = 1.0  # all logits are 0: avoid dividing by 0
    features = np.stack(
        [*(part / spread for part, spread in zip(parts, spreads, strict=True)), np.ones(len(labels))], axis=1
    )
    prior = np.array([*np.full(len(parts), spreads.mean() / len(parts)), 0.0])
    # At the minimum some weights are 0. The loss is convex, so every set of weights can be fixed at 0 in turn; the best
    # result without negative weights is the minimum.
    found = [
        _descend(features, labels, weights, prior, np.array([*is_free, True]))
        for is_free in product([True, False], repeat=len(parts))
    ]
    _, best = min(((loss, at) for loss, at in found if at[:-1].min() >= 0), key=lambda one: one[0])
    shares: Doubles = best / [*spreads, 1]
    return shares


def lstm_share(mix: Mix, lstm: npt.NDArray[np.floating], ngrams: npt.NDArray[np.floating]) -> float:
    """Returns the LSTM's share of the mixed logits' spread, 0 to 1."""
    parts = np.array([mix.lstm, mix.ngrams]) * _spreads(lstm, ngrams)
    return float(parts[0] / max(parts.sum(), np.finfo(float).tiny))


def _spreads(*logits: npt.NDArray[np.floating]) -> Doubles:
    """Returns the root mean square of each part's logits; 0 without rows."""
    return np.sqrt([np.square(part, dtype=np.float64).sum() / max(len(part), 1) for part in logits])


def _descend(
    features: Doubles, labels: Labels, weights: Doubles, prior: Doubles, is_free: npt.NDArray[np.bool_]
) -> tuple[float, Doubles]:
    """Returns the lowest loss and its weights, by damped Newton's method; weights that are not free stay 0."""
    signs = np.where(labels == 1, 1.0, -1.0)

    def loss_at(at: Doubles) -> float:
        distance = at - prior
        return float(weights @ np.logaddexp(0, -signs * (features @ at)) + distance @ distance / 2)

    at = np.where(is_free, prior, 0.0)
    loss = loss_at(at)
    for _ in range(_MOST_STEPS):
        wrong = np.exp(-np.logaddexp(0, signs * (features @ at)))  # probability of the other label
        gradient = (at - prior - features.T @ (weights * signs * wrong))[is_free]
        curved = features[:, is_free] * np.sqrt(weights * wrong * (1 - wrong))[:, None]
        step = np.linalg.solve(curved.T @ curved + np.eye(is_free.sum()), gradient)
        predicted, length = gradient @ step, 1.0
        if predicted <= _CLOSE * (1 + loss):
            break
        while True:
            reached = at.copy()
            reached[is_free] -= length * step
            if (there := loss_at(reached)) <= loss - 1e-4 * length * predicted or length < _CLOSE:
                break
            length /= 2
        at, loss = reached, there
    return loss, at
