"""Chooses what computes a run's training steps, and what sums gradients: once, on the driver, for all workers."""

from __future__ import annotations

from typing import Literal

from lstm_ray.collective.protocol import Collective
from lstm_ray.config import TrainConfig
from lstm_ray.runtime.tensorflow import has_gpu
from lstm_ray.train.step.loss import Labels
from lstm_ray.train.step.protocol import Stepper


def runs_on_gpu(config: TrainConfig) -> bool:
    """Returns whether a run's steps are computed on GPUs, in this process or on Ray workers; called on the driver."""
    return has_gpu() if config.worker_limits == (0, 0) else config.gpus_per_worker > 0


def choose_engine(config: TrainConfig, *, on_gpu: bool) -> Literal["native", "keras"]:
    """Returns the engine that `config.engine` stands for.

    "auto" is the native engine for float32 on CPUs, otherwise Keras. A user's network always needs Keras, and so do
    TensorFlow's collectives.
    """
    if config.network is not None or config.collective == "tensorflow":
        return "keras"
    if config.engine != "auto":
        return config.engine
    return "native" if config.precision == "float32" and not on_gpu else "keras"


def choose_collective(config: TrainConfig) -> Literal["tcp", "tensorflow"]:
    """Returns the collective that `config.collective` stands for: "auto" is TensorFlow's for workers with GPUs."""
    if config.collective != "auto":
        return config.collective
    return "tensorflow" if config.gpus_per_worker and config.worker_limits[1] > 1 else "tcp"


def make_stepper(config: TrainConfig, collective: Collective, labels: Labels) -> Stepper:
    """Builds the engine.

    Args:
        config: The run's settings, with the `engine` that the driver chose; "auto" assumes a CPU.
        collective: Sums gradients over the workers.
        labels: Labels of all training rows: the schedule's length and balanced class weights depend on them.
    """
    if choose_engine(config, on_gpu=False) == "native":
        from lstm_ray.train.native.stepper import NativeStepper

        return NativeStepper(config, collective, labels)
    from lstm_ray.train.step.keras_engine import KerasStepper

    return KerasStepper(config, collective, labels)
