"""Which source of a setting wins, and what the message about a wrong one says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstm_ray.config import EvaluateConfig, ScoreConfig, Settings, TrainConfig, left_open, resolve
from lstm_ray.errors import ConfigError

Job = Callable[[str], Path]


def test_option_wins_over_job_file_over_preset_over_default(job: Job) -> None:
    path = job("preset: bilstm\nepochs: 7\nunits: 16\n")
    config = resolve(TrainConfig, {"units": 8}, path)
    assert config.units == 8, "the option, not the job file's 16 or the preset's 128"
    assert config.epochs == 7, "the job file, not the preset's 15"
    assert config.vocabulary_size == 5_000, "the preset, not the default"
    assert config.seed == 0, "the default"


def test_an_option_may_choose_another_preset_than_the_job_file(job: Job) -> None:
    path = job("preset: bilstm\nepochs: 7\n")
    config = resolve(TrainConfig, {"preset": "lstm"}, path)
    assert (config.preset, config.epochs, config.vocabulary_size) == ("lstm", 7, 20_000)


def test_an_option_equal_to_the_default_still_wins(job: Job) -> None:
    assert resolve(TrainConfig, {"bidirectional": False, "preset": "bilstm"}).bidirectional is False
    assert resolve(TrainConfig, {"epochs": 5}, job("epochs: 7")).epochs == 5


def test_without_a_preset_it_is_the_best() -> None:
    config = resolve(TrainConfig, {})
    assert config == TrainConfig() == resolve(TrainConfig, {"preset": "best"})
    assert config.mask
    assert "units" in left_open(config)


def test_with_preset_none_the_defaults_hold() -> None:
    config = resolve(TrainConfig, {"preset": "none"})
    assert config == TrainConfig(preset="none")
    assert left_open(config) == []
    assert (config.strip_html, config.dropout, config.global_batch_size) == (True, 0.2, 64)


KINDS = [TrainConfig, ScoreConfig, EvaluateConfig]


WRONG_TRAIN = [
    ({"epochs": 0}, "--epochs is 0: should be greater than or equal to 1"),
    ({"epochs": "many"}, "--epochs is 'many': should be an integer"),
    ({"epochs": "1.000"}, "--epochs is 1.000: should be an integer: digits only"),
    ({"max_rows": "20_000"}, "--max-rows is '20_000': should be an integer: digits only"),
    ({"epochs": 20.0}, "--epochs is 20.0: should be an integer: 20"),
    ({"epochs": True}, "--epochs is True: should be an integer"),
    ({"max_rows": 2e3}, "--max-rows is 2000.0: should be an integer: 2000"),
    ({"learning_rate": "0,001"}, "--learning-rate is '0,001': should be a number, with a point: 0.001"),
    ({"learning_rate": "1.000,5"}, "--learning-rate is '1.000,5': should be a number"),
    ({"learning_rate": "a,b"}, "--learning-rate is 'a,b': should be a number"),
    ({"learning_rate": "fast"}, "--learning-rate is 'fast': should be a number"),
    ({"epochs": 1.5}, "--epochs is 1.5: should be an integer"),
    ({"vocabulary_size": 4}, "--vocabulary-size is 4: should be greater than or equal to 5"),
    ({"max_tokens": 100_001}, "--max-tokens is 100001: should be less than or equal to 100000"),
    ({"dropout": 1}, "--dropout is 1: should be less than 1"),
    ({"recurrent_dropout": -0.1}, "--recurrent-dropout is -0.1: should be greater than or equal to 0"),
    ({"embedding_dropout": 1.0}, "--embedding-dropout is 1.0: should be less than 1"),
    ({"validation_fraction": 1.0}, "--validation-fraction is 1.0: should be less than 1"),
    ({"validation_fraction": "20"}, "--validation-fraction is 20: should be less than 1: did you mean 0.2?"),
    ({"dropout": "12,5%"}, "--dropout is '12,5%': should be a number"),
    ({"adam_beta_1": 90}, "--adam-beta-1 is 90: should be less than or equal to 0.99999: did you mean 0.9?"),
    ({"layers": 100}, "--layers is 100: should be less than or equal to 16"),
    ({"workers": "100%"}, "--workers is '100%': should be N or MIN:MAX"),
    ({"clip_norm": "5%"}, "--clip-norm is '5%': should be a number"),
    ({"learning_rate": 0}, "--learning-rate is 0: should be greater than 0"),
    ({"learning_rate": float("nan")}, "--learning-rate is nan: should be a finite number"),
    ({"learning_rate": "1e400"}, "--learning-rate is '1e400': should be a finite number"),
    ({"clip_norm": float("inf")}, "--clip-norm is inf: should be a finite number"),
    ({"padding": "left"}, "--padding is 'left': should be 'pre' or 'post'"),
    ({"pooling": "sum"}, "--pooling is 'sum': should be 'last', 'max', 'mean' or 'mean_max'"),
    ({"lowercase": True}, "--lowercase is True: should be 'unicode' or 'ascii'"),
    ({"preset": "gru"}, "--preset is 'gru': should be 'best', 'lstm', 'bilstm' or 'none'"),
    ({"mask": "perhaps"}, "--mask is 'perhaps': should be True or False"),
    ({"train": ("a", 3)}, "--train is 3: should be a valid string"),
    ({"mlflow": ["runs"]}, "--mlflow is ['runs']: should be a valid string"),
    ({"gpus_per_worker": 2, "workers": 1}, "--gpus-per-worker is 2: should be less than or equal to 1"),
    ({"workers": 65}, "--global-batch-size 64 cannot be divided among --workers 65"),
    ({"workers": "2:65"}, "--global-batch-size 64 cannot be divided among --workers 2:65"),
    ({"workers": "3:2"}, "--workers '3:2': the first number is the least, the second the most"),
    ({"workers": "0:2"}, "--workers is '0:2': should be N or MIN:MAX, such as 4 or 1:4"),
    ({"workers": "-1"}, "--workers is -1: should be N or MIN:MAX, such as 4 or 1:4"),
    ({"checkpoint_every": "2 min"}, "--checkpoint-every is '2 min': should be TIME or STEPS or epoch, such as 30s or"),
    ({"checkpoint_every": "0steps"}, "--checkpoint-every is '0steps': should be"),
    ({"checkpoint_every": "0s"}, "--checkpoint-every is '0s': should be"),
    ({"address": "auto"}, "--address 'auto' needs --workers of 1 or more; 0 trains in this process"),
    ({"gpus_per_worker": 1}, "--gpus-per-worker needs --workers of 1 or more"),
    ({"collective": "nccl"}, "--collective is 'nccl': should be 'auto', 'tcp' or 'tensorflow'"),
    ({"collective": "tensorflow"}, "--collective tensorflow needs --workers of 2 or more"),
    ({"collective": "tensorflow", "workers": 1}, "--collective tensorflow needs --workers of 2 or more"),
    (
        {"collective": "tensorflow", "workers": 2, "engine": "native"},
        "--engine native sums over TCP: --collective tensorflow needs --engine keras",
    ),
]


WRONG_SCORE = [
    ({"unsure": 0.4}, "--unsure is 0.4: should be LOW:HIGH, such as 0.4:0.6"),
    ({"unsure": [0.4, 0.5, 0.6]}, "--unsure is [0.4, 0.5, 0.6]: should be LOW:HIGH, such as 0.4:0.6"),
    ({"unsure": "60%:40%"}, "--unsure is '60%:40%': should be LOW:HIGH: did you mean 0.4:0.6?"),
    ({"unsure": [40, 62.5]}, "--unsure is '40:62.5': should be LOW:HIGH: did you mean 0.4:0.625?"),
    ({"threshold": "70"}, "--threshold is 70: should be less than 1: did you mean 0.7?"),
    ({"threshold": "2%"}, "--threshold is '2%': should be a number: did you mean 0.02?"),
    ({"unsure": "3:97"}, "--unsure is '3:97': should be LOW:HIGH: did you mean 0.03:0.97?"),
    ({"threshold": "70%"}, "--threshold is '70%': should be a number: did you mean 0.7?"),
    ({"unsure": [0.6, 0.4]}, "--unsure '0.6:0.4': the first probability is the least"),
    ({"engine": "gpu"}, "--engine is 'gpu': should be 'auto', 'native' or 'keras'"),
    ({"engine": ["native"]}, "--engine is ['native']: should be 'auto', 'native' or 'keras'"),
    ({"rows_per_part": 0}, "--rows-per-part is 0: should be greater than or equal to 1"),
    ({"inputs": (1,)}, "INPUT is 1: should be a valid string"),
    ({"actors": "3:2"}, "--actors '3:2': the first number is the least, the second the most"),
    ({"actors": "-1"}, "--actors is -1: should be N or MIN:MAX, such as 4 or 2:8"),
    ({"address": "auto"}, "--address 'auto' needs --actors of 1 or more; 0 scores in this process"),
    ({"gpus_per_actor": 0.5}, "--gpus-per-actor needs --actors of 1 or more"),
    (
        {"gpus_per_actor": 1, "actors": 1, "engine": "native"},
        "--engine native does not use GPUs: leave --gpus-per-actor at 0",
    ),
    ({"precision": "fp16"}, "--precision is 'fp16': should be 'float32', 'bf16' or 'int8'"),
    ({"precision": "bf16", "engine": "keras"}, "--precision bf16 needs the native engine, not --engine keras"),
    (
        {"precision": "int8", "gpus_per_actor": 1, "actors": 1},
        "--precision int8 needs the native engine, not GP",
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


@pytest.mark.parametrize(("given", "proposed"), [("2", ""), ("4.9", ""), ("5", "0.05"), ("2%", "0.02")])
def test_a_small_number_without_a_sign_is_no_percentage(given: str, proposed: str) -> None:
    with pytest.raises(ConfigError) as raised:
        resolve(ScoreConfig, {"threshold": given})
    assert str(raised.value).partition("did you mean ")[2] == (f"{proposed}?" if proposed else "")


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


def test_a_pair_is_taken_where_the_command_line_has_two_numbers_in_one_word() -> None:
    for pair in ((0.4, 0.6), (np.float64(0.4), np.float64(0.6))):
        assert resolve(ScoreConfig, {"unsure": pair}).decision == (None, (0.4, 0.6))
    assert resolve(TrainConfig, {"workers": (np.int64(1), 4), "epochs": np.int64(3)}).workers == "1:4"
    assert resolve(ScoreConfig, {"actors": [2, 8]}).actor_limits == (2, 8)
    assert resolve(TrainConfig, {"class_weights": (1, 2.5)}).class_weights == "1,2.5"


def test_names_of_older_versions_are_understood(job: Job) -> None:
    assert (
        resolve(ScoreConfig, {}, job("engine: cpu")).engine
        == resolve(ScoreConfig, {"engine": "cpu"}).engine
        == "native"
    )
    assert [resolve(TrainConfig, {}, job(f"mlflow: {word}")).mlflow for word in ("true", "no")] == ["yes", None]


def test_all_wrong_settings_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        resolve(TrainConfig, {"epochs": 0, "dropout": 2})
    assert sorted(finding.split(":")[0] for finding in str(raised.value).split("; ")) == [
        "--dropout is 2",
        "--epochs is 0",
    ]


def test_a_wrong_setting_in_a_job_file_is_told_with_the_file(job: Job) -> None:
    path = job("epochs: soon\n")
    with pytest.raises(ConfigError) as raised:
        resolve(TrainConfig, {}, path)
    assert str(raised.value).startswith(f"{path}: epochs is 'soon': should be an integer")


def test_a_wrong_boolean_is_told_how_the_caller_writes_one(job: Job) -> None:
    path = job("mask: perhaps\n")
    with pytest.raises(ConfigError, match=f"^{path}: mask is 'perhaps': should be true or false$"):
        resolve(TrainConfig, {}, path)


def test_a_wrong_option_is_not_blamed_on_the_job_file(job: Job) -> None:
    path = job("units: 4\n")
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
def test_a_setting_is_named_as_it_was_given(job: Job, options: dict[str, Any], text: str, message: str) -> None:
    path = job(text)
    with pytest.raises(ConfigError) as raised:
        resolve(ScoreConfig, options, path)
    assert str(raised.value).startswith(message.replace("{path}", str(path)))
    assert "`" not in str(raised.value)
