"""Training on Ray: shards are encoded by tasks, epochs run on a Ray Train worker group.

    driver                                     each worker
      session
      encode_all -> tasks run encode_shard
      run -> DataParallelTrainer.fit             work: epochs.run, a Collective between the workers
      EventReporter <- EventLog <-               progress, epochs, errors, the end
                       EventLog ->               "stop"; rank 0 asks for it twice a second

Ray's TensorflowTrainer is not used: it switches workers to Keras 2 (TF_USE_LEGACY_KERAS) and imports TensorFlow in the
driver too. A generic DataParallelTrainer with the small backend of `worker_group.py` avoids both.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import ray
import ray.train
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lstm_ray import storage
from lstm_ray.config import TrainConfig
from lstm_ray.datasets.labelled import Shard
from lstm_ray.errors import LstmRayError, TrainingError
from lstm_ray.model.user_network import sources_of
from lstm_ray.progress import Progress
from lstm_ray.runtime import ray_internals
from lstm_ray.runtime.in_flight import in_order
from lstm_ray.runtime.nodes import check_paths
from lstm_ray.runtime.ray_session import StillAtWorkError, connect, our_error
from lstm_ray.train.checks import asked_by
from lstm_ray.train.data.corpus import EncodedShard, Prepared, encode_shard
from lstm_ray.train.loop import checkpoints
from lstm_ray.train.loop.state import State
from lstm_ray.train.ray.events import EventLog, EventReporter
from lstm_ray.train.ray.failures import RESUMES, LossReporter, describe_end
from lstm_ray.train.ray.worker_group import GroupConfig, work
from lstm_ray.wording import counted

_READ_EVERY_S = 0.5
_SAVE_WITHIN_S = 60.0
_ENDS_WITHIN_S = 10.0
_LOOK_FOR_ROOM_EVERY_S = 30.0
_START_WITHIN_S = 15.0
_TASKS_PER_CORE = 2  # in flight; few, because each returns the token ids of a row group, up to hundreds of MB
_MIN_TASKS = 64  # in flight on a cluster, so that the autoscaler sees work for more nodes


def session(config: TrainConfig, progress: Progress) -> AbstractContextManager[bool]:
    """Connects to Ray, see `connect`, and checks that it has room for the run's workers."""
    return connect(config.address, asked_by(config), progress)


class RayWorkers:
    """The Ray workers of a run."""

    def __init__(self, progress: Progress, is_here: bool) -> None:
        """Prepares the workers.

        Args:
            progress: Receives the run's events.
            is_here: Whether all workers are on this machine, so that they see its files.
        """
        self._progress, self._is_here = progress, is_here

    def encode_all(self, shards: Sequence[Shard], config: TrainConfig) -> Iterator[EncodedShard]:
        """Encodes shards on the cluster's cores and yields them in order, a bounded number at a time."""
        if not self._is_here:
            vocabulary = [] if config.vocabulary is None else [config.vocabulary]  # every task reads it
            check_paths([*vocabulary, *(shard.file.path for shard in shards)], config.output)
        encode = ray.remote(encode_shard)
        settings = ray.put(config)
        cores = int(ray.cluster_resources().get("CPU", 0))
        most = max(_TASKS_PER_CORE * cores, 1 if self._is_here else _MIN_TASKS)
        try:
            yield from in_order(shards, lambda shard: encode.remote(shard, settings), ray.get, most=most)
        except ray.exceptions.RayError as error:  # a task's error, or a worker process that kept dying
            raise our_error(error, TrainingError) from error

    def run(self, config: TrainConfig, prepared: Prepared) -> State:
        """Trains to the end on `config.workers` workers, replacing lost ones.

        Raises:
            TrainingError: Too many workers were lost, or training ended early for an unknown reason.
            LstmRayError: A worker raised it.
            KeyboardInterrupt: Ctrl-C was pressed; the message says what was saved.
        """
        least, most = config.worker_limits
        self._progress(f"starting {'' if least == most else f'{least} to '}{counted(most, 'Ray worker')}")
        # The health check finds a worker that hangs while no peer waits for it. A group of variable size that does not
        # start in time is tried in another size: after a loss Ray Train counts on the node for a while, by default for
        # a minute.
        ray_internals.set_train_timeouts(config.collective_timeout_s, _START_WITHIN_S if least < most else None)
        log = _start_log()
        filesystem, path = storage.locate(config.output)
        trainer = ray_internals.data_parallel_trainer()(
            work,
            train_loop_config={
                "config": config.model_dump(mode="json"),
                "prepared": ray.put(prepared),
                "log": log,
                "code": sources_of(config),
            },
            backend_config=GroupConfig(log, config.collective_timeout_s, config.max_failures),
            scaling_config=ray.train.ScalingConfig(
                num_workers=most if least == most else (least, most),
                elastic_resize_monitor_interval_s=_LOOK_FOR_ROOM_EVERY_S,
                use_gpu=config.gpus_per_worker > 0,
                resources_per_worker={"CPU": config.cpus_per_worker, "GPU": config.gpus_per_worker},
            ),
            run_config=ray.train.RunConfig(
                name=checkpoints.DIRECTORY,
                storage_path=path,
                storage_filesystem=filesystem,
                failure_config=ray.train.FailureConfig(max_failures=config.max_failures),
                callbacks=[LossReporter(log)],
            ),
        )
        reporter = EventReporter(config, self._progress, self._is_here)
        try:
            _fit(trainer, log, reporter)
        except (ray.train.TrainingFailedError, ray.exceptions.RayError) as error:
            if reporter.final is None:  # otherwise the model is written, and a worker died only while shutting down
                raise TrainingError(describe_end(error, config)) from error
        if reporter.final is None:
            raise TrainingError(f"Ray Train ended before training was complete, without a reason: {RESUMES}")
        return reporter.final


def _start_log() -> Any:
    """Starts the event log on this node, so that the loss of another node does not end it."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=here)(EventLog).remote()


def _fit(trainer: Any, log: Any, reporter: EventReporter) -> None:
    """Runs the trainer to its end and reports the events of the run.

    The trainer runs in a thread, because in the main thread it would handle Ctrl-C itself and exit without a message.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed; the message says what was saved.
    """
    failures: list[BaseException] = []
    # Not Thread.join: if it is interrupted, it considers the thread ended (Python 3.11, bpo-45274).
    ended = threading.Event()

    def fit() -> None:
        try:
            trainer.fit()
        except BaseException as error:  # noqa: BLE001  raised again below, in the main thread
            failures.append(error)
        finally:
            ended.set()

    try:
        threading.Thread(target=fit, name="ray-train", daemon=True).start()
        _report_until_saved(ended, log, reporter)
    except BaseException as error:  # also errors of the callback: the thread must not call Ray after Ray's shutdown
        is_interrupt = isinstance(error, KeyboardInterrupt)
        is_from_worker = bool(str(error)) if is_interrupt else isinstance(error, LstmRayError)  # then all workers end
        if not ended.wait(_ENDS_WITHIN_S if is_from_worker else 0):
            _kill_controller(log)
            if not ended.wait(1 if is_interrupt and not is_from_worker else _ENDS_WITHIN_S) and is_interrupt:
                raise StillAtWorkError(str(error)) from error
        raise
    if failures:
        raise failures[0]


def _kill_controller(log: Any) -> None:
    """Kills Ray Train's controller, if there is one, so that the thread that waits for it ends."""
    controller = ray.get(log.controller.remote())
    if controller is not None:
        ray.kill(controller)


def _report_until_saved(ended: threading.Event, log: Any, reporter: EventReporter) -> None:
    """Reports events until training has ended. On Ctrl-C, has the run saved first."""
    try:
        _report(ended, log, reporter, math.inf)
    except KeyboardInterrupt as interrupt:
        if str(interrupt) or not reporter.is_training():
            raise
        ray.get(log.interrupt.remote())
        reporter.progress("interrupted: saving; press Ctrl-C again to stop at once")
        if not _report(ended, log, reporter, _SAVE_WITHIN_S):  # otherwise it ended or failed before the interrupt
            message = f"interrupted: no worker saved within {_SAVE_WITHIN_S:.0f} s; {RESUMES}"
            raise KeyboardInterrupt(message) from None


def _report(ended: threading.Event, log: Any, reporter: EventReporter, limit_s: float) -> bool:
    """Reports events until training has ended, or for `limit_s`; returns whether it has ended."""
    end = time.monotonic() + limit_s
    is_last = False
    while not is_last and time.monotonic() < end:
        is_last = ended.wait(_READ_EVERY_S)  # then read again, because all events were logged before the end
        for event in ray.get(log.since.remote(reporter.position)):
            reporter.report(event)
        reporter.report_waiting()
    return is_last
