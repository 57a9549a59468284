"""A job file to read."""

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def job(tmp_path: Path) -> Callable[[str], Path]:
    """Gives a function that writes a job file and returns its path."""

    def write(text: str) -> Path:
        path = tmp_path / "job.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write
