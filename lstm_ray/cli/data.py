"""lstm-ray data"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import lstm_ray
from lstm_ray.api.boundary import options_named
from lstm_ray.cli import console
from lstm_ray.cli.help import Commands

app = Commands(help="Fetch, make, convert or split a corpus of reviews.")

Output = Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Directory for the Parquet files.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")]


@app.command()
def imdb(
    output: Output,
    archive: Annotated[
        Path | None, typer.Option("--archive", metavar="FILE", help="Read this aclImdb_v1.tar.gz; download nothing.")
    ] = None,
    url: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="Download from here instead of Stanford.")
    ] = None,
    sha256: Annotated[
        str | None,
        typer.Option("--sha256", metavar="HASH", help="Checksum that the archive must have; built in for Stanford's."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Fetch the Stanford Large Movie Review Dataset (IMDb): train, test, unlabelled.

    The same command resumes an interrupted download.

    Example: lstm-ray data imdb --output imdb
    """
    from lstm_ray.datasets.imdb import IMDB_URL, fetch_imdb

    if archive is None:
        console.say(f"downloading {url or IMDB_URL}")
    with console.progress("the same command resumes the download") as progress:
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
            ("train", f"{files.train}: {files.train_rows:,} rows"),
            ("test", f"{files.test}: {files.test_rows:,} rows"),
            ("unlabelled", f"{files.unlabelled}: {files.unlabelled_rows:,} rows"),
            ("next", _training(files.train, "runs/imdb")),
        ],
    )


@app.command()
def demo(
    output: Output,
    rows: Annotated[int, typer.Option("--rows", metavar="N", min=1, help="Reviews to train on.")] = 20_000,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", min=0, help="Random seed: another one makes other reviews.")
    ] = 0,
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
            ("train", f"{files.train}: {files.train_rows:,} rows"),
            ("test", f"{files.test}: {files.test_rows:,} rows"),
            ("to score", f"{files.reviews}: {files.reviews_rows:,} rows"),
            ("next", _training(files.train, "runs/demo")),
        ],
    )


@app.command()
def convert(
    source: Annotated[
        list[str], typer.Argument(metavar="FILE", help="CSV, TSV, JSON lines or arrays; .gz .bz2 .zst too.")
    ],
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE", help="Parquet file to write.")],
    delimiter: Annotated[
        str | None,
        typer.Option("--delimiter", metavar="CHARACTER", help="Between values; by default a comma, in .tsv a tab."),
    ] = None,
    quote: Annotated[
        str | None,
        typer.Option("--quote", metavar="CHARACTER", help='Around values, or none; by default ", in .tsv none.'),
    ] = None,
    escape: Annotated[
        str | None,
        typer.Option("--escape", metavar="CHARACTER", help="Before a quote or delimiter that is part of a value."),
    ] = None,
    column_names: Annotated[
        str | None,
        typer.Option("--column-names", metavar="NAME,...", help="Of CSV without a header, such as label,title,text."),
    ] = None,
    encoding: Annotated[
        str | None,
        typer.Option("--encoding", metavar="NAME", help="Of files that are not UTF-8, such as latin-1."),
    ] = None,
    as_text: Annotated[
        list[str] | None, typer.Option("--as-text", metavar="NAME", help="Column to keep as text, e.g. ids like 007.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Turn CSV, TSV or JSON into Parquet: one file, or several with the same columns into one.

    Every value stays as it is: a column with a value that no number holds, such as 007, is kept as text.

    Example: lstm-ray data convert reviews.csv --output reviews.parquet
    """
    from lstm_ray.datasets.convert.next_step import training_options

    with options_named(), console.progress("nothing is written") as progress:
        made = lstm_ray.convert(
            source,
            output=output,
            delimiter=delimiter,
            quote=quote,
            escape=escape,
            column_names=column_names.split(",") if column_names else (),
            encoding=encoding,
            as_text=as_text or (),
            overwrite=overwrite,
            progress=progress,
        )
    for note in made.notes:
        console.warn(f"note: {note}")
    console.show_table(
        "Converted",
        [
            ("rows", f"{made.rows:,}"),
            ("columns", ", ".join(f"{name} ({kind})" for name, kind in made.columns.items())),
            ("output", str(made.output)),
            ("next", _training(made.output, f"runs/{made.output.stem}", *training_options(made.output))),
        ],
    )


@app.command()
def split(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT", help="Parquet: files, directories, globs, URIs; equal columns.")
    ],
    output: Output,
    test: Annotated[
        float | None,
        typer.Option(
            "--test", metavar="SHARE", help="Share of the texts, or groups, for test.parquet; 0.2 by default."
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option("--by", metavar="COLUMN", help="Rows with equal values here stay together: a product, an author."),
    ] = None,
    stratify: Annotated[
        str | None,
        typer.Option(
            "--stratify", metavar="COLUMN", help="Give each value of this column, such as a label, its share."
        ),
    ] = None,
    before: Annotated[
        str | None,
        typer.Option("--before", metavar="DATE", help="Train on what is older than this date, test on the rest."),
    ] = None,
    date_column: Annotated[str, typer.Option("--date-column", metavar="NAME", help="Column of the dates.")] = "date",
    text_column: Annotated[
        str, typer.Option("--text-column", metavar="NAME", help="Column of the reviews; equal texts stay together.")
    ] = "text",
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", min=0, max=2**32 - 1, help="Another seed, another split.")
    ] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Split Parquet into train.parquet and test.parquet: each row into one of them, in order, with all its columns.

    Unless --by or --before is given, a row's text decides, so that equal texts stay on one side.

    Example: lstm-ray data split reviews.parquet --by product --test 0.2 --output reviews
    """
    from lstm_ray.datasets.convert.next_step import training_options
    from lstm_ray.wording import counted

    with options_named(), console.progress("nothing is written") as progress:
        sides = lstm_ray.split(
            inputs,
            output=output,
            test=test,
            by=by,
            stratify=stratify,
            before=before,
            date_column=date_column,
            text_column=text_column,
            seed=seed,
            overwrite=overwrite,
            progress=progress,
        )
    of_groups = ["" if side.groups is None else f" of {counted(side.groups, 'group')}" for side in sides]
    train, tested = sides
    console.show_table(
        "Split",
        [
            ("rows", f"{train.rows + tested.rows:,}"),
            ("train", f"{train.path}: {train.rows:,} rows{of_groups[0]}"),
            ("test", f"{tested.path}: {tested.rows:,} rows{of_groups[1]}"),
            # Not with the test file as --validation: that would choose the epoch on it.
            ("next", _training(train.path, f"runs/{output.name}", *training_options(train.path, text_column))),
        ],
    )


def _training(train: Path, output: str, *options: str) -> str:
    return console.command_line("train", "--train", str(train), "--output", output, *options)
