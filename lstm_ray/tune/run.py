"""A hyperparameter search: started or resumed, completed.

OUTPUT/tune.yaml  trials/NNNN/ (a training run each)  trials.parquet  trials.png  report.html  best.yaml
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass

import pyarrow.parquet as pq
import yaml

from lstm_ray import storage
from lstm_ray.config import (
    TuneConfig,
    apart_from_presets,
    changed_since,
    left_open,
    option_name,
    read_yaml,
    to_yaml,
    with_paths,
)
from lstm_ray.errors import ConfigError, OutputError
from lstm_ray.progress import Progress
from lstm_ray.report.search_page import search_png, search_report
from lstm_ray.train.best import choose
from lstm_ray.train.checks import check_tracking
from lstm_ray.train.data.corpus import find_all_shards
from lstm_ray.tune.results import Trial, best_of, marked, marked_trials, read_trials, trial_table
from lstm_ray.tune.search import trial_config
from lstm_ray.wording import counted

_LOCK = ".lock"
_RESULTS = ("best.yaml", "trials.parquet", "trials.png", "report.html", "trials", "ray", "tune.yaml")


@dataclass(frozen=True)
class SearchResult:
    """The result of a search.

    Attributes:
        output: The search's directory.
        trials: All trials, the best first.
        best: The best trial.
    """

    output: str
    trials: list[Trial]
    best: Trial


def tune(config: TuneConfig, progress: Progress) -> SearchResult:
    """Runs the trials that have not ended yet, and returns the results of all.

    Args:
        config: The search's settings.
        progress: Receives messages.

    Raises:
        ConfigError: There is nothing to search, or a trial's settings are not valid.
        InputError: The data cannot be used.
        OutputError: The output directory contains something else.
        TrainingError: A trial failed for a reason other than its settings, or all failed.
    """
    if not config.search:
        raise ConfigError("search is missing: give a job file with, say, search: {units: {choice: [64, 128]}}")
    check_tracking(config)
    config = with_paths(config, storage.absolute)
    # Errors in the data are reported once, before any trial starts.
    open_settings = left_open(config)
    config, reasons = choose(config, find_all_shards(config, progress))
    trials = {number: trial_config(config, number) for number in range(1, config.trials + 1)}
    with storage.locked(config.output, _LOCK):
        open_search(config, open_settings)
        remaining = {number: trial for number, trial in trials.items() if marked(trial.output) is None}
        progress(f"{counted(len(trials), 'trial')}, {len(remaining)} to run")
        # Trials of an earlier, longer search are included: one of them may be the best.
        trials |= {number: trial_config(config, number) for number in marked_trials(config.output)}
        if remaining:
            for reason in reasons:
                progress(f"preset best: {reason}")
            from lstm_ray.tune.ray_trials import run_trials

            run_trials(config, remaining, progress)
        ended = read_trials(trials)
        best = best_of(ended)
        _write(config, ended, best)
    if config.max_rows is not None:
        progress(f"best.yaml trains on all rows: it leaves out the search's --max-rows {config.max_rows}")
    return SearchResult(config.output, ended, best)


def open_search(config: TuneConfig, chosen: Collection[str] = ()) -> None:
    """Starts a search, or checks that the search in the directory can be resumed.

    Args:
        config: The settings.
        chosen: Those that were chosen for the data.

    Raises:
        OutputError: The directory contains something else.
    """
    path = storage.join(config.output, "tune.yaml")
    names = set(storage.list_names(config.output)) - {_LOCK}
    earlier = read_yaml(TuneConfig, storage.read_bytes(path)) if "tune.yaml" in names else None
    if names and earlier is None:
        raise OutputError(f"{config.output}: not empty, and not an earlier search: choose another --output")
    if earlier is not None and not config.fresh:
        changed = changed_since(earlier, config, storage.absolute)
        if changed:
            changed = apart_from_presets(TuneConfig, changed, earlier, yaml.safe_load(to_yaml(config)), chosen)
            raise OutputError(
                f"{config.output}: holds a search with other settings ({', '.join(map(option_name, changed))}): choose "
                "another --output, or --fresh to delete that search and start over"
            )
    for name in _RESULTS if config.fresh else ():
        storage.delete(storage.join(config.output, name))
    storage.write_bytes(path, to_yaml(config.model_copy(update={"fresh": False})).encode())


def _write(config: TuneConfig, trials: list[Trial], best: Trial) -> None:
    table = trial_table(config, trials)
    storage.write_file(storage.join(config.output, "trials.parquet"), lambda stream: pq.write_table(table, stream))
    report = search_report(
        title=f"Search {os.path.basename(config.output.rstrip('/'))}",
        trials=table,
        best_by=config.best_by,
        drawn=sorted(config.search),
        config=config.model_dump(mode="json"),
    )
    storage.write_bytes(storage.join(config.output, "report.html"), report.encode())
    storage.write_bytes(storage.join(config.output, "trials.png"), search_png(table, config.best_by))
    again = best.config.model_copy(update={"output": storage.join(config.output, "best"), "max_rows": None})
    storage.write_bytes(storage.join(config.output, "best.yaml"), to_yaml(again).encode())
