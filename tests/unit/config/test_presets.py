"""Presets, ours and the user's: their settings, their errors, and runs that resume without the user's module."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from lstm_ray.config import PRESETS, TrainConfig, TuneConfig, read_yaml, resolve, to_yaml
from lstm_ray.errors import ConfigError

Job = Callable[[str], Path]
WriteModule = Callable[..., Path]


OWN = """
small = {"units": 8, "epochs": 2, "clip_norm": 1.0, "train": "reviews.parquet", "max_rows": None}
typed = {"unitz": 8}
wrong = {"units": "many", "dropout": 0.1}
few = {"global_batch_size": 2}
nested = {"preset": "lstm"}
"""


def test_an_own_preset_comes_before_defaults_and_after_all_else(write_module: WriteModule, job: Job) -> None:
    write_module("mine", OWN)
    path = job("preset: mine:small\nepochs: 7\n")
    config = resolve(TrainConfig, {"units": 16}, path)
    assert (config.preset, config.units, config.epochs, config.clip_norm) == ("mine:small", 16, 7, 1.0)
    assert (config.train, config.max_rows) == (("reviews.parquet",), None), "as loosely as in a job file"
    assert resolve(TuneConfig, {"preset": "mine:small"}).units == 8


def test_the_presets_in_the_documentation_are_such(write_module: WriteModule) -> None:
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "job-files.md").read_text(encoding="utf-8")
    (source,) = re.findall(r"```python\n# mine.py\n(.*?)```", page, re.DOTALL)
    write_module("mine", source)
    small, large = (resolve(TrainConfig, {"preset": f"mine:{name}"}) for name in ("small", "large"))
    assert (small.units, small.layers, large.units, large.layers, large.dropout) == (32, 1, 128, 2, 0.1)


def test_a_run_goes_on_without_the_module_and_as_it_began(write_module: WriteModule, job: Job) -> None:
    module = write_module("mine", OWN)
    begun = resolve(TrainConfig, {"preset": "mine:small", "output": "run"})
    path = job(to_yaml(begun))
    write_module("mine", OWN.replace("8", "9").replace("{", '{"early_stopping": 3, "vocabulary": "other", '))
    assert resolve(TrainConfig, {"preset": "mine:small"}).units == 9
    assert resolve(TrainConfig, {}, path) == begun
    write_module("other", "")
    module.unlink()
    assert resolve(TrainConfig, {}, path) == begun
    assert resolve(TrainConfig, {"epochs": 9}, path).epochs == 9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "mine:smal"}, "--preset is 'mine:smal': mine (PLACE/mine.py) has no 'smal'; did you mean 'small'?"),
        (
            {"preset": "none:small"},
            "--preset is 'none:small': no module 'none' in PLACE, and none is installed: run in",
        ),
        ({"preset": "mine:typed"}, "--preset is 'mine:typed': unknown key 'unitz'; did you mean 'units'?"),
        ({"preset": "mine:wrong"}, "units (preset mine:wrong) is 'many': should be an integer"),
        ({"preset": "mine:wrong", "units": 0}, "--units is 0: should be greater than or equal to 1"),
        (
            {"preset": "mine:nested"},
            "--preset is 'mine:nested': has the key 'preset': a preset cannot start from another",
        ),
        (
            {"preset": "mine:few", "workers": 3},
            "global_batch_size (preset mine:few) 2 cannot be divided among --workers 3",
        ),
        (
            {"preset": "bilst"},
            "--preset is 'bilst': should be 'best', 'lstm', 'bilstm' or 'none', or MODULE:NAME for your own",
        ),
        ({"preset": "bilst"}, "did you mean 'bilstm'?"),
        ({"preset": 3}, "--preset is 3: should be best or lstm or bilstm or none or MODULE:NAME, such as best or "),
    ],
)
def test_what_is_wrong_with_an_own_preset_is_told(
    write_module: WriteModule, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    write_module("mine", OWN)
    with pytest.raises(ConfigError) as raised:
        resolve(TrainConfig, options)
    assert message.replace("PLACE", str(tmp_path)) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_wrong_own_preset_is_sought_in_the_job_file_that_names_it(write_module: WriteModule, job: Job) -> None:
    write_module("mine", OWN)
    path = job("preset: mine:smal\n")
    with pytest.raises(ConfigError, match=f"^{path}: preset is 'mine:smal': mine"):
        resolve(TrainConfig, {}, path)
    path = job("preset: mine:few\nworkers: 3\n")
    with pytest.raises(
        ConfigError, match=rf"^{path}: global_batch_size \(preset mine:few\) 2 cannot .* among workers 3"
    ):
        resolve(TrainConfig, {}, path)


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
        "punctuation": "drop",
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


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_holds_from_python_too(preset: str) -> None:
    assert TrainConfig(preset=preset) == resolve(TrainConfig, {"preset": preset})
    assert (TrainConfig(preset=preset) == TrainConfig()) == (preset == "best")
    assert TrainConfig(preset=preset, epochs=3, units=7) == resolve(
        TrainConfig, {"preset": preset, "epochs": 3, "units": 7}
    )


def test_a_network_of_the_user_s_own_starts_from_no_preset(job: Job) -> None:
    assert resolve(TrainConfig, {"network": "mine:build"}).preset == "none"
    assert resolve(TrainConfig, {}, job("network: mine:build\n")).mask is False
    assert TrainConfig(network="mine:build").preset == "none"
    assert resolve(TrainConfig, {"network": "mine:build", "preset": "best"}).mask is True


def test_settings_of_older_versions_whose_default_was_no_preset_keep_their_meaning(job: Job) -> None:
    older = yaml.safe_load(to_yaml(TrainConfig(preset="none", output="run", epochs=7)))
    del older["ngrams"]
    text = yaml.safe_dump({**older, "preset": None})
    config = resolve(TrainConfig, {}, job(text))
    assert (config.preset, config.ngrams, config.epochs) == ("none", 0, 7)
    written = read_yaml(TrainConfig, text.encode())
    assert written is not None
    assert (written["preset"], written["ngrams"]) == ("none", 0)


def test_a_users_preset_holds_from_python_too(write_module: WriteModule) -> None:
    module = write_module("mine", OWN)
    small = TrainConfig(preset="mine:small", epochs=9)
    assert (small.units, small.epochs, small.train) == (8, 9, ("reviews.parquet",))
    with pytest.raises(ValueError, match=r"`preset` is 'mine:smal': mine .* has no 'smal'; did you mean 'small'"):
        TrainConfig(preset="mine:smal")
    module.unlink()
    sys.modules.pop("mine")
    assert TrainConfig.model_validate(small.model_dump()) == small, "resolved, as a worker gets it"
