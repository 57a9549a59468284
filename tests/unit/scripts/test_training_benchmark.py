"""The rows of benchmarks/training.py, and what it prints of rates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lstm_ray.config import TrainConfig
from lstm_ray.text.sequences import Sequences
from lstm_ray.train.data.corpus import Corpus


@pytest.fixture(scope="module")
def training() -> Any:
    from benchmarks import training

    return training


@pytest.mark.parametrize(("mask", "most"), [(True, 1.15), (False, 100)])
def test_the_rows_of_few_steps_have_little_padding(training: Any, mask: bool, most: float) -> None:
    lengths = np.clip(np.random.default_rng(0).lognormal(5, 0.7, 5_000), 5, 900).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    corpus = Corpus(Sequences(np.ones(offsets[-1], np.int32), offsets), np.zeros(5_000, np.int8))
    config = TrainConfig.model_validate({"preset": "none", "mask": mask, "global_batch_size": 32, "max_tokens": 900})
    for steps in (1, 3, 40):
        some = training.some_batches(corpus, config, steps)
        assert len(some) == 32 * steps
        batches = np.sort(some.sequences.lengths).reshape(steps, 32)
        assert 32 * batches.max(axis=1).sum() / batches.sum() < most


def test_the_limit_and_the_ratios_are_printed(training: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """100 GFLOP/s and 1 GFLOP a row allow 100 rows/s."""
    training.report({"our loop": [60.0, 70.0, 80.0], "pytorch": [40.0, 35.0, 20.0], "matmul": [1e11] * 3}, 1e9)
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["matmul", "100", "GFLOP/s"]
    assert lines[3:] == [
        "  our loop / pytorch: 2.00 (1.50 to 4.00)",
        "  our loop / limit of 100 rows/s: 70% (60% to 80%)",
    ]
