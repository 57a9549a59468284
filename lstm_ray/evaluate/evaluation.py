"""Evaluates a model on labelled reviews."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lstm_ray import storage
from lstm_ray.config import EvaluateConfig, with_paths
from lstm_ray.datasets.labelled import Shard, describe_left_out, find_shards, list_labels, sample_rows
from lstm_ray.datasets.labels import label_mapping
from lstm_ray.datasets.seen import SeenTexts, describe_seen
from lstm_ray.errors import InputError, OutputError, ReportError
from lstm_ray.evaluate.counts import BinaryCounts
from lstm_ray.evaluate.shard import MAX_MISTAKES, Mistake, ShardScores, evaluate_shard
from lstm_ray.model.bundle import Bundle, read_bundle
from lstm_ray.progress import Count, Progress
from lstm_ray.report.pages import evaluation_report
from lstm_ray.score.scorer import Scorer
from lstm_ray.storage.inputs import is_named_by


@dataclass(frozen=True)
class Evaluation:
    """What a model got right and wrong.

    Attributes:
        counts: Of all scored rows.
        rows_without_text: Rows left out because they have no words to score.
        rows_with_other_label: Rows left out because the label mapping does not name their label.
        mistakes: The largest ones, largest first.
        rows_seen: Scored rows whose text the model has learned from; None if its bundle does not tell.
        seconds: Time of reading and scoring, without loading the model.
    """

    counts: BinaryCounts = field(repr=False)
    rows_without_text: int
    rows_with_other_label: int
    mistakes: list[Mistake] = field(repr=False)
    rows_seen: int | None
    seconds: float

    @property
    def metrics(self) -> dict[str, Any]:
        """Returns all metrics by name."""
        return {
            **self.counts.metrics(),
            "rows_without_text": self.rows_without_text,
            "rows_with_other_label": self.rows_with_other_label,
            "rows_seen_in_training": self.rows_seen,
            "rows_per_s": self.counts.rows / self.seconds if self.seconds else None,
        }


def evaluate(config: EvaluateConfig, progress: Progress) -> Evaluation:
    """Scores labelled rows and compares; writes metrics.json and report.html if there is an output directory.

    Args:
        config: The settings.
        progress: Receives messages, and the rows that are evaluated.

    Raises:
        BundleError: The model cannot be used.
        InputError: The data cannot be used, or the model was trained on a file of it.
        OutputError: The output directory is not empty or cannot be written.
        ReportError: It could not be written at the end. The error has the `Evaluation`.
    """
    if config.output is not None:
        storage.check_writable(config.output)
        if storage.list_names(config.output):
            raise OutputError(f"{config.output}: not empty: choose another --output")
    shards = find_shards(
        config.inputs, config.text_column, config.label_column, label_mapping(config), progress=progress
    )
    if config.max_rows is not None:
        shards = sample_rows(shards, config.max_rows, seed=0)
    total = sum(len(shard.rows) for shard in shards)
    where = ", ".join(config.inputs)
    if total == 0:
        raise InputError(f"{where}: no rows to evaluate")
    bundle = read_bundle(config.model)
    if note := bundle.note():
        progress(note)
    if not config.allow_seen_files:
        _check_unseen(shards, bundle)
    threshold = bundle.threshold if config.threshold is None else config.threshold
    resolved = with_paths(config, storage.absolute).model_copy(update={"threshold": threshold})
    results = _evaluate_all(shards, resolved, bundle, progress)
    started = time.perf_counter()
    counts = BinaryCounts.from_scores(np.zeros(0, np.int8), np.zeros(0, np.float32), threshold)
    mistakes: list[Mistake] = []
    done = without_text = other_labels = seen = 0
    with contextlib.closing(results):
        for shard, scores in zip(shards, results, strict=True):
            counts += scores.counts
            mistakes = sorted([*mistakes, *scores.mistakes], key=lambda mistake: -mistake.error)[:MAX_MISTAKES]
            done += len(shard.rows)
            without_text += scores.rows_without_text
            other_labels += scores.rows_with_other_label
            seen += scores.rows_seen
            progress(Count(done, total, "rows"))
    if counts.rows == 0:
        left_out = describe_left_out(without_text, other_labels, shards, config.label_column)
        raise InputError(f"{where}: no rows to evaluate{left_out}")
    is_known = bundle.knows_its_texts()
    evaluation = Evaluation(
        counts, without_text, other_labels, mistakes, seen if is_known else None, time.perf_counter() - started
    )
    if seen:
        progress(f"warning: {where}: {describe_seen(seen, counts.rows, 'evaluation')}")
    for warning in _missing_labels(config, shards, counts):
        progress(f"warning: {where}: {warning}")
    if config.output is not None:
        try:
            _write(config, config.output, evaluation)
        except OutputError as error:
            raise ReportError(str(error), evaluation) from error
    return evaluation


def _check_unseen(shards: Sequence[Shard], bundle: Bundle) -> None:
    """Raises InputError if the model was trained on one of the files: its name decides, under this or another."""
    given = bundle.training.get("train")
    trained_on = [one for one in given if isinstance(one, str) and "\0" not in one] if isinstance(given, list) else []
    for file in {shard.file.path: shard.file for shard in shards}.values():
        if any(is_named_by(given, file) for given in trained_on):
            raise InputError(
                f"{file.path}: {bundle.path} was trained on this file, and knows its rows: give other rows, or "
                "pass --allow-seen-files"
            )


def _evaluate_all(
    shards: Sequence[Shard], config: EvaluateConfig, bundle: Bundle, progress: Progress
) -> Generator[ShardScores, None, None]:
    """Loads the model and returns a generator that evaluates shards, in their order: in this process, or on Ray."""
    if config.address is None:
        return _evaluate_here(shards, config, Scorer(bundle), bundle.seen())
    from lstm_ray.evaluate.ray_tasks import evaluate_on_ray

    return evaluate_on_ray(shards, config, bundle, progress)


def _evaluate_here(
    shards: Sequence[Shard], config: EvaluateConfig, scorer: Scorer, seen: SeenTexts | None
) -> Generator[ShardScores, None, None]:
    with scorer:
        for shard in shards:
            yield evaluate_shard(shard, config, scorer, seen)


def _missing_labels(config: EvaluateConfig, shards: Sequence[Shard], counts: BinaryCounts) -> Iterator[str]:
    """Yields a sentence if no row is positive, or none negative, with the labels that occur instead."""
    for side, rows, labels in (
        ("positive", counts.positives, config.positive_labels),
        ("negative", counts.negatives, config.negative_labels),
    ):
        if rows == 0:
            found = f" (none is {', '.join(labels)}; there are {list_labels(shards, config.label_column)})"
            yield f"no row is {side}{found if labels else ''}: auc needs both"


def _write(config: EvaluateConfig, output: str, evaluation: Evaluation) -> None:
    report = evaluation_report(
        title=f"Evaluation of {config.model}",
        counts=evaluation.counts,
        config=config.model_dump(mode="json"),
        mistakes=evaluation.mistakes,
    )
    metrics = json.dumps(evaluation.metrics, indent=2) + "\n"
    storage.write_bytes(storage.join(output, "report.html"), report.encode())
    storage.write_bytes(storage.join(output, "metrics.json"), metrics.encode())
