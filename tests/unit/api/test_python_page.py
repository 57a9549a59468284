"""The examples of docs/python.md and of the README's section on Python run, in order, in one program."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lstm_ray.datasets.demo import write_demo

pytestmark = pytest.mark.filterwarnings(
    # Keras turns its variables into arrays through an __array__ without `copy`, which NumPy 2 deprecates.
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

ROOT = Path(__file__).parents[3]


def blocks(page: str) -> list[str]:
    """Lists the blocks of Python code in a page."""
    return re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def needs_ray(block: str) -> bool:
    """Returns whether a block starts Ray."""
    return "ray.data" in block or "lstm_ray.tune" in block


@pytest.fixture
def reviews(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a directory with the reviews of the examples the current one."""
    files = write_demo(tmp_path / "demo", rows=300)
    shutil.copy(files.train, tmp_path / "reviews.parquet")
    shutil.copy(files.test, tmp_path / "test.parquet")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("reviews")
def test_the_examples_run() -> None:
    for page in ("docs/python.md", "README.md"):  # the README's run is the page's first one, and complete by then
        found = [block for block in blocks(page) if not needs_ray(block)]
        assert found
        program: dict[str, object] = {}
        for block in found:
            exec(compile(block, page, "exec"), program)


@pytest.mark.second_tier
@pytest.mark.usefixtures("reviews")
def test_all_examples_run_with_ray() -> None:
    """In a process of its own: Ray, which the examples leave running, ends with it."""
    program = "\n".join(blocks("docs/python.md"))
    command = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
