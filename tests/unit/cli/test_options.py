"""Options: every declared setting can be given on the command line, and the last value wins."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import jsonschema
import pytest
import typer
import yaml
from typer.testing import CliRunner

from lstm_ray.cli.app import app as program
from lstm_ray.cli.options import takes_settings
from lstm_ray.config import (
    COMMANDS,
    PRESETS,
    EvaluateConfig,
    ScoreConfig,
    Settings,
    TrainConfig,
    TuneConfig,
    option_name,
    shown_as,
)
from lstm_ray.errors import ConfigError

Parse = Callable[..., Any]


@pytest.fixture
def parse() -> Parse:
    """Gives a function that parses arguments with the parser of a command and returns its settings."""

    def parse_arguments(kind: type[Settings], *arguments: str) -> Settings:
        got: list[Settings] = []
        app = typer.Typer(pretty_exceptions_enable=False)

        @app.command()
        @takes_settings(kind)
        def command(config: Settings, as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
            """Remembers what it is called with."""
            got.append(config)

        result = CliRunner().invoke(app, list(arguments))
        if isinstance(result.exception, ConfigError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return got[0]

    return parse_arguments


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., str]:
    """Gives a function that writes a job file and returns its path."""

    def write(**settings: Any) -> str:
        path = tmp_path / "job.yaml"
        path.write_text(yaml.safe_dump(settings), encoding="utf-8")
        return str(path)

    return write


@pytest.mark.parametrize("kind", COMMANDS.values())
def test_without_options_everything_is_the_default(parse: Parse, kind: type[Settings]) -> None:
    assert parse(kind) == kind()


def test_falsy_options_are_given_too(parse: Parse, job: Callable[..., str]) -> None:
    path = job(seed=3, dropout=0.5, strip_html=True, workers=2, mask=True)
    config = parse(
        TrainConfig, "--config", path, "--seed", "0", "--dropout", "0", "--workers", "0", "--no-strip-html", "--no-mask"
    )
    assert (config.seed, config.dropout, config.strip_html, config.workers, config.mask) == (0, 0.0, False, "0", False)


def test_several_inputs_may_be_given(parse: Parse, job: Callable[..., str]) -> None:
    config = parse(TrainConfig, "--train", "a", "--train", "b*.parquet", "--validation", "s3://bucket/c")
    assert config.train == ("a", "b*.parquet")
    assert config.validation == ("s3://bucket/c",)
    assert parse(ScoreConfig, "a", "b", "--model", "m").inputs == ("a", "b")
    assert parse(ScoreConfig, "a", "--config", job(inputs=["x", "y"])).inputs == ("a",)
    assert parse(ScoreConfig, "--config", job(inputs="x")).inputs == ("x",)


EXAMPLES: dict[str, str] = {
    "preset": "lstm",
    "network": "mine:build",
    "lowercase": "ascii",
    "split_on": "space",
    "unlisted_words": "drop",
    "padding": "post",
    "truncating": "post",
    "ngrams": "2",
    "punctuation": "keep",
    "best_by": "loss",
    "collective": "tensorflow",
    "pooling": "max",
    "engine": "keras",
    "actors": "2",
    "workers": "1:2",
    "checkpoint_every": "2min",
    "gpus_per_worker": "1",
    "address": "auto",
    "validation_fraction": "0.25",
    "schedule": "cosine",
    "batch_by": "tokens",
    "class_weights": "1,2",
    "clip_norm": "0.5",
    "precision": "bf16",
    "threshold": "0.25",
    "maximize": "f1",
    "target_precision": "0.25",
    "target_recall": "0.25",
    "unsure": "0.25:0.75",
    "test": "0.25",
}
NEEDED = {
    "unlisted_words": ("--vocabulary", "words.json"),
    "address": ("--workers", "1"),
    "collective": ("--workers", "2"),
    "gpus_per_worker": ("--workers", "1"),
    "gpus_per_actor": ("--actors", "1"),
    "freeze_embeddings": ("--embeddings", "vectors.txt"),
    "add_words": ("--from", "model"),
    "batch_by": ("--mask",),
    "positive_labels": ("--negative-labels", "1"),
    "negative_labels": ("--positive-labels", "1"),
}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (kind, name)
        for command, kind in COMMANDS.items()
        for name in kind.model_fields
        if shown_as(kind, name)["option"] and command not in shown_as(kind, name).get("refused", ())
    ],
)
def test_every_setting_can_be_given(parse: Parse, kind: type[Settings], name: str) -> None:
    field = kind.model_fields[name]
    needed = NEEDED.get(name, ())
    if name == "address":
        needed = {ScoreConfig: ("--actors", "1"), EvaluateConfig: (), TuneConfig: ()}.get(kind, needed)
    if kind is TuneConfig and name == "gpus_per_worker":
        needed = ()
    extra = field.json_schema_extra
    assert isinstance(extra, dict)
    if field.annotation is bool:
        for value in (True,) if extra["flag"] else (True, False):
            option = option_name(name) if value else f"--no-{option_name(name)[2:]}"
            assert getattr(parse(kind, option, *needed), name) is value
        return
    value = EXAMPLES.get(
        name, "0.5" if field.annotation is float else "7" if "int" in str(field.annotation) else "seven"
    )
    arguments = (value,) if extra["argument"] else (option_name(name), value)
    got = getattr(parse(kind, *arguments, *needed), name)
    expected = (value,) if isinstance(got, tuple) else value
    assert str(got) == str(expected) or float(got) == float(value)


def invoke(*arguments: str) -> str:
    """Runs `lstm-ray` and returns what it prints on stdout."""
    result = CliRunner().invoke(program, list(arguments))
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_config_show_prints_a_job_file_that_says_the_same(command: str, tmp_path: Path) -> None:
    shown = invoke("config", "show", command)
    assert yaml.safe_load(shown)["command"] == command
    (tmp_path / "job.yaml").write_text(shown, encoding="utf-8")
    assert invoke("config", "show", command, "--config", str(tmp_path / "job.yaml")) == shown


def test_config_show_knows_presets_and_job_files(job: Callable[..., str]) -> None:
    shown = yaml.safe_load(invoke("config", "show", "train", "--preset", "bilstm", "--config", job(units=9)))
    assert shown["units"] == 9
    assert shown["bidirectional"] is True
    assert {**shown, "units": PRESETS["bilstm"]["units"]}.items() >= PRESETS["bilstm"].items()


@pytest.mark.parametrize(("command", "kind"), COMMANDS.items())
def test_config_schema_describes_every_setting(command: str, kind: type[Settings]) -> None:
    schema = json.loads(invoke("config", "schema", command))
    assert set(schema["properties"]) == {"command", *kind.model_fields}
    assert schema["additionalProperties"] is False
    jsonschema.Draft202012Validator.check_schema(schema)
    for name, field in kind.model_fields.items():
        assert schema["properties"][name]["description"] == field.description


def test_version() -> None:
    assert invoke("--version").startswith("lstm-ray ")
