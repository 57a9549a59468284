"""A model is measured on rows that have words and a known label; unusual rows cause a warning."""

from __future__ import annotations

import errno
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import lstm_ray
from lstm_ray import storage
from lstm_ray.cli.app import app
from lstm_ray.config import EvaluateConfig, Precision
from lstm_ray.errors import BundleError, ConfigError, InputError, OutputError, ReportError
from lstm_ray.evaluate.evaluation import Evaluation, evaluate
from lstm_ray.progress import Event, ignore


def measured(directory: Path, bundle: Path, labels: list[Any], **changes: Any) -> tuple[Evaluation, list[str]]:
    """Evaluates as many short reviews as there are labels; returns the result and the messages."""
    path = directory / "reviews.parquet"
    pq.write_table(pa.table({"text": ["a good film"] * len(labels), "label": labels}), path)
    config = EvaluateConfig.model_validate({"inputs": (str(path),), "model": str(bundle), **changes})
    notes: list[str] = []
    return evaluate(config, lambda event: notes.append(event) if isinstance(event, str) else None), notes


@pytest.mark.parametrize("exchanged", [False, True])
def test_exchanged_labels_are_suspected(tmp_path: Path, tiny_bundle: Path, exchanged: bool) -> None:
    path = tmp_path / "reviews.parquet"
    texts = [f"a {word} film {number}" for number in range(40) for word in ("good", "bad")]
    scores = [one.probability or 0.0 for one in lstm_ray.load(tiny_bundle).predict(texts)]
    middle = sorted(scores)[len(texts) // 2]
    right = [(score >= middle) ^ (row % 9 == 0) for row, score in enumerate(scores)]  # not all are
    pq.write_table(pa.table({"text": texts, "label": [int(label ^ exchanged) for label in right]}), path)
    notes: list[Event] = []
    evaluate(EvaluateConfig.model_validate({"inputs": (str(path),), "model": str(tiny_bundle)}), notes.append)
    assert sum("labels exchanged" in str(note) for note in notes) == exchanged


def test_mistakes_of_all_shards_are_the_largest_first(tmp_path: Path, tiny_bundle: Path) -> None:
    path = tmp_path / "reviews.parquet"
    texts = ["a good film", "not a bad film", "a fine one", "bad acting", "bad end", "good end"] * 4
    pq.write_table(pa.table({"text": texts, "label": [0, 1] * 12}), path, row_group_size=8)
    config = EvaluateConfig.model_validate({"inputs": (str(path),), "model": str(tiny_bundle)})
    result = evaluate(config, ignore)
    errors = [mistake.error for mistake in result.mistakes]
    wrong = result.counts.false_positives + result.counts.false_negatives
    assert len(errors) == min(wrong, config.mistakes) > 1
    assert errors == sorted(errors, reverse=True)
    assert all((mistake.probability > 0.5) != (mistake.label == 1) for mistake in result.mistakes)


def test_mistakes_of_a_report_have_their_words(tmp_path: Path, tiny_bundle: Path) -> None:
    result, _ = measured(tmp_path, tiny_bundle, [0, 1], output=str(tmp_path / "report"))
    (mistake,) = result.mistakes
    assert sorted(word.word for word in mistake.words) == ["a", "film", "good"]
    report = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "film " in report.partition("log odds")[2]
    assert '>threshold</td><td class="value">0.5</td>' in report, "the model's, as none was given"


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
            "no row is positive (none is 4; there are 1, 2, 5): auc needs both: did you mean --positive-labels 5 "
            "--negative-labels 1,2?",
        ),
        (
            ["Neg", "pos"],
            {"positive_labels": "pos", "negative_labels": "neg,bad"},
            "no row is negative (none is neg, bad; there are 'Neg', 'pos'): auc needs both: did you mean "
            "--positive-labels pos --negative-labels Neg?",
        ),
    ],
)
def test_rows_of_one_label_are_measured_with_a_warning(
    tmp_path: Path, tiny_bundle: Path, labels: list[Any], changes: dict[str, str], says: str
) -> None:
    result, notes = measured(tmp_path, tiny_bundle, labels, **changes)
    assert notes == [f"warning: {tmp_path}/reviews.parquet: {says}"]
    assert result.metrics["auc"] is None


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (
            ["5", "5,0", "1", "3"],
            "2 rows with other labels left out (there are '1', '3', '5', '5,0'): did you mean --positive-labels "
            "'5,\"5,0\"' --negative-labels 1?",
        ),
        (["5", "4,0", "1", "3"], None),
        ([5.0, 5.5, 1.0, 3.0], None),
    ],
)
def test_labels_in_another_spelling_are_not_left_out_in_silence(
    tmp_path: Path, tiny_bundle: Path, labels: list[Any], says: str | None
) -> None:
    result, notes = measured(tmp_path, tiny_bundle, labels, positive_labels="5", negative_labels="1")
    assert result.rows_with_other_label == 2
    assert notes == ([] if says is None else [f"warning: {tmp_path}/reviews.parquet: {says}"])


# Rows that the model has learned from


def trained_on(bundle: Path, to: Path, *texts: str, train: tuple[str, ...] = ()) -> Path:
    """Copies a bundle as one that learned from some texts, in files of `train`."""
    from lstm_ray.datasets.seen import SeenTexts, hash_texts
    from lstm_ray.model.description import seal, sha256

    shutil.copytree(bundle, to)
    SeenTexts([hash_texts(pa.array(texts, pa.large_string()))]).write(to / "seen.parquet")
    description = json.loads((to / "bundle.json").read_text())
    description["sha256"]["seen.parquet"] = sha256((to / "seen.parquet").read_bytes())
    description["training"]["train"] = list(train)
    del description["self_sha256"]
    (to / "bundle.json").write_bytes(seal(description))
    return to


def test_rows_that_the_model_has_learned_from_are_counted(tmp_path: Path, tiny_bundle: Path) -> None:
    result, notes = measured(tmp_path, trained_on(tiny_bundle, tmp_path / "model", "a good film"), [0, 1, 1])
    assert result.metrics["rows_seen_in_training"] == 3
    (note,) = notes
    assert note.startswith(
        f"warning: {tmp_path}/reviews.parquet: 3 of 3 evaluation rows (100.0%) also occur in the training data: "
    )
    result, _ = measured(tmp_path, trained_on(tiny_bundle, tmp_path / "written otherwise", "A good  film"), [0, 1, 1])
    assert result.metrics["rows_seen_in_training"] == 3
    result, notes = measured(tmp_path, trained_on(tiny_bundle, tmp_path / "other", "a good films"), [0, 1, 1])
    assert (result.metrics["rows_seen_in_training"], notes) == (0, [])


def test_the_report_has_the_doubts_and_the_number_of_rows_that_were_left_out(tmp_path: Path, tiny_bundle: Path) -> None:
    model = trained_on(tiny_bundle, tmp_path / "model", "a good film")
    mapping = {"positive_labels": "1", "negative_labels": "0"}
    result, _ = measured(tmp_path, model, [0, 1, None], output=str(tmp_path / "report"), **mapping)
    assert (result.counts.rows, result.rows_with_other_label) == (2, 1)
    report = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "2 of 2 evaluation rows (100.0%) also occur in the training data: nothing here is measured on new" in report
    assert "<small>1 left out</small>" in report


def test_rows_that_the_other_model_has_learned_from_are_told_too(tmp_path: Path, tiny_bundle: Path) -> None:
    other = trained_on(tiny_bundle, tmp_path / "other", "a good film")
    result, notes = measured(tmp_path, tiny_bundle, [0, 1, 1], compare=str(other))
    assert (result.rows_seen, result.other_rows_seen) == (None, 3)
    assert result.to_json()["comparison"]["other_rows_seen_in_training"] == 3
    (note,) = notes
    assert note.startswith(f"warning: {tmp_path}/reviews.parquet: 3 of 3 evaluation rows (100.0%) also occur in the ")
    assert note.endswith(f"training data of {other}: nothing here is measured on new reviews")
    result, notes = measured(tmp_path, other, [0, 1, 1], compare=str(other))
    assert (result.rows_seen, result.other_rows_seen, len(notes)) == (3, 3, 2)
    assert measured(tmp_path, other, [0, 1, 1], compare=str(tiny_bundle))[0].other_rows_seen is None


def test_a_bundle_of_an_older_version_cannot_tell(tmp_path: Path, tiny_bundle: Path) -> None:
    result, notes = measured(tmp_path, tiny_bundle, [0, 1])
    assert (result.metrics["rows_seen_in_training"], notes) == (None, [])


@pytest.mark.parametrize("train", ["reviews.parquet", ".", "*.parquet"])
def test_a_file_of_the_training_run_is_refused_unless_it_is_wanted(
    tmp_path: Path, tiny_bundle: Path, train: str
) -> None:
    model = trained_on(tiny_bundle, tmp_path / "model", "a good film", train=(f"{tmp_path}/{train}",))
    with pytest.raises(InputError, match=r"was trained on this file: .*, or pass --allow-seen-files$"):
        measured(tmp_path, model, [0, 1])
    result, _ = measured(tmp_path, model, [0, 1], allow_seen_files=True)
    assert result.rows_seen == 2


def test_damaged_hashes_are_an_error_of_the_bundle(tmp_path: Path, tiny_bundle: Path) -> None:
    model = trained_on(tiny_bundle, tmp_path / "model", "a good film")
    (model / "seen.parquet").write_bytes(b"")
    with pytest.raises(BundleError, match=r"the bundle's seen\.parquet is damaged"):
        measured(tmp_path, model, [0, 1])
    (model / "seen.parquet").unlink()  # by somebody who publishes the model, but not what it has learned from
    result, notes = measured(tmp_path, model, [0, 1])
    assert result.rows_seen is None
    assert notes == [
        f"warning: {tmp_path}/reviews.parquet: cannot check whether the model was trained on some of these rows: "
        f"seen.parquet, the hashes of the training texts, is missing in {model}"
    ]


def test_the_output_is_checked_before_anything_is_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_figures_are_not_lost_with_the_predictions(tmp_path: Path, tiny_bundle: Path) -> None:
    """The disk fills up in the middle."""

    class Full(pq.ParquetWriter):  # type: ignore[misc]
        def write_table(self, *_: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    def fail(path: str, _: bytes) -> None:
        raise OutputError(f"{path}: full")

    path = tmp_path / "predictions.parquet"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pq, "ParquetWriter", Full)
        with pytest.raises(ReportError, match=r"predictions\.parquet: cannot be written: no space left") as raised:
            measured(tmp_path, tiny_bundle, [0, 1, 1], predictions=str(path), output=str(tmp_path / "out"))
        command = ["evaluate", str(tmp_path / "reviews.parquet"), "--model", str(tiny_bundle)]
        ended = CliRunner().invoke(app, [*command, "--predictions", str(path), "--output", str(tmp_path / "shown")])
        patch.setattr(storage, "write_bytes", fail)
        with pytest.raises(ReportError, match=r"predictions\.parquet: cannot .*; .*both/report\.html: full$"):
            measured(tmp_path, tiny_bundle, [0, 1, 1], predictions=str(path), output=str(tmp_path / "both"))
    assert isinstance(ended.exception, ReportError)
    assert "accuracy" in ended.stdout
    assert "predictions" not in ended.stdout
    assert re.search(f"^report +{tmp_path}/shown/report.html$", ended.stdout, re.MULTILINE)
    assert raised.value.result.counts.rows == 3
    assert (tmp_path / "out" / "report.html").exists()
    assert not path.exists()


# Questions of those who decide


def reviews(directory: Path, rows: int = 60) -> Path:
    """Writes reviews in several row groups and two files, with a shop for each."""
    (directory / "in").mkdir(exist_ok=True)
    texts = ["a good film", "not a bad film", "a fine one", "bad acting", "bad end", "?!"]
    for number in range(2):
        part = range(number * rows // 2, (number + 1) * rows // 2)
        table = {
            "text": [f"{texts[row % 6]} {'good ' * (row % 4)}" for row in part],
            "label": [row * row % 7 % 2 for row in part],
            "shop": [f"shop {row % 3}" for row in part],
        }
        pq.write_table(pa.table(table), directory / "in" / f"{number}.parquet", row_group_size=7)
    return directory / "in"


def evaluated(directory: Path, bundle: Path, **changes: Any) -> tuple[Evaluation, list[str]]:
    """Evaluates the reviews; returns the result and the messages."""
    config = EvaluateConfig.model_validate({"inputs": (str(reviews(directory)),), "model": str(bundle), **changes})
    notes: list[str] = []
    return evaluate(config, lambda event: notes.append(event) if isinstance(event, str) else None), notes


def test_predictions_say_all_that_the_metrics_do(tmp_path: Path, tiny_bundle: Path) -> None:
    path = tmp_path / "p.parquet"
    result, _ = evaluated(tmp_path, tiny_bundle, predictions=str(path))
    written = pq.read_table(path)
    assert written.num_rows == result.counts.rows == 60 - result.rows_without_text
    assert sum(written["right"].to_pylist()) / written.num_rows == result.metrics["accuracy"]
    for row in written.to_pylist()[:: written.num_rows - 1]:
        there = pq.read_table(row["file"]).slice(row["row"], 1).to_pylist()[0]
        assert (there["text"], there["label"]) == (row["text"], row["label"])
        assert (row["probability"] > 0.5) == (row["sentiment"] == "positive") == (row["right"] == (row["label"] == 1))
    with pytest.raises(ConfigError, match=f"--predictions and --output are both {tmp_path}/ev: one is a file"):
        evaluated(tmp_path, tiny_bundle, predictions=f"{tmp_path}/./ev", output=f"{tmp_path}/ev")
    with pytest.raises(OutputError, match=r"p\.parquet: exists: choose another --predictions"):
        evaluated(tmp_path, tiny_bundle, predictions=str(path))
    with pytest.raises(OutputError, match=r"p\.csv: would be Parquet, not CSV: name it .*/p\.parquet$"):
        evaluated(tmp_path, tiny_bundle, predictions=str(tmp_path / "p.csv"))


def test_predictions_among_the_inputs_are_refused(tmp_path: Path, tiny_bundle: Path) -> None:
    path = reviews(tmp_path) / "p.parquet"
    with pytest.raises(
        ConfigError, match=r"^--predictions .*/in/p\.parquet is inside the input .*/in, so the next run would read it"
    ):
        evaluated(tmp_path, tiny_bundle, predictions=str(path))
    assert not path.exists()
    before, _ = evaluated(tmp_path, tiny_bundle, predictions=str(path.with_name("_p.parquet")))
    assert evaluated(tmp_path, tiny_bundle)[0].counts.rows == before.counts.rows


def test_no_file_of_predictions_is_left_by_an_evaluation_that_fails(tmp_path: Path, tiny_bundle: Path) -> None:
    with pytest.raises(InputError, match="no rows to evaluate"):
        evaluated(
            tmp_path, tiny_bundle, predictions=str(tmp_path / "p.parquet"), positive_labels="7", negative_labels="8"
        )
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_groups_add_up_to_all_rows_and_are_written(tmp_path: Path, tiny_bundle: Path) -> None:
    out = tmp_path / "out"
    result, _ = evaluated(tmp_path, tiny_bundle, by="shop,length", output=str(out))
    for by in ("shop", "length"):
        groups = [group for group in result.groups if group.by == by]
        assert sum(group.rows for group in groups) == result.counts.rows
        assert sum(group.accuracy * group.rows for group in groups) == pytest.approx(
            result.metrics["accuracy"] * result.counts.rows
        )
    written = json.loads((out / "metrics.json").read_text())
    assert [(group["by"], group["value"]) for group in written["groups"]][:3] == [
        ("shop", f"shop {number}") for number in range(3)
    ]
    assert "By shop" in (out / "report.html").read_text()
    assert (out / "evaluation.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match=r"no column 'shops'; .*: did you mean --by shop"):
        evaluated(tmp_path, tiny_bundle, by="shops")
    with pytest.raises(InputError, match=r"no column 'shops'; .*: did you mean --by length,shop\?$"):
        evaluated(tmp_path, tiny_bundle, by="length,shops")
    with pytest.raises(InputError, match=r"no column 'shops'; .*: choose with --by, or .* --by length$"):
        evaluated(tmp_path, tiny_bundle, by="shop,shops")


def test_a_column_that_is_named_twice_is_measured_and_shown_once(tmp_path: Path, tiny_bundle: Path) -> None:
    command = ["evaluate", str(reviews(tmp_path)), "--model", str(tiny_bundle), "--by", "length,shop,length"]
    assert CliRunner().invoke(app, command).stdout.count("By length") == 1
    assert EvaluateConfig.model_validate({"by": ["b", "a", "b"]}).by == ("b", "a")


def test_a_model_is_as_good_as_itself_and_differs_from_another(
    tmp_path: Path, tiny_bundle: Path, make_bundle: Callable[..., Path]
) -> None:
    same, _ = evaluated(tmp_path, tiny_bundle, compare=str(tiny_bundle))
    assert same.comparison is not None
    assert (same.comparison.only_this, same.comparison.only_other) == (0, 0)
    assert same.to_json()["comparison"]["p_value"] == 1.0
    other, _ = evaluated(tmp_path, tiny_bundle, compare=str(make_bundle(seed=5)))
    assert other.comparison is not None
    compared, alone = other.to_json()["comparison"], evaluated(tmp_path, make_bundle(seed=5))[0]
    assert compared["other"]["accuracy"] == alone.metrics["accuracy"]
    assert compared["difference"] == pytest.approx(other.metrics["accuracy"] - alone.metrics["accuracy"])


def test_a_precision_is_compared_with_float32(tmp_path: Path, tiny_bundle: Path, low_precision: Precision) -> None:
    plain, _ = evaluated(tmp_path, tiny_bundle)
    low, notes = evaluated(tmp_path, tiny_bundle, precision=low_precision, compare=str(tiny_bundle))
    assert notes == [f"note: --precision {low_precision} is for --model only: {tiny_bundle} is scored in float32"]
    assert low.metrics["log_loss"] != plain.metrics["log_loss"]
    assert low.metrics["log_loss"] == pytest.approx(plain.metrics["log_loss"], abs=0.01)
    assert low.to_json()["comparison"]["other"]["log_loss"] == plain.metrics["log_loss"]


def test_a_threshold_is_chosen_for_a_goal_and_measured_as_if_it_were_given(tmp_path: Path, tiny_bundle: Path) -> None:
    found, _ = evaluated(tmp_path, tiny_bundle, maximize="f1")
    assert found.chosen is not None
    given, _ = evaluated(tmp_path, tiny_bundle, threshold=found.chosen.threshold)
    assert found.chosen.metrics() == pytest.approx(given.counts.metrics())
    assert found.metrics["threshold"] == 0.5


def test_a_target_that_no_threshold_reaches_is_reported_with_the_best(tmp_path: Path, tiny_bundle: Path) -> None:
    result, notes = evaluated(tmp_path, tiny_bundle, target_precision=1.0)
    assert result.chosen is None
    (note,) = notes
    assert "--target-precision 1: no threshold reaches it on 60 rows: the highest precision is 0." in note


def test_the_summary_is_short_and_json_has_all(tmp_path: Path, tiny_bundle: Path) -> None:
    command = ["evaluate", str(reviews(tmp_path)), "--model", str(tiny_bundle), "--by", "shop", "--maximize", "f1"]
    shown = CliRunner().invoke(app, [*command, "--compare", str(tiny_bundle)]).stdout
    assert len(shown.splitlines()) < 24
    assert re.search(r"accuracy +0\.\d{4} \(0\.\d{4} to 0\.\d{4}\)", shown)
    assert re.search(r"shop 0 +0\.\d{4} \(0\.\d{4} to 0\.\d{4}\) of 20 rows", shown)
    made = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert {"rows", "accuracy", "precision", "recall", "f1", "auc", "log_loss"} <= made.keys()
    assert made["intervals"].keys() == {"accuracy", "precision", "recall", "specificity", "auc"}
    assert len(made["histogram"]) == 20
    assert len(made["thresholds"]) == 19
    assert made["chosen"]["f1"] >= made["f1"]
    assert made["precision_recall_curve"]["recall"][-1] == 1.0


def test_a_printed_result_shows_the_figures(tmp_path: Path, tiny_bundle: Path) -> None:
    result, _ = measured(tmp_path, tiny_bundle, [0, 1, 1])
    accuracy = round(result.metrics["accuracy"], 4)
    assert str(result).startswith(f"Evaluation(rows=3, accuracy={accuracy}, auc=0.5, log_loss=")
    assert str(result.counts).startswith(f"BinaryCounts(rows=3, threshold=0.5, accuracy={accuracy}, precision=")
    assert "array" not in str(result.counts)


@pytest.mark.parametrize(
    ("shops", "last"), [(2, r"shop 1 .* of 1 row\n"), (13, "groups +13, of which none stand out;.*\n")]
)
def test_the_summary_counts_in_words(tmp_path: Path, tiny_bundle: Path, shops: int, last: str) -> None:
    table = {"text": ["good"] * shops, "label": [1, *[0] * (shops - 1)], "shop": [f"shop {n}" for n in range(shops)]}
    pq.write_table(pa.table(table), tmp_path / "in.parquet")
    command = ["evaluate", str(tmp_path / "in.parquet"), "--model", str(tiny_bundle), "--by", "shop"]
    assert re.search(last + "$", CliRunner().invoke(app, command).stdout)


def test_the_ngrams_alone_are_measured_as_in_training(tmp_path: Path, tiny_bundle: Path) -> None:
    """The oracle is what training computed for its validation rows, from the table and bias before they are mixed."""
    texts = [f"a {word} film {number}" for number in range(60) for word in ("good", "good", "bad")]
    labels = [int("good" in text) ^ (row % 8 == 0) for row, text in enumerate(texts)]  # two thirds are positive
    for name, rows in (("train", slice(0, 150)), ("validation", slice(150, None))):
        pq.write_table(pa.table({"text": texts[rows], "label": labels[rows]}), tmp_path / f"{name}.parquet")
    run = lstm_ray.train(
        tmp_path / "train.parquet",
        validation=tmp_path / "validation.parquet",
        output=tmp_path / "run",
        preset="none",
        units=4,
        epochs=1,
        ngrams=2,
        ngram_buckets=64,
        progress=ignore,
    )
    calibrated = lstm_ray.calibrate(
        tmp_path / "validation.parquet", model=run.model, output=tmp_path / "calibrated", progress=ignore
    )
    expected = json.loads((tmp_path / "run" / "metrics.json").read_text(encoding="utf-8"))["parts"]
    for model in (run.model, calibrated.output):
        result = lstm_ray.evaluate(tmp_path / "validation.parquet", model=model, progress=ignore)
        assert result.ngrams is not None
        found = result.ngrams.other.metrics()
        assert found["accuracy"] == expected["validation_ngram_accuracy"] > 0.7
        assert found["log_loss"] == pytest.approx(expected["validation_ngram_loss"], abs=1e-6)
        assert result.to_json()["ngrams"]["rows"] == result.counts.rows == 30
        assert result.ngrams.right == result.counts.true_positives + result.counts.true_negatives
    without = evaluate(
        EvaluateConfig.model_validate({"inputs": (str(tmp_path / "validation.parquet"),), "model": str(tiny_bundle)}),
        ignore,
    )
    assert without.ngrams is without.to_json()["ngrams"] is None
