"""Declarations: every setting has its properties, and they are used."""

import inspect

import pytest

from lstm_ray.config import (
    COMMANDS,
    EvaluateConfig,
    ModelSettings,
    ScoreConfig,
    Settings,
    TextSettings,
    TrainConfig,
    TuneConfig,
    command_of,
    meaning_of,
    missing,
    option_name,
    paths_of,
    shown_as,
    with_paths,
)
from lstm_ray.config.base import PANELS


@pytest.mark.parametrize("kind", COMMANDS.values())
def test_every_setting_has_a_sentence_and_a_panel(kind: type[Settings]) -> None:
    for name, field in kind.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name
        assert isinstance(field.json_schema_extra, dict), name
        assert field.json_schema_extra["panel"] in PANELS, name
    kind.model_json_schema()


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        TrainConfig().epochs = 3  # type: ignore[misc]


def test_the_defaults_that_scripts_rely_on() -> None:
    train = TrainConfig(preset="none")
    assert (train.text_column, train.label_column, train.max_rows) == ("text", "label", None)
    assert (train.vocabulary_size, train.max_tokens, train.strip_html) == (20_000, 80, True)
    assert (train.workers, train.address, train.fresh) == ("0", "local", False)
    assert [TrainConfig(preset=preset).strip_html for preset in ("lstm", "bilstm")] == [False, False]
    score = ScoreConfig()
    assert (score.text_column, score.keep_columns, score.prefix, score.max_rows) == ("text", ("all",), "", None)
    assert (score.max_bad_files, score.actors, score.address, score.overwrite) == (0, "0", "local", False)


@pytest.mark.parametrize(
    "name",
    ["inputs", "model", "text_column", "max_rows", "label_column", "positive_labels", "threshold", "allow_seen_files"],
)
def test_a_setting_that_commands_share_is_declared_once(name: str) -> None:
    """`train --allow-seen-files` is about its own files, and another setting."""
    kinds = [kind for kind in COMMANDS.values() if name in kind.model_fields]
    if name == "allow_seen_files":
        kinds = [kind for kind in kinds if not issubclass(kind, TrainConfig)]
    declaring = {base for kind in kinds for base in kind.__mro__ if name in inspect.get_annotations(base)}
    assert len(kinds) > 1
    assert len(declaring) == 1


def test_names() -> None:
    assert [command_of(kind) for kind in (TrainConfig, ScoreConfig, EvaluateConfig)] == ["train", "score", "evaluate"]
    assert option_name("max_tokens") == "--max-tokens"


# What follows from a declaration


@pytest.mark.parametrize("kind", [TrainConfig, TuneConfig])
def test_every_setting_of_training_decides_about_resuming_and_searching(kind: type[Settings]) -> None:
    for name in kind.model_fields:
        assert {"may_change", "searchable"} <= shown_as(kind, name).keys(), f"{name}: give may_change= and searchable="
        assert set(shown_as(kind, name)["may_change"]) <= set(COMMANDS), name


def test_every_setting_of_scoring_decides_about_the_fingerprint() -> None:
    for name in ScoreConfig.model_fields:
        assert "fingerprint" in shown_as(ScoreConfig, name), f"{name}: give fingerprint="


@pytest.mark.parametrize("kind", COMMANDS.values())
def test_every_file_and_directory_is_a_path(kind: type[Settings]) -> None:
    for name, metavar in meaning_of(kind, "metavar").items():
        if metavar in ("DIR", "FILE", "PATH") or shown_as(kind, name)["argument"]:
            assert name in meaning_of(kind, "path"), f"{name}: give path="


def test_a_search_and_its_runs_agree_about_what_they_share() -> None:
    for name in TrainConfig.model_fields:
        assert shown_as(TuneConfig, name) == shown_as(TrainConfig, name)


def test_the_settings_of_a_search() -> None:
    searchable = {name for name, is_one in meaning_of(TrainConfig, "searchable").items() if is_one}
    assert {*TextSettings.model_fields, *ModelSettings.model_fields} < searchable
    assert {"seed", "output", "train", "workers"}.isdisjoint(searchable), "seed decides the held-out rows, too"


def test_required_settings() -> None:
    for kind, names in (
        (TrainConfig, ["train", "output"]),
        (TuneConfig, ["train", "output"]),
        (ScoreConfig, ["inputs", "model", "output"]),
        (EvaluateConfig, ["inputs", "model"]),
    ):
        assert missing(kind, {}) == missing(kind, dict(kind())) == names
        assert missing(kind, dict.fromkeys(names[1:], "x")) == names[:1]


def test_the_schema_shows_what_a_setting_means() -> None:
    shown = TrainConfig.model_json_schema()["properties"]
    assert (shown["vocabulary"]["path"], shown["vocabulary"]["searchable"]) == ("input", True)
    assert (shown["output"]["path"], shown["output"]["may_change"]) == ("output", ["train", "tune"])
    assert ScoreConfig.model_json_schema()["properties"]["prefix"]["fingerprint"] == "value"


# Paths


@pytest.mark.parametrize(
    ("config", "paths"),
    [
        (TrainConfig(), {}),
        (
            TrainConfig(train=("a", "b*"), output="o", embeddings="e", vocabulary="v", mlflow="m"),
            {"train": ["a", "b*"], "output": ["o"], "mlflow": ["m"], "vocabulary": ["v"], "embeddings": ["e"]},
        ),
        (
            ScoreConfig(inputs=("a",), model="s3://m", output="o"),
            {"inputs": ["a"], "model": ["s3://m"], "output": ["o"]},
        ),
        (EvaluateConfig(inputs=("",), model="m"), {"model": ["m"]}),
        (TrainConfig(mlflow="sqlite:///runs.db"), {"mlflow": ["sqlite:///runs.db"]}),
        *((TrainConfig(mlflow=word), {}) for word in ("yes", "databricks", "databricks-uc", "file:runs")),
    ],
)
def test_paths_are_known_and_changed(config: Settings, paths: dict[str, list[str]]) -> None:
    assert paths_of(config) == paths
    changed = with_paths(config, lambda path: path + "!")
    assert paths_of(changed) == {name: [path + "!" for path in given] for name, given in paths.items()}
    assert changed.model_dump(exclude=set(paths)) == config.model_dump(exclude=set(paths))
