"""Commands repeated until chance has had its chance: a thousand conversions, and SIGTERM at ten moments of a run."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

pytestmark = [pytest.mark.timeout(3600), pytest.mark.series, pytest.mark.second_tier]

CONVERSIONS = 1_000
MOMENTS = 10
LEAST_SAVED = 3  # of these; others may come before Python runs our code, or after the end
FILES = {
    "good.csv": b"text,label\nfine,1\nawful,0\n",
    "quoted.csv": b'text,label\n"a ""quoted"" word, and\na second line",1\n',
    "good.tsv": b"text\tlabel\nfine\t1\n",
    "good.jsonl": b'{"text": "fine", "label": 1}\n{"text": null, "label": 0}\n',
    "empty.csv": b"",
    "short_line.csv": b"text,label\nfine,1\nawful\n",
    "open_quote.csv": b'text,label\n"fine,1\nawful,0\n',
    "latin1.csv": "text,label\ncafé,1\n".encode("latin-1"),
    "cut.jsonl": b'{"text": "fine", "label": 1}\n{"text": "aw',
    "array.json": b'[{"text": "fine", "label": 1}]',
    "nul.csv": b"text,label\nfi\0ne,1\n",
}
BAD = {"empty.csv", "short_line.csv", "open_quote.csv", "latin1.csv", "cut.jsonl"}


def test_a_thousand_conversions_end_by_themselves(tmp_path: Path) -> None:
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)

    def convert(number: int) -> tuple[str, int, str]:
        name = list(FILES)[number % len(FILES)]
        arguments = ["data", "convert", str(tmp_path / name), "--output", str(tmp_path / f"{number}.parquet")]
        command = [sys.executable, "-c", "from lstm_ray.cli import main; main()", *arguments]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        return name, ended.returncode, ended.stderr

    with ThreadPoolExecutor(2) as pool:
        ends = list(pool.map(convert, range(CONVERSIONS)))
    odd = [end for end in ends if end[1] != (1 if end[0] in BAD else 0)]
    assert not odd, odd[:3]


Run = Callable[[Path], Any]
Result = Callable[[Path], Any]


def disturb(run: Run, result: Result, place: Path, seed: int) -> Counter[int]:
    """Ends a run by SIGTERM at random moments, each in a directory of its own, and runs the same command again.

    Returns how often each exit code came: 143, 0 where it had ended before, -15 before Python ran our code.
    """
    began = time.monotonic()
    code, error = run(place / "undisturbed").end()
    assert code == 0, error
    lasts, expected = time.monotonic() - began, result(place / "undisturbed")
    chance, codes = random.Random(seed), Counter[int]()
    for number in range(MOMENTS):
        output = place / str(number)
        command = run(output)
        time.sleep(chance.uniform(0, lasts))
        code, error = command.kill(signal.SIGTERM)
        assert code in (143, 0, -signal.SIGTERM), error
        assert "Traceback" not in error
        codes[code] += 1
        code, error = run(output).end()
        assert code == 0, error
        assert result(output) == expected
    return codes


def test_sigterm_at_any_moment_of_training_loses_nothing(
    start: Callable[..., Any], reviews: Path, tmp_path: Path
) -> None:
    settings = {"vocabulary-size": 200, "max-tokens": 24, "embedding-size": 8, "units": 8, "ngrams": 2, "epochs": 30}
    given = [part for name, value in settings.items() for part in (f"--{name}", value)]

    def run(output: Path) -> Any:
        batches = ("--global-batch-size", 2, "--checkpoint-every", "20steps")
        return start("train", "--preset", "none", "--train", reviews, "--output", output, *given, *batches)

    def result(output: Path) -> list[bytes]:
        with np.load(output / "model/weights.npz") as stored:
            return [stored[name].tobytes() for name in sorted(stored.files)]

    codes = disturb(run, result, tmp_path, seed=0)
    assert codes[143] >= LEAST_SAVED, codes


def test_sigterm_at_any_moment_of_scoring_loses_nothing(
    start: Callable[..., Any], numbered: Path, model: Path, parts: Callable[[Path], dict[str, bytes]], tmp_path: Path
) -> None:
    def run(output: Path) -> Any:
        return start("score", numbered, "--model", model, "--output", output, "--actors", 0, "--rows-per-part", 100)

    codes = disturb(run, parts, tmp_path, seed=1)
    assert codes[143] >= LEAST_SAVED, codes


def test_sigterm_at_any_moment_of_a_search_loses_nothing(
    start: Callable[..., Any], reviews: Path, ray_directory: str, tmp_path: Path
) -> None:
    settings = {
        "command": "tune",
        "preset": "none",
        "train": str(reviews),
        "vocabulary_size": 200,
        "max_tokens": 12,
        "embedding_size": 4,
        "epochs": 1,  # ASHA would stop trials after the first of several, in an order that time decides
        "trials": 4,
        "cpus_per_worker": 0.5,
        "search": {"units": {"choice": [3, 5]}, "learning_rate": {"choice": [0.01, 0.001]}},
    }
    (tmp_path / "tune.yaml").write_text(yaml.safe_dump(settings), "utf-8")

    def run(output: Path) -> Any:
        return start("tune", tmp_path / "tune.yaml", "--output", output, RAY_TMPDIR=ray_directory)

    def result(output: Path) -> str:
        trials = pq.read_table(output / "trials.parquet").to_pylist()
        kept = [{name: trial[name] for name in ("trial", "validation_accuracy", "units")} for trial in trials]
        return json.dumps(sorted(kept, key=lambda trial: trial["trial"]))

    codes = disturb(run, result, tmp_path, seed=2)
    assert codes[143] >= LEAST_SAVED, codes
