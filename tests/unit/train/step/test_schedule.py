"""Learning rates: what Keras's own schedules give, for every step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lstm_ray.config import TrainConfig
from lstm_ray.errors import ConfigError
from lstm_ray.runtime.tensorflow import start_tensorflow
from lstm_ray.train.step.schedule import check_schedule, count_steps, learning_rate_at, steps_per_epoch

STEPS = 40


def rates(**settings: Any) -> np.ndarray:
    """Returns the learning rates of a run of `STEPS` steps."""
    start_tensorflow()
    config = TrainConfig(preset="none", learning_rate=0.02, **settings)
    return np.array([float(learning_rate_at(config, STEPS, step)) for step in range(STEPS)])


@pytest.mark.parametrize("warmup", [0, 7])
def test_cosine_is_that_of_keras(warmup: int) -> None:
    start_tensorflow()
    import keras

    theirs = keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else 0.02, STEPS - warmup, warmup_target=0.02 if warmup else None, warmup_steps=warmup
    )
    ours = rates(schedule="cosine", warmup_steps=warmup)
    np.testing.assert_allclose(ours[warmup:], [float(theirs(step)) for step in range(warmup, STEPS)], rtol=3e-5)
    np.testing.assert_allclose(ours[:warmup], [float(theirs(step + 1)) for step in range(warmup)], rtol=1e-5)


def test_linear_is_that_of_keras() -> None:
    start_tensorflow()
    import keras

    theirs = keras.optimizers.schedules.PolynomialDecay(0.02, STEPS, end_learning_rate=0.0)
    np.testing.assert_allclose(rates(schedule="linear"), [float(theirs(step)) for step in range(STEPS)], rtol=1e-5)


def test_a_constant_rate_rises_and_stays() -> None:
    np.testing.assert_allclose(rates(warmup_steps=4), [0.005, 0.01, 0.015] + [0.02] * (STEPS - 3), rtol=1e-6)
    np.testing.assert_allclose(rates(), [0.02] * STEPS, rtol=1e-6)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("warmup", [0, 1, STEPS - 1])
def test_every_step_learns_and_none_faster_than_asked(schedule: str, warmup: int) -> None:
    ours = rates(schedule=schedule, warmup_steps=warmup)
    assert (ours > 0).all()
    assert ours.max() == pytest.approx(0.02)


def test_the_last_short_batch_of_an_epoch_is_a_step() -> None:
    config = TrainConfig(preset="none", epochs=3, global_batch_size=10)
    assert [steps_per_epoch(config, rows) for rows in (40, 41)] == [4, 5]
    assert count_steps(config, 41) == 15


def test_a_warm_up_longer_than_the_run_is_refused() -> None:
    config = TrainConfig(preset="none", epochs=3, global_batch_size=10, warmup_steps=15)
    with pytest.raises(ConfigError, match="--warmup-steps is 15, but the whole run has 15 steps"):
        check_schedule(config, 41)
    check_schedule(config, 51)
