"""A model is measured on rows that have words and a known label; unusual rows cause a warning."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from lstm_ray.cli.app import app
from lstm_ray.config import EvaluateConfig
from lstm_ray.errors import BundleError, InputError, OutputError, ReportError
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


# Rows that the model has learned from


def trained_on(bundle: Path, to: Path, *texts: str, train: tuple[str, ...] = ()) -> Path:
    """Copies a bundle as one that learned from some texts, in files of `train`."""
    from lstm_ray.datasets.seen import SeenTexts, hash_texts
    from lstm_ray.model.bundle import _seal, _sha256

    shutil.copytree(bundle, to)
    SeenTexts([hash_texts(pa.array(texts, pa.large_string()))]).write(to / "seen.parquet")
    description = json.loads((to / "bundle.json").read_text())
    description["sha256"]["seen.parquet"] = _sha256((to / "seen.parquet").read_bytes())
    description["training"]["train"] = list(train)
    del description["self_sha256"]
    (to / "bundle.json").write_bytes(_seal(description))
    return to


def test_rows_that_the_model_has_learned_from_are_counted(tmp_path: Path, tiny_bundle: Path) -> None:
    result, notes = measured(tmp_path, trained_on(tiny_bundle, tmp_path / "model", "a good film"), [0, 1, 1])
    assert result.metrics["rows_seen_in_training"] == 3
    (note,) = notes
    assert note.startswith(
        f"warning: {tmp_path}/reviews.parquet: 3 of 3 evaluation rows (100.0%) also occur in the training data: "
    )
    result, notes = measured(tmp_path, trained_on(tiny_bundle, tmp_path / "other", "A good film"), [0, 1, 1])
    assert (result.metrics["rows_seen_in_training"], notes) == (0, [])


def test_a_bundle_of_an_older_version_cannot_tell(tmp_path: Path, tiny_bundle: Path) -> None:
    result, notes = measured(tmp_path, tiny_bundle, [0, 1])
    assert (result.metrics["rows_seen_in_training"], notes) == (None, [])


@pytest.mark.parametrize("train", ["reviews.parquet", ".", "*.parquet"])
def test_a_file_of_the_training_run_is_refused_unless_it_is_wanted(
    tmp_path: Path, tiny_bundle: Path, train: str
) -> None:
    model = trained_on(tiny_bundle, tmp_path / "model", "a good film", train=(f"{tmp_path}/{train}",))
    with pytest.raises(InputError, match=r"was trained on this file, .*, or pass --allow-seen-files$"):
        measured(tmp_path, model, [0, 1])
    result, _ = measured(tmp_path, model, [0, 1], allow_seen_files=True)
    assert result.rows_seen == 2


def test_damaged_hashes_are_an_error_of_the_bundle(tmp_path: Path, tiny_bundle: Path) -> None:
    model = trained_on(tiny_bundle, tmp_path / "model", "a good film")
    (model / "seen.parquet").write_bytes(b"")
    with pytest.raises(BundleError, match=r"the bundle's seen\.parquet is damaged"):
        measured(tmp_path, model, [0, 1])
    (model / "seen.parquet").unlink()  # by somebody who publishes the model, but not what it has learned from
    assert measured(tmp_path, model, [0, 1])[0].rows_seen is None


def test_the_output_is_checked_before_anything_is_scored(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str, mode: int) -> bool:
        return not path.endswith("closed")

    monkeypatch.setattr("os.access", refuse)  # root may write anywhere
    (tmp_path / "closed").mkdir()
    with pytest.raises(OutputError, match="closed/new: cannot be written: no permission in"):
        measured(tmp_path, tmp_path / "no model", [0, 1], output=str(tmp_path / "closed/new"))


def test_figures_are_not_lost_with_their_report(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full at the end: the command prints the figures, then the error."""

    def fill(path: str, content: bytes) -> None:
        raise OutputError(f"{path}: cannot be written: no space left on the device")

    monkeypatch.setattr("lstm_ray.storage.write_bytes", fill)
    with pytest.raises(ReportError, match=r"report\.html: cannot be written: no space") as raised:
        measured(tmp_path, tiny_bundle, [0, 1, 1], output=str(tmp_path / "out"))
    assert isinstance(raised.value.result, Evaluation)
    assert raised.value.result.counts.rows == 3
    command = ["evaluate", str(tmp_path / "reviews.parquet"), "--model", str(tiny_bundle), "--json"]
    ended = CliRunner().invoke(app, [*command, "--output", str(tmp_path / "out")])
    assert isinstance(ended.exception, ReportError)
    assert json.loads(ended.stdout)["rows"] == 3
