"""Makes the pictures of report pages in docs: `python scripts/report_pictures.py`, some minutes.

It does what the first tutorial and docs/how-to/watch-a-corpus.md do, and takes pictures of the reports with headless
Chromium (`apt install chromium`): of what a window of 1080 pixels shows first.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

import lstm_ray
from lstm_ray.datasets.demo import write_demo

DOCS = Path(__file__).parents[1] / "docs"
PICTURES = {  # report -> picture, and the height that is shown
    "runs/first/report.html": ("tutorials/training-report.png", 1220),
    "evaluation/report.html": ("how-to/evaluation-report.png", 1290),
    "scored-german/_report.html": ("how-to/scoring-report.png", 960),
}
WIDTH = 1080


def main() -> None:
    """Makes the reports in a temporary directory, and the pictures in docs."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        sys.exit("no chromium, chromium-browser or google-chrome on the PATH")
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        make_reports()
        for report, (picture, height) in PICTURES.items():
            take(chromium, Path(directory) / report, DOCS / picture, height)


def make_reports() -> None:
    """Trains, evaluates and scores in the current directory."""
    write_demo(Path("corpus"), rows=6000)
    lstm_ray.train(
        "corpus/train.parquet",
        output="runs/first",
        preset="none",
        vocabulary_size=5000,
        embedding_size=32,
        units=32,
        dropout=0,
        learning_rate=0.003,
        epochs=6,
        progress=print,
    )
    model = "runs/first/model"
    lstm_ray.evaluate("corpus/test.parquet", model=model, by="topic,length", output="evaluation")
    texts = ["Leider stürzt die App ständig ab", "Sehr gut, kann ich nur empfehlen"] * 500
    pq.write_table(pa.table({"text": texts}), "german.parquet")
    lstm_ray.score("german.parquet", model=model, output="scored-german")


def take(chromium: str, page: Path, picture: Path, height: int) -> None:
    """Takes a picture of the upper part of a page, in the light theme."""
    with tempfile.TemporaryDirectory() as profile:
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}"]
        window = f"--window-size={WIDTH},{height}"
        subprocess.run(
            [chromium, *flags, window, f"--screenshot={picture}", page.as_uri()],
            check=True,
            stderr=subprocess.DEVNULL,
            timeout=120,
        )
    print(f"{picture}: {picture.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
