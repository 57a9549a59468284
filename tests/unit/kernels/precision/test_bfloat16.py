"""Rounding to bfloat16, and weights packed in pairs."""

import numpy as np

from lstm_ray.kernels.layout import pack
from lstm_ray.kernels.precision.bfloat16 import BFloat16

LANES = 4


def to_float(stored: np.ndarray) -> np.ndarray:
    """Returns the float32 whose upper half is stored."""
    return (stored.astype(np.uint32) << 16).view(np.float32)


def test_a_number_is_rounded_to_the_nearest_and_half_to_even() -> None:
    values = np.array([1, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -1 - 2**-8, 0, -0.0, 1 - 2**-10], np.float32)
    expected = [1, 1, 1 + 2**-6, 1 + 2**-7, -1, 0, -0.0, 1]
    rounded = to_float(BFloat16().store(values))
    np.testing.assert_array_equal(rounded, expected)
    np.testing.assert_array_equal(np.signbit(rounded), np.signbit(values))


def test_nothing_is_nearer_than_what_is_stored() -> None:
    values = np.random.default_rng(0).normal(size=10_000).astype(np.float32)
    stored = BFloat16().store(values)
    error = np.abs(to_float(stored) - values)
    for neighbour in (stored - np.uint16(1), stored + np.uint16(1)):
        assert (error <= np.abs(to_float(neighbour) - values)).all()


def test_consecutive_rows_share_an_element_and_the_last_may_be_alone() -> None:
    units, inner = 6, 5
    matrix = np.arange(inner * 4 * units, dtype=np.float32).reshape(inner, 4 * units)  # exact in bfloat16 below 256
    packed = to_float(BFloat16().pack(pack(matrix, LANES), inner, LANES)).reshape(2, 3, 4, LANES, 2)
    for row, gate, unit in np.ndindex(inner, 4, units):
        block, lane = divmod(unit, LANES)
        assert packed[block, row // 2, gate, lane, row % 2] == matrix[row, gate * units + unit]
    assert not packed[:, 2, :, :, 1].any(), "there is no sixth row"
    assert not packed[1, :, :, 2:].any(), "there is no seventh unit"
