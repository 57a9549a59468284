"""The precisions that a user can choose."""

from __future__ import annotations

import platform

from lstm_ray.config import Precision
from lstm_ray.errors import ConfigError
from lstm_ray.kernels.emitter import Target
from lstm_ray.kernels.precision.base import NumberFormat
from lstm_ray.kernels.precision.bfloat16 import BFloat16
from lstm_ray.kernels.precision.float32 import Float32
from lstm_ray.kernels.precision.int8 import Int8

FORMATS: dict[Precision, NumberFormat] = {"float32": Float32(), "bf16": BFloat16(), "int8": Int8()}


def precisions_of(target: Target) -> list[Precision]:
    """Returns the precisions that a processor has the instructions of; float32 is one."""
    return [name for name, form in FORMATS.items() if form.is_on(target)]


def check_precision(precision: Precision, target: Target) -> None:
    """Raises ConfigError if a processor lacks the instructions of a precision.

    It doesn't compute in float32 instead: on a cluster of different processors the scores would depend on which of them
    scored a row.
    """
    if precision not in precisions_of(target):
        raise ConfigError(
            f"--precision {precision} needs a processor with {FORMATS[precision].instructions}; the one of "
            f"{platform.node()} has none: choose {', '.join(precisions_of(target))}, or leave such machines out"
        )
