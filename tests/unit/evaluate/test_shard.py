"""A shard's mistakes are the wrong predictions with the largest error, in a fixed order."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lstm_ray.config import EvaluateConfig
from lstm_ray.datasets.labelled import find_shards
from lstm_ray.datasets.labels import label_mapping
from lstm_ray.evaluate.shard import MAX_MISTAKES, Mistake, ShardScores, evaluate_shard
from lstm_ray.score.scorer import Scorer


def evaluated(
    directory: Path, labels: list[int], probabilities: list[float | None], threshold: float = 0.5
) -> ShardScores:
    """Evaluates rows whose texts are "0", "1", ... with the given probabilities."""
    path = directory / "reviews.parquet"
    pq.write_table(pa.table({"text": [str(row) for row in range(len(labels))], "label": labels}), path)
    config = EvaluateConfig.model_validate({"inputs": (str(path),), "model": "unused", "threshold": threshold})
    (shard,) = find_shards(config.inputs, config.text_column, config.label_column, label_mapping(config))
    scored = SimpleNamespace(probability=pa.array(probabilities, pa.float32()))
    scorer: Any = SimpleNamespace(score=lambda texts: scored)
    return evaluate_shard(shard, config, cast(Scorer, scorer))


def test_mistakes_are_wrong_predictions_with_the_largest_error_first(tmp_path: Path) -> None:
    scores = evaluated(tmp_path, [1, 1, 0, 0, 1, 0], [0.4, 0.99, 0.75, None, 0.2, 0.75])
    assert [mistake.text for mistake in scores.mistakes] == ["4", "2", "5", "0"]
    assert scores.mistakes[1] == Mistake("2", 0, 0.75)
    assert scores.mistakes[1].error == 0.75
    assert (scores.counts.rows, scores.rows_without_text) == (5, 1)


def test_rows_predicted_right_far_from_their_label_leave_room_for_mistakes(tmp_path: Path) -> None:
    labels, probabilities = [0] * 20 + [1], [0.8] * 20 + [0.85]
    scores = evaluated(tmp_path, labels, probabilities, threshold=0.9)
    assert [mistake.text for mistake in scores.mistakes] == ["20"]


@pytest.mark.parametrize("rows", [5, 40])
def test_mistakes_are_as_many_as_a_person_reads_the_first_rows_of_equal_ones(tmp_path: Path, rows: int) -> None:
    scores = evaluated(tmp_path, [0] * rows, [0.75] * rows)
    assert [mistake.text for mistake in scores.mistakes] == [str(row) for row in range(min(rows, MAX_MISTAKES))]
