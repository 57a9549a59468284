"""The commands and programs of the how-to pages on explaining, training on and serving run as they stand.

A block of `sh` is run, of `python` too, as one program a page, or written to the file that its first line names. A
block marked `ray` starts one, and is for the second tier.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import lstm_ray
from lstm_ray.datasets.demo import write_demo

pytestmark = pytest.mark.filterwarnings(
    # Keras turns its variables into arrays through an __array__ without `copy`, which NumPy 2 deprecates.
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

ROOT = Path(__file__).parents[2]
PAGES = ("explain", "serve", "train-from")
_BLOCK = re.compile(r"^```(sh|python)( ray)?\n(?:# (\w+\.py)\n)?(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gives the directory in which the pages begin: a corpus, a model, and `lstm-ray` and `python` on the path."""
    directory = tmp_path_factory.mktemp("pages")
    files = write_demo(directory / "corpus", rows=300)
    small = {"vocabulary_size": 500, "embedding_size": 8, "units": 8, "epochs": 1}
    lstm_ray.train(files.train, output=directory / "runs/first", **small)
    for name, arguments in (("lstm-ray", "-m lstm_ray"), ("python", "")):
        (directory / "bin").mkdir(exist_ok=True)
        script = directory / "bin" / name
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {arguments} "$@"\n', encoding="utf-8")
        script.chmod(0o755)
    return directory


def run(page: str, work: Path, with_ray: bool) -> str:
    """Runs a page and returns what its commands print."""
    variables = {"PATH": f"{work}/bin:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1"}
    printed, program = "", ""
    for language, ray, file, text in _BLOCK.findall((ROOT / f"docs/how-to/{page}.md").read_text(encoding="utf-8")):
        if file:
            (work / file).write_text(text, encoding="utf-8")
        elif language == "python":
            program += text if with_ray or not ray else ""
        else:
            command = ["bash", "-euo", "pipefail", "-c", text]
            printed += subprocess.run(
                command,
                cwd=work,
                env={**os.environ, **variables},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
                timeout=300,
            ).stdout
    if program:
        command = [sys.executable, "-W", "ignore", "-c", program]
        printed += subprocess.run(
            command,
            cwd=work,
            env={**os.environ, **variables},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=500,
        ).stdout
    return printed


def test_scores_are_explained(work: Path) -> None:
    assert re.search(r" The plot was superb, .*\n( +[+-]\d+\.\d\d  \w+\n){10}", run("explain", work, False))


def test_a_model_is_served(work: Path) -> None:
    printed = run("serve", work, False)
    label, probability = re.search(r'\[{"label": "(\w+)", "probability": (0\.\d+)', printed).groups()  # type: ignore[union-attr]
    prediction = lstm_ray.load(work / "runs/first/model").predict("Not bad at all")
    assert (label, float(probability)) == (prediction.label, prediction.probability)
    assert f"{prediction.probability:.4f}  Not bad at all\n" in printed, "ONNX Runtime"


def test_a_model_is_trained_on(work: Path) -> None:
    assert len(re.findall("accuracy before +0", run("train-from", work, False))) == 2


@pytest.mark.second_tier
def test_a_model_works_in_a_pipeline_of_ray_data(work: Path) -> None:
    assert re.search(r"\d+ of \d+\n", run("serve", work, True))
