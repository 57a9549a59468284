"""The commands and programs of the how-to pages on explaining, training on and serving run as they stand.

A block of `sh` is run, of `python` too, as one program a page, or written to the file that its first line names. A
block marked `ray` starts one, and is for the second tier.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

import lstm_ray
from lstm_ray.cli.app import main
from lstm_ray.datasets.demo import write_demo

pytestmark = pytest.mark.filterwarnings(
    # Keras turns its variables into arrays through an __array__ without `copy`, which NumPy 2 deprecates.
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```(sh|python)( ray)?\n(?:# (\w+\.py)\n)?(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gives the directory in which the pages begin: a corpus, a model, and `lstm-ray` and `python` on the path."""
    directory = tmp_path_factory.mktemp("pages")
    files = write_demo(directory / "corpus", rows=300)
    small = {"vocabulary_size": 500, "embedding_size": 8, "units": 8, "epochs": 1}
    lstm_ray.train(files.train, output=directory / "runs/first", **small)
    (directory / "bin").mkdir()
    for name, arguments in (("lstm-ray", "-m lstm_ray"), ("python", "")):
        script = directory / "bin" / name
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {arguments} "$@"\n', encoding="utf-8")
        script.chmod(0o755)
    return directory


@pytest.fixture
def work(begun: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes that directory the current one."""
    monkeypatch.chdir(begun)
    monkeypatch.setenv("PATH", f"{begun}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return begun


def blocks(page: str) -> list[tuple[str, bool, str, str]]:
    """Lists the blocks of a page: language, whether it starts Ray, its file's name if it is one, and text."""
    text = (ROOT / f"docs/how-to/{page}.md").read_text(encoding="utf-8")
    return [(language, bool(ray), file, block) for language, ray, file, block in _BLOCK.findall(text)]


def run(page: str) -> str:
    """Runs a page, except for what starts Ray; returns what it prints."""
    printed, program = io.StringIO(), {}  # type: ignore[var-annotated]
    for language, starts_ray, file, text in blocks(page):
        if file:
            Path(file).write_text(text, encoding="utf-8")
        elif language == "python" and not starts_ray:
            with contextlib.redirect_stdout(printed):
                exec(compile(text, page, "exec"), program)
        elif language == "sh" and re.fullmatch(r"lstm-ray [^|\n]+\n", text):  # here, where TensorFlow is loaded
            with contextlib.redirect_stdout(printed), mock.patch.object(sys, "argv", shlex.split(text)):
                with pytest.raises(SystemExit) as ended:
                    main()
                assert not ended.value.code
        elif language == "sh":
            command = ["bash", "-euo", "pipefail", "-c", text]
            printed.write(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=300).stdout)
    return printed.getvalue()


@pytest.mark.usefixtures("work")
def test_scores_are_explained() -> None:
    assert re.search(r" The plot was superb, .*\n( +[+-]\d+\.\d\d  \w+\n){9}", run("explain"))


def test_a_model_is_served(work: Path) -> None:
    printed = run("serve")
    found = re.search(r'\[{"label": "(\w+)", "probability": (0\.\d+)', printed)
    assert found is not None
    prediction = lstm_ray.load(work / "runs/first/model").predict("Not bad at all")
    assert (found[1], float(found[2])) == (prediction.label, prediction.probability)
    assert f"{prediction.probability:.4f}  Not bad at all\n" in printed, "ONNX Runtime"


@pytest.mark.usefixtures("work")
def test_a_model_is_trained_on() -> None:
    assert len(re.findall("accuracy before +0", run("train-from"))) == 2


@pytest.mark.second_tier
@pytest.mark.usefixtures("work")
def test_a_model_works_in_a_pipeline_of_ray_data() -> None:
    """In a process of its own: Ray, which the example leaves running, ends with it."""
    (program,) = (text for _, starts_ray, _, text in blocks("serve") if starts_ray)
    command = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=500)
    assert re.search(r"^\d+ of \d+$", done.stdout, re.MULTILINE)
