"""What is drawn for a trial: within its bounds, and the same again for the same seed and number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstm_ray.config import TrainConfig, TuneConfig, resolve
from lstm_ray.errors import ConfigError
from lstm_ray.tune.search import draw, trial_config

SEARCH = {
    "units": {"choice": [64, 128]},
    "layers": {"integer": [1, 3]},
    "dropout": {"uniform": [0, 0.5]},
    "learning_rate": {"log_uniform": ["1e-4", "1e-2"]},  # YAML takes 1e-4 for a text
}


def search(**settings: Any) -> TuneConfig:
    """Returns the settings of a search."""
    return resolve(TuneConfig, {"train": ("in.parquet",), "output": "/runs/search", "search": SEARCH, **settings})


def test_draws_keep_to_their_bounds_and_fill_them() -> None:
    drawn = [draw(search(), number) for number in range(1, 401)]
    assert {one["units"] for one in drawn} == {64, 128}
    assert {one["layers"] for one in drawn} == {1, 2, 3}
    dropouts, rates = (np.array([one[name] for one in drawn]) for name in ("dropout", "learning_rate"))
    assert 0 <= dropouts.min() < 0.02
    assert 0.48 < dropouts.max() <= 0.5
    assert 1e-4 <= rates.min() < 1.1e-4
    assert 0.9e-2 < rates.max() <= 1e-2
    assert abs(np.log10(rates).mean() + 3) < 0.1, "each order of magnitude as likely"


def test_a_trial_is_the_same_however_many_there_are_and_whatever_else_is_searched() -> None:
    assert draw(search(trials=3), 2) == draw(search(trials=300, concurrency=2), 2)
    assert draw(search(), 2) != draw(search(), 3)
    assert draw(search(), 2) != draw(search(seed=1), 2)


def test_a_trial_is_a_training_run_below_the_search() -> None:
    config = search(preset="bilstm", address="auto", fresh=True, gpus_per_worker=1, search={"units": {"choice": [7]}})
    trial = trial_config(config, 12)
    assert type(trial) is TrainConfig
    assert trial.output == "/runs/search/trials/0012"
    assert (trial.units, trial.vocabulary_size, trial.bidirectional) == (7, 5_000, True)
    assert (trial.address, trial.fresh, trial.gpus_per_worker, trial.preset) == ("local", False, 0, "none")


def test_a_path_that_was_drawn_means_the_same_on_every_worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert trial_config(search(search={"vocabulary": {"choice": ["words"]}}), 1).vocabulary == str(tmp_path / "words")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"search": {"learning_rte": {"choice": [1]}}}, "'learning_rte' cannot be searched; did you mean 'learning_ra"),
        ({"search": {"seed": {"choice": [1, 2]}}}, "'seed' cannot be searched; can be searched: accumulate, "),
        ({"search": {"output": {"choice": ["a"]}}}, "'output' cannot be searched"),
        ({"search": {"dropout": {"loguniform": [0.1, 1]}}}, "unknown key 'loguniform'; did you mean 'log_uniform'"),
        ({"search": {"dropout": {"grid": [0, 1]}}}, "search.dropout is .*unknown key 'grid'; known keys: choice, "),
        ({"search": {"units": {}}}, "search.units is .*needs one of choice, uniform, log_uniform, integer"),
        ({"search": {"units": {"choice": [1], "integer": [1, 2]}}}, "needs one of"),
        ({"search": {"units": {"choice": []}}}, "search.units.choice is "),
        ({"search": {"units": {"integer": [3, 3]}}}, "the first bound must be below the second"),
        ({"search": {"dropout": {"log_uniform": [0, 1]}}}, "must be above 0"),
        ({"workers": 2}, "--workers must be 0"),
        ({"collective_timeout_s": 60}, "--collective-timeout-s has no effect in a search"),
        ({"collective": "tcp"}, "--collective has no effect in a search"),
        ({"from_": "model"}, "--from is for train: the trials of a search begin with random weights"),
        ({"add_words": 3}, "--add-words is for train: the trials of a search count their own words"),
        ({"unlabelled": ("a.parquet",)}, "--unlabelled would learn the same .* and give them as --embeddings"),
        ({"validation_fraction": 0.0}, "a search compares trials by validation rows"),
    ],
)
def test_a_search_that_cannot_be_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        search(**settings)


def test_a_draw_that_cannot_be_is_named_with_its_trial() -> None:
    with pytest.raises(ConfigError, match=r"^search: trial 4: --units is \d+\.\d+: should be an integer"):
        trial_config(search(search={"units": {"uniform": [3, 9]}}), 4)
