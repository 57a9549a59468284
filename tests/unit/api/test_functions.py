"""The public functions: how arguments become settings. What they run is tested in its own place."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import typer

import lstm_ray
from lstm_ray.cli.app import app
from lstm_ray.cli.usage import commands_called
from lstm_ray.errors import ConfigError, OutputError
from lstm_ray.progress import Count
from lstm_ray.train import run

Given = list[lstm_ray.TrainConfig]


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Given:
    """Gives the settings that training is called with; nothing is trained."""
    settings: Given = []
    monkeypatch.setattr(run, "train", lambda config, progress: settings.append(config))
    return settings


def test_the_functions_are_not_replaced_by_packages_of_the_same_names() -> None:
    import lstm_ray.evaluate.counts
    import lstm_ray.export.export
    import lstm_ray.score.plan
    import lstm_ray.tune.search
    import lstm_ray.vectors.run

    assert all(
        callable(getattr(lstm_ray, name)) for name in ("train", "score", "evaluate", "tune", "export", "vectors")
    )


@pytest.mark.parametrize("train", ["a.parquet", Path("a.parquet"), ["a.parquet"], (Path("a.parquet"),)])
def test_one_path_or_several_are_taken(given: Given, train: Any) -> None:
    lstm_ray.train(train, output=Path("run"), preset="bilstm", epochs=3, positive_labels=[4, 5], negative_labels="1,2")
    (config,) = given
    assert (config.train, config.output) == (("a.parquet",), "run")
    assert (config.epochs, config.units, config.bidirectional) == (3, 128, True), "over the preset, from the preset"
    assert (config.positive_labels, config.negative_labels) == (("4", "5"), ("1", "2"))


def test_a_model_stands_for_its_path_and_columns_may_be_a_list(
    monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path
) -> None:
    from lstm_ray.score import run

    monkeypatch.setattr(run, "score", lambda config, progress: config)
    given: Any = {"model": lstm_ray.load(tiny_bundle), "keep_columns": ["id", "stars"]}
    config: Any = lstm_ray.score("a.parquet", output="scored", **given)
    assert (config.model, config.keep_columns) == (str(tiny_bundle), ("id", "stars"))


def test_data_is_converted_split_and_learned_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text("text,id\n" + "".join(f"good film {row},{row}\n" for row in range(50)), encoding="utf-8")
    events: list[Any] = []
    made = lstm_ray.convert("a.csv", output=Path("a.parquet"), as_text="id", progress=events.append)
    assert (made.rows, made.columns) == (50, {"text": "string", "id": "string"})
    train, test = lstm_ray.split("a.parquet", output="sides", test=0.5, progress=events.append)
    assert train.rows + test.rows == 50
    learned = lstm_ray.vectors(train.path, output="v.txt", size=4, epochs=1, min_count=2, progress=events.append)
    assert (learned.output, learned.words, learned.texts) == ("v.txt", 2, train.rows)
    assert {event.unit for event in events if isinstance(event, Count)} == {"bytes", "rows", "words"}
    with pytest.raises(
        OutputError, match=r"a\.parquet: exists already: choose another output=, or pass overwrite=True"
    ):
        lstm_ray.convert("a.csv", output="a.parquet")
    with pytest.raises(ConfigError, match="test= is 2: should be less than 1"):
        lstm_ray.split("a.parquet", output="sides", test=2)


def test_what_is_given_by_name_wins_over_the_job(given: Given, tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text("command: train\ntrain: a.parquet\noutput: run\nepochs: 2\nunits: 8\n", encoding="utf-8")
    lstm_ray.train(job=job, epochs=4)
    settings = lstm_ray.TrainConfig(train="a.parquet", output="run", preset="best", units=8)  # type: ignore[arg-type]
    lstm_ray.train(job=settings)
    lstm_ray.train(job=settings, epochs=4)
    assert [(config.epochs, config.units) for config in given] == [(4, 8), (5, 8), (4, 8)]
    assert given[1] is settings
    assert "global_batch_size" not in given[2].model_fields_set, (
        "what the preset best chooses for the data is left to it"
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lstm_ray.train("a.parquet"), "output= is missing"),
        (lambda: lstm_ray.train(output="run"), "train= is missing"),
        (lambda: lstm_ray.train(5, output="run"), "train= is of type int: give paths, an Arrow table or a data frame"),  # type: ignore[arg-type]
        (lambda: lstm_ray.train("a.parquet", output="run", epoch=3), "unknown setting 'epoch'; did you mean 'epochs'?"),
        (lambda: lstm_ray.train("a.parquet", output="run", epochs="x"), "epochs= is 'x': should be an integer"),
        (lambda: lstm_ray.train(job={"epochs": 3}), "job= is of type dict: give the path"),  # type: ignore[arg-type]
        (
            lambda: lstm_ray.score(pa.table({"text": ["a"]}), output="o"),
            "inputs= is a Table: call the loaded model with it, ",
        ),  # type: ignore[arg-type]
        (lambda: lstm_ray.score(model="m", output="o"), "inputs= is missing"),
        (lambda: lstm_ray.evaluate("a.parquet"), "model= is missing"),
        (lambda: lstm_ray.tune("a.parquet", output="o"), "search= is missing"),
        (lambda: lstm_ray.tune("a.parquet", output="o", search=3), "search= is 3: should be a mapping"),  # type: ignore[arg-type]
        (lambda: lstm_ray.tune(5, output="o"), "train= is 5: should be a path, or several"),  # type: ignore[arg-type]
        (lambda: lstm_ray.train("a", output="o", mask="yes please"), "mask= is 'yes please': should be True or False"),
        (lambda: lstm_ray.split("a", output="o", fraction=2), "unknown setting 'fraction'; split has 'test': "),
        (lambda: lstm_ray.load(None), "model= is of type NoneType: give a path"),  # type: ignore[arg-type]
        (lambda: lstm_ray.export(3, format="onnx", output="o"), "model= is of type int: give a path"),  # type: ignore[arg-type]
        (lambda: lstm_ray.train("a", output="o", progress="print"), "progress= is of type str: give a function"),  # type: ignore[arg-type]
        (lambda: lstm_ray.export("m", format="x", output="o"), "format= is 'x': should be onnx or savedmodel"),
    ],
)
def test_an_error_names_the_keyword(call: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        call()
    assert str(error.value).startswith(message)


def test_the_names_of_the_library_are_there_after_its_import() -> None:
    names = (
        "train score evaluate tune export load calibrate convert split vectors errors.ConfigError "
        "Explanation Model Prediction CalibrateConfig ConvertConfig EvaluateConfig ScoreConfig SplitConfig TrainConfig "
        "TuneConfig VectorsConfig"
    )
    code = "; ".join(["import lstm_ray", *(f"lstm_ray.{name}" for name in names.split())])
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'trane'"):
        lstm_ray.trane  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("predict", r"use lstm_ray\.load\(MODEL\)\.predict\(TEXTS\)$"),
        ("to_keras", r"use lstm_ray\.load\(MODEL\)\.to_keras\(\)$"),
        ("imdb", "use the command lstm-ray data imdb$"),
        ("demo", "use the command lstm-ray demo$"),
    ],
)
def test_what_the_library_has_instead_of_a_name_is_named(name: str, instead: str) -> None:
    with pytest.raises(AttributeError, match=f"no attribute '{name}': {instead}"):
        getattr(lstm_ray, name)


def test_what_it_has_instead_is_there() -> None:
    for name, instead in lstm_ray._INSTEAD.items():
        if instead.startswith("the command"):
            words = instead.removeprefix("the command lstm-ray ").split()
            assert commands_called(words[-1], typer.main.get_command(app)).count(words) == 1
        else:
            assert callable(getattr(lstm_ray.Model, name))
