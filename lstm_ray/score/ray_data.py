"""Scores the tasks of a plan on Ray Data, in one of two pipelines. Ray's object store carries numbers, but no text.

    CPUs   tasks -> actors: read, tokenize, score, write                      -> counts back to the driver
    GPUs   tasks -> CPU tasks: read, tokenize -> actors: score -> CPU tasks: read what is kept, write -> counts

On CPUs an actor does everything with its rows: nothing is copied, and no actor waits for another. A GPU scores faster
than many cores tokenize, so there CPU tasks on all nodes send it token ids (320 bytes a review of 80 tokens). The task
that writes a part reads the kept columns again, which takes a tenth of the time of tokenizing. If they were sent along,
they would go to the GPU's node and back.
"""

from __future__ import annotations

import importlib
import itertools
import logging
import threading
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from lstm_ray import user_code
from lstm_ray.config import ScoreConfig
from lstm_ray.errors import BundleError, InputError, LstmRayError
from lstm_ray.model.bundle import Bundle, read_bundle
from lstm_ray.model.profile import Profile
from lstm_ray.runtime.devices import available_cores
from lstm_ray.runtime.nodes import check_paths
from lstm_ray.runtime.ray_internals import IDLE_DATA_THREAD, data_on_one_node, stop_data_usage_poller
from lstm_ray.runtime.ray_session import connect, is_ray_client, our_error
from lstm_ray.runtime.room import Asked
from lstm_ray.runtime.tensorflow import require_gpu, start_tensorflow
from lstm_ray.runtime.threads import shared
from lstm_ray.score import wire
from lstm_ray.score.columns import PartLayout
from lstm_ray.score.parts import Part
from lstm_ray.score.plan import BadFile, Plan, Task, slices
from lstm_ray.score.scorer import Encoder, Engine, Scored, Scorer, make_engine
from lstm_ray.score.tasks import bad_file, encode_task, score_tasks, write_task
from lstm_ray.text.sequences import Sequences
from lstm_ray.wording import counted

_TEXTS_AT_ONCE = 10_000  # lists of tasks given to Ray Data at once; its driver keeps some KiB of each
_GPU_TASK_CHUNKS = 4  # chunks of a task on GPUs: 64 MB of token ids at 80 tokens and the default --rows-per-part

_THREADS_END_WITHIN_S = 30.0


def score_on_ray(
    config: ScoreConfig, bundle: Bundle, plan: Plan, done: Collection[str], notify: Callable[[str], None]
) -> Generator[Part | BadFile, None, None]:
    """Scores on a pool of Ray actors and yields results as they come."""
    least, most = config.actor_limits
    if note := _idle_actors(config, plan.parts - len(done)):
        notify(f"note: {note}")
    has_gpus = config.gpus_per_actor > 0
    lists = _small_tasks(plan.tasks(done, most)) if has_gpus else plan.task_lists(done, most)
    texts = map(wire.tasks_to_text, lists)
    first = list(itertools.islice(texts, _TEXTS_AT_ONCE))
    if not first:
        return
    least, most = min(least, len(first)), min(most, len(first))
    # GPU actors get nothing to do unless a task has a core.
    asked = Asked(least, most, config.cpus_per_actor, config.gpus_per_actor, int(has_gpus), kind="actors")
    stop_data_usage_poller()
    threshold = bundle.threshold if config.threshold is None else config.threshold
    run = _Run(config, plan.layout, bundle.hash, threshold, bundle.sources())
    if not config.address.startswith("ray://"):  # else a process of the cluster drives: `_drive_there`
        _import_ray_data()
    with connect(config.address, asked, notify) as is_ours, _new_threads_ended():
        drive = _drive_there if is_ray_client() else _drive_alone if is_ours else _drive
        if not is_ours:
            check_paths([config.model, *(file.path for file in plan.files)], config.output)
        while first:
            try:
                for text in drive(run, first, (least, most)):
                    yield from wire.results_from_text(text)
            except ray.exceptions.RayError as error:
                raise our_error(error, LstmRayError) from error
            first = list(itertools.islice(texts, _TEXTS_AT_ONCE))


def _idle_actors(config: ScoreConfig, parts: int) -> str | None:
    """Returns a note if there are more actors than parts left to write; otherwise None."""
    least, most = config.actor_limits
    if not 0 < parts < least:
        return None
    is_local = config.address == "local"
    number = min(parts, Asked(least, most, config.cpus_per_actor, 0).at_once(available_cores())) if is_local else parts
    alone = ", or --actors 0 for few rows" if is_local and not config.gpus_per_actor else ""
    return (
        f"{counted(least, 'actor')} for {counted(parts, 'part')} to write: more actors than parts gain nothing: use "
        f"--actors {number}{alone}"
    )


def _small_tasks(tasks: Iterable[Task]) -> Iterator[list[Task]]:
    """Cuts tasks for GPUs. Each is a list of its own, because it passes through several stages as one row."""
    return ([Task(task.file, chunks)] for task in tasks for chunks in slices(task.chunks, _GPU_TASK_CHUNKS))


def _import_ray_data() -> None:
    """Imports Ray Data on a thread. This takes a second, while `ray.init` waits for Ray's processes."""
    threading.Thread(target=lambda: importlib.import_module("ray.data").DataContext.get_current()).start()


@dataclass(frozen=True)
class _Run:
    """Settings that all stages of a run need.

    Attributes:
        config: The settings.
        layout: What all parts have in common.
        model_hash: Hash of the bundle that the run was planned with.
        threshold: Probability above which a review is positive.
        sources: The user's modules that the model needs, by path.
    """

    config: ScoreConfig
    layout: PartLayout
    model_hash: str
    threshold: float
    sources: dict[str, bytes]

    @property
    def threads(self) -> int:
        """Returns the threads of an actor."""
        return max(1, int(self.config.cpus_per_actor))


def _drive(run: _Run, tasks: Sequence[str], actors: tuple[int, int]) -> Iterator[str]:
    """Has Ray Data score tasks and yields their results as they come."""
    import ray.data  # not at the top: `_import_ray_data`

    pool = {
        "compute": ray.data.ActorPoolStrategy(min_size=actors[0], max_size=actors[1]),
        "num_cpus": run.config.cpus_per_actor,
        "num_gpus": run.config.gpus_per_actor,
        "fn_constructor_args": (run,),
    }
    with _quiet_data():
        dataset = ray.data.from_items([{"tasks": text} for text in tasks], override_num_blocks=len(tasks))
        if run.config.gpus_per_actor:
            scored = _on_gpus(dataset, run, pool)
        else:
            scored = dataset.map_batches(_ScoringActor, batch_size=1, **pool)
        for row in scored.iter_rows():
            yield row["results"]


def _drive_alone(run: _Run, tasks: Sequence[str], actors: tuple[int, int]) -> Iterator[str]:
    """Like `_drive`, on a Ray that this run has started."""
    with data_on_one_node():
        yield from _drive(run, tasks, actors)


@shared
@contextmanager
def _quiet_data() -> Iterator[None]:
    """Turns off Ray Data's progress bars and log in the `with` block. Errors are raised anyway."""
    import ray.data

    context, log = ray.data.DataContext.get_current(), logging.getLogger("ray.data")
    before = context.enable_progress_bars, log.level
    context.enable_progress_bars = False
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        context.enable_progress_bars = before[0]
        log.setLevel(before[1])


def _drive_there(run: _Run, tasks: Sequence[str], actors: tuple[int, int]) -> Iterator[str]:
    """Like `_drive`, in a process of the cluster, because Ray Data does not work from a Ray client."""
    driver = ray.remote(num_cpus=0)(_Driver).remote(run, tasks, actors)
    while (text := ray.get(driver.next.remote())) is not None:
        yield text


class _Driver:
    """Drives Ray Data for a Ray client. Runs on a Ray worker."""

    def __init__(self, run: _Run, tasks: Sequence[str], actors: tuple[int, int]) -> None:
        self._texts = _drive(run, tasks, actors)

    def next(self) -> str | None:
        """Returns the next result, or None when there is no more."""
        return next(self._texts, None)


@shared
@contextmanager
def _new_threads_ended() -> Iterator[None]:
    """At the end, waits for threads that were started inside the block.

    After an error or Ctrl-C, Ray Data's threads end with a delay. If one of them calls Ray after Ray's shutdown, Ray
    ends the whole process without a message.
    """
    known = set(threading.enumerate())
    try:
        yield
    finally:
        deadline = time.monotonic() + _THREADS_END_WITHIN_S
        for thread in set(threading.enumerate()) - known - {threading.current_thread()}:
            if thread.name != IDLE_DATA_THREAD:
                thread.join(max(0.0, deadline - time.monotonic()))


def _read_planned(model: str, model_hash: str) -> Bundle:
    """Reads the bundle that the run was planned with: an actor may start hours later.

    Raises:
        BundleError: The bundle cannot be read, or has been replaced.
    """
    bundle = read_bundle(model)
    if bundle.hash != model_hash:
        raise BundleError(f"{model}: has changed since the run was planned: score with it into another --output")
    return bundle


class _ScoringActor:
    """Reads, tokenizes, scores and writes; runs on a Ray worker."""

    def __init__(self, run: _Run) -> None:
        pa.set_cpu_count(run.threads)
        self._run = run
        # Here, not in the first task: meanwhile Ray Data starts the rest of the pipeline.
        try:
            self._scorer: Scorer | LstmRayError = self._make_scorer()
        except LstmRayError as error:
            self._scorer = error  # the result of every task

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        if isinstance(self._scorer, LstmRayError):
            return {"results": [wire.error_to_text(self._scorer)]}
        tasks = wire.tasks_from_text(batch["tasks"][0])
        try:
            results = list(score_tasks(tasks, self._run.layout, self._scorer, self._run.config.output))
        except LstmRayError as error:
            return {"results": [wire.error_to_text(error)]}
        return {"results": [wire.results_to_text(results)]}

    def _make_scorer(self) -> Scorer:
        run = self._run
        with user_code.unpacked(run.sources):
            bundle = _read_planned(run.config.model, run.model_hash)
            return Scorer(bundle, run.config.engine, run.threads, *run.config.decision, run.config.precision)


def _on_gpus(dataset: Any, run: _Run, pool: dict[str, Any]) -> Any:
    stage: dict[str, Any] = {"batch_size": 1, "batch_format": "pyarrow"}
    task: dict[str, Any] = {"fn_args": (run,), "num_cpus": 1, **stage}
    encoded = dataset.map_batches(_encode_stage, **task)
    return encoded.map_batches(_GpuActor, **stage, **pool).map_batches(_write_stage, **task)


def _encode_stage(row: pa.Table, run: _Run) -> pa.Table:
    """Reads and tokenizes the chunks of a task."""
    pa.set_cpu_count(1)

    def encode(task: Task) -> wire.Arrays:
        chunks = encode_task(task, run.config.text_column, _encoder_of(run.config.model, run.model_hash))
        return {
            "token_ids": [chunk.sequences.token_ids for chunk in chunks],
            "offsets": [chunk.sequences.offsets for chunk in chunks],
            "reasons": [chunk.reasons for chunk in chunks],
            "texts": [chunk.texts.to_array() for chunk in chunks],
        }

    return _next_row(row, encode)


@lru_cache(maxsize=1)  # a worker process runs many tasks of a run, and then perhaps those of another
def _encoder_of(model: str, model_hash: str) -> Encoder:
    return Encoder(_read_planned(model, model_hash))


class _GpuActor:
    """Turns token ids into probabilities, a chunk at a time, so that no batch depends on how chunks became tasks."""

    def __init__(self, run: _Run) -> None:
        self._run = run

    def __call__(self, row: pa.Table) -> pa.Table:
        return _next_row(row, lambda _: self._score(row))

    def _score(self, row: pa.Table) -> wire.Arrays:
        chunks = zip(wire.arrays_of(row, "token_ids", np.int32), wire.arrays_of(row, "offsets", np.int64), strict=True)
        probability = [self._engine.probabilities(Sequences(*chunk)) for chunk in chunks]
        return {
            "probability": probability,
            "reasons": wire.arrays_of(row, "reasons", np.int8),
            "texts": wire.arrays_of(row, "texts", np.int64),
        }

    @cached_property
    def _engine(self) -> Engine:
        run = self._run
        start_tensorflow(run.threads)
        require_gpu("leave out --gpus-per-actor to score on CPUs")
        assert run.config.engine != "auto"  # `run.score` has decided
        with user_code.unpacked(run.sources):
            return make_engine(_read_planned(run.config.model, run.model_hash), run.config.engine, run.threads)


def _next_row(row: pa.Table, work: Callable[[Task], wire.Arrays]) -> pa.Table:
    """Runs a stage on a task's row. A task that failed in an earlier stage is passed on."""
    if wire.has_failed(row):
        return row
    text = row["tasks"][0].as_py()
    (task,) = wire.tasks_from_text(text)
    try:
        return wire.row_of_arrays(text, work(task))
    except LstmRayError as error:
        return wire.row_of_failure(text, _failure_to_text(task, error))


def _write_stage(row: pa.Table, run: _Run) -> pa.Table:
    """Writes the parts of a task."""
    pa.set_cpu_count(1)
    if wire.has_failed(row):
        return row.select(["results"])
    (task,) = wire.tasks_from_text(row["tasks"][0].as_py())
    kinds: dict[str, type[np.generic]] = {"probability": np.float32, "reasons": np.int8, "texts": np.int64}
    arrays = zip(*(wire.arrays_of(row, name, kind) for name, kind in kinds.items()), strict=True)
    decision = run.threshold, run.config.decision[1]
    scores = (
        Scored.from_probabilities(probability, reasons, Profile.from_array(texts), *decision)
        for probability, reasons, texts in arrays
    )
    try:
        result = wire.results_to_text(write_task(task, run.layout, scores, run.config.output))
    except LstmRayError as error:
        result = _failure_to_text(task, error)
    return pa.table({"results": [result]})


def _failure_to_text(task: Task, error: LstmRayError) -> str:
    return wire.results_to_text([bad_file(task, error)]) if isinstance(error, InputError) else wire.error_to_text(error)
