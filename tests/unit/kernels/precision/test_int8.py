"""Rounding to 8-bit integers, and weights packed in groups of four."""

import numpy as np

from lstm_ray.kernels.layout import pack
from lstm_ray.kernels.precision.int8 import Int8

LANES = 4


def test_states_are_bytes_around_128() -> None:
    values = np.array([-1, 1, 0, -0.0, 1.4 / 127, 1.6 / 127, 0.004, -0.004], np.float32)
    np.testing.assert_array_equal(Int8().store(values), [1, 255, 128, 128, 129, 130, 129, 127])


def test_weights_are_within_half_a_step_of_their_columns_scale() -> None:
    units, inner = 6, 5
    matrix = np.random.default_rng(0).normal(size=(inner, 4 * units)).astype(np.float32)
    matrix[:, 3] = 0
    packed = Int8().pack(pack(matrix, LANES), inner, LANES).view(np.int32).reshape(2, 2 + 2, 4, LANES)
    starts, scales = packed[:, 0], packed[:, 1].view(np.float32)
    weights = np.ascontiguousarray(packed[:, 2:]).view(np.int8).reshape(2, 2, 4, LANES, 4)
    for gate, unit in np.ndindex(4, units):
        block, lane = divmod(unit, LANES)
        column, numbers = matrix[:, gate * units + unit], weights[block, :, gate, lane].ravel().astype(int)
        step = np.abs(column).max() / 127
        assert np.abs(numbers[:inner] * step - column).max() <= step * 0.501
        assert not numbers[inner:].any(), "there are no more rows"
        assert np.abs(numbers).max() == (127 if column.any() else 0)
        assert starts[block, gate, lane] == -128 * numbers.sum()
        np.testing.assert_allclose(scales[block, gate, lane], step / 127, rtol=1e-6)
    assert not weights[1, :, :, 2:].any(), "there is no seventh unit"
