"""Compares training on batches of rows of similar length with training on batches of random rows.

    python benchmarks/training_buckets.py --input imdb/train.parquet --seeds 3

A masked BiLSTM(64) on the last 400 tokens. The two kinds take turns. Prints the best epoch's accuracy on held-out rows,
and the rows/s of steps. Rows are sorted by length within pools of batches; without buckets, a pool is one batch.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

# `python benchmarks/training_buckets.py` puts benchmarks/ first on the path, where tokenize.py hides Python's own.
sys.path = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent]

from lstm_ray.config import TrainConfig  # noqa: E402
from lstm_ray.progress import ignore  # noqa: E402
from lstm_ray.train.data import batches  # noqa: E402
from lstm_ray.train.run import train  # noqa: E402

NETWORK = {"preset": "none", "mask": True, "bidirectional": True, "pooling": "max", "max_tokens": 400, "units": 64}
KINDS = {"with buckets": batches._POOL, "without": 1}


def main() -> None:
    """Trains and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", required=True, help="Parquet with columns `text` and `label`")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    arguments = parser.parse_args()
    accuracies: dict[str, list[float]] = {kind: [] for kind in KINDS}
    rates: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for seed in range(arguments.seeds):
        for kind, pool in KINDS.items():
            batches._POOL = pool
            with tempfile.TemporaryDirectory() as output:
                settings = {"train": (arguments.input,), "output": output, "epochs": arguments.epochs, "seed": seed}
                history = train(TrainConfig.model_validate({**NETWORK, **settings}), ignore).state.history
            accuracies[kind].append(max(row["validation_accuracy"] for row in history))
            rates[kind].append(statistics.median(row["rows_per_s"] for row in history))
            print(
                f"seed {seed}, {kind}: accuracy {accuracies[kind][-1]:.4f}, {rates[kind][-1]:,.0f} rows/s", flush=True
            )
    for kind in KINDS:
        mean, rate = statistics.mean(accuracies[kind]), statistics.median(rates[kind])
        spread = f"{min(accuracies[kind]):.4f} to {max(accuracies[kind]):.4f}"
        print(f"{kind:12}  accuracy {mean:.4f} ({spread}), {rate:,.0f} rows/s")


if __name__ == "__main__":
    main()
