"""How fast to learn in which step.

    warmup_steps   the rate rises evenly from learning_rate / warmup_steps to learning_rate, then
    constant       it stays
    linear         it falls evenly       } to 0 after the last step of the last epoch
    cosine         it falls as a cosine  }

A step's rate is a function of its number alone, and that is the optimizer's `iterations`, which a checkpoint holds.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lstm_ray.config import TrainConfig
from lstm_ray.errors import ConfigError


def count_steps(config: TrainConfig, rows: int) -> int:
    """Returns the steps of a run over `rows` training rows."""
    return config.epochs * -(-rows // config.global_batch_size)


def is_scheduled(config: TrainConfig) -> bool:
    """Says whether the learning rate ever changes."""
    return config.schedule != "constant" or config.warmup_steps > 0


def check_schedule(config: TrainConfig, rows: int) -> None:
    """Raises ConfigError if the warm-up is longer than the run."""
    steps = count_steps(config, rows)
    if config.warmup_steps >= steps:
        raise ConfigError(f"--warmup-steps is {config.warmup_steps}, but the whole run has {steps:,} steps")


def learning_rate_at(config: TrainConfig, steps: int, number: Any, operations: Any = np) -> Any:
    """Returns the learning rate of one step or of many, shaped as `number`.

    Args:
        config: learning_rate, schedule and warmup_steps are used.
        steps: Steps of the run, see `count_steps`.
        number: Their numbers, from 0, as floats: a NumPy array or scalar, or a tensor.
        operations: What computes with it: numpy, or `keras.ops` for a tensor.

    After the warm-up it is what `keras.optimizers.schedules.CosineDecay` and `PolynomialDecay` give; in the warm-up
    ours is a step ahead, because a first step at rate 0 learns nothing.
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
