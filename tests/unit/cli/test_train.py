"""The summary of `lstm-ray train`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from lstm_ray.cli import bars, console
from lstm_ray.cli.app import app
from lstm_ray.cli.train import show_outcome
from lstm_ray.config import TrainConfig
from lstm_ray.evaluate.counts import BinaryCounts
from lstm_ray.progress import Epoch
from lstm_ray.train import run
from lstm_ray.train.data.corpus import Groups
from lstm_ray.train.loop.state import State
from lstm_ray.train.results import Outcome


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Gives what is printed on stderr."""
    lines: list[str] = []
    monkeypatch.setattr(console, "warn", lines.append)
    return lines


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Gives the rows of the tables that are printed."""
    table: dict[str, str] = {}
    monkeypatch.setattr(console, "show_table", lambda _, rows: table.update(rows))
    return table


@pytest.mark.parametrize("column", ["text", "the review"])
def test_the_next_commands_can_be_pasted(shown: dict[str, str], column: str) -> None:
    state = State(epoch=1, best_epoch=1, metrics={})
    show_outcome(Outcome(state, TrainConfig(output="/a run", epochs=1, text_column=column), 90, 0, 0, 0))
    assert shown["try it"] == "lstm-ray predict --model '/a run/model' 'Not bad at all'"
    columns = "" if column == "text" else " --text-column 'the review'"
    assert shown["next"] == f"lstm-ray evaluate TEST.parquet --model '/a run/model'{columns}"
    assert shown["then"] == f"lstm-ray score REVIEWS.parquet --model '/a run/model' --output SCORED{columns}"


def test_a_model_that_started_from_another_is_compared_with_it(shown: dict[str, str]) -> None:
    state = State(epoch=1, best_epoch=1, metrics={})
    labels = {"positive_labels": ("4", "5"), "negative_labels": ("1",)}
    config = TrainConfig(output="new", epochs=1, from_="old/model", **labels)  # type: ignore[arg-type]
    show_outcome(Outcome(state, config, 90, 0, 0, 0))
    assert shown["next"] == (
        "lstm-ray evaluate TEST.parquet --model new/model --compare old/model --positive-labels 4,5 --negative-labels 1"
    )


@pytest.mark.parametrize(("goal", "is_better"), [({}, True), ({"target_precision": 0.95}, False)], ids=str)
def test_a_threshold_that_costs_accuracy_on_purpose_makes_no_model_worse(
    said: list[str], shown: dict[str, str], goal: dict[str, float], is_better: bool
) -> None:
    labels = np.array([1, 1, 0, 0], np.int8)
    before = BinaryCounts.from_scores(labels, np.array([0.6, 0.6, 0.4, 0.4], np.float32)).metrics()
    now = BinaryCounts.from_scores(labels, np.array([0.9, 0.8, 0.1, 0.1], np.float32), threshold=0.85).metrics()
    config = TrainConfig(output="new", epochs=1, from_="old/model", **goal)  # type: ignore[arg-type]
    show_outcome(Outcome(State(epoch=1, best_epoch=1, metrics=now), config, 90, 4, 0, 0, before=before))
    assert any("old/model is still better" in line for line in said) is is_better
    assert shown["accuracy before"] == "1.0000 ± 0.0000, of old/model, at its threshold of 0.5"


@pytest.mark.parametrize(("wrong", "remedy"), [(1, "standard error, so the next command decides"), (9, "or more rows")])
def test_a_difference_that_may_be_chance_asks_for_no_other_settings(said: list[str], wrong: int, remedy: str) -> None:
    labels = np.array([1, 0] * 10, np.int8)
    scores = np.array([0.6, 0.4] * 10, np.float32)
    scores[0] = 0.1  # so that the error of accuracy is not 0
    before = BinaryCounts.from_scores(labels, scores).metrics()
    scores[-wrong:] = 1 - scores[-wrong:]
    now = BinaryCounts.from_scores(labels, scores).metrics()
    config = TrainConfig(output="new", epochs=1, from_="old/model")
    show_outcome(Outcome(State(epoch=1, best_epoch=1, metrics=now), config, 90, 20, 0, 0, before=before))
    (line,) = (line for line in said if "old/model is still better" in line)
    assert line.endswith(remedy)


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ([], "complete; raise --epochs to continue, or use --fresh"),
        (["--early-stopping", "3"], "complete; raise --early-stopping to continue, or use --fresh"),
        (["--schedule", "cosine"], "complete; use --fresh"),
    ],
    ids=str,
)
def test_a_complete_run_names_what_continues_it(monkeypatch: pytest.MonkeyPatch, options: list[str], hint: str) -> None:
    state = State(epoch=4, best_epoch=1, metrics={})
    monkeypatch.setattr(run, "train", lambda config, _: Outcome(state, config, 90, 10, 0, 0, was_complete=True))
    done = CliRunner().invoke(app, ["train", "--train", "in.parquet", "--output", "out", "--preset", "none", *options])
    assert hint in " ".join(done.stderr.split())


def test_the_summary_has_the_error_of_accuracy_the_base_rate_the_groups_and_a_doubt(
    said: list[str],
    shown: dict[str, str],
) -> None:
    labels = np.array([1, 1, 1, 0, 0])
    counts = BinaryCounts.from_scores(labels, np.array([0.9, 0.9, 0.1, 0.1, 0.1], np.float32))
    state = State(epoch=1, best_epoch=1, metrics=counts.metrics())
    show_outcome(Outcome(state, TrainConfig(epochs=1, validation_group="film"), 90, 5, 0, 0, Groups(12, 3, 7)))
    assert shown["validation accuracy"] == "0.8000 ± 0.1789"
    assert (shown["base rate"], shown["balanced accuracy"]) == ("0.6000", "0.8333")
    assert shown["groups of film"] == "12 to train on, 3 to validate on"
    assert shown["rows without a group"] == "7, split by their text"
    (note,) = said
    assert "0.8000 ± 0.1789 is not two standard errors above 0.6000" in note


def test_an_epoch_shows_the_error_of_its_accuracy(said: list[str]) -> None:
    row = {"epoch": 2, "loss": 0.5, "accuracy": 0.75, "seconds": 1.0, "rows_per_s": 90.0, "validation_loss": 0.6}
    measured = {"validation_accuracy": 0.8, "validation_accuracy_standard_error": 0.04, "validation_auc": 0.9}
    with bars.progress("") as progress:
        progress(Epoch({**row, **measured}))
    assert said == [
        "epoch 2: loss 0.5000, accuracy 0.7500, validation loss 0.6000, accuracy 0.8000 ± 0.0400  (1 s, 90 rows/s)"
    ]


@pytest.mark.parametrize(
    ("true_positives", "false_positives", "note"),
    [
        (0, 0, "predicts negative for every validation row"),
        (6, 4, "predicts positive for every validation row"),
        (5, 1, None),
    ],
)
def test_a_model_that_knows_one_class_only_is_pointed_out(
    said: list[str], shown: dict[str, str], true_positives: int, false_positives: int, note: str | None
) -> None:
    metrics: dict[str, Any] = {
        "rows": 10,
        "accuracy": 0.6,
        "auc": None,
        "true_positives": true_positives,
        "false_positives": false_positives,
    }
    state = State(epoch=4, best_epoch=1, metrics=metrics)
    show_outcome(Outcome(state, TrainConfig(epochs=9, early_stopping=3, best_by="auc"), 90, 10, 0, 7))
    assert [note in line for line in said] == [True] if note else not said
    assert shown["best epoch"] == "1 of 4, stopped early of 9, by validation AUC"
    assert shown["rows with other labels"] == "7 left out"


def test_notes_are_on_the_model_at_its_chosen_threshold(said: list[str], shown: dict[str, str]) -> None:
    """At 0.5 this model calls every row negative; at the threshold that is chosen for F1 it is always right."""
    scores = np.where(np.arange(200) % 2, 0.4, 0.2).astype(np.float32)
    counts = BinaryCounts.from_scores((np.arange(200) % 2).astype(np.int8), scores, threshold=0.5)
    state = State(epoch=1, best_epoch=1, metrics=counts.metrics())
    state.keep_counts(counts)
    for config, notes in ((TrainConfig(epochs=1, preset="none"), 2), (TrainConfig(epochs=1, maximize="f1"), 0)):
        said.clear()
        show_outcome(Outcome(state, config, 900, 200, 0, 0))
        assert len(said) == notes, said
    reached = "0.3: precision 1.0000, recall 1.0000; epochs are measured at 0.5"
    assert (shown["validation accuracy"], shown["threshold"]) == ("1.0000 ± 0.0000", reached)


def test_a_network_that_loses_to_the_ngrams_is_told_what_to_try(said: list[str], shown: dict[str, str]) -> None:
    metrics = {"rows": 10, "accuracy": 0.8, "auc": 0.9, "true_positives": 5, "false_positives": 1}
    row = {
        "validation_accuracy": 0.8,
        "validation_lstm_accuracy": 0.6,
        "validation_loss": 0.45,
        "validation_lstm_loss": 0.6,
        "validation_ngram_accuracy": 0.7,
        "validation_ngram_loss": 0.5,
        "lstm_share": 0.2,
    }
    state = State(epoch=1, best_epoch=1, metrics=metrics, history=[row])
    show_outcome(Outcome(state, TrainConfig(epochs=1), 90, 10, 0, 0))
    assert (shown["LSTM alone"], shown["n-grams alone"], shown["LSTM's share"]) == ("0.6000", "0.7000", "20%")
    (note,) = said
    assert note.startswith("note: the LSTM alone (log loss 0.6000) does not beat the n-grams alone (log loss 0.5000): ")


def test_a_printed_outcome_shows_the_model_and_the_figures() -> None:
    state = State(epoch=3, best_epoch=2, metrics={})
    outcome = Outcome(state, TrainConfig(output="run", epochs=3), 90, 0, 0, 0)
    assert str(outcome) == (
        "Outcome(model='run/model', best_epoch=2, epochs=3, training_rows=90, validation_rows=0, "
        "validation_rows_seen=0)"
    )
    counts = BinaryCounts.from_scores(np.array([1, 1, 0]), np.array([0.9, 0.1, 0.1], np.float32))
    state = State(epoch=3, best_epoch=2, metrics=counts.metrics())
    outcome = Outcome(state, TrainConfig(output="run", epochs=3), 90, 3, 0, 0)
    assert "best_epoch=2, epochs=3, validation_accuracy=0.6667, validation_auc=0.75, training_rows=90," in str(outcome)
