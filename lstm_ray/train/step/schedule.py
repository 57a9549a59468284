"""The learning rate of each step, its share in the moving average of the weights, and the number of steps.

    warmup_steps   rises linearly from learning_rate / warmup_steps to learning_rate, then
    constant       stays
    linear         falls linearly     } to 0 after the last step of the last epoch
    cosine         falls as a cosine  }

The rate depends on the step's number, which is the optimizer's `iterations` and part of a checkpoint.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lstm_ray.config import TrainConfig
from lstm_ray.errors import ConfigError
from lstm_ray.wording import counted


def steps_per_epoch(config: TrainConfig, rows: int) -> int:
    """Returns the number of steps of an epoch of `rows` training rows; the last step may have fewer rows."""
    return -(-rows // config.global_batch_size)


def count_steps(config: TrainConfig, rows: int) -> int:
    """Returns the number of steps of a run over `rows` training rows."""
    return config.epochs * steps_per_epoch(config, rows)


def is_scheduled(config: TrainConfig) -> bool:
    """Returns whether the learning rate changes during a run."""
    return config.schedule != "constant" or config.warmup_steps > 0


def check_schedule(config: TrainConfig, rows: int) -> None:
    """Raises ConfigError if the warm-up is not shorter than the run."""
    steps = count_steps(config, rows)
    if config.warmup_steps >= steps:
        raise ConfigError(f"--warmup-steps is {config.warmup_steps}, but the whole run has {counted(steps, 'step')}")


def learning_rate_at(config: TrainConfig, steps: int, number: Any, operations: Any = np) -> Any:
    """Returns the learning rate of one step or of many, in the shape of `number`.

    Args:
        config: learning_rate, schedule and warmup_steps are used.
        steps: Steps of the run, see `count_steps`.
        number: The steps' numbers, counted from 0, as floats: a NumPy array or scalar, or a tensor.
        operations: The module to compute with: numpy, or `keras.ops` for a tensor.

    After the warm-up the rates are those of `keras.optimizers.schedules.CosineDecay` and `PolynomialDecay`. During the
    warm-up they are one step ahead of Keras, because a first step at rate 0 learns nothing.
    """
    falling_steps = max(steps - config.warmup_steps, 1)
    done = operations.clip((number - config.warmup_steps) / falling_steps, 0.0, 1.0)
    shapes = {
        "constant": lambda: operations.ones_like(done),
        "linear": lambda: 1.0 - done,
        "cosine": lambda: 0.5 * (1.0 + operations.cos(math.pi * done)),
    }
    rising = operations.minimum((number + 1.0) / max(config.warmup_steps, 1), 1.0)
    return config.learning_rate * rising * shapes[config.schedule]()


def average_share(ema: float, number: Any, operations: Any = np) -> Any:
    """Returns the weight of a step's result in the moving average of the weights; the rest is the previous average.

    Args:
        ema: Decay of the average.
        number: The number of one step or of many, as in `learning_rate_at`.
        operations: The module to compute with, as in `learning_rate_at`.

    In step t the decay is min(ema, (1 + t) / (10 + t)): an average over about the last tenth of the steps, or fewer if
    `ema` says so. With a constant decay of 0.999 the initial weights would still count for two thirds after 400 steps.

    Source: TensorFlow, `tf.train.ExponentialMovingAverage` with `num_updates`.
    """
    return operations.maximum(1.0 - ema, 9.0 / (11.0 + number))
