"""Evaluates one shard; runs in this process and in Ray tasks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lstm_ray.config import EvaluateConfig
from lstm_ray.datasets.labelled import Shard, read_shard
from lstm_ray.datasets.labels import LabelMapping
from lstm_ray.evaluate.counts import BinaryCounts
from lstm_ray.report.pages import Example
from lstm_ray.score.scorer import Scorer

EXAMPLES = 12  # most confidently wrong reviews shown in the report


@dataclass(frozen=True)
class ShardScores:
    """How a model did on one shard.

    Attributes:
        counts: Of its scored rows.
        rows_without_text: Rows left out because they have no words to score.
        rows_with_other_label: Rows left out because the label mapping does not name their label.
        wrong: The reviews it was most confidently wrong about: by how much, at which row, and the review.
    """

    counts: BinaryCounts
    rows_without_text: int
    rows_with_other_label: int
    wrong: list[tuple[float, int, Example]]


def evaluate_shard(shard: Shard, config: EvaluateConfig, scorer: Scorer) -> ShardScores:
    """Scores the rows of one shard and compares.

    Args:
        shard: The rows.
        config: With the threshold that counts.
        scorer: Of the model.

    Raises:
        InputError: The shard cannot be read, or holds a label that is none.
    """
    assert config.threshold is not None
    rows = read_shard(shard, config.text_column, config.label_column, label_mapping(config))
    scored = scorer.score(rows.texts).probability
    has_score = scored.is_valid().to_numpy(zero_copy_only=False)
    probabilities = scored.drop_null().to_numpy()
    kept = rows.labels[has_score]
    surprise = np.abs(kept - probabilities)
    positions = np.flatnonzero(has_score)
    wrong = []
    for place in np.argsort(-surprise)[:EXAMPLES]:
        if (probabilities[place] > config.threshold) != (kept[place] == 1):
            text = rows.texts[int(positions[place])].as_py()
            example = Example(text, int(kept[place]), float(probabilities[place]))
            wrong.append((float(surprise[place]), int(positions[place]), example))
    return ShardScores(
        BinaryCounts.from_scores(kept, probabilities, threshold=config.threshold),
        rows.without_text + int((~has_score).sum()),
        rows.with_other_label,
        wrong,
    )


def label_mapping(config: EvaluateConfig) -> LabelMapping:
    """Returns which labels mean what."""
    return LabelMapping(config.positive_labels, config.negative_labels)
