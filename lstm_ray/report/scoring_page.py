"""The report of a scoring run: figures of the rows, and how far they have moved from the training data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lstm_ray.arrays import Integers
from lstm_ray.model.drift import MUCH, SOME, Movement, warn
from lstm_ray.model.profile import LENGTH_LIMITS, SCORE_LIMITS, UNKNOWN_LIMITS, Profile, TrainingData
from lstm_ray.report.charts import histogram_chart
from lstm_ray.report.marks import Chart
from lstm_ray.report.rendering import Figure, flatten, render
from lstm_ray.wording import counted

if TYPE_CHECKING:
    from lstm_ray.score.output import Manifest

_REASONS = {
    "null_text": "the text is missing",
    "invalid_utf8": "the bytes are not UTF-8",
    "empty_text": "nothing but white space",
    "no_words": "nothing but punctuation",
}
_VERDICTS = {"no": "no", "some": "somewhat", "much": "much"}
_MOST_BINS = 9  # as many names as fit below a chart


def scoring_report(
    manifest: Manifest,
    profile: Profile,
    trained_on: TrainingData | None,
    movements: Sequence[Movement],
    config: Mapping[str, object],
) -> str:
    """Returns the report of a scoring run as one HTML file.

    Args:
        manifest: The result of the run.
        profile: Counts of the rows.
        trained_on: Counts of the training data; None if the bundle does not have them.
        movements: How far the rows have moved from the training data.
        config: The resolved settings.
    """
    return render(
        "scoring.html",
        title=f"Scores of {counted(manifest.rows, 'row')}",
        lead=" ".join(_describe(manifest, profile, trained_on, movements)),
        warning=warn(movements, config.get("max_rows")),
        figures=list(_figures(manifest, movements)),
        is_compared=any(one.psi is not None for one in movements),
        limits=(SOME, MUCH),
        movements=[
            (
                one.title,
                one.show(one.here),
                one.show(one.training),
                "—" if one.psi is None else f"{one.psi:.3f}",
                one.moved or "no",
                _VERDICTS[one.moved] if one.moved else "—",
            )
            for one in movements
        ],
        charts=list(_charts(profile, trained_on or TrainingData())) if profile.rows else [],
        reasons=[
            (reason, f"{rows:,}", f"{rows / manifest.rows:.1%}", _REASONS[reason])
            for reason, rows in manifest.errors.items()
        ],
        files=[_show_file(one) for one in manifest.files] if len(manifest.files) > 1 else [],
        settings=list(flatten(config)),
    )


def _describe(
    manifest: Manifest, profile: Profile, trained_on: TrainingData | None, movements: Sequence[Movement]
) -> Iterator[str]:
    """Yields the sentences of the summary."""
    if not manifest.rows:
        yield "There were no rows to score."
    elif trained_on is None:
        yield "The model bundle, written by an older version, has no figures of its training data to compare with."
    elif warn(movements) is None:
        some = [one.title for one in movements if one.moved == "some"]
        if some:
            yield f"Compared with the training data, {' and '.join(some)} moved somewhat, and nothing moved much."
        else:
            yield "By these figures, the texts are like those that the model was trained on."
    if trained_on is not None and any(one.name == "scores" and one.psi is None for one in movements):
        why = "no rows were held out in training, whose scores would be known"
        if trained_on.validation.rows:
            why = "the model was calibrated, and those known of its validation rows are from before"
        yield f"Scores are not compared: {why}."
    if missing := manifest.rows - profile.rows - profile.without_words:
        yield f"The figures of the texts lack {counted(missing, 'row')}, in parts that an older version wrote."
    if manifest.bad_files:
        yield f"Set aside as unreadable: {counted(manifest.bad_files, 'input file')} (see _bad_files.parquet)."


def _figures(manifest: Manifest, movements: Sequence[Movement]) -> Iterator[Figure]:
    """Yields the headline figures."""
    yield "Rows", f"{manifest.rows:,}", ""
    yield "Without a score", f"{sum(manifest.errors.values()):,}", ""
    if manifest.scored:
        yield "Positive", f"{100 * manifest.positives / manifest.scored:.1f}", "%"
    if manifest.unsure:
        yield "Unsure", f"{100 * manifest.unsure / manifest.scored:.1f}", "%"
    titles = {"unknown_words": "Unknown words", "truncated": "Truncated"}
    for one in movements:
        if one.name in titles and one.here is not None:
            yield titles[one.name], f"{100 * one.here:.1f}", "%"
    if manifest.parts_kept < manifest.parts:
        yield "Speed", f"{manifest.rows_per_s:,.0f}", "rows/s"


def _charts(profile: Profile, trained_on: TrainingData) -> Iterator[Chart]:
    """Yields the histograms of scores, unknown words and lengths."""
    both, validation = trained_on.training + trained_on.validation, trained_on.validation
    new = validation if validation.rows else both
    tenths = [f"{100 * limit:.0f}" for limit in (*SCORE_LIMITS, 1)]
    shares = [f"{100 * limit:.0f}" for limit in (*UNKNOWN_LIMITS, 1)]
    yield histogram_chart("Scores", "probability of positive, up to %", tenths, profile.scores, validation.scores)
    yield histogram_chart(
        "Unknown words", "unknown words of a row, up to %", shares, profile.unknown_shares, new.unknown_shares
    )
    names, rows, before = _condensed(profile.lengths, both.lengths)
    yield histogram_chart("Lengths", "words read of a row, up to", names, rows, before)


def _condensed(*lengths: Integers) -> tuple[list[str], Integers, Integers]:
    """Returns names and rows of the bins of lengths that have rows; neighbouring bins are joined if there are many."""
    occupied = np.flatnonzero(sum(lengths))
    size = -(-(occupied[-1] + 1 - occupied[0]) // _MOST_BINS)
    starts = np.arange(occupied[0], occupied[-1] + 1, size)
    ends = np.minimum(starts + size - 1, occupied[-1])
    names = [f"{LENGTH_LIMITS[end]}" if end < len(LENGTH_LIMITS) else "more" for end in ends]
    rows, before = (np.add.reduceat(one[: occupied[-1] + 1], starts) for one in lengths)
    return names, rows, before


def _show_file(counts: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Returns the table row of an input file: path and figures."""
    rows, words = counts["rows"], max(counts["words"], 1)
    scored = max(rows - counts["without_score"], 1)
    shares = [
        counts["positives"] / scored,
        counts["without_score"] / rows,
        counts["unknown"] / words,
        counts["truncated"] / scored,
    ]
    return counts["path"], [f"{rows:,}", *(f"{share:.1%}" for share in shares)]
