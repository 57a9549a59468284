"""Settings of training."""

import math

import pytest

from lstm_ray.config import TrainConfig, resolve
from lstm_ray.errors import ConfigError


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
    with pytest.raises(ConfigError, match=f"--class-weights is '{given}': at least one class needs a weight above 0"):
        resolve(TrainConfig, {"class_weights": given})


def test_a_validation_group_needs_rows_that_are_held_out() -> None:
    given = {"validation_group": "film"}
    assert resolve(TrainConfig, given).validation_group == "film"
    with pytest.raises(
        ConfigError, match=r"^--validation-group decides what is held out of --train, but with --validation "
    ):
        resolve(TrainConfig, {**given, "validation": ("v.parquet",)})
    with pytest.raises(ConfigError, match=r"^--validation-group needs a --validation-fraction above 0"):
        resolve(TrainConfig, {**given, "validation_fraction": 0.0})


def test_early_stopping_needs_validation() -> None:
    with pytest.raises(ConfigError, match=r"^--early-stopping needs validation rows"):
        resolve(TrainConfig, {"early_stopping": 2, "validation_fraction": 0.0})
    resolve(TrainConfig, {"early_stopping": 2, "validation_fraction": 0.0, "validation": ("v.parquet",)})
