"""The tile that a processor gets."""

import llvmlite.binding as llvm
import pytest

from lstm_ray.kernels.emitter import Target


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ({"avx512f": True, "avx2": True, "fma": True}, (16, 6, True)),
        ({"avx2": True, "fma": True}, (8, 3, True)),
        ({"avx2": True}, (4, 3, False)),
        ({"neon": True}, (4, 6, True)),
        ({}, (4, 3, False)),
    ],
)
def test_a_tile_fills_the_registers(features: dict[str, bool], expected: tuple[int, int, bool]) -> None:
    target = Target.of("any", features)
    assert (target.lanes, target.tile_rows, target.fused) == expected


def test_the_host_is_recognised() -> None:
    target = Target.host()
    assert target.cpu == llvm.get_host_cpu_name()
    assert target.lanes in (4, 8, 16)
