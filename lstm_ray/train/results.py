"""The results of a run: history, metrics and report, as files and as an `Outcome`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lstm_ray import storage
from lstm_ray.config import TrainConfig
from lstm_ray.datasets.seen import describe_seen
from lstm_ray.evaluate.ranking import doubt, show_threshold
from lstm_ray.model.profile import TrainingData
from lstm_ray.train.data.corpus import Groups
from lstm_ray.train.loop.state import State
from lstm_ray.wording import as_call, counted

HISTORY = pa.schema(
    [
        ("epoch", pa.int32()),
        ("loss", pa.float64()),
        ("accuracy", pa.float64()),
        ("validation_loss", pa.float64()),
        ("validation_accuracy", pa.float64()),
        ("validation_accuracy_standard_error", pa.float64()),
        ("validation_auc", pa.float64()),
        ("learning_rate", pa.float64()),
        ("seconds", pa.float64()),
        ("rows_per_s", pa.float64()),
        ("best", pa.bool_()),
    ]
)
PARTS = pa.schema(
    [
        (name, pa.float64())
        for name in (
            "validation_lstm_loss",
            "validation_lstm_accuracy",
            "validation_ngram_loss",
            "validation_ngram_accuracy",
            "lstm_share",
        )
    ]
)
"""Columns of the history of a run with n-grams, after the others."""
_COUNTS = (  # of `Outcome`
    "training_rows",
    "validation_rows",
    "rows_without_text",
    "rows_with_other_label",
    "validation_rows_seen",
)


@dataclass(frozen=True)
class Outcome:
    """The result of a finished run.

    Attributes:
        state: History, best epoch and its metrics.
        config: The run's settings, including those that were chosen for the data.
        training_rows: Rows trained on.
        validation_rows: Rows validated on.
        rows_without_text: Rows left out because they have no words.
        rows_with_other_label: Rows left out because the label mapping does not name their label.
        groups: Number of groups, with `--validation-group`.
        validation_rows_seen: Validation rows whose text is also a training text.
        profile: What the model reads of both sides; None if the run had been complete before.
        before: Validation metrics of the model that the run started from; empty if there was none.
        was_complete: True if the run had been complete before.
    """

    state: State
    config: TrainConfig
    training_rows: int
    validation_rows: int
    rows_without_text: int
    rows_with_other_label: int
    groups: Groups | None = None
    validation_rows_seen: int = 0
    profile: TrainingData | None = None
    before: dict[str, Any] = field(default_factory=dict)
    was_complete: bool = False

    def __repr__(self) -> str:
        """Returns the model's path and the most important figures; `metrics` has all of validation."""
        counts = {name: getattr(self, name) for name in ("training_rows", "validation_rows", "validation_rows_seen")}
        measured = {f"validation_{name}": self.metrics[name] for name in ("accuracy", "auc") if self.metrics}
        position = {"best_epoch": self.best_epoch, "epochs": self.state.epoch}
        return as_call("Outcome", {"model": self.model, **position, **measured, **counts})

    @property
    def metrics(self) -> dict[str, Any]:
        """Returns the validation metrics of the best epoch at the model's threshold; empty without validation."""
        return self._decision[0]

    @property
    def threshold_problem(self) -> str | None:
        """Returns why the model's threshold is not the one that was asked for; None if it is."""
        return self._decision[1]

    @property
    def measured_otherwise(self) -> str | None:
        """Returns the metrics at a threshold that is not the model's; None if there are none."""
        if not self.metrics or self.metrics["threshold"] == self.config.epoch_threshold:
            return None
        others = "epochs, and LSTM and n-grams alone," if self.config.ngrams else "epochs"
        return f"{others} are measured at {self.config.epoch_threshold:g}"

    @cached_property
    def _decision(self) -> tuple[dict[str, Any], str | None]:
        return self.state.decide(self.config)

    @property
    def history(self) -> list[dict[str, Any]]:
        """Returns the history, a row for each epoch."""
        return self.state.history

    @property
    def best_epoch(self) -> int:
        """Returns the number of the epoch whose model was kept, from 1."""
        return self.state.best_epoch

    @property
    def model(self) -> str:
        """Returns the directory of the model bundle."""
        return storage.join(self.output, "model")

    @property
    def output(self) -> str:
        """Returns the run's directory."""
        return self.config.output


def is_complete(config: TrainConfig, state: State) -> bool:
    """Returns whether a run has ended and its model and metrics are written."""
    written = [storage.exists(storage.join(config.output, name)) for name in ("metrics.json", "model/bundle.json")]
    return state.has_ended(config) and all(written)


def read_outcome(config: TrainConfig, state: State) -> Outcome:
    """Returns the result of a run that is already complete."""
    metrics = json.loads(storage.read_bytes(storage.join(config.output, "metrics.json")))
    counts: dict[str, Any] = {name: metrics.get(name, 0) for name in _COUNTS}  # older versions did not write all
    groups = Groups(**metrics["groups"]) if metrics.get("groups") else None
    return Outcome(state, config, **counts, groups=groups, before=metrics.get("before", {}), was_complete=True)


def write_results(config: TrainConfig, outcome: Outcome) -> None:
    """Writes history, metrics and report of a run whose model has been saved."""
    from lstm_ray.report.pages import history_png, training_report

    state = outcome.state
    schema = pa.schema([*HISTORY, *PARTS]) if config.ngrams else HISTORY
    history = pa.Table.from_pylist(
        [{**row, "best": row["epoch"] == state.best_epoch} for row in state.history], schema=schema
    )
    metrics = {
        "best_epoch": state.best_epoch,
        "best_by": config.best_by,
        "epochs": state.epoch,
        **{name: getattr(outcome, name) for name in _COUNTS},
        "groups": None if outcome.groups is None else asdict(outcome.groups),
        "validation": outcome.metrics,
    }
    if config.from_ is not None:
        metrics["before"] = outcome.before
    if config.ngrams:
        metrics["parts"] = {"mix": state.mix, **{name: state.best_row().get(name) for name in PARTS.names}}
    counts = state.best_counts()
    if counts is not None and outcome.metrics["threshold"] != counts.threshold:
        counts = counts.at(outcome.metrics["threshold"])
    report = training_report(
        title=f"Training run {os.path.basename(config.output.rstrip('/'))}",
        history=history,
        best_by=config.best_by,
        metrics=outcome.metrics or None,
        counts=counts,
        profile=outcome.profile,
        rows_seen=outcome.validation_rows_seen,
        config=config.model_dump(mode="json"),
        summary=state.summary,
        notes=list(_notes(config, outcome)),
    )
    output = config.output
    storage.write_file(storage.join(output, "history.parquet"), lambda stream: pq.write_table(history, stream))
    storage.write_bytes(storage.join(output, "history.png"), history_png(history, config.best_by))
    storage.write_bytes(storage.join(output, "report.html"), report.encode())
    storage.write_bytes(storage.join(output, "metrics.json"), (json.dumps(metrics, indent=2) + "\n").encode())


def _notes(config: TrainConfig, outcome: Outcome) -> Iterator[str]:
    """Yields sentences about the model that the run started from, and the reliability of the validation metrics."""
    if before := outcome.before:
        yield (
            f"Before, {config.from_} reached an accuracy of {before['accuracy']:.4f} and a log loss of "
            f"{before['log_loss']:.4f} on the same validation rows{show_threshold(before, outcome.metrics)}; now "
            f"{outcome.metrics['accuracy']:.4f} and {outcome.metrics['log_loss']:.4f}."
        )
    if (groups := outcome.groups) is not None:
        by = config.validation_group
        yield f"{counted(groups.training, 'group')} of {by} to train on, {groups.validation:,} to validate on."
        if groups.rows_without:
            yield f"{counted(groups.rows_without, 'row')} without a group were held out by their text."
    if outcome.validation_rows_seen:
        leak = describe_seen(
            outcome.validation_rows_seen,
            outcome.validation_rows,
            "validation",
            accuracy=outcome.metrics.get("accuracy"),
        )
        yield f"{leak}."
    if outcome.measured_otherwise is not None:
        yield (
            f"At the model's threshold, {outcome.metrics['threshold']:g}, accuracy is "
            f"{outcome.metrics['accuracy']:.1%}; {outcome.measured_otherwise}."
        )
    if (problem := outcome.threshold_problem) is not None:
        yield f"{problem}."
    if (sentence := doubt(outcome.metrics)) is not None:
        yield f"{sentence[0].upper()}{sentence[1:]}."
