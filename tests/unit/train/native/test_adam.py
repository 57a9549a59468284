"""Adam by rows against Adam over the whole matrix, and against Keras's."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as example_settings
from hypothesis import strategies as st

from lstm_ray.kernels.emitter import Target
from lstm_ray.runtime.tensorflow import start_tensorflow
from lstm_ray.runtime.threads import Threads
from lstm_ray.train.native.adam import AVERAGES, FIRST, SECOND, VALUES, AdamMatrix, Clock

ROWS, WIDTH, STEPS = 200, 32, 30
OPTIONS: list[dict[str, Any]] = [
    {},
    {"ema": 0.9},
    {"weight_decay": 0.5},
    {"ema": 0.9, "weight_decay": 0.5, "betas": (0.0, 0.95)},
]


def gradients(seed: int, share: float) -> np.ndarray:
    """Returns float32[steps, rows, width]; in each step a share of the rows has one."""
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(STEPS, ROWS, WIDTH)) * generator.lognormal(-4, 3, (STEPS, ROWS, 1))
    return np.where(generator.random((STEPS, ROWS, 1)) < share, values, 0).astype(np.float32)


def initial() -> np.ndarray:
    """Returns float32[rows, width]."""
    return np.random.default_rng(9).normal(0, 0.1, (ROWS, WIDTH)).astype(np.float32)


class Run:
    """A trained matrix.

    Attributes:
        matrix: The matrix.
        clock: The steps it has done.
    """

    def __init__(self, rate: float = 0.01, last_rate: float = 0.01, threads: int = 1, **options: Any) -> None:
        self.clock = Clock(lambda numbers: np.interp(numbers, [0, STEPS - 1], [rate, last_rate]), STEPS, **options)
        self.matrix = AdamMatrix(ROWS, WIDTH, self.clock, Target.host(), Threads(threads, "test"))
        self.matrix.write(VALUES, slice(None), initial())

    def learn(self, gradient: np.ndarray, rows: np.ndarray | None = None) -> None:
        """Takes a step with a gradient, float32[rows, width]; without `rows`, where there is one."""
        rows = np.flatnonzero(gradient.any(axis=1)) if rows is None else rows
        self.matrix.learn(rows, gradient[rows])
        self.clock.steps += 1

    def arrays(self) -> list[np.ndarray]:
        """Returns values and moments, and the average if there is one."""
        arrays = (VALUES, FIRST, SECOND, *([AVERAGES] if self.clock.ema else []))
        return [self.matrix.read(array, slice(None)) for array in arrays]


def assert_same_bits(one: Run, other: Run) -> None:
    """Compares values, moments and averages."""
    assert [array.tobytes() for array in one.arrays()] == [array.tobytes() for array in other.arrays()]


@given(seed=st.integers(0, 2**32 - 1), share=st.sampled_from([0.01, 0.2, 1.0]), options=st.sampled_from(OPTIONS))
@example_settings(max_examples=25)
def test_rows_that_catch_up_have_the_bits_of_rows_that_never_waited(
    seed: int, share: float, options: dict[str, Any]
) -> None:
    lazy, eager = Run(0.02, 0.001, **options), Run(0.02, 0.001, **options)
    for gradient in gradients(seed, share):
        lazy.learn(gradient)
        eager.learn(gradient, np.arange(ROWS))
    assert_same_bits(lazy, eager)


def test_what_is_read_has_caught_up() -> None:
    lazy, eager = Run(), Run()
    first, *others = gradients(0, 0.5)
    for run in (lazy, eager):
        run.learn(first, np.arange(ROWS))
    for gradient in others[:5]:
        gradient[:100] = 0
        lazy.learn(gradient)
        eager.learn(gradient, np.arange(ROWS))
    ids = np.array([7, 3, 150])
    assert lazy.matrix.rows(ids).tobytes() == eager.matrix.rows(ids).tobytes()
    lazy.matrix.rows(ids)[:] = 0  # a copy
    for run in (lazy, eager):  # what is written to a row is not changed by steps that it missed before
        run.matrix.write(VALUES, (np.array([9, 12]), slice(4)), np.full((2, 4), 0.5, np.float32))
    assert (lazy.matrix.rows(np.array([9]))[:, :4] == 0.5).all()
    assert_same_bits(lazy, eager)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("size", [1, 1e-22], ids=["usual", "squares are 0"])
def test_a_run_that_resumes_has_the_bits_of_one_that_never_stopped(size: float, options: dict[str, Any]) -> None:
    whole, first, second = (Run(**options) for _ in range(3))
    steps = gradients(1, 0.1) * np.float32(size)
    for gradient in steps:
        whole.learn(gradient)
    for gradient in steps[:11]:
        first.learn(gradient)
    for array, values in enumerate(first.arrays()):
        second.matrix.write(array, slice(None), values)
    second.clock.steps = 11
    second.matrix.restart()
    for gradient in steps[11:]:
        second.learn(gradient)
    assert_same_bits(second, whole)


def test_a_gradient_whose_square_is_infinite_is_found_before_its_row_catches_up() -> None:
    run = Run()
    assert run.matrix.is_finite()
    gradient = np.zeros((ROWS, WIDTH), np.float32)
    gradient[3] = 1e20
    with np.errstate(all="ignore"):
        run.learn(gradient)
    assert np.isfinite(run.matrix.rows(np.arange(ROWS))).all()
    assert not run.matrix.is_finite()
    run.clock.steps = 3
    assert np.isnan(run.matrix.rows(np.array([3]))).all()


def test_every_processor_has_the_same_rates() -> None:
    """NumPy has code for newer processors, which this switches off."""
    code = "import numpy; from lstm_ray.train.native.adam import corrected as rates; "
    code += "print(rates(numpy.full(20_000, 1e-3), (0.9, 0.999)).tobytes())"
    said = [
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **without}, capture_output=True, check=True
        ).stdout
        for without in ({}, {"NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX512_ICL AVX512_SPR X86_V4"})
    ]
    assert said[0] == said[1] != b""


def test_threads_change_nothing() -> None:
    alone, shared = Run(ema=0.9), Run(ema=0.9, threads=3)
    for gradient in gradients(2, 0.9):
        alone.learn(gradient)
        shared.learn(gradient)
    assert_same_bits(alone, shared)


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.9)], ids=str)
@pytest.mark.parametrize("weight_decay", [0.0, 0.5])
@pytest.mark.parametrize("share", [0.05, 1.0])
def test_steps_are_those_of_keras(share: float, weight_decay: float, betas: tuple[float, float]) -> None:
    start_tensorflow()
    import keras

    variable = keras.Variable(initial())
    theirs = keras.optimizers.Adam(0.01, *betas, weight_decay=weight_decay or None)
    theirs.build([variable])
    ours = Run(betas=betas, weight_decay=weight_decay)
    for gradient in gradients(3, share):
        theirs.apply([keras.ops.convert_to_tensor(gradient)])
        ours.learn(gradient)
    np.testing.assert_allclose(ours.arrays()[VALUES], variable.numpy(), atol=3e-7)


def test_the_average_is_that_of_its_definition() -> None:
    ours, average = Run(ema=0.75), initial()
    for step, gradient in enumerate(gradients(4, 0.3), 1):
        ours.learn(gradient)
        decay = np.float32(min(0.75, (1 + step) / (10 + step)))  # 0.75 from step 26 on
        average = decay * average + (1 - decay) * ours.matrix.read(VALUES, slice(None))
    np.testing.assert_allclose(ours.matrix.read(AVERAGES, slice(None)), average, atol=1e-6)
    assert np.abs(average - ours.matrix.read(VALUES, slice(None))).max() > 0.01


def test_an_average_moves_on_when_the_moments_have_faded() -> None:
    run = Run(ema=0.75)
    run.matrix.write(AVERAGES, 3, np.zeros(WIDTH))
    run.matrix.restart()
    run.clock.steps = STEPS - 1
    np.testing.assert_allclose(run.matrix.read(AVERAGES, 3), initial()[3], rtol=1e-3)


def test_rows_without_a_gradient_stay_as_they_are() -> None:
    ours = Run()
    gradient = np.zeros((ROWS, WIDTH), np.float32)
    gradient[3] = 1
    for _ in range(STEPS):
        ours.learn(gradient)
    values = ours.arrays()[VALUES]
    np.testing.assert_array_equal(np.delete(values, 3, axis=0), np.delete(initial(), 3, axis=0))
    assert (values[3] < initial()[3] - 0.1).all()


def test_rates_continue_beyond_the_expected_steps() -> None:
    clock = Clock(lambda numbers: 1 / (1 + numbers), expected_steps=4)
    before = clock.by_step()["rates"]
    clock.steps = 9
    after = clock.by_step()["rates"]
    assert len(before) == 4
    assert len(after) > 9
    np.testing.assert_array_equal(after[:4], before)
