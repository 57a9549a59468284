"""Presets of the user's own: what they give, that a run they began does not need them, and what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lstm_ray.config import TrainConfig, TuneConfig, resolve, to_yaml
from lstm_ray.errors import ConfigError

WriteModule = Callable[..., Path]


def job(directory: Path, text: str) -> Path:
    path = directory / "job.yaml"
    path.write_text(text, encoding="utf-8")
    return path


OWN = """
small = {"units": 8, "epochs": 2, "clip_norm": 1.0, "train": "reviews.parquet", "max_rows": None}
typed = {"unitz": 8}
wrong = {"units": "many", "dropout": 0.1}
few = {"global_batch_size": 2}
nested = {"preset": "lstm"}
"""


def test_an_own_preset_comes_before_defaults_and_after_all_else(write_module: WriteModule, tmp_path: Path) -> None:
    write_module("mine", OWN)
    path = job(tmp_path, "preset: mine:small\nepochs: 7\n")
    config = resolve(TrainConfig, {"units": 16}, path)
    assert (config.preset, config.units, config.epochs, config.clip_norm) == ("mine:small", 16, 7, 1.0)
    assert (config.train, config.max_rows) == (("reviews.parquet",), None), "as loosely as in a job file"
    assert resolve(TuneConfig, {"preset": "mine:small"}).units == 8


def test_the_presets_in_the_documentation_are_such(write_module: WriteModule) -> None:
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    (source,) = re.findall(r"```python\n# mine.py\n(.*?)```", page, re.DOTALL)
    write_module("mine", source)
    small, large = (resolve(TrainConfig, {"preset": f"mine:{name}"}) for name in ("small", "large"))
    assert (small.units, small.layers, large.units, large.layers, large.dropout) == (32, 1, 128, 2, 0.1)


def test_a_run_goes_on_without_the_module_and_as_it_began(write_module: WriteModule, tmp_path: Path) -> None:
    module = write_module("mine", OWN)
    begun = resolve(TrainConfig, {"preset": "mine:small", "output": "run"})
    path = job(tmp_path, to_yaml(begun))
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
        ({"preset": "none:small"}, "--preset is 'none:small': no module 'none' in PLACE, nor installed: run where"),
        ({"preset": "mine:typed"}, "preset mine:typed: unknown key 'unitz'; did you mean 'units'?"),
        ({"preset": "mine:wrong"}, "units (preset mine:wrong) is 'many': should be a valid integer"),
        ({"preset": "mine:wrong", "units": 0}, "--units is 0: should be greater than or equal to 1"),
        ({"preset": "mine:nested"}, "preset mine:nested: has the key 'preset': a preset cannot begin with another"),
        (
            {"preset": "mine:few", "workers": 3},
            "global_batch_size (preset mine:few) 2 cannot be shared out over --workers 3",
        ),
        ({"preset": "bilst"}, "--preset is 'bilst': should be 'lstm' or 'bilstm', or MODULE:NAME for one of your own"),
        ({"preset": "bilst"}, "did you mean 'bilstm'?"),
        ({"preset": 3}, "--preset is 3: should be a valid string"),
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


def test_a_wrong_own_preset_is_sought_in_the_job_file_that_names_it(write_module: WriteModule, tmp_path: Path) -> None:
    write_module("mine", OWN)
    path = job(tmp_path, "preset: mine:smal\n")
    with pytest.raises(ConfigError, match=f"^{path}: preset is 'mine:smal': mine"):
        resolve(TrainConfig, {}, path)
    path = job(tmp_path, "preset: mine:few\nworkers: 3\n")
    with pytest.raises(
        ConfigError, match=rf"^{path}: global_batch_size \(preset mine:few\) 2 cannot .* over workers 3"
    ):
        resolve(TrainConfig, {}, path)
