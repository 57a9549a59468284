"""A shard's mistakes are the wrong predictions with the largest error, in a fixed order."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lstm_ray.config import EvaluateConfig
from lstm_ray.datasets.labelled import find_shards
from lstm_ray.datasets.labels import label_mapping
from lstm_ray.evaluate.shard import Mistake, Models, ShardScores, evaluate_shard
from lstm_ray.score.scorer import ERRORS, HAS_WORDS, Engine, Scorer


def evaluated(
    directory: Path,
    labels: list[int | None],
    probabilities: list[float | None],
    threshold: float = 0.5,
    others: list[float | None] | None = None,
    **changes: Any,
) -> ShardScores:
    """Evaluates rows whose texts are "0", "1", ... with the given probabilities."""
    path = directory / "reviews.parquet"
    shops = ["a" if row % 2 else None for row in range(len(labels))]
    pq.write_table(pa.table({"text": [str(row) for row in range(len(labels))], "label": labels, "shop": shops}), path)
    given = {"inputs": (str(path),), "model": "unused", "threshold": threshold, **changes}
    config = EvaluateConfig.model_validate(given)
    (shard,) = find_shards(config.inputs, config.text_column, config.label_column, label_mapping(config))
    other = None if others is None else scorer_of(others, 0.8)
    # The engine of the n-grams reads the model's token ids, which are its probabilities here.
    ngrams = cast(Engine, SimpleNamespace(probabilities=lambda sequences: 1 - sequences))
    return evaluate_shard(shard, config, Models(scorer_of(probabilities, threshold), None, other, ngrams=ngrams))


def scorer_of(probabilities: list[float | None], threshold: float) -> Scorer:
    """Returns a scorer that gives rows these probabilities."""
    given = pa.array(probabilities, pa.float32())
    reasons = np.where(given.is_null().to_numpy(zero_copy_only=False), ERRORS.index("no_words"), HAS_WORDS)
    encoded = SimpleNamespace(reasons=reasons, sequences=given.drop_null().to_numpy())
    fake = {"encode": lambda texts: encoded, "probabilities": lambda sequences: sequences, "threshold": threshold}
    return cast(Scorer, SimpleNamespace(**fake))


def test_mistakes_are_wrong_predictions_with_the_largest_error_first(tmp_path: Path) -> None:
    scores = evaluated(tmp_path, [1, 1, 0, 0, 1, 0], [0.4, 0.99, 0.75, None, 0.2, 0.75])
    assert [mistake.text for mistake in scores.mistakes] == ["4", "2", "5", "0"]
    assert scores.mistakes[1] == Mistake("2", 0, 0.75, f"{tmp_path}/reviews.parquet", 2)
    assert scores.mistakes[1].error == 0.75
    assert (scores.counts.rows, scores.rows_without_text) == (5, 1)


def test_rows_predicted_right_far_from_their_label_leave_room_for_mistakes(tmp_path: Path) -> None:
    labels, probabilities = [0] * 20 + [1], [0.8] * 20 + [0.85]
    scores = evaluated(tmp_path, labels, probabilities, threshold=0.9)
    assert [mistake.text for mistake in scores.mistakes] == ["20"]


@pytest.mark.parametrize("wanted", [0, 3, 40])
def test_mistakes_are_as_many_as_wanted_the_first_rows_of_equal_ones(tmp_path: Path, wanted: int) -> None:
    scores = evaluated(tmp_path, [0] * 5, [0.75] * 5, mistakes=wanted)
    assert [mistake.text for mistake in scores.mistakes] == [str(row) for row in range(min(5, wanted))]


def test_predictions_are_the_measured_rows_with_their_numbers(tmp_path: Path) -> None:
    given = {"positive_labels": "1", "negative_labels": "0"}
    scores = evaluated(
        tmp_path, [1, 7, 0, 1], [0.9, 0.2, None], predictions="p.parquet", **given
    )  # row 1 has another label, row 3 (the third that is left) no words
    assert (scores.rows_with_other_label, scores.rows_without_text) == (1, 1)
    assert scores.predictions is not None
    assert scores.predictions.drop_columns(["file", "probability"]).to_pylist() == [
        {"row": 0, "text": "0", "label": 1, "sentiment": "positive", "right": True},
        {"row": 2, "text": "2", "label": 0, "sentiment": "negative", "right": True},
    ]
    assert evaluated(tmp_path, [1], [0.9]).predictions is None


def test_groups_are_those_of_the_measured_rows(tmp_path: Path) -> None:
    scores = evaluated(tmp_path, [1, 1, 0, 0], [0.9, 0.2, None, 0.9], by="shop,length")
    assert {group: rows.tolist() for group, rows in scores.outcomes.items()} == {
        ("shop", "a"): [0, 1, 1, 0],
        ("shop", None): [0, 0, 0, 1],
        ("length", "0-10"): [0, 1, 1, 1],
    }


def test_two_models_are_compared_on_the_rows_that_both_can_score(tmp_path: Path) -> None:
    mine, others = [0.9, 0.2, None, 0.9, 0.9], [0.7, 0.9, 0.9, None, 0.9]
    scores = evaluated(tmp_path, [1, 1, 1, 1, 1], mine, others=others)
    compared = scores.comparison
    assert compared is not None
    assert (compared.rows, compared.right, compared.only_this, compared.only_other) == (3, 2, 1, 1)
    assert (compared.other.threshold, compared.other.true_positives) == (0.8, 2)
    assert (compared + compared).rows == 6
    alone = scores.ngrams
    assert alone is not None
    assert (alone.rows, alone.right, alone.only_this, alone.only_other) == (4, 3, 3, 1)
    nothing = evaluated(tmp_path, [1], [None], others=[0.9]).comparison
    assert nothing is not None
    assert nothing.paired() is None
