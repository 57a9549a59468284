"""Scores Parquet into Parquet: lstm-ray against Ray Data's own batch-inference pattern, and against its own limit.

    python benchmarks/scoring.py --model runs/imdb/model --input imdb/unlabelled.parquet --rows 200000

The input is repeated to the number of rows. The contestants take turns, so that a slow minute of the machine affects
all of them. Prints medians as rows/s of whole commands (start of Python, Ray and TensorFlow included), and ratios.

    limit     tokenizer and engine alone, in one process on all cores, texts already in memory
    score 0   lstm-ray score --actors 0
    score N   lstm-ray score --actors <cores>
    guide     read_parquet, map_batches(tokenize), map_batches(actor with model.predict), write_parquet
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# `python benchmarks/scoring.py` puts benchmarks/ first on the path, where tokenize.py hides the standard library's.
sys.path = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent]

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

from lstm_ray.model.bundle import read_bundle  # noqa: E402
from lstm_ray.runtime.devices import available_cores  # noqa: E402
from lstm_ray.score.scorer import Scorer  # noqa: E402


def main() -> None:
    """Runs the rounds and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="model bundle")
    parser.add_argument("--input", required=True, help="Parquet with a column `text`")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without-guide", action="store_true", help="leave out the slowest contestant")
    parser.add_argument("--json", help="write the figures here")
    parser.add_argument("--run-guide", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run_guide:
        run_guide(*arguments.run_guide)
        return
    cores = available_cores()
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        corpus = repeat(arguments.input, arguments.rows, work / "input")
        contestants: dict[str, Callable[[], float]] = {
            "limit": lambda: time_limit(arguments.model, corpus),
            "score 0": lambda: time_command(score_command(corpus, arguments.model, work / "out", 0), work / "out"),
            f"score {cores}": lambda: time_command(
                score_command(corpus, arguments.model, work / "out", cores), work / "out"
            ),
        }
        if not arguments.without_guide:
            guide = [sys.executable, __file__, "--model", "-", "--input", "-"]
            guide += ["--run-guide", str(corpus), arguments.model, str(work / "out")]
            contestants["guide"] = lambda: time_command(guide, work / "out")
        seconds: dict[str, list[float]] = {name: [] for name in contestants}
        for number in range(1, arguments.rounds + 1):
            for name, run in contestants.items():
                seconds[name].append(run())
                print(f"round {number}: {name} {seconds[name][-1]:.1f} s", file=sys.stderr)
    report(seconds, arguments.rows, cores, arguments.json)


def repeat(source: str, rows: int, directory: Path) -> Path:
    """Writes files of 50,000 rows, `rows` in all, with ids from 0."""
    directory.mkdir()
    table = pq.read_table(source, columns=["text"])
    times = -(-rows // table.num_rows)
    whole = pa.concat_tables([table] * times).slice(0, rows)
    whole = whole.add_column(0, "id", pa.array(np.arange(rows)))
    for start in range(0, rows, 50_000):
        pq.write_table(whole.slice(start, 50_000), directory / f"{start:09d}.parquet", row_group_size=10_000)
    return directory


def time_limit(model: str, corpus: Path) -> float:
    """Returns the seconds that tokenizer and engine take, without start, reading and writing."""
    scorer = Scorer(read_bundle(model), engine="cpu")
    texts = [pq.read_table(file, columns=["text"])["text"] for file in sorted(corpus.iterdir())]
    started = time.perf_counter()
    for column in texts:
        scorer.score(column)
    return time.perf_counter() - started


def score_command(corpus: Path, model: str, output: Path, actors: int) -> list[str]:
    """Returns the command line of a scoring run."""
    script = str(Path(sys.executable).with_name("lstm-ray"))
    return [script, "score", str(corpus), "--model", model, "--output", str(output), "--actors", str(actors)]


def time_command(command: list[str], output: Path) -> float:
    """Returns the seconds that a command takes; deletes its output."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds = time.perf_counter() - started
    shutil.rmtree(output)
    return seconds


def run_guide(corpus: str, model: str, output: str) -> None:
    """Scores as Ray Data's batch-inference guide does: an actor per core has the Keras model.

    Source: https://docs.ray.io/en/latest/data/batch_inference.html
    """
    import ray

    ray.init(include_dashboard=False, log_to_driver=False)
    bundle = read_bundle(model)
    words = pq.read_table(pa.BufferReader(bundle.files["vocabulary.parquet"]))
    ids = dict(zip(words["word"].to_pylist(), words["id"].to_pylist(), strict=True))
    max_tokens = bundle.text.max_tokens
    separators = str.maketrans(dict.fromkeys('!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n', " "))

    def encode(batch: dict[str, Any]) -> dict[str, Any]:
        encoded = np.zeros((len(batch["text"]), max_tokens), np.int32)
        for row, text in enumerate(batch["text"]):
            tokens = [1, *(ids.get(word, 2) for word in text.lower().translate(separators).split())][-max_tokens:]
            encoded[row, -len(tokens) :] = tokens
        return {**batch, "token_ids": encoded}

    class Predictor:
        def __init__(self) -> None:
            os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
            self.model = read_bundle(model).keras_model()

        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            batch["probability"] = self.model.predict(batch.pop("token_ids"), batch_size=256, verbose=0)[:, 0]
            return batch

    dataset = ray.data.read_parquet(corpus).map_batches(encode, batch_size=1024)
    dataset = dataset.map_batches(
        Predictor, batch_size=1024, num_cpus=1, compute=ray.data.ActorPoolStrategy(size=max(1, available_cores() - 1))
    )
    dataset.write_parquet(output)


def report(seconds: dict[str, list[float]], rows: int, cores: int, path: str | None) -> None:
    """Prints medians as rows/s, as shares of the limit, and as multiples of the guide's pattern."""
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"{rows:,} rows, {cores} cores, medians of {len(seconds['limit'])} interleaved rounds\n")
    print(f"{'':10} {'seconds':>9} {'rows/s':>10} {'of limit':>9} {'x guide':>8}")
    for name, median in medians.items():
        guide = f"{medians['guide'] / median:7.2f}x" if "guide" in medians else ""
        print(f"{name:10} {median:9.1f} {rows / median:10,.0f} {medians['limit'] / median:9.0%} {guide:>8}")
    if path:
        Path(path).write_text(json.dumps({"rows": rows, "cores": cores, "seconds": seconds}, indent=2) + "\n")


if __name__ == "__main__":
    main()
