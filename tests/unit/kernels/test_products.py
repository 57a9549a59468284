"""The products of learning against NumPy in float64."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from lstm_ray.kernels import products
from lstm_ray.kernels.emitter import Target
from lstm_ray.kernels.function import aligned_empty

TARGET = Target.host()
LANES = TARGET.lanes
WIDTH = 2 * LANES
INPUTS = 9


def normal(*shape: int) -> NDArray[np.float32]:
    array = aligned_empty(*shape)
    array[:] = np.random.default_rng(shape).normal(size=shape)
    return array


def as_matrix(packed: NDArray[np.float32]) -> NDArray[np.float64]:
    """Returns packed weights float32[blocks, k, 4, lanes] as float64[k, blocks * 4 * lanes]."""
    return packed.astype(np.float64).transpose(1, 0, 2, 3).reshape(packed.shape[1], -1)


@pytest.mark.parametrize("rows", [1, 5, 6, 13])
def test_product_adds_a_bias(rows: int) -> None:
    values, weights, bias = normal(rows, INPUTS), normal(2, INPUTS, 4, LANES), normal(2, 4, LANES)
    out = aligned_empty(rows, 4 * WIDTH)
    products.product(TARGET, INPUTS, WIDTH, False)(values=values, weights=weights.ravel(), bias=bias.ravel(), out=out)
    np.testing.assert_allclose(out, values @ as_matrix(weights) + bias.ravel(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("blocks", [1, 2, 5, 8])
@pytest.mark.parametrize("offsets", [1, 63, 200])
def test_outer_adds_to_what_is_there(offsets: int, blocks: int, gated: bool) -> None:
    gates = 4 if gated else 1
    values, deltas = normal(offsets, gates, INPUTS), normal(offsets, blocks, 4, LANES)
    out = normal(blocks, INPUTS, 4, LANES)
    of_gates = np.broadcast_to(values, (offsets, 4, INPUTS)).astype(np.float64)
    expected = out + np.einsum("pgi,pbgl->bigl", of_gates, deltas)
    outer = products.outer(TARGET, INPUTS, blocks * LANES, gated)
    outer(values=values.reshape(offsets, -1), deltas=deltas.reshape(offsets, -1), out=out.ravel())
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=2e-5)


def test_outer_of_many_sums() -> None:
    """These are added up in longer chunks: 300 offsets are one and a part."""
    offsets, inputs, width = 300, 260, 256
    values, deltas = normal(offsets, inputs), normal(offsets, width // LANES, 4, LANES)
    out = np.zeros((width // LANES, inputs, 4, LANES), np.float32)
    assert out.size > products._LARGE_SUMS
    outer = products.outer(TARGET, inputs, width, False)
    outer(values=values, deltas=deltas.reshape(offsets, -1), out=out.ravel())
    expected = values.astype(np.float64).T @ deltas.reshape(offsets, -1)
    got = out.transpose(1, 0, 2, 3).reshape(inputs, -1)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rows", [1, 7])
def test_gathered_sums(rows: int) -> None:
    """Rows 2 .. of more; some have no ids. In float32 the sum of the first row would be 0."""
    generator = np.random.default_rng(rows)
    ends = np.cumsum([3, 5, *generator.integers(0, 9, rows)])
    ids = generator.integers(0, 20, ends[-1]).astype(np.int32)
    table = np.append(generator.normal(size=17), [1e8, 1, -1e8]).astype(np.float32)
    ids[3:6] = 17, 18, 19
    out = np.full(rows + 1, np.nan)
    products.gathered_sums(TARGET)(table=table, ids=ids, begin=3, ends=ends[1:], out=out)
    expected = [table[ids[begin:end]].sum(dtype=np.float64) for begin, end in pairwise(ends)]
    np.testing.assert_allclose(out, expected, rtol=1e-12)


def test_outer_rounds_little_over_many_offsets() -> None:
    """One long sum of float32 would be off by 3 parts in 10,000 here."""
    offsets = 40_000
    values, deltas = np.full((offsets, INPUTS), 1 / 3, np.float32), np.ones((offsets, 4 * WIDTH), np.float32)
    out = aligned_empty(2, INPUTS, 4, LANES)
    out[:] = 0
    products.outer(TARGET, INPUTS, WIDTH, False)(values=values, deltas=deltas, out=out.ravel())
    np.testing.assert_allclose(out, float(values[0, 0]) * offsets, rtol=1e-5)


def test_rows_that_repeat_are_added_up() -> None:
    ids = np.array([2, 0, 2, 2, 1, 0], np.int32)
    values, out = normal(6, WIDTH + LANES), normal(3, WIDTH)
    expected = out.astype(np.float64)
    np.add.at(expected, ids, values[:, :WIDTH])
    products.add_rows(TARGET, WIDTH)(ids=ids, values=values, out=out)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)
