"""Runs trials with Ray Tune: each trains in one process, and ASHA stops the worst ones early.

    driver                                              a Ray worker for each trial
      Tuner.fit, ASHA  <- epoch, validation metrics ---   run.train, tune.report after every epoch
      _Marker: marks the trials that ASHA stops           the trial's run directory: checkpoints, history, model

Tune's state is not needed to resume: a trial's run is resumed from its directory, and first reports its completed
epochs to the new ASHA.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import ray
import ray.tune
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from lstm_ray import storage, user_code
from lstm_ray.config import TrainConfig, TuneConfig
from lstm_ray.errors import ConfigError, LstmRayError, TrainingError
from lstm_ray.evaluate.ranking import METRIC_NAMES, metrics_of_epoch, rank, show_metric
from lstm_ray.model.user_network import sources_of
from lstm_ray.progress import Epoch, Event, Progress
from lstm_ray.runtime.nodes import check_paths
from lstm_ray.runtime.ray_internals import quiet_tune
from lstm_ray.runtime.ray_session import connect, our_error
from lstm_ray.runtime.room import Asked
from lstm_ray.runtime.tensorflow import require_gpu, start_tensorflow
from lstm_ray.storage.inputs import find_inputs
from lstm_ray.train.step.choice import choose_engine
from lstm_ray.tune.results import FAILED, FINISHED, STOPPED, mark, marked

_WORK = "ray"  # directory of Tune's state; deleted at the end
_REDUCTION = 3  # ASHA keeps the best third after 1, 3, 9, ... epochs


def run_trials(config: TuneConfig, trials: Mapping[int, TrainConfig], say: Callable[[str], None]) -> None:
    """Runs trials to their end and marks each with how it ended.

    Args:
        config: The search's settings.
        trials: Settings by trial number.
        say: Receives a message for each epoch.

    Raises:
        InputError: A node does not see a file.
        OutputError: A node does not see the output directory, or has no permission to write to it.
        TrainingError: A trial failed for a reason other than its settings.
    """
    code = sources_of(*trials.values())
    quiet_tune()
    asked = Asked(1, config.concurrency or 1, config.cpus_per_worker, config.gpus_per_worker, kind="trials")
    with connect(config.address, asked, say) as is_ours:
        if not is_ours:
            needed = [path for path in (config.vocabulary, config.embeddings) if path is not None]
            files = find_inputs([*config.train, *config.validation])
            check_paths([*needed, *(file.path for file in files)], config.output)
        on_gpu = config.gpus_per_worker > 0
        settings = {
            number: {**trial.model_dump(mode="json"), "engine": choose_engine(trial, on_gpu=on_gpu)}
            for number, trial in trials.items()
        }
        given = {"settings": settings, "threads": max(1, int(config.cpus_per_worker)), "on_gpu": on_gpu, "code": code}
        trainable = ray.tune.with_resources(
            ray.tune.with_parameters(_run_trial, **given),
            {"CPU": config.cpus_per_worker, "GPU": config.gpus_per_worker},
        )
        work = storage.join(config.output, _WORK)
        storage.delete(work)
        filesystem, path = storage.locate(work)
        tuner = ray.tune.Tuner(
            trainable,
            param_space={"trial": ray.tune.grid_search(list(trials))},
            tune_config=ray.tune.TuneConfig(
                scheduler=Asha(trials),
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
    storage.delete(work)
    if errors:
        raise our_error(errors[0], TrainingError) from errors[0]


class Asha(ASHAScheduler):
    """ASHA that does not stop a trial at its last epoch, which would save no time and lose the trial's model."""

    def __init__(self, trials: Mapping[int, TrainConfig]) -> None:
        super().__init__(
            time_attr="epoch",
            metric="rank",
            mode="max",
            max_t=max(trial.epochs for trial in trials.values()),
            grace_period=1,
            reduction_factor=_REDUCTION,
        )
        self._epochs = {number: trial.epochs for number, trial in trials.items()}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Returns whether the trial continues. Its result is used to judge later trials in any case."""
        decision = super().on_trial_result(tune_controller, trial, result)
        is_last = result.get("epoch", 0) >= self._epochs[trial.config["trial"]]
        return str(TrialScheduler.CONTINUE if is_last else decision)


def _run_trial(
    arguments: dict[str, Any], settings: dict[int, dict[str, Any]], threads: int, on_gpu: bool, code: dict[str, bytes]
) -> None:
    """Runs a trial on a Ray worker: a training run that reports its epochs."""
    from lstm_ray.train import run
    from lstm_ray.train.loop import checkpoints

    config = TrainConfig.model_validate(settings[arguments["trial"]])
    report = _report_by(config.best_by)
    earlier = checkpoints.latest_state(config.output)
    for row in earlier.history if earlier is not None else []:
        report(Epoch(row))
    start_tensorflow(threads)
    if on_gpu:
        require_gpu()
    try:
        with user_code.unpacked(code):
            run.train(config, report)
    except (TrainingError, ConfigError) as error:
        # For example a learning rate at which training diverges, or more warm-up than steps: a valid search result.
        mark(config.output, FAILED, str(error))
    except (LstmRayError, OSError):
        raise  # caused by the node, not by the settings: the trial may succeed elsewhere
    except Exception as error:  # noqa: BLE001  raised by user code: it would happen again
        mark(config.output, FAILED, user_code.described(error))
    else:
        mark(config.output, FINISHED)


def _report_by(best_by: str) -> Progress:
    """Returns a `Progress` that reports a run's epochs to Tune, with a rank that is higher for better epochs."""

    def report(event: Event) -> None:
        if isinstance(event, Epoch):
            metrics = metrics_of_epoch(event.row)
            shown = {"shown": show_metric(metrics, best_by), "rank": rank(metrics, best_by)[0]}
            ray.tune.report({"epoch": event.row["epoch"], **shown})  # Tune may end the process here

    return report


class _Marker(TrialProgressCallback):
    """Shows the trials' reports, and marks trials that ASHA stops. Replaces Tune's callback, which prints tables."""

    def __init__(self, trials: Mapping[int, TrainConfig], say: Callable[[str], None]) -> None:
        super().__init__()
        self._trials = trials
        self._say = say

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        if "epoch" in result:
            number = trial.config["trial"]
            name = METRIC_NAMES[self._trials[number].best_by]
            self._say(f"trial {number}: epoch {result['epoch']}, {name} {result['shown']}")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Shows nothing: the search ends with the error."""

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        number = trial.config["trial"]
        output = self._trials[number].output
        if (ended := marked(output)) is None:
            ended = STOPPED, ""
            mark(output, *ended)
        state, error = ended
        self._say(f"trial {number}: {state}" + (f": {error}" if error else ""))
