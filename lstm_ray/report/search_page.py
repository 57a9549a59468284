"""The report of a search for settings: its trials, best first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lstm_ray.evaluate.ranking import METRIC_NAMES
from lstm_ray.report.charts import trial_chart
from lstm_ray.report.curves import is_number, points
from lstm_ray.report.marks import Chart
from lstm_ray.report.picture import draw_charts
from lstm_ray.report.rendering import duration, figure, flatten, render
from lstm_ray.wording import counted

if TYPE_CHECKING:
    import pyarrow as pa

_FORMS = {"accuracy": ".1%", "auc": ".3f", "loss": ".3f"}


def search_report(
    *, title: str, trials: pa.Table, best_by: str, drawn: Sequence[str], config: Mapping[str, object]
) -> str:
    """Returns the report of a search as one HTML file.

    Args:
        title: Heading of the page.
        trials: A row for each trial, best first (`trial_table`).
        best_by: The metric that ranks them, a key of `METRIC_NAMES`.
        drawn: The searched settings, which are columns of the trials.
        config: The resolved settings, nested or flat.
    """
    rows: list[dict[str, Any]] = trials.to_pylist()
    best, name, form = rows[0], f"validation_{best_by}", _FORMS[best_by]

    def show(row: Mapping[str, Any]) -> str:
        error = row["validation_accuracy_standard_error"] if best_by == "accuracy" else None
        return figure(row[name], form) + points(error)

    ended = ", ".join(f"{rows} {state}" for state, rows in sorted(Counter(row["state"] for row in rows).items()))
    settings = ", ".join(f"{one} {best[one]}" for one in drawn)
    return render(
        "search.html",
        title=title,
        lead=f"Trial {best['trial']} is the best by {METRIC_NAMES[best_by]}, with {settings}.",
        figures=[
            (METRIC_NAMES[best_by].capitalize(), figure(best[name], form), "best"),
            ("Trials", f"{len(rows)}", ended),
            ("Training time", *duration(sum(row["seconds"] for row in rows))),
        ],
        charts=[_chart(trials, best_by)],
        columns=["trial", METRIC_NAMES[best_by], "best epoch", *drawn, "seconds", "state"],
        trials=[
            (
                str(row["trial"]),
                [
                    show(row),
                    f"{row['best_epoch']} of {row['epochs']}",
                    *(f"{row[one]:.4g}" if isinstance(row[one], float) else str(row[one]) for one in drawn),
                    f"{row['seconds']:,.0f}",
                    row["state"],
                ],
            )
            for row in rows
        ],
        errors=[(f"trial {row['trial']}", row["error"]) for row in rows if row["error"]],
        note=f"{counted(len(rows), 'trial')}, best first.",
        settings=list(flatten(config)),
    )


def search_png(trials: pa.Table, best_by: str) -> bytes:
    """Returns the result of each trial as a PNG; arguments as for `search_report`."""
    return draw_charts([_chart(trials, best_by)])


def _chart(trials: pa.Table, best_by: str) -> Chart:
    rows, name = trials.to_pylist(), f"validation_{best_by}"
    return trial_chart(
        f"{METRIC_NAMES[best_by].capitalize()} by trial",
        [(row["trial"], row[name]) for row in rows if is_number(row[name])],
        _FORMS[best_by],
    )
