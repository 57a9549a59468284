"""Chooses the engine that takes a run's steps."""

from __future__ import annotations

from lstm_ray.collective.protocol import Collective
from lstm_ray.config import TrainConfig
from lstm_ray.train.step.loss import Labels
from lstm_ray.train.step.protocol import Stepper


def make_stepper(config: TrainConfig, collective: Collective, labels: Labels) -> Stepper:
    """Builds what takes a run's steps.

    Args:
        config: The run's settings.
        collective: How gradients meet those of the other workers.
        labels: Of all training rows: a schedule's length and balanced class weights depend on them.
    """
    if is_native(config):
        from lstm_ray.train.native.stepper import NativeStepper

        return NativeStepper(config, collective, labels)
    from lstm_ray.train.step.keras_engine import KerasStepper

    return KerasStepper(config, collective, labels)


def is_native(config: TrainConfig) -> bool:
    """Says whether a run's steps are taken by our own code: in float32 on a CPU, unless `engine` says otherwise.

    A network of the user's own is Keras's in any case.
    """
    if config.network is not None:
        return False
    if config.engine != "auto":
        return config.engine == "native"
    import tensorflow as tf

    return config.precision == "float32" and not tf.config.list_physical_devices("GPU")
