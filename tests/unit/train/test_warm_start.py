"""A warm start from a model: the settings it brings, what may differ, its words and its weights."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import lstm_ray
from lstm_ray.collective.protocol import Alone
from lstm_ray.config import TrainConfig, TuneConfig, left_open, resolve
from lstm_ray.errors import BundleError, ConfigError, LstmRayError, OutputError
from lstm_ray.model.bundle import Bundle, read_bundle
from lstm_ray.train import run
from lstm_ray.train.loop import checkpoints
from lstm_ray.train.step.choice import make_stepper
from lstm_ray.train.warm_start import first_weights, start_from

NETWORK = {"vocabulary_size": 12, "max_tokens": 6, "embedding_size": 3, "units": 2, "mask": True, "bidirectional": True}
BROUGHT = {
    **NETWORK,
    "preset": "none",
    "pooling": "max",
    "ngrams": 2,
    "ngram_buckets": 300,
    "ema": 0.9,
    "learning_rate": 0.02,
}


def write(path: Path, texts: list[str]) -> str:
    """Writes reviews whose label is 1 if "good" is in them."""
    pq.write_table(pa.table({"text": texts, "label": [int("good" in text) for text in texts]}), path)
    return str(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gives a directory with a run, and with reviews that have other words."""
    directory = tmp_path_factory.mktemp("warm_start")
    old = write(directory / "old.parquet", [f"{'good' if row % 2 else 'bad'} film {row % 7}" for row in range(60)])
    write(directory / "new.parquet", [f"{'good' if row % 3 else 'bad'} book or tale {row % 5}" for row in range(60)])
    write(directory / "test.parquet", [f"{'good' if row % 2 else 'bad'} tale, not film {row % 5}" for row in range(40)])
    # Without validation both parts count one half; else the n-grams, which are right on all of these rows, would count
    # alone.
    paths = {"train": old, "output": str(directory / "old"), "validation_fraction": 0}
    resolved = resolve(TrainConfig, {**BROUGHT, **paths, "epochs": 2})
    run.train(resolved, lambda event: None)
    return directory


@pytest.fixture
def model(files: Path) -> Bundle:
    """Gives the model to begin with."""
    return read_bundle(str(files / "old/model"))


def settings(files: Path, output: Path | str = "", **given: Any) -> TrainConfig:
    """Returns the settings of a run that begins with the model."""
    paths = {"train": files / "new.parquet", "validation": files / "test.parquet", "output": output}
    return resolve(TrainConfig, {"from_": str(files / "old/model"), **{k: str(v) for k, v in paths.items()}, **given})


def test_a_model_brings_the_settings_that_nobody_gives(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = tmp_path / "job.yaml"
    job.write_text(f"from_: {files}/old/model\nepochs: 3\nema: 0.5\nworkers: 2\n", encoding="utf-8")
    asked = resolve(TrainConfig, {"train": "in.parquet", "epochs": 7}, job)
    assert {"units", "learning_rate", "ngrams"} < set(left_open(asked))
    config, bundle = start_from(asked)
    assert bundle is not None
    assert left_open(config) == []
    for name, value in {**BROUGHT, "ema": 0.5, "epochs": 7, "workers": "2", "train": ("in.parquet",)}.items():
        assert getattr(config, name) == value, name
    assert config.vocabulary == f"{files}/old/model/vocabulary.parquet"
    assert start_from(config)[0] == config, "as its config.yaml gives them"
    monkeypatch.chdir(files)
    again, _ = start_from(config.model_copy(update={"from_": "old/model"}))
    assert again.vocabulary == "old/model/vocabulary.parquet", "the same file"
    assert start_from(TrainConfig()) == (TrainConfig(), None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"units": 3}, "--from {}: its model was trained with --units 2, which cannot change: leave out --units 3"),
        ({"mask": False}, "its model was trained with --mask, which cannot change: leave out --no-mask"),
        ({"punctuation": "keep"}, "its model was trained with --punctuation drop"),
        ({"ngrams": 3}, "its model was trained with --ngrams 2"),
        ({"add_words": 3, "vocabulary_size": 12}, "its model was trained with --vocabulary-size 15"),
        ({"vocabulary": "words.json"}, "brings its vocabulary: leave --vocabulary out, or see --add-words"),
        ({"output": "old"}, "is inside --output old: choose another --output"),
        ({"vocabulary": "old/model/words.json"}, "brings its vocabulary"),
    ],
)
def test_the_network_and_how_it_reads_stay(
    files: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(files)  # a dry run does not make paths absolute
    with pytest.raises(ConfigError, match=message.format(files / "old/model")):
        start_from(settings(files, **given))


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        (TrainConfig, {"preset": "lstm"}, "--from brings the settings of its model: leave --preset out"),
        (TrainConfig, {"learn_vectors": True}, "--learn-vectors learns other word vectors than those of --from"),
        (TrainConfig, {"embeddings": "e"}, "with --from, --embeddings are for the words that --add-words adds"),
        (TrainConfig, {"from_": None, "add_words": 1}, "--add-words adds to the words of a model: it needs --from"),
        (TuneConfig, {}, "--from is for train"),
    ],
)
def test_what_does_not_go_with_it_is_refused(kind: type[TrainConfig], given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve(kind, {name: value for name, value in {"from_": "m", **given}.items() if value is not None})


def test_a_missing_model_is_said_before_anything_is_read(files: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="none: no such model bundle"):
        lstm_ray.train("none.parquet", output=tmp_path / "run", from_=tmp_path / "none")
    assert not (tmp_path / "run").exists()
    with pytest.raises(LstmRayError, match=r"from_='.*/old/model' is inside output='"):
        lstm_ray.train("none.parquet", output=files / "old", from_=files / "old/model")


@pytest.mark.parametrize("engine", ["native", "keras"])
def test_both_engines_begin_with_the_weights_before_they_were_mixed(files: Path, model: Bundle, engine: str) -> None:
    """The LSTM's own weights are in the checkpoint of its run."""
    checkpoint = checkpoints.latest(str(files / "old"))
    assert checkpoint is not None
    best = [array for array in checkpoint.best if array.dtype == np.float32]
    config, _ = start_from(settings(files, add_words=4, engine=engine))
    stepper = make_stepper(config, Alone(), np.array([0, 1], np.int8))
    random = [array for array in stepper.weights() if array.dtype == np.float32]
    weights, has_output = first_weights(model)
    assert has_output
    stepper.set_weights(weights)
    begun = [array for array in stepper.weights() if array.dtype == np.float32]
    assert len(begun) == len(best)
    np.testing.assert_array_equal(begun[0][:12], best[0])
    np.testing.assert_array_equal(begun[0][12:], random[0][12:])
    for now, then in zip(begun[1:], best[1:], strict=True):
        np.testing.assert_allclose(now, then, rtol=1e-4, atol=1e-6)


def test_an_output_that_is_not_known_starts_with_random_weights(model: Bundle) -> None:
    assert model.mix is not None
    for mix in (None, replace(model.mix, lstm=0.0)):
        weights, has_output = first_weights(replace(model, mix=mix))
        assert (len(weights), has_output) == (1 + 2 * 3, False)


@pytest.mark.parametrize("engine", ["native", "keras"])
def test_a_run_learns_new_words_and_says_what_was_before(
    files: Path, model: Bundle, tmp_path: Path, watcher: Any, engine: str
) -> None:
    asked = settings(files, tmp_path / "run", add_words=3, engine=engine, epochs=2)
    outcome = run.train(asked, watcher)
    begin = f"beginning with the weights of {files}/old/model; 3 words added"
    assert begin in watcher.said
    before = lstm_ray.evaluate(files / "test.parquet", model=files / "old/model").metrics
    assert {name: before[name] for name in outcome.before if name in before} == pytest.approx(
        {name: value for name, value in outcome.before.items() if name in before}
    )
    assert outcome.metrics["log_loss"] < before["log_loss"]
    written = json.loads((tmp_path / "run/metrics.json").read_bytes())
    assert written["before"] == outcome.before
    report = (tmp_path / "run/report.html").read_text(encoding="utf-8")
    assert f"reached an accuracy of {before['accuracy']:.4f}" in report
    again = run.train(asked, watcher)
    assert (again.was_complete, again.before) == (True, outcome.before)

    bundle = read_bundle(outcome.model)
    words, old = (one.vocabulary().words.to_pylist() for one in (bundle, model))
    assert words == [*old, "book", "or", "tale"]
    assert (bundle.text.vocabulary_size, len(bundle.weights().embedding)) == (15, 15)


def test_a_run_that_is_resumed_ends_in_the_same_bits(files: Path, tmp_path: Path, watcher: Any) -> None:
    for name, epochs in (("once", 2), ("in-two", 1), ("in-two", 2)):
        run.train(settings(files, tmp_path / name, add_words=3, epochs=epochs), watcher)
    assert "resuming from the end of epoch 1" in watcher.said
    once, in_two = (read_bundle(str(tmp_path / name / "model")).files["weights.npz"] for name in ("once", "in-two"))
    assert once == in_two


def test_a_run_does_not_resume_with_another_model_in_the_place_of_the_first(
    files: Path, tmp_path: Path, watcher: Any
) -> None:
    begun = tmp_path / "model"
    shutil.copytree(files / "old/model", begun)
    run.train(settings(files, tmp_path / "run", from_=str(begun), epochs=1), watcher)
    shutil.rmtree(begun)
    other = run.train(settings(files, tmp_path / "other", epochs=1), watcher)
    shutil.copytree(other.model, begun)
    with pytest.raises(OutputError, match="data has changed since this run began"):
        run.train(settings(files, tmp_path / "run", from_=str(begun), epochs=2), watcher)


def test_another_threshold_than_that_of_the_model_is_said(files: Path, tmp_path: Path, watcher: Any) -> None:
    run.train(settings(files, tmp_path / "run", threshold=0.4, epochs=1), watcher)
    assert any("decides at a threshold of 0.5, the new model at 0.4: " in line for line in watcher.said)


def test_vectors_are_for_the_words_that_are_added(files: Path, model: Bundle, tmp_path: Path, watcher: Any) -> None:
    (tmp_path / "vectors.txt").write_text("good 1 2 3\nbook 4 5 6\n", encoding="utf-8")
    given = {"add_words": 3, "embeddings": str(tmp_path / "vectors.txt"), "freeze_embeddings": True, "epochs": 1}
    outcome = run.train(settings(files, tmp_path / "run", **given), watcher)
    assert "1 of 3 words (33%) start with a vector of vectors.txt" in watcher.said
    table = read_bundle(outcome.model).weights().embedding
    np.testing.assert_array_equal(table[:12], model.weights().embedding)
    np.testing.assert_array_equal(table[12], [4, 5, 6])


def test_texts_that_the_model_has_learned_from_count_as_seen(files: Path, tmp_path: Path, watcher: Any) -> None:
    outcome = run.train(settings(files, tmp_path / "run", validation=str(files / "old.parquet"), epochs=1), watcher)
    assert outcome.validation_rows_seen == 60
