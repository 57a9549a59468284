"""Fits the n-gram part: the sum of two logistic regressions on the distinct n-grams of the training rows.

A row's features are the buckets of its n-grams, and the subwords (character n-grams) of its words. Each feature has a
fixed multiplier and a learned factor. The two regressions differ in the multiplier:

    ratio    how much more frequent the feature is in positive rows: log((p / sum of all p) / (q / sum of all q)),
             p = 1 + occurrences in positive rows, q = 1 + occurrences in negative rows   (Wang & Manning 2012)
    idf      how rare the feature is: 1 + log((1 + rows) / (1 + occurrences)), divided so that the mean square length
             of a row is 1                                                          (scikit-learn's TfidfVectorizer)

    logit of a row = bias + sum of multiplier * factor over its features
    loss = sum over the rows of class weight * cross-entropy  +  |factors|^2 / (2 C)

On few rows the first is better for long texts and the second for short ones; their sum is better than either. Subwords
help too: rare words learn from similar words (docs/explanation/best.md). The weights of the two regressions in the
sum are fitted on rows that they were not trained on: each fifth of the training rows in turn, or only one fifth if
there are many rows (mix.py). The table of a model that is trained on (`--from`) is a third part of the sum, weighted in
the same way. The sum of linear functions is linear, and the subwords of a word are fixed, so the result is one table of
buckets.

Each worker has the buckets of its own rows; counts, losses and gradients are summed over the workers.

Sources: S. Wang, C. Manning, "Baselines and Bigrams: Simple, Good Sentiment and Topic Classification", 2012;
scikit-learn, "Tf-idf term weighting"; P. Bojanowski et al., "Enriching Word Vectors with Subword Information", 2017.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_ray.arrays import Doubles, Floats
from lstm_ray.collective.protocol import Collective
from lstm_ray.runtime.threads import Threads
from lstm_ray.text.ngrams import Bags
from lstm_ray.train.ngrams.mix import fit_shares
from lstm_ray.train.ngrams.rows import Linear, Rows, Words
from lstm_ray.train.step.loss import Labels

_CLOSE = 1e-6
_IDF_CLOSE = 1e-2  # on IMDb 96 evaluations instead of 247, with the same accuracy: the bound is far from tight here
_FOLDS = 5
_MANY_ROWS = 5_000  # from here on, one fold is enough to fit the weights of the two regressions
_IDF_STRENGTH = 30.0  # best on average among 1 to 100, for 500 and 2,000 rows of three corpora; it matters little
_RATIO_SUBWORDS, _IDF_SUBWORDS = 0.3, 0.5
"""Additional multipliers of subwords: about the best among 0.15 to 2, for 500 and 2,000 rows of three corpora."""


@dataclass(frozen=True)
class NgramPart:
    """The fitted n-gram part: a row's logit is the bias and the sum of the table over its distinct n-grams.

    Attributes:
        table: float32[ngram_buckets], 0 for buckets that no training row has.
        bias: Added to the sum.
    """

    table: Floats
    bias: float

    def arrays(self) -> list[npt.NDArray[Any]]:
        """Returns table and bias as a checkpoint keeps them."""
        return [self.table, np.array(self.bias)]

    @classmethod
    def from_arrays(cls, arrays: list[npt.NDArray[Any]]) -> NgramPart:
        """Returns the part that `arrays` came from."""
        table, bias = arrays
        return cls(table, float(bias))

    def logits(self, bags: Bags) -> Doubles:
        """Returns the logit of each row, float64[rows]."""
        return bags.sums(self.table) + self.bias


def fit(
    bags: Bags,
    labels: Labels,
    class_weights: tuple[float, float],
    *,
    strength: float,
    buckets: int,
    words: Words,
    collective: Collective,
    threads: Threads,
    evaluated: Callable[[], None],
    before: Floats | None = None,
) -> NgramPart:
    """Fits the n-gram part. All workers must call this, and all get the same result.

    Args:
        bags: This worker's training rows: those with the numbers rank, rank + world_size, ...
        labels: Labels of these rows.
        class_weights: Weights of negative and positive rows in the loss.
        strength: C of the first regression, the inverse strength of its penalty as in scikit-learn.
        buckets: Number of buckets.
        words: The words of the vocabulary.
        collective: The workers.
        threads: The threads that compute the sums.
        evaluated: Called after each evaluation of a loss, a few hundred times; an error that it raises ends the fit.
        before: float32[buckets], the table of a model that was trained on other rows; a third part of the sum.
    """
    earlier = None if before is None else bags.sums(before)  # now: `Rows` uses the memory of the bags
    rows = Rows(bags, labels, np.array(class_weights)[labels], buckets, words, collective, threads, evaluated)
    numbers = collective.rank + collective.world_size * np.arange(len(labels))
    folds = _FOLDS if rows.total < _MANY_ROWS else 1
    measured = numbers % _FOLDS < folds
    found, unseen = [], []
    for view in (Ratio(strength), Idf()):
        found.append(view.fit(rows, np.ones(len(labels))))
        logits = np.zeros(len(labels))
        for fold in range(folds):
            is_unseen = numbers % _FOLDS == fold
            logits[is_unseen] = rows.logits(view.fit(rows, ~is_unseen * 1.0))[is_unseen]
        unseen.append(rows.gathered(numbers, measured, logits))
    if earlier is not None:
        unseen.append(rows.gathered(numbers, measured, earlier))
    everyone = rows.gathered(numbers, measured, np.where(labels == 1, 1.0, -1.0))
    is_known = everyone != 0
    weights = np.where(everyone[is_known] > 0, class_weights[1], class_weights[0])
    shares = fit_shares([part[is_known] for part in unseen], (everyone[is_known] > 0).astype(np.int8), weights)
    shares = collective.all_gather(shares)[0]  # those of worker 0, because processors may round differently
    table = np.zeros(buckets, np.float32)
    table[rows.buckets] = sum(np.float32(share) * one.weights for share, one in zip(shares, found, strict=False))
    if before is not None:
        table += np.float32(shares[len(found)]) * before
    return NgramPart(
        table, float(shares[-1] + sum(share * one.bias for share, one in zip(shares, found, strict=False)))
    )


@dataclass(frozen=True)
class Ratio:
    """Logistic regression on features multiplied by the log ratio of their frequencies in the classes.

    Attributes:
        strength: C, the inverse strength of the penalty.
    """

    strength: float

    def fit(self, rows: Rows, used: Doubles) -> Linear:
        """Fits the regression on the rows where `used` is 1, not 0. All workers must call this."""
        positive, negative = (rows.by_kind(rows.totals(used * (rows.labels == label))) for label in (1, 0))
        multipliers = [
            share * _log_ratios(1 + p.astype(np.float64), 1 + q.astype(np.float64))
            for share, p, q in zip((1, _RATIO_SUBWORDS), positive, negative, strict=True)
        ]
        return rows.minimise(np.concatenate(multipliers).astype(np.float32), used, self.strength, _CLOSE)


class Idf:
    """Logistic regression on features multiplied by how rare they are."""

    def fit(self, rows: Rows, used: Doubles) -> Linear:
        """Fits the regression on the rows where `used` is 1, not 0. All workers must call this."""
        count = rows.sum_over_workers(used.sum())
        multipliers = [
            share * _idf(occurring.astype(np.float64), count)
            for share, occurring in zip((1, _IDF_SUBWORDS), rows.by_kind(rows.totals(used)), strict=True)
        ]
        return rows.minimise(np.concatenate(multipliers).astype(np.float32), used, _IDF_STRENGTH, _IDF_CLOSE)


def _log_ratios(p: Doubles, q: Doubles) -> Doubles:
    """Returns the log ratio of each feature's frequencies."""
    ratios: Doubles = np.log(p / p.sum() * (q.sum() / q))
    return ratios


def _idf(occurring: Doubles, rows: float) -> Doubles:
    """Returns each feature's inverse document frequency, scaled so that the mean square length of a row is 1."""
    # A subword may occur more often than there are rows.
    idf = np.where(occurring > 0, np.maximum(1 + np.log((1 + rows) / (1 + occurring)), 0), 0)
    idf /= max(np.sqrt(occurring @ np.square(idf) / max(rows, 1)), 1)
    return idf
