"""A run is started, resumed and finished, and never mixed with another."""

from __future__ import annotations

import contextlib
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from runs import changed

from lstm_ray.config import TrainConfig, resolve
from lstm_ray.datasets.held_out import hash_keys, held_out
from lstm_ray.datasets.seen import hash_texts, sum_of
from lstm_ray.errors import OutputError
from lstm_ray.model.bundle import read_bundle
from lstm_ray.progress import Epoch, Event
from lstm_ray.train import run
from lstm_ray.train.results import HISTORY, PARTS


def test_a_run_is_trained_once_and_resumes_for_more_epochs(settings: TrainConfig, watcher: Any) -> None:
    output = Path(settings.output)
    first = run.train(settings, watcher)
    assert not first.was_complete
    assert {path.name for path in output.iterdir()} == {
        *(
            ".lock",
            "config.yaml",
            "model",
            "checkpoints",
            "tensorboard",
            "history.parquet",
            "history.png",
            "metrics.json",
            "report.html",
        )
    }
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}

    again = run.train(settings, watcher)
    assert again.was_complete
    assert again.state == first.state
    assert (again.training_rows, again.validation_rows) == (first.training_rows, first.validation_rows)
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before

    more = run.train(changed(settings, epochs=3), watcher)
    assert not more.was_complete
    assert more.state.history[:2] == first.state.history
    assert "resuming from the end of epoch 2" in watcher.said

    less = run.train(changed(settings, epochs=1), watcher)
    assert (less.was_complete, less.state) == (True, more.state)
    assert "note: --epochs 1 changes nothing: 3 epochs of this run are done" in watcher.said[-1]
    (output / "metrics.json").unlink()  # as if the process had been killed before
    del watcher.said[:]
    assert not run.train(changed(settings, epochs=1), watcher).was_complete
    assert "note: --epochs 1 changes nothing: 3 epochs of this run are done" in watcher.said[0]
    history = pq.read_table(output / "history.parquet")
    assert history.schema.equals(HISTORY)
    assert history["epoch"].to_pylist() == [1, 2, 3]
    assert history["best"].to_pylist().count(True) == 1

    fresh = run.train(changed(settings, epochs=1, fresh=True), watcher)
    assert fresh.state.epoch == 1
    assert pq.read_table(output / "history.parquet")["epoch"].to_pylist() == [1]


def test_a_run_reports_its_groups_and_how_sure_its_accuracy_is(settings: TrainConfig, watcher: Any) -> None:
    (path,) = settings.train
    table = pq.read_table(path)
    pq.write_table(table.append_column("film", pa.array([row // 4 or None for row in range(60)])), path)
    grouped = changed(settings, validation_group="film", epochs=1, best_by="loss")
    outcome = run.train(grouped, watcher)
    groups = outcome.groups
    assert groups is not None
    assert groups.training + groups.validation == 14
    assert groups.rows_without == 4
    metrics = json.loads((Path(settings.output) / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["groups"] == {"training": groups.training, "validation": groups.validation, "rows_without": 4}
    assert metrics["best_by"] == "loss"
    measured = metrics["validation"]
    share = measured["accuracy"]
    assert measured["accuracy_standard_error"] == pytest.approx(math.sqrt(share * (1 - share) / measured["rows"]))
    report = (Path(settings.output) / "report.html").read_text(encoding="utf-8")
    assert f"{groups.training} groups of film to train on, {groups.validation} to validate on." in report
    assert "4 rows without a group were held out by their text." in report
    assert run.train(grouped, watcher).groups == groups, "a complete run remembers them"


def test_a_run_with_ngrams_tells_what_each_part_reached(settings: TrainConfig, watcher: Any) -> None:
    output = Path(settings.output)
    state = run.train(changed(settings, ngrams=2, ngram_buckets=100), watcher).state
    history = pq.read_table(output / "history.parquet")
    assert history.schema.equals(pa.schema([*HISTORY, *PARTS]))
    assert history["validation_ngram_accuracy"].to_pylist() == [1.0, 1.0]
    parts = json.loads((output / "metrics.json").read_bytes())["parts"]
    assert parts == {"mix": state.mix, **{name: state.best_row()[name] for name in PARTS.names}}
    assert "Each part alone" in (output / "report.html").read_text(encoding="utf-8")
    assert run.train(changed(settings, ngrams=2, ngram_buckets=100), watcher).was_complete


@pytest.mark.parametrize("column", ["text", "id"])
def test_a_column_of_single_words_is_pointed_out(settings: TrainConfig, watcher: Any, column: str) -> None:
    table = pq.read_table(settings.train[0])
    table = table.append_column("id", pa.array([f"R{number}" for number in range(table.num_rows)]))
    pq.write_table(table, settings.train[0])
    run.train(changed(settings, text_column=column, epochs=1), watcher)
    note = "note: the texts have 1.0 words on average: is --text-column id right, and are its words separated?"
    assert (note in watcher.said) == (column == "id")


def test_texts_with_both_labels_are_pointed_out(settings: TrainConfig, watcher: Any) -> None:
    table = pq.read_table(settings.train[0])
    both = pa.table(
        {"text": ["one", "two", "three"] * 2, "label": pa.array([0] * 3 + [1] * 3, table.schema.field("label").type)}
    )
    pq.write_table(pa.concat_tables([table.select(["text", "label"]), both]), settings.train[0])
    run.train(changed(settings, epochs=1), watcher)
    (note,) = [one for one in watcher.said if "in another" in one]
    assert re.fullmatch(r"note: [123] texts? of the training data (is|are) labelled positive in one row and .*", note)


def test_labels_in_another_spelling_are_not_left_out_in_silence(settings: TrainConfig, watcher: Any) -> None:
    table = pq.read_table(settings.train[0])
    names = [
        ("1" if label == 0 else "5,0" if row % 5 == 0 else "5") for row, label in enumerate(table["label"].to_pylist())
    ]
    pq.write_table(table.set_column(table.schema.get_field_index("label"), "label", pa.array(names)), settings.train[0])
    outcome = run.train(changed(settings, positive_labels=("5",), negative_labels=("1",), epochs=1), watcher)
    (warning,) = [one for one in watcher.said if "with other labels" in one]
    assert warning == (
        f"warning: {settings.train[0]}: {outcome.rows_with_other_label} rows with other labels left out (there are "
        "'1', '5', '5,0'): did you mean --positive-labels '5,\"5,0\"' --negative-labels 1?"
    )


def test_a_run_that_gets_no_better_stops_early_and_is_complete(settings: TrainConfig, watcher: Any) -> None:
    hopeless = changed(settings, learning_rate=1e-9, epochs=9, early_stopping=2)  # each epoch as good as the first
    first = run.train(hopeless, watcher)
    assert (first.state.epoch, first.state.best_epoch) == (3, 1)
    again = run.train(hopeless, watcher)
    assert again.was_complete
    assert len(watcher.epochs) == 3
    more = run.train(changed(hopeless, early_stopping=3), watcher)
    assert (more.state.epoch, more.was_complete) == (4, False)


def test_a_schedule_resumes_and_the_history_holds_the_epochs_last_rate(settings: TrainConfig, watcher: Any) -> None:
    cosine = changed(settings, schedule="cosine", warmup_steps=1, global_batch_size=10)
    outcome = run.train(cosine, watcher)
    state, steps = outcome.state, 2 * -(-outcome.training_rows // 10)
    for row in state.history:
        done = row["epoch"] * steps // 2 - 1
        expected = 0.001 * 0.5 * (1 + math.cos(math.pi * (done - 1) / (steps - 1)))
        assert row["learning_rate"] == pytest.approx(expected, rel=1e-4)
    with pytest.raises(OutputError, match="--epochs 2 there, 3 here; the cosine schedule depends on the number"):
        run.train(changed(cosine, epochs=3), watcher)


def test_words_start_with_their_vectors_and_frozen_ones_keep_them(settings: TrainConfig, watcher: Any) -> None:
    path = Path(settings.train[0]).with_name("vectors.txt")
    path.write_text("good 1 2 3\nbad 4 5 6\nelse 7 8 9\n", encoding="utf-8")
    frozen = changed(settings, embeddings=str(path), freeze_embeddings=True, epochs=1)
    run.train(frozen, watcher)
    assert any("2 of 16 words (12%) start with a vector of vectors.txt" in line for line in watcher.said), watcher.said
    bundle = read_bundle(f"{settings.output}/model")
    good, bad = (4 + bundle.vocabulary().words.to_pylist().index(word) for word in ("good", "bad"))
    table = bundle.weights().embedding
    np.testing.assert_array_equal(table[[good, bad]], [[1, 2, 3], [4, 5, 6]])
    assert np.abs(np.delete(table, [good, bad], axis=0)).max() < 0.051, "the others start as without vectors"
    path.write_text("good 1 2 3\nbad 4 5 7\n", encoding="utf-8")
    with pytest.raises(OutputError, match="data has changed"):
        run.train(changed(frozen, epochs=2), watcher)
    learning = changed(settings, embeddings=str(path), output=settings.output + "2", epochs=1)
    run.train(learning, watcher)
    moved = read_bundle(f"{learning.output}/model").weights().embedding[[good, bad]] - [[1, 2, 3], [4, 5, 7]]
    assert 0 < np.abs(moved).max() < 0.1


def test_a_run_that_died_before_its_results_were_written_writes_them(settings: TrainConfig, watcher: Any) -> None:
    run.train(settings, watcher)
    output = Path(settings.output)
    for name in ("metrics.json", "report.html"):
        (output / name).unlink()
    again = run.train(settings, watcher)
    assert not again.was_complete
    assert len(watcher.epochs) == 2, "no epoch is trained again"
    assert (output / "metrics.json").exists()
    assert (output / "report.html").exists()


def test_a_run_whose_data_has_changed_is_not_mixed_with_it(settings: TrainConfig, watcher: Any) -> None:
    run.train(changed(settings, epochs=1), watcher)
    (path,) = settings.train
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)
    with pytest.raises(OutputError, match="data has changed since this run began"):
        run.train(settings, watcher)
    pq.write_table(table, path, row_group_size=7)  # the same rows again, cut differently
    assert run.train(settings, watcher).state.epoch == 2


def test_a_run_that_held_out_other_rows_is_not_mixed_with_those_of_now(
    settings: TrainConfig, watcher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Versions before 0.3 took white space around a text for a part of it."""
    (path,) = settings.train
    plain = pq.read_table(path)
    spaced = pa.table({"text": [f"{text} " for text in plain["text"].to_pylist()], "label": plain["label"]})
    for table, is_refused in ((plain, False), (spaced, True)):
        pq.write_table(table, path)
        with monkeypatch.context() as before:
            before.setattr("lstm_ray.datasets.held_out.trim", lambda texts: texts)
            run.train(changed(settings, epochs=1, fresh=True), watcher)
        with pytest.raises(OutputError, match="data has changed") if is_refused else contextlib.nullcontext():
            assert run.train(settings, watcher).state.epoch == 2


def test_a_vocabulary_that_has_changed_between_two_runs_of_a_process_is_read_again(
    settings: TrainConfig, watcher: Any, tmp_path: Path
) -> None:
    path = tmp_path / "words.json"
    path.write_text('{"good": 1, "bad": 2}', encoding="utf-8")
    given = changed(settings, vocabulary=str(path), epochs=1)
    run.train(given, watcher)
    path.write_text('{"film": 1, "bad": 2}', encoding="utf-8")
    with pytest.raises(OutputError, match="data has changed since this run began"):
        run.train(changed(given, epochs=2), watcher)


def test_a_second_run_at_the_same_time_is_refused(settings: TrainConfig, watcher: Any) -> None:
    refused = []

    class Meddler(type(watcher)):  # type: ignore[misc]
        def __call__(self, event: Event) -> None:
            """Starts the same run again during its first epoch."""
            if isinstance(event, Epoch) and event.row["epoch"] == 1:
                with pytest.raises(OutputError, match="another run is writing here"):
                    run.train(settings, watcher)
                refused.append(event)

    assert run.train(settings, Meddler()).state.epoch == 2
    assert refused


def test_a_run_resumes_in_any_directory_by_its_config_yaml(
    settings: TrainConfig, watcher: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    first = run.train(changed(settings, train=("in*.parquet",), output="run", epochs=1), watcher)
    assert first.output == str(tmp_path / "run")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    more = run.train(resolve(TrainConfig, {"epochs": 2}, f"{first.output}/config.yaml"), watcher)
    assert (more.output, more.state.epoch, more.state.history[:1]) == (first.output, 2, first.state.history)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_the_engine_is_chosen_before_the_workers_start_and_may_be_another_next_time(
    settings: TrainConfig, watcher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workers and the bundle get the engine that computes; config.yaml keeps what the user set."""
    for epochs, on_gpu, engine in ((1, False, "native"), (2, True, "keras")):
        monkeypatch.setattr(run, "runs_on_gpu", lambda config, answer=on_gpu: answer)
        outcome = run.train(changed(settings, epochs=epochs), watcher)
        assert outcome.state.epoch == epochs
        assert read_bundle(f"{settings.output}/model").training["engine"] == engine
        written = yaml.safe_load((Path(settings.output) / "config.yaml").read_text(encoding="utf-8"))
        assert written["engine"] == "auto"


def test_the_linear_part_is_fitted_again_on_all_rows_but_those_given_for_validation(
    settings: TrainConfig, watcher: Any
) -> None:
    ngrams = changed(settings, ngrams=1, ngram_buckets=100, epochs=1)

    def table(name: str, **changes: Any) -> Any:
        config = changed(ngrams, output=f"{settings.output}-{name}", **changes)
        outcome = run.train(config, watcher)
        return read_bundle(f"{config.output}/model").weights().ngram_table, outcome.state.metrics

    once, metrics = table("once")
    again, same_metrics = table("again", ngram_refit=True)
    assert metrics == same_metrics, "those from before"
    assert np.abs(once - again).max() > 1e-3, "it has learned from the held-out rows"
    given = {"validation": settings.train, "allow_seen_files": True}
    assert table("given", **given)[0].tobytes() == table("given-again", **given, ngram_refit=True)[0].tobytes()


def test_the_model_recognises_the_rows_on_which_its_epoch_was_chosen(settings: TrainConfig, watcher: Any) -> None:
    texts = pq.read_table(settings.train[0])["text"].combine_chunks().cast(pa.large_string())
    texts = texts.filter(held_out(hash_keys(texts.cast(pa.large_binary()), settings.seed), 0.3))
    run.train(changed(settings, epochs=1), watcher)
    assert read_bundle(f"{settings.output}/model").chosen_on == [sum_of(hash_texts(texts))]
    run.train(changed(settings, epochs=1, validation_fraction=0.0, fresh=True), watcher)
    assert read_bundle(f"{settings.output}/model").chosen_on == []
