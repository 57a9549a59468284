"""Which engine computes a run's steps, and what sums gradients."""

from __future__ import annotations

from typing import Any

import pytest

from lstm_ray.config import TrainConfig
from lstm_ray.train.step import choice


@pytest.mark.parametrize(
    ("settings", "on_gpu", "engine"),
    [
        ({}, False, "native"),
        ({}, True, "keras"),
        ({"precision": "bf16"}, False, "keras"),
        ({"engine": "native"}, True, "native"),
        ({"engine": "keras"}, False, "keras"),
        ({"network": "mine:build"}, False, "keras"),
        ({"collective": "tensorflow", "workers": "2"}, False, "keras"),
        ({"collective": "tcp", "workers": "2"}, False, "native"),
    ],
    ids=str,
)
def test_the_engine(settings: dict[str, Any], on_gpu: bool, engine: str) -> None:
    assert choice.choose_engine(TrainConfig(**settings), on_gpu=on_gpu) == engine


@pytest.mark.parametrize(
    ("settings", "here", "on_gpu"),
    [
        ({}, False, False),
        ({}, True, True),
        ({"workers": "2"}, True, False),
        ({"workers": "2", "gpus_per_worker": 1}, False, True),
    ],
    ids=str,
)
def test_this_machines_gpu_counts_only_without_ray_workers(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], here: bool, on_gpu: bool
) -> None:
    monkeypatch.setattr(choice, "has_gpu", lambda: here)
    assert choice.runs_on_gpu(TrainConfig(**settings)) == on_gpu


@pytest.mark.parametrize(
    ("settings", "collective"),
    [
        ({}, "tcp"),
        ({"workers": "2"}, "tcp"),
        ({"workers": "2", "gpus_per_worker": 1}, "tensorflow"),
        ({"workers": "1:2", "gpus_per_worker": 1}, "tensorflow"),
        ({"workers": "1", "gpus_per_worker": 1}, "tcp"),
        ({"workers": "2", "gpus_per_worker": 1, "collective": "tcp"}, "tcp"),
        ({"workers": "2", "collective": "tensorflow"}, "tensorflow"),
    ],
    ids=str,
)
def test_the_collective(settings: dict[str, Any], collective: str) -> None:
    assert choice.choose_collective(TrainConfig(**settings)) == collective
