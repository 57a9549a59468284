"""The layout of weights and rows that all kernels read."""

from __future__ import annotations

import numpy as np
import pytest

from lstm_ray.kernels.layout import RowOffsets, pack, transpose


def test_packing_groups_units_in_vectors() -> None:
    units, lanes = 5, 4
    matrix = np.arange(3 * 4 * units, dtype=np.float32).reshape(3, 4 * units)
    packed = pack(matrix, lanes).reshape(2, 3, 4, lanes)
    for unit in range(units):
        block, lane = divmod(unit, lanes)
        for gate in range(4):
            np.testing.assert_array_equal(packed[block, :, gate, lane], matrix[:, gate * units + unit])
    assert not packed[1, :, :, 1:].any(), "units beyond the last are zero"


def test_packing_leaves_rows_of_zeros_for_inputs_that_are_padding() -> None:
    matrix = np.arange(1, 2 * 4 * 4 + 1, dtype=np.float32).reshape(2, 16)
    packed = pack(matrix, 4, rows=np.array([0, 3]), inner=5).reshape(5, 16)
    np.testing.assert_array_equal(packed[[0, 3]], matrix)
    assert not packed[[1, 2, 4]].any()


@pytest.mark.parametrize(("rows", "width"), [(16, 16), (32, 16), (48, 80)])
def test_a_transposed_matrix_multiplies_the_other_way(rows: int, width: int) -> None:
    lanes = 16
    generator = np.random.default_rng(0)
    packed = generator.normal(size=(width // lanes, rows, 4, lanes)).astype(np.float32)
    deltas = generator.normal(size=4 * width).astype(np.float32)  # of [blocks, 4, lanes]
    expected = np.einsum("brgl,bgl->r", packed, deltas.reshape(-1, 4, lanes))
    matrix = transpose(packed.ravel(), rows, lanes).reshape(-(-rows // (4 * lanes)), 4 * width, 4 * lanes)
    found = np.einsum("i,sic->sc", deltas, matrix).ravel()
    np.testing.assert_allclose(found[:rows], expected, rtol=1e-4, atol=1e-4)
    assert not found[rows:].any()


def test_rows_follow_one_another_and_are_walked_from_either_end() -> None:
    rows = RowOffsets.of(np.array([4, 3, 1]), gap=1)
    assert (rows.begin.tolist(), rows.size) == ([1, 6, 10], 12)
    forward, backward = rows.walk(False), rows.walk(True, skipped=np.array([2, 0, 1]))
    assert (forward["first"].tolist(), forward["lengths"].tolist(), forward["direction"]) == ([1, 6, 10], [4, 3, 1], 1)
    assert (backward["first"].tolist(), backward["lengths"].tolist()) == ([2, 8, 9], [2, 3, 0])
    assert backward["direction"] == -1
