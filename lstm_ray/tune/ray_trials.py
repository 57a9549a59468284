"""Runs trials with Ray Tune: each is `lstm-ray train` in one process, and ASHA stops those that fall behind.

    driver                                              a Ray worker for each trial
      ray_session                                         run.train, as without Ray
      Tuner.fit, ASHA  <- epoch, validation accuracy --   tune.report after every epoch
      _Marker: a stopped trial is marked as such          the trial's run directory: checkpoints, history, model

Tune's own state is not needed to go on: a trial's directory resumes by itself, and first reports the epochs that it has
to the new ASHA.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import ray
import ray.tune
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.schedulers import ASHAScheduler

from lstm_ray import storage, user_code
from lstm_ray.config import TrainConfig, TuneConfig
from lstm_ray.errors import ConfigError, LstmRayError, TrainingError
from lstm_ray.model.user_network import sources_of
from lstm_ray.runtime.nodes import check_paths
from lstm_ray.runtime.ray_session import connect, our_error
from lstm_ray.runtime.room import Asked
from lstm_ray.runtime.tensorflow import start_tensorflow
from lstm_ray.storage.inputs import find_inputs
from lstm_ray.tune.results import FAILED, FINISHED, STOPPED, mark, marked

_WORK = "ray"  # where Tune keeps its state meanwhile
_KEPT_SHARE = 3  # ASHA goes on with the best third after 1, 3, 9, ... epochs


def run_trials(config: TuneConfig, trials: Mapping[int, TrainConfig], say: Callable[[str], None]) -> None:
    """Runs trials to their end, each marked with how it ended.

    Args:
        config: The search's settings.
        trials: Settings by trial number.
        say: Hears of every epoch.

    Raises:
        InputError: A node does not see a file.
        OutputError: A node does not see the output directory, or may not write to it.
        TrainingError: A trial failed for another reason than its settings.
    """
    code = sources_of(*trials.values())
    # Ctrl-C ends the search: by itself Tune would take it for an ordinary end.
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    with connect(
        config.address, Asked(1, config.concurrency or 1, config.cpus_per_worker, config.gpus_per_worker), say
    ):
        if config.address != "local":
            needed = [path for path in (config.vocabulary, config.embeddings) if path is not None]
            files = find_inputs([*config.train, *config.validation])
            check_paths([*needed, *(file.path for file in files)], config.output)
        settings = {number: trial.model_dump(mode="json") for number, trial in trials.items()}
        given = {"settings": settings, "threads": max(1, int(config.cpus_per_worker)), "code": code}
        trainable = ray.tune.with_resources(
            ray.tune.with_parameters(_run_trial, **given),
            {"CPU": config.cpus_per_worker, "GPU": config.gpus_per_worker},
        )
        place = storage.join(config.output, _WORK)
        storage.delete(place)
        filesystem, path = storage.locate(place)
        tuner = ray.tune.Tuner(
            trainable,
            param_space={"trial": ray.tune.grid_search(list(trials))},
            tune_config=ray.tune.TuneConfig(
                scheduler=ASHAScheduler(
                    time_attr="epoch",
                    metric="validation_accuracy",
                    mode="max",
                    # One more than there are: at the last ASHA would end a trial before it has saved its model.
                    max_t=max(trial.epochs for trial in trials.values()) + 1,
                    grace_period=1,
                    reduction_factor=_KEPT_SHARE,
                ),
                max_concurrent_trials=config.concurrency or None,
            ),
            run_config=ray.tune.RunConfig(
                name="tune",
                storage_path=path,
                storage_filesystem=filesystem,
                failure_config=ray.tune.FailureConfig(max_failures=config.max_failures),
                verbose=0,
                callbacks=[_Marker(trials, say)],
            ),
        )
        errors = tuner.fit().errors
    storage.delete(place)
    if errors:
        raise our_error(errors[0], TrainingError) from errors[0]


def _run_trial(
    arguments: dict[str, Any], settings: dict[int, dict[str, Any]], threads: int, code: dict[str, bytes]
) -> None:
    """Runs on a Ray worker: a training run that reports its epochs."""
    from lstm_ray.train import run
    from lstm_ray.train.loop import checkpoints

    config = TrainConfig.model_validate(settings[arguments["trial"]])
    watcher = _Reporter()
    earlier = checkpoints.latest_state(config.output)
    for row in earlier.history if earlier is not None else []:
        watcher.epoch(row)
    start_tensorflow(threads)
    try:
        with user_code.unpacked(code):
            run.train(config, watcher)
    except (TrainingError, ConfigError) as error:
        # Such as a learning rate at which it diverges, or more warm-up than steps: a result of the search too.
        mark(config.output, FAILED, str(error))
    except (LstmRayError, OSError):
        raise  # of the place, not of the settings: another try may do
    except Exception as error:  # noqa: BLE001  of the user's code, and would come again
        mark(config.output, FAILED, user_code.described(error))
    else:
        mark(config.output, FINISHED)


class _Reporter:
    """Watches a trial's run and tells Tune."""

    def say(self, message: str) -> None:
        """Nobody hears it."""

    def progress(self, progress: Any) -> None:
        """Nobody waits for it."""

    def epoch(self, row: dict[str, Any]) -> None:
        """Reports it; Tune may end the process here."""
        ray.tune.report({name: row[name] for name in ("epoch", "validation_accuracy", "validation_loss")})


class _Marker(TrialProgressCallback):
    """Passes on what trials report, and marks those that ASHA ends; in the place of Ray's own, which would print it."""

    def __init__(self, trials: Mapping[int, TrainConfig], say: Callable[[str], None]) -> None:
        super().__init__()
        self._trials = trials
        self._say = say

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        if "epoch" in result:
            self._say(
                f"trial {trial.config['trial']}: epoch {result['epoch']}, "
                f"validation accuracy {result['validation_accuracy']:.4f}"
            )

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Says nothing: the search ends with the error."""

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        number = trial.config["trial"]
        output = self._trials[number].output
        if marked(output) is None:
            mark(output, STOPPED)
        state, error = marked(output) or (STOPPED, "")
        self._say(f"trial {number}: {state}" + (f": {error}" if error else ""))
