"""Settings: which source wins, what a wrong one is told, and that a resolved run can be repeated from its file."""

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from lstm_ray.config import (
    PRESETS,
    EvaluateConfig,
    ScoreConfig,
    Settings,
    TrainConfig,
    TuneConfig,
    command_of,
    option_name,
    read_job_file,
    resolve,
    to_yaml,
)
from lstm_ray.errors import ConfigError
from lstm_ray.tune.search import trial_config

KINDS = [TrainConfig, ScoreConfig, EvaluateConfig]


def job(directory: Path, text: str) -> Path:
    path = directory / "job.yaml"
    path.write_text(text, encoding="utf-8")
    return path


# Precedence


def test_option_wins_over_job_file_over_preset_over_default(tmp_path: Path) -> None:
    path = job(tmp_path, "preset: bilstm\nepochs: 7\nunits: 16\n")
    config = resolve(TrainConfig, {"units": 8}, path)
    assert config.units == 8, "the option, not the job file's 16 or the preset's 128"
    assert config.epochs == 7, "the job file, not the preset's 15"
    assert config.vocabulary_size == 5_000, "the preset, not the default"
    assert config.seed == 0, "the default"


def test_an_option_may_choose_another_preset_than_the_job_file(tmp_path: Path) -> None:
    path = job(tmp_path, "preset: bilstm\nepochs: 7\n")
    config = resolve(TrainConfig, {"preset": "lstm"}, path)
    assert (config.preset, config.epochs, config.vocabulary_size) == ("lstm", 7, 20_000)


def test_an_option_equal_to_the_default_still_wins(tmp_path: Path) -> None:
    assert resolve(TrainConfig, {"bidirectional": False, "preset": "bilstm"}).bidirectional is False
    assert resolve(TrainConfig, {"epochs": 5}, job(tmp_path, "epochs: 7")).epochs == 5


def test_without_a_preset_the_defaults_hold() -> None:
    config = resolve(TrainConfig, {})
    assert config == TrainConfig()
    assert (config.strip_html, config.dropout, config.global_batch_size) == (True, 0.2, 64)


# Presets


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        (
            "lstm",
            {"vocabulary_size": 20_000, "embedding_size": 128, "bidirectional": False}
            | {"dropout": 0.2, "recurrent_dropout": 0.2},
        ),
        (
            "bilstm",
            {"vocabulary_size": 5_000, "embedding_size": 32, "bidirectional": True}
            | {"dropout": 0.0, "recurrent_dropout": 0.0},
        ),
    ],
)
def test_presets_are_the_textbook_s_models(preset: str, expected: dict[str, Any]) -> None:
    config = resolve(TrainConfig, {"preset": preset})
    both = {
        "strip_html": False,
        "lowercase": "unicode",
        "split_on": "space",
        "unlisted_words": "oov",
        "max_tokens": 80,
        "padding": "pre",
        "truncating": "pre",
        "layers": 1,
        "units": 128,
        "pooling": "last",
        "mask": False,
        "embedding_dropout": 0.0,
        "global_batch_size": 32,
        "epochs": 15,
        "learning_rate": 0.001,
    }
    assert config.model_dump(include={*both, *expected}) == both | expected


def test_presets_name_known_settings_only() -> None:
    assert set(PRESETS) == {"lstm", "bilstm"}
    for preset in PRESETS.values():
        assert set(preset) <= set(TrainConfig.model_fields)


# Declarations


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_has_a_sentence_and_a_panel(kind: type[Settings]) -> None:
    for name, field in kind.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name
        assert isinstance(field.json_schema_extra, dict), name
        assert field.json_schema_extra["panel"] in {"Input and output", "Text", "Model", "Training", "Compute"}, name
    kind.model_json_schema()


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        TrainConfig().epochs = 3  # type: ignore[misc]


def test_names() -> None:
    assert [command_of(kind) for kind in KINDS] == ["train", "score", "evaluate"]
    assert option_name("max_tokens") == "--max-tokens"


# Errors


WRONG_TRAIN = [
    ({"epochs": 0}, "--epochs is 0: should be greater than or equal to 1"),
    ({"epochs": "many"}, "--epochs is 'many': should be a valid integer"),
    ({"epochs": 1.5}, "--epochs is 1.5: should be a valid integer"),
    ({"vocabulary_size": 4}, "--vocabulary-size is 4: should be greater than or equal to 5"),
    ({"max_tokens": 100_001}, "--max-tokens is 100001: should be less than or equal to 100000"),
    ({"dropout": 1}, "--dropout is 1: should be less than 1"),
    ({"recurrent_dropout": -0.1}, "--recurrent-dropout is -0.1: should be greater than or equal to 0"),
    ({"embedding_dropout": 1.0}, "--embedding-dropout is 1.0: should be less than 1"),
    ({"validation_fraction": 1.0}, "--validation-fraction is 1.0: should be less than 1"),
    ({"learning_rate": 0}, "--learning-rate is 0: should be greater than 0"),
    ({"learning_rate": float("nan")}, "--learning-rate is nan: should be greater than 0"),
    ({"padding": "left"}, "--padding is 'left': should be 'pre' or 'post'"),
    ({"pooling": "sum"}, "--pooling is 'sum': should be 'last', 'max' or 'mean'"),
    ({"lowercase": True}, "--lowercase is True: should be 'unicode' or 'ascii'"),
    ({"preset": "gru"}, "--preset is 'gru': should be 'lstm' or 'bilstm'"),
    ({"mask": "perhaps"}, "--mask is 'perhaps': should be a valid boolean"),
    ({"train": ("a", 3)}, "--train is 3: should be a valid string"),
    ({"gpus_per_worker": 2, "workers": 1}, "--gpus-per-worker is 2: should be less than or equal to 1"),
    ({"workers": 65}, "--global-batch-size 64 cannot be shared out over --workers 65"),
    ({"workers": "2:65"}, "--global-batch-size 64 cannot be shared out over --workers 2:65"),
    ({"workers": "3:2"}, "--workers '3:2': the first number is the least, the second the most"),
    ({"workers": "0:2"}, "--workers is '0:2': should be N or MIN:MAX, such as 4 or 1:4"),
    ({"checkpoint_every": "2 min"}, "--checkpoint-every is '2 min': should be TIME or STEPS or epoch, such as 30s or"),
    ({"checkpoint_every": "0steps"}, "--checkpoint-every is '0steps': should be"),
    ({"address": "auto"}, "--address 'auto' needs --workers of 1 or more; 0 trains in this process"),
    ({"gpus_per_worker": 1}, "--gpus-per-worker needs --workers of 1 or more"),
]
WRONG_SCORE = [
    ({"engine": "gpu"}, "--engine is 'gpu': should be 'auto', 'cpu' or 'keras'"),
    ({"rows_per_part": 0}, "--rows-per-part is 0: should be greater than or equal to 1"),
    ({"inputs": (1,)}, "INPUT is 1: should be a valid string"),
    ({"actors": "3:2"}, "--actors '3:2': the first number is the least, the second the most"),
    ({"address": "auto"}, "--address 'auto' needs --actors of 1 or more; 0 scores in this process"),
    ({"gpus_per_actor": 0.5}, "--gpus-per-actor needs --actors of 1 or more"),
    (
        {"gpus_per_actor": 1, "actors": 1, "engine": "cpu"},
        "--engine cpu does not use GPUs: leave --gpus-per-actor at 0",
    ),
]
WRONG_EVALUATE = [
    ({"threshold": 1}, "--threshold is 1: should be less than 1"),
    ({"max_rows": 0}, "--max-rows is 0: should be greater than or equal to 1"),
]
WRONG = [
    (kind, options, message)
    for kind, cases in zip(KINDS, (WRONG_TRAIN, WRONG_SCORE, WRONG_EVALUATE), strict=True)
    for options, message in cases
]


@pytest.mark.parametrize(("kind", "options", "message"), WRONG, ids=[str(options) for _, options, _ in WRONG])
def test_a_wrong_setting_is_named_with_what_would_be_valid(
    kind: type[Settings], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        resolve(kind, options)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)
    assert "pydantic" not in str(raised.value)
    assert raised.value.exit_code == 2


def test_all_wrong_settings_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        resolve(TrainConfig, {"epochs": 0, "dropout": 2})
    assert sorted(finding.split(":")[0] for finding in str(raised.value).split("; ")) == [
        "--dropout is 2",
        "--epochs is 0",
    ]


def test_a_wrong_setting_in_a_job_file_is_told_with_the_file(tmp_path: Path) -> None:
    path = job(tmp_path, "epochs: soon\n")
    with pytest.raises(ConfigError) as raised:
        resolve(TrainConfig, {}, path)
    assert str(raised.value).startswith(f"{path}: epochs is 'soon': should be a valid integer")


def test_a_wrong_option_is_not_blamed_on_the_job_file(tmp_path: Path) -> None:
    path = job(tmp_path, "units: 4\n")
    with pytest.raises(ConfigError) as raised:
        resolve(TrainConfig, {"epochs": 0}, path)
    assert str(raised.value).startswith("--epochs is 0: ")


@pytest.mark.parametrize(
    ("options", "text", "message"),
    [
        ({}, "inputs: [3]", "{path}: inputs is 3: should be"),
        ({}, "actors: 2:1", "{path}: actors '2:1': the first number"),
        ({"actors": "2:1"}, "actors: 2", "--actors '2:1': the first number"),
        ({}, "address: auto", "{path}: address 'auto' needs actors of 1 or more"),
        ({"address": "auto"}, "prefix: a_", "--address 'auto' needs --actors of 1 or more"),
        ({"address": "auto"}, "actors: 0", "{path}: --address 'auto' needs actors of 1 or more"),
        ({"address": "auto"}, "{}", "--address 'auto' needs --actors of 1 or more"),
        ({"max_rows": 0}, "rows_per_part: 0", "{path}: --max-rows is 0: should be"),
    ],
)
def test_a_setting_is_named_as_it_was_given(tmp_path: Path, options: dict[str, Any], text: str, message: str) -> None:
    path = job(tmp_path, text)
    with pytest.raises(ConfigError) as raised:
        resolve(ScoreConfig, options, path)
    assert str(raised.value).startswith(message.replace("{path}", str(path)))
    assert "`" not in str(raised.value)


# Job files


def test_a_job_file_may_give_one_path_or_many(tmp_path: Path) -> None:
    assert resolve(TrainConfig, {}, job(tmp_path, "train: a.parquet")).train == ("a.parquet",)
    assert resolve(TrainConfig, {}, job(tmp_path, "train: [a.parquet, b]")).train == ("a.parquet", "b")
    assert resolve(ScoreConfig, {}, job(tmp_path, "inputs: a.parquet")).inputs == ("a.parquet",)


def test_a_job_file_may_write_numbers_as_yaml_1_1_does_not(tmp_path: Path) -> None:
    # To YAML 1.1, and so to PyYAML, 1e-4 is a string: it has no dot.
    assert resolve(TrainConfig, {}, job(tmp_path, "learning_rate: 1e-4")).learning_rate == 1e-4


def test_a_job_file_for_its_own_command_is_read(tmp_path: Path) -> None:
    assert read_job_file(TrainConfig, job(tmp_path, "command: train\nepochs: 3\n")) == {"epochs": 3}
    assert read_job_file(TrainConfig, job(tmp_path, "{}")) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch: 3", "unknown key 'epoch'; did you mean 'epochs'?"),
        ("max-tokens: 3", "unknown key 'max-tokens'; did you mean 'max_tokens'?"),
        ("qwxyz: 3", "unknown key 'qwxyz'; known are: accumulate, "),
        ("3: 3", "unknown key '3'; known are: "),
        ("null: 3", "unknown key 'None'; known are: "),
        ("command: score", "is a job for `lstm-ray score`, not for `lstm-ray train`"),
        ("command: [train]", "is a job for `lstm-ray ['train']`, not for `lstm-ray train`"),
        ("", "a job file is a mapping of settings, such as `epochs: 3`"),
        ("- epochs: 3", "a job file is a mapping of settings, such as `epochs: 3`"),
        ("epochs", "a job file is a mapping of settings, such as `epochs: 3`"),
        ("epochs: [3", "not YAML: "),
        ("epochs: 3\n\tunits: 4", "not YAML: "),
        ("? [epochs]\n: 3", "unknown key "),
        ("!!python/object/apply:os.getcwd []", "not YAML: "),
    ],
)
def test_a_job_file_that_cannot_be_is_refused_with_the_reason(tmp_path: Path, text: str, message: str) -> None:
    path = job(tmp_path, text)
    with pytest.raises(ConfigError) as raised:
        resolve(TrainConfig, {}, path)
    shown = str(raised.value)
    # A list is no key in Python, which PyYAML finds before we do.
    assert shown.startswith((f"{path}: {message}", f"{path}: not YAML: ") if "?" in text else f"{path}: {message}")
    assert "\n" not in shown


def test_a_job_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"output: caf\xe9")
    for path in (tmp_path / "missing.yaml", tmp_path, tmp_path / "latin.yaml"):
        with pytest.raises(ConfigError) as raised:
            resolve(TrainConfig, {}, path)
        assert str(raised.value).startswith(f"{path}: cannot read the job file: ")


# What a run leaves behind


awkward = st.text(max_size=12) | st.sampled_from(
    ["yes", "null", "1e3", "~", "- a", "a: b", "#x", "'", "é😀", " \t", "\x85"]
)
train_options = st.fixed_dictionaries(
    {},
    optional={
        "preset": st.sampled_from([None, "lstm", "bilstm"]),
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


@pytest.mark.parametrize(
    ("workers", "limits"), [(0, (0, 0)), ("0", (0, 0)), (3, (3, 3)), ("1:4", (1, 4)), ("2:2", (2, 2))]
)
def test_the_number_of_workers_is_one_or_a_range(workers: int | str, limits: tuple[int, int]) -> None:
    assert resolve(TrainConfig, {"workers": workers}).worker_limits == limits


@pytest.mark.parametrize(
    ("every", "interval"),
    [
        ("30s", (30, math.inf)),
        ("2min", (120, math.inf)),
        ("1h", (3600, math.inf)),
        ("500steps", (math.inf, 500)),
        ("epoch", (math.inf, math.inf)),
    ],
)
def test_checkpoints_come_by_time_or_steps(every: str, interval: tuple[float, float]) -> None:
    assert resolve(TrainConfig, {"checkpoint_every": every}).checkpoint_interval == interval


@hypothesis_settings(deadline=None)
@given(options=train_options)
def test_the_yaml_of_a_run_repeats_it(tmp_path_factory: pytest.TempPathFactory, options: dict[str, Any]) -> None:
    config = resolve(TrainConfig, options)
    path = job(tmp_path_factory.getbasetemp(), to_yaml(config))
    assert resolve(TrainConfig, {}, path) == config


@pytest.mark.parametrize(
    "config",
    [
        ScoreConfig(inputs=("a", "s3://b/*.parquet"), model="m", output="o", actors=2, gpus_per_actor=0.25),
        EvaluateConfig(inputs=("a",), model="m", threshold=0.4),
        EvaluateConfig(),
    ],
)
def test_the_yaml_of_other_commands_repeats_them(tmp_path: Path, config: Settings) -> None:
    text = to_yaml(config)
    assert yaml.safe_load(text)["command"] == command_of(type(config))
    assert resolve(type(config), {}, job(tmp_path, text)) == config


def test_the_yaml_names_every_setting_for_people() -> None:
    text = to_yaml(TrainConfig(output="été"))
    assert text.startswith("command: train\n")
    assert "output: été\n" in text
    assert set(yaml.safe_load(text)) == {"command", *TrainConfig.model_fields}


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("4,5", ("4", "5")),
        ("[4, 5]", ("4", "5")),
        ("5", ("5",)),
        ("[yes, 'a b']", ("true", "a b")),
        ("4, ,5,", ("4", "5")),
    ],
)
def test_labels_are_given_with_commas_or_as_a_list(tmp_path: Path, written: str, expected: tuple[str, ...]) -> None:
    path = job(tmp_path, f"positive_labels: {written}\nnegative_labels: [0]\n")
    for kind in (TrainConfig, EvaluateConfig):
        assert resolve(kind, {}, path).positive_labels == expected
    assert resolve(TrainConfig, {"positive_labels": ("4,5", "6"), "negative_labels": ("1",)}).positive_labels == (
        "4",
        "5",
        "6",
    )


@pytest.mark.parametrize(
    ("given", "weights"), [("none", (1.0, 1.0)), ("balanced", None), ("1,2.5", (1.0, 2.5)), ("0,1", (0.0, 1.0))]
)
def test_class_weights_are_none_balanced_or_two(given: str, weights: tuple[float, float] | None) -> None:
    assert resolve(TrainConfig, {"class_weights": given}).fixed_class_weights == weights


@pytest.mark.parametrize("given", ["", "1", "1,2,3", "one,two", "-1,1", "balance"])
def test_other_class_weights_are_refused(given: str) -> None:
    with pytest.raises(ConfigError, match=r"--class-weights is .*none, balanced or two numbers such as 1,2.5"):
        resolve(TrainConfig, {"class_weights": given})


@pytest.mark.parametrize("given", ["0,0", "0.0,0.00"])
def test_class_weights_of_which_none_counts_are_refused(given: str) -> None:
    with pytest.raises(ConfigError, match=f"--class-weights is '{given}': there is nothing to learn if no row counts"):
        resolve(TrainConfig, {"class_weights": given})


def test_early_stopping_needs_validation() -> None:
    with pytest.raises(ConfigError, match=r"^--early-stopping needs validation rows"):
        resolve(TrainConfig, {"early_stopping": 2, "validation_fraction": 0.0})
    resolve(TrainConfig, {"early_stopping": 2, "validation_fraction": 0.0, "validation": ("v.parquet",)})


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[2] / "jobs").glob("t*.yaml")), ids=lambda path: path.stem
)
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
def test_a_range_in_a_job_file_is_no_number_to_the_base_60(tmp_path: Path, written: str) -> None:
    job_file = tmp_path / "job.yaml"
    job_file.write_text(f"command: score\nactors: {written}\nmax_rows: 17\n", encoding="utf-8")
    config = resolve(ScoreConfig, {}, job_file)
    assert (config.actors, config.max_rows) == ("2:8", 17)


def test_a_key_without_a_value_is_not_given(tmp_path: Path) -> None:
    path = job(tmp_path, "output:\ntrain:\npreset: lstm\nepochs:\nmax_rows: null\n")
    config = resolve(TrainConfig, {}, path)
    assert (config.output, config.train, config.epochs, config.max_rows) == ("", (), 15, None)
