"""Which processor has which precision."""

from typing import get_args

import pytest

from lstm_ray.config import Precision
from lstm_ray.errors import ConfigError
from lstm_ray.kernels.emitter import Target
from lstm_ray.kernels.precision.choice import FORMATS, check_precision, precisions_of

AVX512 = {"avx512f": True, "avx2": True, "fma": True}
AVX2 = {"avx2": True, "fma": True}


def test_every_precision_has_its_format() -> None:
    assert FORMATS.keys() == set(get_args(Precision))


@pytest.mark.parametrize(
    ("features", "precisions"),
    [
        ({**AVX512, "avx512bf16": True, "avx512vnni": True}, ["float32", "bf16", "int8"]),
        ({**AVX512, "avx512bf16": False, "avx512vnni": True}, ["float32", "int8"]),
        ({**AVX2, "avxvnni": True}, ["float32", "int8"]),
        ({**AVX512, "avxvnni": True}, ["float32"]),  # its vectors are too long for that instruction
        (AVX2, ["float32"]),
        ({"neon": True}, ["float32"]),
        ({}, ["float32"]),
    ],
)
def test_a_processor_has_the_precisions_of_its_instructions(features: dict[str, bool], precisions: list[str]) -> None:
    target = Target.of("any", features)
    assert precisions_of(target) == precisions
    for name in FORMATS:
        if name in precisions:
            check_precision(name, target)
        else:
            with pytest.raises(ConfigError, match=f"choose {', '.join(precisions)}, or leave such machines out"):
                check_precision(name, target)
