"""A model is measured on rows that have words and a known label; unusual rows cause a warning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lstm_ray.config import EvaluateConfig
from lstm_ray.evaluate.evaluation import Evaluation, evaluate
from lstm_ray.evaluate.shard import MAX_MISTAKES
from lstm_ray.progress import ignore


def measured(directory: Path, bundle: Path, labels: list[Any], **changes: Any) -> tuple[Evaluation, list[str]]:
    """Evaluates as many short reviews as there are labels; returns the result and the messages."""
    path = directory / "reviews.parquet"
    pq.write_table(pa.table({"text": ["a good film"] * len(labels), "label": labels}), path)
    config = EvaluateConfig.model_validate({"inputs": (str(path),), "model": str(bundle), **changes})
    notes: list[str] = []
    return evaluate(config, lambda event: notes.append(event) if isinstance(event, str) else None), notes


def test_mistakes_of_all_shards_are_the_largest_first(tmp_path: Path, tiny_bundle: Path) -> None:
    path = tmp_path / "reviews.parquet"
    texts = ["a good film", "not a bad film", "a fine one", "bad acting", "bad end", "good end"] * 4
    pq.write_table(pa.table({"text": texts, "label": [0, 1] * 12}), path, row_group_size=8)
    config = EvaluateConfig.model_validate({"inputs": (str(path),), "model": str(tiny_bundle)})
    result = evaluate(config, ignore)
    errors = [mistake.error for mistake in result.mistakes]
    wrong = result.counts.false_positives + result.counts.false_negatives
    assert len(errors) == min(wrong, MAX_MISTAKES) > 1
    assert errors == sorted(errors, reverse=True)
    assert all((mistake.probability > 0.5) != (mistake.label == 1) for mistake in result.mistakes)


def test_rows_of_both_labels_cause_no_warning(tmp_path: Path, tiny_bundle: Path) -> None:
    result, notes = measured(tmp_path, tiny_bundle, [0, 1, 1])
    assert (result.counts.rows, notes) == (3, [])


@pytest.mark.parametrize(
    ("labels", "changes", "says"),
    [
        ([1, 1], {}, "no row is negative: auc needs both"),
        ([0, 0], {}, "no row is positive: auc needs both"),
        (
            [1, 2, 5],
            {"positive_labels": "4", "negative_labels": "1"},
            "no row is positive (none is 4; there are 1, 2, 5): auc needs both",
        ),
        (
            ["Neg", "pos"],
            {"positive_labels": "pos", "negative_labels": "neg,bad"},
            "no row is negative (none is neg, bad; there are 'Neg', 'pos'): auc needs both",
        ),
    ],
)
def test_rows_of_one_label_are_measured_with_a_warning(
    tmp_path: Path, tiny_bundle: Path, labels: list[Any], changes: dict[str, str], says: str
) -> None:
    result, notes = measured(tmp_path, tiny_bundle, labels, **changes)
    assert notes == [f"warning: {tmp_path}/reviews.parquet: {says}"]
    assert result.metrics["auc"] is None
