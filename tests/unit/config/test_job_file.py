"""Job files, and the config.yaml of a run, which repeats the run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lstm_ray.config import (
    COMMANDS,
    EvaluateConfig,
    ScoreConfig,
    Settings,
    TrainConfig,
    TuneConfig,
    changed_since,
    command_of,
    job_file_schema,
    load_job_file,
    read_yaml,
    resolve,
    to_yaml,
)
from lstm_ray.config.job_file import read_job_file
from lstm_ray.errors import ConfigError
from lstm_ray.tune.search import trial_config

Job = Callable[[str], Path]
JOBS = Path(__file__).parents[3] / "jobs"


def test_a_job_file_may_give_one_path_or_many(job: Job) -> None:
    assert resolve(TrainConfig, {}, job("train: a.parquet")).train == ("a.parquet",)
    assert resolve(TrainConfig, {}, job("train: [a.parquet, b]")).train == ("a.parquet", "b")
    assert resolve(ScoreConfig, {}, job("inputs: a.parquet")).inputs == ("a.parquet",)


def test_a_job_file_may_write_numbers_as_yaml_1_1_does_not(job: Job) -> None:
    # To YAML 1.1, and so to PyYAML, 1e-4 is a string: it has no dot.
    assert resolve(TrainConfig, {}, job("learning_rate: 1e-4")).learning_rate == 1e-4


def test_labels_may_be_yes_and_no_without_quotes(job: Job) -> None:
    config = resolve(TrainConfig, {}, job("positive_labels: [yes]\nnegative_labels: no\ntext_column: on\nmask: yes"))
    assert (config.positive_labels, config.negative_labels) == (("yes",), ("no",))
    assert (config.text_column, config.mask) == ("on", True)
    assert resolve(TrainConfig, {}, job("mask: True\npositive_labels: [true]\nnegative_labels: [False]")).mask


def test_a_job_file_for_its_own_command_is_read(job: Job) -> None:
    assert read_job_file(TrainConfig, job("command: train\nepochs: 3\n")) == {"epochs": 3}
    assert read_job_file(TrainConfig, job("{}")) == {}


ALL_KEYS = f"`lstm-ray config schema train` prints all {len(TrainConfig.model_fields)} keys"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch: 3", "unknown key 'epoch'; did you mean 'epochs'?"),
        ("max-tokens: 3", "unknown key 'max-tokens'; did you mean 'max_tokens'?"),
        ("dry: true", "unknown key 'dry'; only the command line has it: lstm-ray train --dry-run"),
        ("dry_run: true", "unknown key 'dry_run'; only the command line has it: lstm-ray train --dry-run"),
        ("qwxyz: 3", f"unknown key 'qwxyz'; {ALL_KEYS}"),
        ("3: 3", f"unknown key '3'; {ALL_KEYS}"),
        ("null: 3", f"unknown key 'None'; {ALL_KEYS}"),
        ("command: score", "is a job for `score`, not for `train`"),
        ("command: [train]", "is a job for `['train']`, not for `train`"),
        ("", "a job file is a mapping of settings, such as `epochs: 3`"),
        ("- epochs: 3", "a job file is a mapping of settings, such as `epochs: 3`"),
        ("epochs", "a job file is a mapping of settings, such as `epochs: 3`"),
        ("epochs: [3", "not YAML: "),
        ("epochs: 3\n\tunits: 4", "not YAML: "),
        ("? [epochs]\n: 3", "unknown key "),
        ("!!python/object/apply:os.getcwd []", "not YAML: "),
        ("epochs: 3\nunits: 4\nepochs: 5\n", "not YAML: duplicate key 'epochs' in \"the file\", line 3"),
        ("search: {units: 1, units: 2}", "not YAML: duplicate key 'units'"),
        ("epochs: 2026-02-31", 'not YAML: not a timestamp in "the file", line 1'),
        ("epochs: &a [*a]", "not YAML: *a contains itself"),
        ("train: " + "[" * 101, "not YAML: nested more than 100 deep"),
        ("x" * 1000 + ": 3", "unknown key 'xxx"),
    ],
)
def test_a_job_file_that_cannot_be_is_refused_with_the_reason(job: Job, text: str, message: str) -> None:
    path = job(text)
    with pytest.raises(ConfigError) as raised:
        resolve(TrainConfig, {}, path)
    shown = str(raised.value)
    # A list is no key in Python, which PyYAML finds before we do.
    assert shown.startswith((f"{path}: {message}", f"{path}: not YAML: ") if "?" in text else f"{path}: {message}")
    assert "\n" not in shown
    assert len(shown) < 5000


def test_aliases_do_not_become_a_message_without_end(job: Job) -> None:
    laughs = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else 'ha'] * 9)}]\n" for n in range(30))
    with pytest.raises(ConfigError, match="not YAML: more than 200,000 values"):
        resolve(TrainConfig, {}, job(laughs))
    with pytest.raises(ConfigError) as raised:  # within bounds, and 100,000 values in what pydantic would show
        resolve(TrainConfig, {}, job(laughs.replace("*a4", "1").replace("a3:", "epochs:")))
    assert len(str(raised.value)) < 5000


def test_keys_that_a_merge_brings_may_be_set_again(job: Job) -> None:
    path = job("command: tune\nsearch:\n  <<: &s {units: {choices: [4, 8]}}\n  units: {choices: [16]}\n")
    assert load_job_file(path)["search"] == {"units": {"choices": [16]}}


def test_a_job_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"output: caf\xe9")
    for path in (tmp_path / "missing.yaml", tmp_path, tmp_path / "latin.yaml"):
        with pytest.raises(ConfigError) as raised:
            resolve(TrainConfig, {}, path)
        assert str(raised.value).startswith(f"{path}: cannot read the job file: ")


awkward = st.text(max_size=12) | st.sampled_from(
    ["yes", "null", "1e3", "~", "- a", "a: b", "#x", "'", "é😀", " \t", "\x85"]
)


train_options = st.fixed_dictionaries(
    {},
    optional={
        "preset": st.sampled_from([None, "none", "lstm", "bilstm"]),
        "train": st.lists(awkward, max_size=3).map(tuple),
        "output": awkward,
        "text_column": awkward,
        "vocabulary": st.none() | awkward,
        "max_rows": st.none() | st.integers(1, 10**12),
        "learning_rate": st.floats(min_value=0, exclude_min=True, allow_infinity=False),
        "dropout": st.floats(0, 1, exclude_max=True),
        "mask": st.booleans(),
        "padding": st.sampled_from(["pre", "post"]),
        "workers": st.integers(0, 32),
        "seed": st.integers(0, 2**32 - 1),
    },
)


@given(options=train_options)
def test_the_yaml_of_a_run_repeats_it(tmp_path_factory: pytest.TempPathFactory, options: dict[str, Any]) -> None:
    config = resolve(TrainConfig, options)
    path = tmp_path_factory.getbasetemp() / "job.yaml"
    path.write_text(to_yaml(config), encoding="utf-8")
    assert resolve(TrainConfig, {}, path) == config


@pytest.mark.parametrize(
    "config",
    [
        ScoreConfig(inputs=("a", "s3://b/*.parquet"), model="m", output="o", actors=2, gpus_per_actor=0.25),
        EvaluateConfig(inputs=("a",), model="m", threshold=0.4),
        EvaluateConfig(),
    ],
)
def test_the_yaml_of_other_commands_repeats_them(job: Job, config: Settings) -> None:
    text = to_yaml(config)
    assert yaml.safe_load(text)["command"] == command_of(type(config))
    assert resolve(type(config), {}, job(text)) == config


def test_the_yaml_names_every_setting_for_people() -> None:
    text = to_yaml(TrainConfig(output="été", preset="none"))
    assert text.startswith("command: train\n")
    assert "output: été\n" in text
    assert set(yaml.safe_load(text)) == {"command", *TrainConfig.model_fields}


@pytest.mark.parametrize("path", sorted(JOBS.glob("t*.yaml")), ids=lambda path: path.stem)
def test_the_job_files_that_come_along_are_valid(path: Path) -> None:
    command = yaml.safe_load(path.read_text(encoding="utf-8"))["command"]
    config = resolve({"train": TrainConfig, "tune": TuneConfig}[command], {}, path)
    assert config.train
    assert config.output
    if isinstance(config, TuneConfig):
        assert config.search
        for number in range(1, 100):
            trial_config(config, number)


@pytest.mark.parametrize("written", ["2:8", "'2:8'", '"2:8"'])
def test_a_range_in_a_job_file_is_no_number_to_the_base_60(job: Job, written: str) -> None:
    config = resolve(ScoreConfig, {}, job(f"command: score\nactors: {written}\nmax_rows: 17\n"))
    assert (config.actors, config.max_rows) == ("2:8", 17)


def test_integers_in_a_job_file_are_decimal_as_on_the_command_line(job: Job) -> None:
    path = job("epochs: 010\nmax_rows: +20\npositive_labels: [01, 1_0, 0x1]\nnegative_labels: 00\n")
    config = resolve(TrainConfig, {}, path)
    assert (config.epochs, config.max_rows) == (10, 20)
    assert (config.positive_labels, config.negative_labels) == (("01", "1_0", "0x1"), ("00",))
    with pytest.raises(ConfigError, match="epochs is '0x10': should be an integer"):
        resolve(TrainConfig, {}, job("epochs: 0x10\n"))


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_job_file_in_another_encoding_says_what_helps(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("epochs: 3\n\noutput: été\n", encoding=encoding)
    with pytest.raises(ConfigError, match=r"job file: line [13] is not UTF-8: save the file as UTF-8$"):
        resolve(TrainConfig, {}, path)


def test_a_key_without_a_value_is_not_given(job: Job) -> None:
    path = job("output:\ntrain:\npreset: lstm\nepochs:\nmax_rows: null\n")
    config = resolve(TrainConfig, {}, path)
    assert (config.output, config.train, config.epochs, config.max_rows) == ("", (), 15, None)


# Resuming


def written(config: Settings) -> dict[str, Any]:
    """Returns settings as a later run reads them from config.yaml."""
    found = read_yaml(type(config), to_yaml(config).encode())
    assert found is not None
    return found


MAY_CHANGE = {
    "train": [
        *("epochs", "early_stopping", "fresh", "output", "mlflow", "workers", "cpus_per_worker", "gpus_per_worker"),
        *("address", "accumulate", "engine", "checkpoint_every", "collective_timeout_s", "max_failures"),
        *("allow_seen_files", "collective"),
    ],
    "tune": [
        *("trials", "concurrency", "fresh", "output", "address"),
        *("cpus_per_worker", "gpus_per_worker", "max_failures", "allow_seen_files"),
    ],
}


def test_a_pair_is_a_text_or_a_list_in_the_schema() -> None:
    for kind, name, values in (
        (ScoreConfig, "unsure", ["0.4:0.6", [0.4, 0.6], None]),
        (ScoreConfig, "actors", ["2:8", [2, 8], 4]),
        (TrainConfig, "class_weights", ["1,2.5", [1, 2.5], "balanced"]),
    ):
        schema = job_file_schema(kind)
        for value in values:
            jsonschema.validate({name: value}, schema)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({name: [1, 2, 3]}, schema)


@pytest.mark.parametrize("kind", [TrainConfig, TuneConfig])
def test_a_run_is_resumed_unless_a_setting_that_decides_it_has_changed(kind: type[Settings]) -> None:
    config = kind.model_validate({"preset": "none"})
    earlier = written(config)
    assert changed_since(earlier, config, str.upper) == []
    for name in kind.model_fields:
        changed = changed_since({**earlier, name: "something else"}, config, str.upper)
        assert changed == ([] if name in MAY_CHANGE[command_of(kind)] else [name])


def test_epochs_may_change_only_where_no_schedule_depends_on_them() -> None:
    for schedule, changed in (("constant", []), ("cosine", ["epochs"]), ("linear", ["epochs"])):
        config = resolve(TrainConfig, {"preset": "none", "schedule": schedule})
        assert changed_since({**written(config), "epochs": 99}, config, str) == changed


def test_paths_are_compared_as_absolute_ones() -> None:
    config = TrainConfig(preset="none", train=("/here/a", "s3://b/c"), vocabulary="/here/words")
    earlier = {**written(config), "train": ["a", "s3://b/c"], "vocabulary": "words"}

    def absolute(path: str) -> str:
        return path if "://" in path or path.startswith("/") else f"/here/{path}"

    assert changed_since(earlier, config, absolute) == []
    assert changed_since({**earlier, "vocabulary": None}, config, absolute) == ["vocabulary"]


@pytest.mark.parametrize("path", sorted(JOBS.glob("*.yaml")), ids=lambda path: path.name)
def test_the_job_files_of_the_project_follow_the_schema(path: Path) -> None:
    content = load_job_file(path)
    schema = job_file_schema(COMMANDS[content["command"]])
    jsonschema.validate(content, schema)
    for wrong in ({"epoch": 3}, {"max_rows": "many"}, {"command": "predict"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(content | wrong, schema)


@pytest.mark.parametrize("kind", COMMANDS.values())
def test_a_run_s_own_settings_follow_the_schema(kind: type[Settings]) -> None:
    jsonschema.validate(yaml.safe_load(to_yaml(kind())), job_file_schema(kind))
