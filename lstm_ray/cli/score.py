"""lstm-ray score"""

from __future__ import annotations

import json
import os
import shutil
import sys
from typing import TYPE_CHECKING

import typer

import lstm_ray
from lstm_ray.cli import bars, console
from lstm_ray.cli.options import takes_settings
from lstm_ray.config import ScoreConfig
from lstm_ray.wording import counted, in_words, quoted

if TYPE_CHECKING:
    from lstm_ray.score.output import Manifest

EXIT_BAD_FILES = 3
_MOVED = {"some": "somewhat", "much": "much"}  # "without words: some" could be read as "some rows have none"
_MOST_ROWS_SHOWN = 1_000_000  # the proposed command reads all rows into memory


@takes_settings(ScoreConfig)
def score(config: ScoreConfig) -> None:
    """Score a corpus of reviews: Parquet in, Parquet out, all rows in order.

    Run the same command again to finish a run that was interrupted.

    Example: lstm-ray score reviews/ --model runs/first/model --output scored
    """
    with bars.progress("the same command scores what is missing") as progress:
        manifest = lstm_ray.score(job=config, progress=progress)
    show_manifest(manifest, config)
    if manifest.bad_files:
        console.warn(
            f"set aside: {counted(manifest.bad_files, 'input file')}, see {manifest.output}/_bad_files.parquet"
        )
        raise typer.Exit(EXIT_BAD_FILES)


def show_manifest(manifest: Manifest, config: ScoreConfig) -> None:
    """Prints the result of a scoring run, and a command to look at it."""
    from lstm_ray import storage
    from lstm_ray.score.columns import NEW_COLUMNS, kept_by, new_columns

    scored = manifest.scored
    of_which = " of the rows with a score" if manifest.errors else ""
    positive, unsure = (
        f"{count:,}" + (f" ({count / scored:.1%}){of_which}" if scored else "")
        for count in (manifest.positives, manifest.unsure)
    )
    some = "" if manifest.parts_kept == manifest.parts else f"{manifest.parts_kept:,} of them "
    kept = f", {some}from an earlier run" if manifest.parts_kept else ""
    rows = [("rows", f"{manifest.rows:,}"), ("positive", positive)]
    if manifest.unsure:
        rows.append(("unsure", unsure))
    if manifest.errors:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in manifest.errors.items())
        rows.append(("rows without a score", reasons))
    is_new = manifest.parts_kept < manifest.parts
    if is_new:
        rows.append(("speed", f"{manifest.rows_per_s:,.0f} rows/s over {manifest.seconds:.1f} s"))
    else:
        rows.append(("nothing to do", "all parts were already done"))
    moved = [
        f"{in_words(name)} ({_MOVED[one['moved']]})" for name, one in manifest.moved.items() if one["moved"] in _MOVED
    ]
    if moved:
        rows.append(("unlike training data", ", ".join(moved)))
    rows.append(("output", f"{manifest.output}: {counted(manifest.parts, 'part')}{kept}"))
    rows.append(("report", storage.join(manifest.output, "_report.html")))
    if "://" not in manifest.output and is_new and scored and manifest.rows <= _MOST_ROWS_SHOWN:
        # Not the other columns, which pandas may be unable to read: with bytes that are not UTF-8, or of some types.
        input_columns = kept_by(config)
        has_texts = input_columns is None or config.text_column in input_columns
        shows_texts = has_texts and "invalid_utf8" not in manifest.errors
        columns = [*([config.text_column] if shows_texts else []), *new_columns(config)]
        if not manifest.errors:  # then this column is empty
            columns.remove(config.prefix + NEW_COLUMNS[-1])
        output = ", columns=".join(json.dumps(one, ensure_ascii=False) for one in (manifest.output, columns))
        # With `to_string`, because print alone leaves out columns, such as the probability, beside long texts.
        first = f"pandas.read_parquet({output}).head().to_string(max_colwidth=40)"
        rows.append(("next", _python_line(f"import pandas; print({first})")))
    console.show_table("Scored", rows)


def _python_line(code: str) -> str:
    """Returns a shell command that runs code with this Python: as `python` if that is this one, else by its path."""
    found = shutil.which("python")
    is_found = found is not None and os.path.dirname(found) == os.path.dirname(sys.executable)
    return quoted("python" if is_found else sys.executable, "-c", code)
