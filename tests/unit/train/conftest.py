"""A small training run, for the tests of its lifecycle, rules and results."""

from __future__ import annotations

from pathlib import Path

import pytest
from runs import small_run

from lstm_ray.config import TrainConfig


@pytest.fixture
def settings(tmp_path: Path) -> TrainConfig:
    """Gives settings of a run that takes a second."""
    return small_run(tmp_path)
