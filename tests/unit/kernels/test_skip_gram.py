"""Skip-gram's updates against their definition in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lstm_ray.kernels.emitter import Target
from lstm_ray.kernels.function import aligned_empty
from lstm_ray.kernels.skip_gram import skip_gram

TARGET = Target.host()
RATE = 0.1


def draws(words: int, positions: int, negatives: int, window: int = 5) -> dict[str, Any]:
    """Returns what the kernel learns from: one text of random words."""
    rng = np.random.default_rng([words, positions, negatives])
    number, reach = np.arange(positions), rng.integers(1, window + 1, positions)
    return {
        "words": rng.integers(0, words, positions).astype(np.int32),
        "begin": np.maximum(number - reach, 0).astype(np.int32),
        "end": np.minimum(number + reach + 1, positions).astype(np.int32),
        "negatives": rng.integers(0, words, (positions, negatives)).astype(np.int32),
    }


def random_rows(words: int, width: int) -> NDArray[np.float32]:
    rows = aligned_empty(words + 1, width)
    rows[:] = np.random.default_rng([words, width]).normal(scale=0.3, size=rows.shape)
    return rows


def define(given: dict[str, Any], inputs: NDArray[np.float64], outputs: NDArray[np.float64]) -> None:
    """Learns as the kernel's docstring says."""
    words = given["words"]
    for number, (begin, end) in enumerate(zip(given["begin"], given["end"], strict=True)):
        word, negatives = words[number], given["negatives"][number]
        targets, counts = np.array([word, *negatives]), np.array([True, *(negatives != word)])
        around = np.delete(words[begin:end], number - begin)
        for first in range(0, len(around), 3):
            sources = around[first : first + 3]
            logits = inputs[sources] @ outputs[targets].T
            errors = RATE * counts * (np.eye(len(targets))[0] - 1 / (1 + np.exp(-logits)))
            of_inputs, of_outputs = errors @ outputs[targets], errors.T @ inputs[sources]
            np.add.at(inputs, sources, of_inputs)
            np.add.at(outputs, targets, of_outputs)


@pytest.mark.parametrize(
    ("words", "width", "negatives"),
    [(50, 128, 5), (3, 16, 5), (9, 48, 1), (9, 32, 2), (9, 32, 7), (9, 32, 15)],
    ids=str,
)
def test_the_updates_are_those_of_the_definition(words: int, width: int, negatives: int) -> None:
    """With 3 words, nearly all occur both as targets and as context words."""
    given = draws(words, 40, negatives)
    inputs, outputs = random_rows(words, width), random_rows(words, width)[::-1].copy()
    expected_inputs, expected_outputs = inputs.astype(np.float64), outputs.astype(np.float64)
    define(given, expected_inputs, expected_outputs)
    skip_gram(TARGET, width, negatives)(**given, inputs=inputs, outputs=outputs, rate=np.array([RATE], np.float32))
    np.testing.assert_allclose(inputs, expected_inputs, atol=5e-6)
    np.testing.assert_allclose(outputs, expected_outputs, atol=5e-6)


def test_a_word_alone_learns_nothing() -> None:
    inputs, outputs = random_rows(4, 16), random_rows(4, 16)
    before = inputs.copy(), outputs.copy()
    alone = {"words": [2], "begin": [0], "end": [1], "negatives": [[1]]}
    skip_gram(TARGET, 16, 1)(
        **{name: np.array(values, np.int32) for name, values in alone.items()},
        inputs=inputs,
        outputs=outputs,
        rate=np.array([RATE], np.float32),
    )
    np.testing.assert_array_equal((inputs, outputs), before)


@pytest.mark.skipif(TARGET.instructions != "AVX-512", reason="compares with narrower vectors of the same processor")
def test_narrower_vectors_give_the_same_bits() -> None:
    given = draws(20, 60, 5)
    results = []
    for target in (TARGET, Target.of("haswell", {"avx2": True, "fma": True, "avx512f": False})):
        inputs, outputs = random_rows(20, 32), random_rows(20, 32)
        skip_gram(target, 32, 5)(**given, inputs=inputs, outputs=outputs, rate=np.array([RATE], np.float32))
        results.append((inputs, outputs))
    np.testing.assert_array_equal(results[0], results[1])
