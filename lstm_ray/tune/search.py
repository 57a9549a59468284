"""Draws the settings of trials.

A trial's settings depend only on the seed and its number: a search that is resumed or extended draws the same settings
again for existing trials.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lstm_ray import storage
from lstm_ray.config import Range, TrainConfig, TuneConfig, resolve, with_paths
from lstm_ray.errors import ConfigError
from lstm_ray.tune.results import TRIALS

_STREAM = 2  # makes these draws independent of others with the same seed
_DIGITS = 4  # significant digits of drawn numbers: enough to distinguish them, few enough to read


def trial_config(config: TuneConfig, number: int) -> TrainConfig:
    """Returns the settings of a trial: a training run in a directory below the search's output.

    Raises:
        ConfigError: The drawn settings are not valid.
    """
    drawn = draw(config, number)
    fixed = {name: getattr(config, name) for name in TrainConfig.model_fields}
    # A trial trains inside one Ray worker process and does not use Ray itself.
    own = {"output": storage.join(config.output, f"{TRIALS}/{number:04d}"), "fresh": False, "address": "local"}
    if config.gpus_per_worker:
        own["gpus_per_worker"] = 0
    try:
        trial = resolve(TrainConfig, {**fixed, **drawn, **own, "preset": "none"})
    except ConfigError as error:
        raise ConfigError(f"search: trial {number}: {error}") from error
    return with_paths(trial, storage.absolute)  # a drawn value may be a path too


def draw(config: TuneConfig, number: int) -> dict[str, Any]:
    """Returns the drawn settings of a trial."""
    generator = np.random.default_rng([config.seed, _STREAM, number])
    return {name: _draw_one(config.search[name], generator) for name in sorted(config.search)}


def _draw_one(range_: Range, generator: np.random.Generator) -> Any:
    if range_.choice is not None:
        return range_.choice[int(generator.integers(len(range_.choice)))]
    if range_.integer is not None:
        return int(generator.integers(range_.integer[0], range_.integer[1] + 1))
    if range_.uniform is not None:
        return _rounded(generator.uniform(*range_.uniform))
    assert range_.log_uniform is not None
    low, high = map(math.log, range_.log_uniform)
    return _rounded(math.exp(generator.uniform(low, high)))


def _rounded(number: float) -> float:
    return float(f"{number:.{_DIGITS}g}")
