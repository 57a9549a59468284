"""lstm-ray demo"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

import lstm_ray
from lstm_ray.cli import bars, console
from lstm_ray.errors import OutputError
from lstm_ray.wording import command_line

SETTINGS: dict[str, Any] = {
    "preset": "none",
    "vocabulary_size": 10_000,
    "embedding_size": 64,
    "units": 64,
    "dropout": 0.0,
    "global_batch_size": 64,
    "epochs": 3,
}
"""A small model that learns the demo corpus within a minute on two cores."""

_BAG_OF_WORDS = 0.63
"""Accuracy of a bag-of-words model on the test reviews, for any number of rows (`datasets/demo.py`)."""

_SAME_WORDS = ("I expected a disaster and got a wonder", "I expected a wonder and got a disaster")

_IF_INTERRUPTED = "the same command starts over"


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Directory for all files.")] = Path(
        "demo"
    ),
    rows: Annotated[int, typer.Option("--rows", metavar="N", min=100, help="Synthetic reviews to train on.")] = 20_000,
    workers: Annotated[
        int, typer.Option("--workers", metavar="N", min=0, help="Ray workers and actors; 0 runs in this process.")
    ] = 0,
) -> None:
    """Train, evaluate and score on synthetic reviews: all of lstm-ray in minutes, on one machine.

    The sentiment of these reviews depends on word order: counting words gets about 63 % of them right.

    Example: lstm-ray demo --output demo
    """
    corpus, training, evaluation, scored = (str(output / name) for name in ("corpus", "run", "evaluation", "scored"))
    marker = output / ".lstm-ray-demo"
    if os.path.exists(output) and any(output.iterdir()) and not marker.exists():
        raise OutputError(f"{output}: not empty, and not from an earlier demo: choose another --output")
    from lstm_ray import storage
    from lstm_ray.datasets.demo import write_demo
    from lstm_ray.evaluate.ranking import show_metric

    storage.write_bytes(str(marker), b"")  # the next demo may then delete these directories
    for earlier in (corpus, training, evaluation, scored):
        storage.delete(earlier)
    console.say(f"generating {rows:,} synthetic reviews")
    files = write_demo(Path(corpus), rows=rows)
    with bars.progress(_IF_INTERRUPTED) as progress:
        outcome = lstm_ray.train(files.train, output=training, workers=workers, progress=progress, **SETTINGS)
    model = f"{training}/model"  # relative if --output is; outcome.model is absolute
    with bars.progress(_IF_INTERRUPTED) as progress:
        measured = lstm_ray.evaluate(files.test, model=model, output=evaluation, progress=progress)
    with bars.progress(_IF_INTERRUPTED) as progress:
        manifest = lstm_ray.score(files.reviews, model=model, output=scored, actors=workers, progress=progress)
    metrics = measured.metrics
    console.show_table(
        "Demo on synthetic reviews",
        [
            ("test accuracy", f"{show_metric(metrics, 'accuracy')}   (a bag of words: about {_BAG_OF_WORDS})"),
            ("test AUC", f"{metrics['auc']:.4f}"),
            ("training", f"{outcome.history[-1]['rows_per_s']:,.0f} rows/s in the last epoch"),
            ("scoring", f"{manifest.rows_per_s:,.0f} rows/s over {manifest.rows:,} rows"),
            ("training report", f"{training}/report.html"),
            ("evaluation report", f"{evaluation}/report.html"),
            ("scored reviews", f"{scored}/"),
            ("next", command_line("predict", "--model", model, *_SAME_WORDS)),
        ],
    )
    if metrics["accuracy"] < _BAG_OF_WORDS:
        console.warn(f"note: {rows:,} reviews are too few to learn the effect of word order: try --rows 20000")
