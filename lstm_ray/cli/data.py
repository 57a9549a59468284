"""lstm-ray data"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

import lstm_ray
from lstm_ray.cli import bars, console
from lstm_ray.cli.help import Commands
from lstm_ray.cli.options import takes_settings
from lstm_ray.config import ConvertConfig, SplitConfig
from lstm_ray.wording import command_line, counted, shortened

app = Commands(help="Download, make, convert or split a corpus of reviews.")

Output = Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Directory for the Parquet files.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")]


@app.command()
def imdb(
    output: Output,
    archive: Annotated[
        Path | None, typer.Option("--archive", metavar="FILE", help="aclImdb_v1.tar.gz to read instead of a download.")
    ] = None,
    url: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="URL to download from, instead of Stanford's.")
    ] = None,
    sha256: Annotated[
        str | None,
        typer.Option("--sha256", metavar="HASH", help="Checksum that the archive must have; built in for Stanford's."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Download the Stanford Large Movie Review Dataset (IMDb): train, test, unlabelled.

    The same command resumes an interrupted download.

    Example: lstm-ray data imdb --output imdb
    """
    from lstm_ray.datasets.imdb import IMDB_URL, fetch_imdb

    with bars.progress("the same command resumes the download") as progress:
        files = fetch_imdb(
            output,
            archive=archive,
            url=url or IMDB_URL,
            sha256=sha256,
            overwrite=overwrite,
            progress=progress,
        )
    console.show_table(
        "IMDb reviews",
        [
            ("train", _rows_of(files.train, files.train_rows)),
            ("test", _rows_of(files.test, files.test_rows)),
            ("unlabelled", _rows_of(files.unlabelled, files.unlabelled_rows)),
            ("next", command_line("train", "--train", str(files.train), "--output", "runs/imdb")),
        ],
    )


@app.command()
def demo(
    output: Output,
    rows: Annotated[int, typer.Option("--rows", metavar="N", min=1, help="Reviews to train on.")] = 20_000,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Random seed of the reviews.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Make a corpus of synthetic reviews whose sentiment depends on word order.

    Example: lstm-ray data demo --output corpus
    """
    from lstm_ray.datasets.demo import write_demo

    files = write_demo(output, rows=rows, seed=seed, overwrite=overwrite)
    console.show_table(
        "Synthetic reviews",
        [
            ("train", _rows_of(files.train, files.train_rows)),
            ("test", _rows_of(files.test, files.test_rows)),
            ("to score", _rows_of(files.reviews, files.reviews_rows)),
            ("next", command_line("train", "--train", str(files.train), "--output", "runs/demo")),
        ],
    )


@app.command()
@takes_settings(ConvertConfig)
def convert(config: ConvertConfig) -> None:
    """Convert CSV, TSV or JSON to Parquet: one file, or several with the same columns into one.

    Values are not changed: a column becomes numbers only if these represent every value exactly. A column with 007,
    for example, is kept as text. In columns of numbers or booleans, NA, N/A, #N/A, NaN, null and none (in any letter
    case) become null, and a note says how many.

    Example: lstm-ray data convert reviews.csv --output reviews.parquet
    """
    from lstm_ray.datasets.convert.next_step import next_command, note_on_placeholder

    with bars.progress("nothing is written") as progress:
        made = lstm_ray.convert(job=config, progress=progress)
    for note in made.notes:
        console.warn(f"note: {note}")
    rows = [
        ("rows", f"{made.rows:,}"),
        ("columns", ", ".join(f"{shortened(name)} ({shortened(kind)})" for name, kind in made.columns.items())),
        ("output", str(made.output)),
    ]
    candidates = None
    if made.rows and "string" in made.columns.values():  # without texts it is for no command
        command = next_command(made.output, f"runs/{made.output.stem}")
        rows.append(("next", command_line(*command)))
        candidates = note_on_placeholder(made.output, command)
    console.show_table("Converted", rows)
    if candidates is not None:
        console.warn(f"note: {candidates}")


@app.command()
@takes_settings(SplitConfig)
def split(config: SplitConfig) -> None:
    """Split Parquet into train.parquet and test.parquet, which keep the order of the rows and all columns.

    All inputs must have the same columns. Unless --by or --before is given, the side of a row depends on its text, so
    that equal texts stay on one side.

    Example: lstm-ray data split reviews.parquet --by product --test 0.2 --output reviews
    """
    from lstm_ray.datasets.convert.next_step import next_command, note_on_placeholder

    with bars.progress("nothing is written") as progress:
        train, test = lstm_ray.split(job=config, progress=progress)
    undated = f", {train.undated:,} of them without a date" if train.undated else ""
    run = f"runs/{os.path.basename(config.output.rstrip('/'))}"
    # Not with the test file as --validation: that would choose the epoch on it.
    learn = next_command(train.path, run, config.text_column, config.stratify, is_for_training=True)
    candidates = note_on_placeholder(train.path, learn)
    measure = ["evaluate", str(test.path), "--model", f"{run}/model", *learn[learn.index(run) + 1 :]]
    if config.by is not None and (train.groups or 0) > 1:  # one alone cannot be divided
        learn += ["--validation-group", config.by]
    console.show_table(
        "Split",
        [
            ("rows", f"{train.rows + test.rows:,}"),
            ("train", f"{_rows_of(train.path, train.rows)}{_of_groups(train.groups)}{undated}"),
            ("test", f"{_rows_of(test.path, test.rows)}{_of_groups(test.groups)}"),
            ("next", command_line(*learn)),
            ("then", command_line(*measure)),
        ],
    )
    if candidates is not None:
        console.warn(f"note: {candidates}")


def _rows_of(path: Path, rows: int) -> str:
    return f"{path}: {counted(rows, 'row')}"


def _of_groups(groups: int | None) -> str:
    if groups is None:
        return ""
    return f" of {counted(groups, 'group')}" if groups else ", none with a group"
