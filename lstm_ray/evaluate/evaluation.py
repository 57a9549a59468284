"""Evaluates a model on labelled reviews."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lstm_ray import storage
from lstm_ray.config import CalibrateConfig, EvaluateConfig, with_paths
from lstm_ray.datasets.labelled import Shard, describe_left_out, doubt_left_out, find_shards, list_labels, sample_rows
from lstm_ray.datasets.labels import label_mapping
from lstm_ray.datasets.seen import describe_lost, describe_seen
from lstm_ray.errors import ConfigError, InputError, OutputError, ReportError
from lstm_ray.evaluate.counts import BinaryCounts
from lstm_ray.evaluate.groups import GroupResult, Outcomes, add_outcomes, compare_groups
from lstm_ray.evaluate.intervals import Interval, intervals
from lstm_ray.evaluate.predictions import SCHEMA as PREDICTIONS
from lstm_ray.evaluate.shard import Comparison, Mistake, Models, ShardScores, evaluate_shard, ngrams_alone
from lstm_ray.evaluate.thresholds import choose_threshold, histogram, thinned, threshold_table
from lstm_ray.model.bundle import Bundle, read_bundle
from lstm_ray.model.trained_columns import columns_of_training_named
from lstm_ray.progress import Count, Progress
from lstm_ray.report.pages import evaluation_png, evaluation_report
from lstm_ray.score.scorer import Scorer
from lstm_ray.storage.formats import check_parquet_name
from lstm_ray.storage.inputs import check_apart, is_named_by
from lstm_ray.wording import as_call

_MOST_EXPLAINED = 100  # mistakes: a text of 400 words is scored about 200 times


@dataclass(frozen=True)
class Evaluation:
    """What a model got right and wrong.

    Attributes:
        counts: Counts of all scored rows.
        rows_without_text: Rows left out because they have no words to score.
        rows_with_other_label: Rows left out because their label is neither a positive nor a negative one.
        mistakes: The wrong predictions with the largest errors, largest first.
        rows_seen: Scored rows whose text is in the model's training data; None if the bundle does not record it.
        seconds: Seconds for reading and scoring, without loading the model.
        groups: The results of each group, if groups were asked for.
        comparison: The comparison with another model, if one was given.
        ngrams: The comparison with the model's n-gram part alone, a linear model; None if the model has none.
        chosen: Counts at the threshold that was chosen for a goal (`maximize`, `target_precision` or `target_recall`);
            None without a goal, or if no threshold reaches it.
        other_rows_seen: Scored rows whose text is in the training data of the other model (`compare`); None if there is
            no other model, or if its bundle does not record its training texts.
        sum_of_texts: Checksum of the scored texts: the sum of their hashes.
    """

    counts: BinaryCounts
    rows_without_text: int
    rows_with_other_label: int
    mistakes: list[Mistake]
    rows_seen: int | None
    seconds: float
    groups: list[GroupResult] = field(default_factory=list)
    comparison: Comparison | None = None
    ngrams: Comparison | None = None
    chosen: BinaryCounts | None = None
    other_rows_seen: int | None = None
    sum_of_texts: int = 0

    def __repr__(self) -> str:
        """Returns the most important figures; `metrics` has all."""
        names = ("rows", "accuracy", "auc", "log_loss", "threshold", "rows_seen_in_training")
        return as_call("Evaluation", {name: self.metrics[name] for name in names})

    @property
    def intervals(self) -> dict[str, Interval | None]:
        """Returns the 95 % confidence intervals of the metrics, by name."""
        return intervals(self.counts)

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

    def to_json(self) -> dict[str, Any]:
        """Returns all results except texts, as in metrics.json and `--json`."""
        curve = thinned(self.counts.precision_recall_curve())
        return {
            **self.metrics,
            "average_precision": self.counts.average_precision(),
            "intervals": self.intervals,
            "chosen": None if self.chosen is None else {**self.chosen.metrics(), "intervals": intervals(self.chosen)},
            "groups": [group.to_json() for group in self.groups],
            "comparison": None
            if self.comparison is None
            else {**_comparison_to_json(self.comparison), "other_rows_seen_in_training": self.other_rows_seen},
            "ngrams": None if self.ngrams is None else _comparison_to_json(self.ngrams),
            "thresholds": threshold_table(self.counts),
            "precision_recall_curve": {name: values.tolist() for name, values in curve._asdict().items()},
            "histogram": histogram(self.counts),
        }


def _comparison_to_json(comparison: Comparison) -> dict[str, Any]:
    paired = comparison.paired()
    return {
        "rows": comparison.rows,
        "accuracy": comparison.right / comparison.rows if comparison.rows else None,
        "other": comparison.other.metrics(),
        "only_this_right": comparison.only_this,
        "only_other_right": comparison.only_other,
        **({} if paired is None else paired._asdict()),
    }


def evaluate(config: EvaluateConfig, progress: Progress) -> Evaluation:
    """Evaluates a model on labelled rows; writes metrics.json, report.html and evaluation.png if there is an output.

    Args:
        config: The settings.
        progress: Receives messages, and the number of rows done.

    Raises:
        BundleError: The model cannot be used.
        ConfigError: The predictions would be among the inputs.
        InputError: The data cannot be used, or the model was trained on a file of it.
        OutputError: The output directory is not empty, the file of predictions exists or is named like CSV, or one
            cannot be written.
        ReportError: The report or the predictions could not be written. The error contains the `Evaluation`.
    """
    _check_outputs(config)
    with columns_of_training_named(config):
        shards = labelled_shards(config, progress, by=config.by)
    bundles = [read_bundle(path) for path in (config.model, config.compare) if path is not None]
    for bundle in bundles:
        if note := bundle.note():
            progress(note)
        if not config.allow_seen_files:
            check_unseen(shards, bundle)
    if config.compare is not None and config.precision != "float32":
        progress(f"note: --precision {config.precision} is for --model only: {config.compare} is scored in float32")
    bundle, other = bundles[0], bundles[1] if len(bundles) > 1 else None
    threshold = bundle.threshold if config.threshold is None else config.threshold
    resolved = with_paths(config, storage.absolute).model_copy(update={"threshold": threshold})
    results = _evaluate_all(shards, resolved, bundle, other, progress)
    problems: list[OutputError] = []
    with columns_of_training_named(config), contextlib.closing(results):
        if config.predictions is None:
            evaluation = add_up(shards, results, config, progress)
        else:
            evaluation = _write_predictions(config.predictions, shards, results, config, progress, problems)
    if not bundle.knows_its_texts():
        evaluation = replace(evaluation, rows_seen=None)
    if other is None or not other.knows_its_texts():
        evaluation = replace(evaluation, other_rows_seen=None)
    doubts = list(_doubts(config, evaluation, shards, bundles))
    for kind, doubt in doubts:
        progress(f"{kind}: {', '.join(config.inputs)}: {doubt}")
    if config.goal is not None:
        try:
            evaluation = replace(evaluation, chosen=choose_threshold(evaluation.counts, config.goal))
        except InputError as error:
            progress(f"warning: {', '.join(config.inputs)}: {error}")
    if config.output is not None:
        evaluation = replace(evaluation, mistakes=_with_words(evaluation.mistakes, bundle))
        try:
            _write(config, config.output, evaluation, [doubt for _, doubt in doubts])
        except OutputError as error:
            problems.append(error)
    if problems:
        raise ReportError("; ".join(map(str, problems)), evaluation) from problems[0]
    return evaluation


def _check_outputs(config: EvaluateConfig) -> None:
    """Raises OutputError or ConfigError if the results cannot be written, or would be among the inputs."""
    if config.output is not None:
        storage.check_empty(config.output)
    if config.predictions is not None:
        if config.output is not None and storage.absolute(config.predictions) == storage.absolute(config.output):
            raise ConfigError(f"--predictions and --output are both {config.output}: one is a file, one a directory")
        check_parquet_name(config.predictions)
        if storage.exists(config.predictions):
            raise OutputError(f"{config.predictions}: exists: choose another --predictions")
        check_apart(
            config.inputs, config.predictions, None, "so the next run would read it as reviews", "--predictions"
        )


def _doubts(
    config: EvaluateConfig, evaluation: Evaluation, shards: Sequence[Shard], bundles: Sequence[Bundle]
) -> Iterator[tuple[str, str]]:
    """Yields why the metrics may say little about other rows, each as a "warning" or a "note"."""
    measured = [("the model", evaluation.rows_seen, evaluation.counts)]
    if evaluation.comparison is not None:
        measured.append((str(config.compare), evaluation.other_rows_seen, evaluation.comparison.other))
    for model, seen, counts in measured:
        if seen:
            accuracy = counts.metrics()["accuracy"]
            yield "warning", describe_seen(seen, evaluation.counts.rows, "evaluation", model, accuracy)
    for model, bundle in zip(("this model", str(config.compare)), bundles, strict=False):
        if evaluation.sum_of_texts in bundle.chosen_on:
            yield (
                "note",
                f"these are the rows on which the epoch or threshold of {model} was chosen: measured on others, it may "
                "be worse",
            )
    for bundle in bundles:
        if bundle.lost_its_texts():
            yield "warning", describe_lost(bundle.path)
    missing = list(_missing_labels(config, shards, evaluation.counts))
    yield from (("warning", one) for one in missing)
    other = evaluation.rows_with_other_label  # these labels are in the warnings above, if there are any
    if not missing and (doubt := doubt_left_out(other, shards, config.label_column, label_mapping(config))) is not None:
        yield "warning", doubt
    auc = evaluation.intervals["auc"]
    if auc is not None and auc[1] < 0.5:
        yield (
            "warning",
            f"AUC {evaluation.metrics['auc']:.4f} is below 0.5, which is guessing: are the positive and the negative "
            "labels exchanged (--positive-labels, --negative-labels)?",
        )


def labelled_shards(
    config: EvaluateConfig | CalibrateConfig, progress: Progress, by: Sequence[str] = ()
) -> list[Shard]:
    """Returns the shards of the inputs, which together have at least one row.

    Raises:
        InputError: An input cannot be read or lacks a column, or there are no rows.
    """
    mapping = label_mapping(config)
    shards = find_shards(config.inputs, config.text_column, config.label_column, mapping, progress=progress, by=by)
    if config.max_rows is not None:
        shards = sample_rows(shards, config.max_rows, seed=0)
    if not any(len(shard.rows) for shard in shards):
        raise InputError(f"{', '.join(config.inputs)}: no rows to evaluate")
    return shards


def add_up(
    shards: Sequence[Shard],
    results: Iterable[ShardScores],
    config: EvaluateConfig,
    progress: Progress,
    write: Callable[[pa.Table], None] = lambda predictions: None,
) -> Evaluation:
    """Adds up the results of all shards, in their order.

    Args:
        shards: All shards.
        results: The results of each shard.
        config: The settings.
        progress: Receives the number of rows done.
        write: Receives the predictions of each shard, if they were asked for.

    Raises:
        InputError: No row has words and a label.
    """
    started = time.perf_counter()
    total = sum(len(shard.rows) for shard in shards)
    counts: BinaryCounts | None = None
    comparison: Comparison | None = None
    ngrams: Comparison | None = None
    outcomes = Outcomes()
    mistakes: list[Mistake] = []
    done = without_text = other_labels = seen = other_seen = sum_of_texts = 0
    for shard, scores in zip(shards, results, strict=True):
        counts = scores.counts if counts is None else counts + scores.counts
        add_outcomes(outcomes, scores.outcomes)
        if scores.comparison is not None:
            comparison = scores.comparison if comparison is None else comparison + scores.comparison
        if scores.ngrams is not None:
            ngrams = scores.ngrams if ngrams is None else ngrams + scores.ngrams
        if scores.predictions is not None:
            write(scores.predictions)
        mistakes = sorted([*mistakes, *scores.mistakes], key=lambda mistake: -mistake.error)[: config.mistakes]
        done += len(shard.rows)
        without_text += scores.rows_without_text
        other_labels += scores.rows_with_other_label
        seen += scores.rows_seen
        other_seen += scores.other_rows_seen
        sum_of_texts += scores.sum_of_texts
        progress(Count(done, total, "rows"))
    if counts is None or counts.rows == 0:
        left_out = describe_left_out(without_text, other_labels, shards, config.label_column, label_mapping(config))
        raise InputError(f"{', '.join(config.inputs)}: no rows to evaluate{left_out}")
    seconds = time.perf_counter() - started
    groups = compare_groups(outcomes, counts)
    return Evaluation(
        counts,
        without_text,
        other_labels,
        mistakes,
        seen,
        seconds,
        groups,
        comparison,
        ngrams,
        other_rows_seen=other_seen,
        sum_of_texts=sum_of_texts,
    )


def _write_predictions(
    path: str,
    shards: Sequence[Shard],
    results: Iterable[ShardScores],
    config: EvaluateConfig,
    progress: Progress,
    problems: list[OutputError],
) -> Evaluation:
    """Adds up the results and writes the predictions; the file appears only when it is complete.

    If it cannot be written to its end, because a disk may fill up after hours, the reason is added to `problems`.
    """
    found: list[Evaluation] = []
    failures: list[OSError] = []

    def write(stream: Any) -> None:
        with pq.ParquetWriter(stream, PREDICTIONS, compression="zstd") as writer:

            def write_some(predictions: pa.Table) -> None:
                if failures:
                    return
                try:
                    writer.write_table(predictions)
                except OSError as error:
                    failures.append(error)

            found.append(add_up(shards, results, config, progress, write_some))
        if failures:
            raise failures[0]

    try:
        storage.write_file(path, write)
    except OutputError as error:
        if not found:
            raise
        problems.append(error)
    return found[0]


def check_unseen(shards: Sequence[Shard], bundle: Bundle) -> None:
    """Raises InputError if the model was trained on one of the files, judging by their paths, links resolved."""
    given = bundle.training.get("train")
    trained_on = [one for one in given if isinstance(one, str) and "\0" not in one] if isinstance(given, list) else []
    for file in {shard.file.path: shard.file for shard in shards}.values():
        if any(is_named_by(given, file) for given in trained_on):
            raise InputError(
                f"{file.path}: {bundle.path} was trained on this file: give rows that it was not trained on, or "
                "pass --allow-seen-files"
            )


def _evaluate_all(
    shards: Sequence[Shard], config: EvaluateConfig, bundle: Bundle, other: Bundle | None, progress: Progress
) -> Generator[ShardScores, None, None]:
    """Loads the models and returns a generator that evaluates the shards in order, in this process or on Ray."""
    if config.address is None:
        models = Models(Scorer(bundle, precision=config.precision), bundle.seen(), ngrams=ngrams_alone(bundle))
        if other is not None:
            models = replace(models, other=Scorer(other), other_seen=other.seen())
        return evaluate_here(shards, config, models)
    from lstm_ray.evaluate.ray_tasks import evaluate_on_ray

    return evaluate_on_ray(shards, config, bundle, other, progress)


def evaluate_here(
    shards: Sequence[Shard], config: EvaluateConfig, models: Models
) -> Generator[ShardScores, None, None]:
    """Yields the results of the shards, evaluated in this process, and closes the models; `threshold` must be set."""
    ngrams = contextlib.nullcontext() if models.ngrams is None else contextlib.closing(models.ngrams)
    with models.scorer, models.other or contextlib.nullcontext(), ngrams:
        for shard in shards:
            yield evaluate_shard(shard, config, models)


def _missing_labels(config: EvaluateConfig, shards: Sequence[Shard], counts: BinaryCounts) -> Iterator[str]:
    """Yields a warning if no row is positive or none is negative, with the labels that occur."""
    for side, rows, labels in (
        ("positive", counts.positives, config.positive_labels),
        ("negative", counts.negatives, config.negative_labels),
    ):
        if rows == 0:
            found = remedy = ""
            if labels:
                there, remedy = list_labels(shards, config.label_column, label_mapping(config))
                found = f" (none is {', '.join(labels)}; there are {there})"
            yield f"no row is {side}{found}: auc needs both{remedy}"


def _with_words(mistakes: list[Mistake], bundle: Bundle) -> list[Mistake]:
    """Returns mistakes with their words, the first hundred of them; as they are if user code built the network.

    That would load TensorFlow and the user's code in this process, which on Ray has needed neither so far.
    """
    first, others = mistakes[:_MOST_EXPLAINED], mistakes[_MOST_EXPLAINED:]
    if not first or bundle.model.network is not None:
        return mistakes
    with Scorer(bundle, engine="native") as scorer:
        words = scorer.explain(pa.array([mistake.text for mistake in first]))
    return [*(replace(one, words=tuple(found)) for one, found in zip(first, words, strict=True)), *others]


def _write(config: EvaluateConfig, output: str, evaluation: Evaluation, doubts: Sequence[str]) -> None:
    report = evaluation_report(
        title=f"Evaluation of {config.model}",
        counts=evaluation.counts,
        config=config.model_dump(mode="json") | {"threshold": evaluation.counts.threshold},
        mistakes=evaluation.mistakes,
        groups=evaluation.groups,
        comparison=evaluation.comparison,
        ngrams=evaluation.ngrams,
        chosen=evaluation.chosen,
        left_out=evaluation.rows_without_text + evaluation.rows_with_other_label,
        doubts=doubts,
    )
    metrics = json.dumps(evaluation.to_json(), indent=2) + "\n"
    storage.write_bytes(storage.join(output, "report.html"), report.encode())
    storage.write_bytes(storage.join(output, "metrics.json"), metrics.encode())
    storage.write_bytes(storage.join(output, "evaluation.png"), evaluation_png(evaluation.counts))
