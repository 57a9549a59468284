"""lstm-ray tune"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lstm_ray.cli import console
from lstm_ray.cli.options import require, takes_settings
from lstm_ray.config import TuneConfig

if TYPE_CHECKING:
    from lstm_ray.tune.run import SearchResult


@takes_settings(TuneConfig, job_argument=True)
def tune(config: TuneConfig) -> None:
    """Search for better settings: train with many on Ray, and stop early those that fall behind.

    The job file holds the settings of a training run, and under `search` what to draw others from.

    Example: lstm-ray tune jobs/tune_imdb.yaml --trials 20 --output runs/search
    """
    require(config)
    from lstm_ray.tune import run

    try:
        outcome = run.tune(config, console.say)
    except KeyboardInterrupt:
        console.say("interrupted: the same command goes on with the trials that are left")
        raise
    show_search(config, outcome)


def show_search(config: TuneConfig, outcome: SearchResult) -> None:
    """Prints the trials, best first, on stderr, and the best one on stdout."""
    drawn = sorted(config.search)
    rows = [
        (
            str(trial.number),
            f"{trial.accuracy:.4f}" if trial.accuracy >= 0 else "-",
            f"{trial.run.best_epoch}/{trial.run.epoch}",
            trial.state,
            *(str(getattr(trial.config, name)) for name in drawn),
        )
        for trial in outcome.trials
    ]
    console.say_table(("trial", "accuracy", "best epoch", "state", *drawn), rows)
    best = outcome.best
    console.show_table(
        "Tuned",
        [
            ("best trial", f"{best.number} of {len(outcome.trials)}"),
            ("validation accuracy", f"{best.accuracy:.4f}"),
            *((name, str(getattr(best.config, name))) for name in drawn),
            ("trials", f"{outcome.output}/trials.parquet"),
            ("next", console.command_line("train", "--config", f"{outcome.output}/best.yaml")),
        ],
    )
