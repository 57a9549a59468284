"""How far a scored corpus has moved from the rows that its model was trained on.

The measure is the population stability index of two histograms: with e the shares of the training data's rows in the
bins, and a those of the scored rows,

    PSI = sum over the bins of (a - e) * ln(a / e)

It is the symmetrised Kullback-Leibler divergence, and 0 if nothing has moved. Below 0.1 a population counts as stable;
from 0.25 on it has moved much. Source: Siddiqi, "Credit Risk Scorecards", 2006. An empty bin counts as a share of
0.0001, so that a bin which no training row is in has its weight, but not an infinite one.

Few rows may reach 0.25 by chance. So an index also has to be significant by the chi-square test of two histograms
(Press et al., "Numerical Recipes", 14.3): the statistic is more than five standard deviations above its mean. For that,
bins are joined with their neighbours until five rows of the smaller corpus are expected in each (Cochran's rule).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from lstm_ray.arrays import Integers
from lstm_ray.model.profile import Profile, TrainingData

SOME, MUCH = 0.1, 0.25
_LEAST_SHARE = 1e-4
_LEAST_ROWS = 5.0
_DEVIATIONS = 5.0

Verdict = Literal["no", "some", "much"]


@dataclass(frozen=True)
class Movement:
    """How far one property of a corpus has moved.

    Attributes:
        name: The property: unknown_words, lengths, truncated, without_words or scores.
        here: Its figure in the scored corpus: a share of rows or words, or words a row; of scores the share of
            positives, None if the training data's were decided differently.
        training: The same in the training data; None if the bundle does not have it, or if `here` is None.
        psi: Population stability index of the two histograms; None if the bundle has no histogram.
        moved: "no", "some" or "much"; None likewise.
    """

    name: str
    here: float | None
    training: float | None
    psi: float | None
    moved: Verdict | None

    def to_json(self) -> dict[str, float | str | None]:
        """Returns all but the name, as JSON has them."""
        return {key: value for key, value in vars(self).items() if key != "name"}

    @property
    def title(self) -> str:
        """What people call the figure."""
        return "scores" if self.here is None else _TITLES[self.name]

    def show(self, figure: float | None) -> str:
        """Returns `here` or `training` as people read it."""
        if figure is None:
            return "—"
        return f"{figure:,.1f}" if self.name == "lengths" else f"{figure:.1%}"

    def describe(self) -> str:
        """Returns how a property that has moved did so, as people read it."""
        if self.here is None:
            return f"stability index of the {self.title} {self.psi:.2f}"
        figures = f"{self.title} {self.show(self.here)} instead of {self.show(self.training)}"
        # Lengths may have moved although their means are alike.
        return f"{figures} (stability index {self.psi:.2f})" if self.name == "lengths" else figures


_TITLES = {
    "unknown_words": "unknown words",
    "lengths": "words read per row",
    "truncated": "truncated rows",
    "without_words": "rows without words",
    "scores": "rows scored positive",
}
_CAUSES = {
    "scores": "other opinions, or texts that the model takes for such",
    "unknown_words": "another language, subject or column, or a damaged encoding",
    "lengths": "another kind of text, or rows such as those that training left out because of their labels",
    "truncated": "another kind of text",
    "without_words": "the wrong column for the texts",
}


def compare(corpus: Profile, trained_on: TrainingData | None, positive: float | None) -> list[Movement]:
    """Returns how far each property of a scored corpus has moved from the training data.

    Unknown words are compared with the validation rows, if there are any: the vocabulary was made of the training rows,
    which therefore have fewer of them than any new text. Scores exist for validation rows alone.

    Args:
        corpus: Counts of the scored rows.
        trained_on: Those of the training data; None if the bundle does not hold them.
        positive: Share of the scored rows that are positive, also of those that are not in `corpus`; None if another
            threshold than the model's, or a band, decided that: the training data's share is then of something else.
    """
    if not corpus.rows:
        return []
    trained_on = trained_on or TrainingData()
    rows, validation = trained_on.training + trained_on.validation, trained_on.validation
    new = validation if validation.rows else rows
    scores, *others = [
        _movement(name, of(corpus), of(reference))
        for name, of, reference in (
            ("scores", lambda one: (one.scores, one.positives, one.rows), validation),
            ("unknown_words", lambda one: (one.unknown_shares, one.unknown, one.words), new),
            ("lengths", lambda one: (one.lengths, one.words, one.rows), rows),
            ("truncated", lambda one: _share(one.truncated, one.rows), rows),
            ("without_words", lambda one: _share(one.without_words, one.rows + one.without_words), rows),
        )
    ]
    return [replace(scores, here=positive, training=None if positive is None else scores.training), *others]


def psi(corpus: Integers, training: Integers) -> float:
    """Returns the population stability index of two histograms with rows."""
    here, there = (np.maximum(one / max(one.sum(), 1), _LEAST_SHARE) for one in (corpus, training))
    return float(((here - there) * np.log(here / there)).sum())


def warn(movements: Sequence[Movement], max_rows: object = None) -> str | None:
    """Returns what it means that a corpus has moved much, and what to do; None if it has not.

    Args:
        movements: As `compare` returns them.
        max_rows: The number of first rows that were scored; None if all were.
    """
    much = [one for one in movements if one.moved == "much"]
    if not much:
        return None
    what = "these texts are not like those that the model was trained on"
    if all(one.name == "scores" for one in much):
        what = "the scores of these texts are not like those of the model's validation rows"
    figures = ", ".join(one.describe() for one in much)
    causes = "; or ".join(dict.fromkeys(_CAUSES[one.name] for one in much))
    if max_rows is not None:
        causes = f"--max-rows takes the first rows, which are unlike the others if the input is sorted; or {causes}"
    return (
        f"{what}: {figures}. Possible causes: {causes}. Before you use "
        "the scores, label a few hundred of the rows and run lstm-ray evaluate on them; where the model fails, train "
        "with such rows too"
    )


Counted = tuple[Integers, int, int]
"""A histogram, and a figure's numerator and denominator."""


def _share(some: int, rows: int) -> Counted:
    """Returns the histogram and the figure of a share of rows."""
    return np.array([some, rows - some]), some, rows


def _movement(name: str, corpus: Counted, training: Counted) -> Movement:
    (here, *shares), (there, *training_shares) = corpus, training
    figure, before = (some / max(rows, 1) for some, rows in (shares, training_shares))
    if not there.any():
        return Movement(name, figure, None, None, None)
    here, there = _joined(here, there)
    index = psi(here, there)
    is_chance = index < SOME or not _differs(here, there)
    # Fewer unknown words are no reason to worry: rows that the model was trained on have fewer than new ones.
    is_chance |= name == "unknown_words" and figure <= before
    return Movement(name, figure, before, index, "no" if is_chance else "some" if index < MUCH else "much")


def _differs(here: Integers, there: Integers) -> bool:
    """Returns whether two histograms, without empty bins, differ by more than chance."""
    ratio = math.sqrt(there.sum() / here.sum())
    statistic = (np.square(ratio * here - there / ratio) / (here + there)).sum()
    freedom = len(here) - 1
    return bool(statistic > freedom + _DEVIATIONS * math.sqrt(2 * freedom))


def _joined(*histograms: Integers) -> list[Integers]:
    """Joins bins with their neighbours until the smaller corpus is expected to have `_LEAST_ROWS` rows in each."""
    pooled = np.sum(histograms, axis=0)
    expected = np.cumsum(pooled / pooled.sum() * min(one.sum() for one in histograms))
    starts, filled = [0], 0.0
    for number in range(1, len(pooled)):
        if min(expected[number - 1] - filled, expected[-1] - expected[number - 1]) >= _LEAST_ROWS:
            starts.append(number)
            filled = expected[number - 1]
    return [np.add.reduceat(one, starts) for one in histograms]
