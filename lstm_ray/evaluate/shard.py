"""Evaluates one shard, in this process or in a Ray task."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lstm_ray.config import EvaluateConfig
from lstm_ray.datasets.labelled import Shard, read_shard
from lstm_ray.datasets.labels import label_mapping
from lstm_ray.datasets.seen import SeenTexts, hash_texts
from lstm_ray.evaluate.counts import BinaryCounts
from lstm_ray.score.scorer import Scorer

MAX_MISTAKES = 12  # as many as a person reads


@dataclass(frozen=True)
class Mistake:
    """A review that the model predicted wrong.

    Attributes:
        text: The review.
        label: Its label, 0 or 1.
        probability: The predicted probability of label 1.
    """

    text: str
    label: int
    probability: float

    @property
    def error(self) -> float:
        """Difference of probability and label."""
        return abs(self.probability - self.label)


@dataclass(frozen=True)
class ShardScores:
    """What a model got right and wrong in one shard.

    Attributes:
        counts: Of the scored rows.
        rows_without_text: Rows left out because they have no words to score.
        rows_with_other_label: Rows left out because the label mapping does not name their label.
        mistakes: The largest ones, largest first.
        rows_seen: Scored rows whose text the model has learned from.
    """

    counts: BinaryCounts
    rows_without_text: int
    rows_with_other_label: int
    mistakes: list[Mistake]
    rows_seen: int


def evaluate_shard(shard: Shard, config: EvaluateConfig, scorer: Scorer, seen: SeenTexts | None = None) -> ShardScores:
    """Scores the rows of one shard and compares with their labels.

    Args:
        shard: The rows.
        config: The settings; `threshold` is set.
        scorer: The model.
        seen: The texts that it has learned from, if its bundle holds them.

    Raises:
        InputError: The shard cannot be read, or holds an unusable label.
    """
    assert config.threshold is not None
    rows = read_shard(shard, config.text_column, config.label_column, label_mapping(config))
    scored = scorer.score(rows.texts).probability
    has_score = scored.is_valid().to_numpy(zero_copy_only=False)
    probabilities = scored.drop_null().to_numpy()
    labels = rows.labels[has_score]
    positions = np.flatnonzero(has_score)
    wrong = np.flatnonzero((probabilities > np.float32(config.threshold)) != (labels == 1))
    largest = wrong[np.argsort(-np.abs(probabilities[wrong] - labels[wrong]), kind="stable")][:MAX_MISTAKES]
    return ShardScores(
        BinaryCounts.from_scores(labels, probabilities, threshold=config.threshold),
        rows.without_text + int((~has_score).sum()),
        rows.with_other_label,
        [
            Mistake(rows.texts[int(positions[row])].as_py(), int(labels[row]), float(probabilities[row]))
            for row in largest
        ],
        0 if seen is None else seen.count(hash_texts(rows.texts)[has_score]),
    )
