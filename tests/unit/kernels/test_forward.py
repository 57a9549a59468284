"""The forward pass itself: its accuracy, and that other vector widths give the same bits."""

from dataclasses import replace

import llvmlite.binding as llvm
import numpy as np
import pytest
from numpy.typing import NDArray

from lstm_ray.config import Precision
from lstm_ray.kernels.emitter import Target
from lstm_ray.kernels.forward import forward
from lstm_ray.kernels.function import aligned_empty
from lstm_ray.kernels.layout import RowOffsets, pack
from lstm_ray.model.weights import LstmWeights, NetworkWeights
from lstm_ray.score.engine import NativeEngine
from lstm_ray.text.sequences import Sequences

AVX512 = Target.of("skylake-avx512", {"avx512f": True, "avx2": True, "fma": True})
AVX2 = Target.of("haswell", {"avx2": True, "fma": True})
SSE2 = Target.of("x86-64", {})


def host_has(*features: str) -> bool:
    present = llvm.get_host_cpu_features()
    return all(present.get(feature) for feature in features)


def one_unit_outputs(gates: NDArray[np.float32]) -> NDArray[np.float32]:
    """Runs one unit for a step; every row has a word of its own, whose embedding is its four pre-activations."""
    target, count = Target.host(), len(gates)
    state = aligned_empty(2, 2, count, target.lanes)
    state[:] = 0
    forward(target, 1, 0, "last")(
        **RowOffsets.of(np.ones(count, np.int64)).walk(is_backward=False),
        starts=np.stack([pack(row[None], target.lanes) for row in gates]),
        start_ids=np.arange(count, dtype=np.int32),
        recurrent_weights=pack(np.zeros((1, 4), np.float32), target.lanes),
        state=state,
        is_cold=1,
    )
    return state[1, 0, :, 0].copy()


def test_activations_are_accurate_everywhere() -> None:
    """sigmoid(o) tanh(sigmoid(i) tanh(g)) over the whole relevant range of floats, and far beyond."""
    generator = np.random.default_rng(0)
    sizes = np.concatenate(
        [generator.normal(size=20000) * 3, generator.normal(size=2000) * 100, [0.0, 1e-30, 1e30, -1e30]]
    )
    gates = generator.choice(sizes, size=(20000, 4)).astype(np.float32)
    i, _, g, o = gates.astype(np.float64).T
    exact = (0.5 + 0.5 * np.tanh(o / 2)) * np.tanh((0.5 + 0.5 * np.tanh(i / 2)) * np.tanh(g))
    outputs = one_unit_outputs(gates)
    assert np.abs(outputs - exact).max() < 2e-7


def test_zero_gives_zero_exactly() -> None:
    """Padding units rely on this: they must add nothing to the next layer."""
    assert one_unit_outputs(np.zeros((1, 4), np.float32))[0] == 0


def network(units: tuple[int, ...]) -> NetworkWeights:
    generator = np.random.default_rng(0)

    def normal(*shape: int) -> NDArray[np.float32]:
        return (generator.normal(size=shape) * 0.3).astype(np.float32)

    layers, inputs = [], 12
    for size in units:
        pair = [LstmWeights(normal(inputs, 4 * size), normal(size, 4 * size), normal(4 * size)) for _ in range(2)]
        layers.append(tuple(pair))
        inputs = 2 * size
    return NetworkWeights(normal(30, 12), tuple(layers), normal(2 * inputs), 0.0, "mean_max", False, "pre", 15)


def scores_on(target: Target, monkeypatch: pytest.MonkeyPatch, precision: Precision = "float32") -> NDArray[np.float32]:
    monkeypatch.setattr(Target, "host", classmethod(lambda cls: target))
    lengths = np.arange(23) % 16
    token_ids = np.random.default_rng(1).integers(0, 30, lengths.sum()).astype(np.int32)
    rows = Sequences.of(token_ids, lengths)
    return NativeEngine(network((21, 5)), precision=precision).probabilities(rows)


@pytest.mark.skipif(not host_has("avx512f", "avx2", "fma"), reason="needs a processor with both vector widths")
def test_every_vector_width_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = Target("haswell", "+avx2,+fma", lanes=4, tile_rows=6, fused=True)
    wide = scores_on(AVX512, monkeypatch)
    np.testing.assert_array_equal(scores_on(AVX2, monkeypatch), wide)
    np.testing.assert_array_equal(scores_on(narrow, monkeypatch), wide)


def test_every_vector_width_gives_the_same_bits_in_low_precision(
    low_precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Target.host()
    if host.lanes == 8:
        pytest.skip("needs a processor with both vector widths")
    narrow = replace(host, lanes=8, tile_rows=3)
    wide = scores_on(host, monkeypatch, low_precision)
    assert (wide != scores_on(host, monkeypatch)).all()
    np.testing.assert_array_equal(scores_on(narrow, monkeypatch, low_precision), wide)


@pytest.mark.skipif(not host_has("sse2"), reason="needs an x86 processor")
def test_processors_without_fused_multiply_add_come_close(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = scores_on(Target.host(), monkeypatch)
    np.testing.assert_allclose(scores_on(SSE2, monkeypatch), usual, rtol=0, atol=1e-6)
