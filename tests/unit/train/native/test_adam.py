"""Adam by rows against Adam over the whole matrix, and against Keras's."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as example_settings
from hypothesis import strategies as st

from lstm_ray.kernels.emitter import Target
from lstm_ray.kernels.threads import Threads
from lstm_ray.runtime.tensorflow import start_tensorflow
from lstm_ray.train.native.adam import AdamMatrix, corrected

ROWS, WIDTH, STEPS = 200, 32, 30


def gradients(seed: int, share: float) -> np.ndarray:
    """Returns float32[steps, rows, width]; in each step a share of the rows has one."""
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(STEPS, ROWS, WIDTH)) * generator.lognormal(-4, 3, (STEPS, ROWS, 1))
    return np.where(generator.random((STEPS, ROWS, 1)) < share, values, 0).astype(np.float32)


def initial() -> np.ndarray:
    """Returns float32[rows, width]."""
    return np.random.default_rng(9).normal(0, 0.1, (ROWS, WIDTH)).astype(np.float32)


def matrix(threads: int = 1) -> AdamMatrix:
    """Returns the matrix that the tests change."""
    made = AdamMatrix(ROWS, WIDTH, Target.host(), Threads(threads, "test"))
    made.values[:] = initial()
    return made


@given(seed=st.integers(0, 2**32 - 1), share=st.sampled_from([0.01, 0.2, 1.0]))
@example_settings(max_examples=10, deadline=None)
def test_rows_that_catch_up_have_the_bits_of_rows_that_never_waited(seed: int, share: float) -> None:
    rates = corrected(np.linspace(0.02, 0.001, STEPS))
    lazy, eager = matrix(), matrix()
    everything = np.arange(ROWS)
    for step, gradient in enumerate(gradients(seed, share)):
        rows = np.flatnonzero(gradient.any(axis=1))
        lazy.learn(rows, gradient[rows], step, rates)
        eager.learn(everything, gradient, step, rates)
    lazy.catch_up(None, STEPS, rates)
    for one, other in ((lazy.values, eager.values), (lazy.first, eager.first), (lazy.second, eager.second)):
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("size", [1, 1e-22], ids=["usual", "squares are 0"])
def test_a_run_that_goes_on_has_the_bits_of_one_that_never_stopped(size: float) -> None:
    rates = corrected(np.full(STEPS, 0.01))
    whole, first = matrix(), matrix()
    steps = list(enumerate(gradients(1, 0.1) * np.float32(size)))

    def learn(where: AdamMatrix, some: list[tuple[int, np.ndarray]]) -> None:
        for step, gradient in some:
            rows = np.flatnonzero(gradient.any(axis=1))
            where.learn(rows, gradient[rows], step, rates)

    learn(whole, steps)
    learn(first, steps[:11])
    first.catch_up(None, 11, rates)
    second = matrix()
    for one, other in ((second.values, first.values), (second.first, first.first), (second.second, first.second)):
        one[:] = other
    second.restart(11)
    learn(second, steps[11:])
    for run in (whole, second):
        run.catch_up(None, STEPS, rates)
    for one, other in ((second.values, whole.values), (second.first, whole.first), (second.second, whole.second)):
        assert one.tobytes() == other.tobytes()


def test_a_gradient_whose_square_is_endless_is_found_before_its_row_catches_up() -> None:
    run = matrix()
    rates = corrected(np.full(STEPS, 0.01))
    assert run.is_finite()
    with np.errstate(all="ignore"):
        run.learn(np.array([3]), np.full((1, WIDTH), 1e20, np.float32), 0, rates)
    assert np.isfinite(run.values).all()
    assert not run.is_finite()
    run.catch_up(None, 3, rates)
    assert np.isnan(run.values[3]).all()


def test_every_processor_has_the_same_rates() -> None:
    """NumPy has code for newer processors, which this switches off."""
    code = "import numpy; from lstm_ray.train.native.adam import corrected as rates; "
    code += "print(rates(numpy.full(20_000, 1e-3)).tobytes())"
    said = [
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **without}, capture_output=True, check=True
        ).stdout
        for without in ({}, {"NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX512_ICL AVX512_SPR X86_V4"})
    ]
    assert said[0] == said[1] != b""


def test_threads_change_nothing() -> None:
    rates = corrected(np.full(STEPS, 0.01))
    alone, shared = matrix(), matrix(threads=3)
    for step, gradient in enumerate(gradients(2, 0.9)):
        rows = np.flatnonzero(gradient.any(axis=1))
        for run in (alone, shared):
            run.learn(rows, gradient[rows], step, rates)
    assert alone.values.tobytes() == shared.values.tobytes()


@pytest.mark.parametrize("share", [0.05, 1.0])
def test_steps_are_those_of_keras(share: float) -> None:
    start_tensorflow()
    import keras

    variable = keras.Variable(initial())
    theirs = keras.optimizers.Adam(0.01)
    theirs.build([variable])
    ours, rates = matrix(), corrected(np.full(STEPS, 0.01))
    for step, gradient in enumerate(gradients(3, share)):
        theirs.apply([keras.ops.convert_to_tensor(gradient)])
        rows = np.flatnonzero(gradient.any(axis=1))
        ours.learn(rows, gradient[rows], step, rates)
    ours.catch_up(None, STEPS, rates)
    np.testing.assert_allclose(ours.values, variable.numpy(), atol=3e-7)


def test_rows_nobody_taught_stay_as_they_are() -> None:
    ours, rates = matrix(), corrected(np.full(STEPS, 0.01))
    for step in range(STEPS):
        ours.learn(np.array([3]), np.ones((1, WIDTH), np.float32), step, rates)
    ours.catch_up(None, STEPS, rates)
    others = np.delete(np.arange(ROWS), 3)
    np.testing.assert_array_equal(ours.values[others], initial()[others])
    assert (ours.values[3] < initial()[3] - 0.1).all()
