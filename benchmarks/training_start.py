"""Measures the costs of a training run other than its steps: start, reading, results.

    python benchmarks/training_start.py --input imdb/train.parquet [--rounds 3]

Runs `lstm-ray train` on 2,000 rows for 3 epochs, with 0, 1 and 2 Ray workers in turn, and prints medians of the time
between the messages of the command. The phase that ends with the first epoch includes that epoch's steps.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

WORKERS = (0, 1, 2)
SAID = {  # each phase, and the message of the command that begins it
    "start Ray": r"starting Ray$",
    "read and tokenize": r"reading and tokenizing",
    "hand out the rows": r"rows to train on",
    "start workers, TensorFlow, compile, first epoch": r"starting (\d+ Ray worker|TensorFlow)",
    "epochs 2 and 3": r"epoch 1:",
    "write results, stop": r"epoch 3:",
}


def main() -> None:
    """Runs the rounds and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", required=True, help="labelled Parquet, such as imdb/train.parquet")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    seconds: dict[int, dict[str, list[float]]] = {workers: defaultdict(list) for workers in WORKERS}
    for _ in range(arguments.rounds):
        for workers, phases in seconds.items():
            for name, value in time_run(arguments.input, workers).items():
                phases[name].append(value)
    print(f"{'seconds':50}" + "".join(f"{f'--workers {workers}':>13}" for workers in WORKERS))
    for name in ["start Python", *SAID, "in all"]:
        cells = (seconds[workers].get(name) for workers in WORKERS)
        print(f"{name:50}" + "".join(f"{statistics.median(cell):13.1f}" if cell else f"{'':13}" for cell in cells))


def time_run(source: str, workers: int) -> dict[str, float]:
    """Trains once; returns the seconds of each phase."""
    ray_directory = tempfile.mkdtemp(
        prefix="ray-", dir="/tmp"
    )  # a short path, because that of Ray's sockets is limited
    with tempfile.TemporaryDirectory() as directory:
        command = [str(Path(sys.executable).with_name("lstm-ray")), "train", "--train", source, "--max-rows", "2000"]
        command += ["--epochs", "3", "--output", f"{directory}/run", "--workers", str(workers)]
        begun = last = time.perf_counter()
        process = subprocess.Popen(
            command, env={**os.environ, "RAY_TMPDIR": ray_directory}, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        phases: dict[str, float] = {}
        phase = "start Python"
        assert process.stderr is not None
        for line in process.stderr:
            now = time.perf_counter()
            for name, pattern in SAID.items():
                if name != phase and re.search(pattern, line.decode()):
                    phases[phase] = phases.get(phase, 0.0) + now - last
                    phase, last = name, now
        if process.wait():
            raise SystemExit("training failed")
        end = time.perf_counter()
    shutil.rmtree(ray_directory, ignore_errors=True)
    return {**phases, phase: end - last, "in all": end - begun}


if __name__ == "__main__":
    main()
