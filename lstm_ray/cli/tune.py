"""lstm-ray tune"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lstm_ray
from lstm_ray.cli import bars, console
from lstm_ray.cli.options import JobArgument, takes_settings
from lstm_ray.config import TuneConfig
from lstm_ray.wording import command_line

if TYPE_CHECKING:
    from lstm_ray.tune.run import SearchResult


@takes_settings(TuneConfig, JobArgument)
def tune(config: TuneConfig) -> None:
    """Search for better settings: train many models on Ray, and stop early those that fall behind.

    The job file contains the settings of a training run and, under `search`, the settings to vary with their ranges.

    Example: lstm-ray tune jobs/tune_imdb.yaml --trials 20 --output runs/search
    """
    with bars.progress("the same command resumes with the remaining trials") as progress:
        result = lstm_ray.tune(job=config, progress=progress)
    show_search(config, result)


def show_search(config: TuneConfig, result: SearchResult) -> None:
    """Prints the trials, best first, on stderr, and the best one on stdout."""
    from lstm_ray.evaluate.ranking import METRIC_NAMES, show_metric

    drawn, metric = sorted(config.search), METRIC_NAMES[config.best_by]
    rows = [
        (
            str(trial.number),
            show_metric(trial.run.metrics, config.best_by),
            f"{trial.run.best_epoch}/{trial.run.epoch}",
            trial.state,
            *(str(getattr(trial.config, name)) for name in drawn),
        )
        for trial in result.trials
    ]
    console.say_table(("trial", metric, "best epoch", "state", *drawn), rows)
    best = result.best
    console.show_table(
        "Tuned",
        [
            ("best trial", f"{best.number} of {len(result.trials)}"),
            (metric, show_metric(best.run.metrics, config.best_by)),
            *((name, str(getattr(best.config, name))) for name in drawn),
            ("trials", f"{result.output}/trials.parquet"),
            ("report", f"{result.output}/report.html"),
            ("next", command_line("train", "--config", f"{result.output}/best.yaml")),
        ],
    )
