"""Scoring on Ray Data, in one of two shapes. Both move numbers through Ray's object store, and no text.

    CPUs   tasks -> actors: read, tokenize, score, write                      -> counts back to the driver
    GPUs   tasks -> CPU tasks: read, tokenize -> actors: score -> CPU tasks: read what is kept, write -> counts

On CPUs an actor does all there is to do with its rows: nothing is copied, nothing waits for a neighbour. A GPU scores
faster than many cores tokenize, so there tasks on all nodes feed it token ids (320 bytes a review of 80 tokens). What
the output keeps of the input is read again by the task that writes it, which takes a tenth of tokenizing it; carried
along, it would pass through the GPU's node twice.
"""

from __future__ import annotations

import itertools
import json
import logging
import threading
import time
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray
import ray.data

from lstm_ray import errors, user_code
from lstm_ray.config import ScoreConfig
from lstm_ray.errors import BundleError, LstmRayError
from lstm_ray.model.bundle import Bundle, read_bundle
from lstm_ray.runtime.nodes import check_paths
from lstm_ray.runtime.ray_internals import IDLE_DATA_THREAD, stop_data_usage_poller
from lstm_ray.runtime.ray_session import connect, our_error
from lstm_ray.runtime.room import Asked
from lstm_ray.score import tasks
from lstm_ray.score.plan import BadFile, Chunk, PartLayout, Plan, Task
from lstm_ray.score.scorer import Encoder, Engine, Scored, Scorer, encode_column, make_engine
from lstm_ray.score.tasks import Part
from lstm_ray.storage.inputs import InputFile
from lstm_ray.text.sequences import Sequences

_TASKS_AT_ONCE = 10_000  # given to Ray Data, whose driver keeps some KiB of each
_GPU_TASK_CHUNKS = 4  # whose token ids travel together: 64 MB at 80 tokens and the default --rows-per-part

_THREADS_END_WITHIN_S = 30.0

T = TypeVar("T")
Columns: TypeAlias = dict[str, list[npt.NDArray[Any]]]
"""What a stage hands to the next: arrays by name, one for each chunk of a task."""
_ARRAYS = pa.list_(pa.large_binary())


def score_on_ray(
    config: ScoreConfig, bundle: Bundle, plan: Plan, done: Collection[str], notify: Callable[[str], None]
) -> Generator[Part | BadFile, None, None]:
    """Scores on a pool of Ray actors and yields results as they come."""
    least, most = config.actor_limits
    has_gpus = config.gpus_per_actor > 0
    tasks = plan.tasks(done, shares=most)
    if has_gpus:
        tasks = (Task(task.file, chunks) for task in tasks for chunks in _runs(task.chunks, _GPU_TASK_CHUNKS))
    first = list(itertools.islice(tasks, _TASKS_AT_ONCE))
    if not first:
        return
    least, most = min(least, len(first)), min(most, len(first))
    # GPU actors get nothing to do unless a task has a core.
    asked = Asked(least, most, config.cpus_per_actor, config.gpus_per_actor, spare_cpus=int(has_gpus))
    stop_data_usage_poller()
    run = _Run(
        config.model_dump(mode="json"), bundle.hash, bundle.threshold, _encode_layout(plan.layout), bundle.sources()
    )
    drive = _drive_there if config.address.startswith("ray://") else _drive
    with connect(config.address, asked, notify), _others_ended():
        if config.address != "local":
            check_paths([config.model, *(file.path for file in plan.files)], config.output)
        while first:
            try:
                for text in drive(run, [json.dumps(asdict(task)) for task in first], (least, most)):
                    yield from _parse_results(text)
            except ray.exceptions.RayError as error:
                raise our_error(error, LstmRayError) from error
            first = list(itertools.islice(tasks, _TASKS_AT_ONCE))


@dataclass(frozen=True)
class _Run:
    """What the stages of a run are made from, wherever they are driven from.

    Attributes:
        settings: Of the run.
        model_hash: Of the bundle it was planned with.
        threshold: From which probability on a review is positive.
        layout: See `_encode_layout`.
        sources: The user's own modules that the model needs.
    """

    settings: dict[str, Any]
    model_hash: str
    threshold: float
    layout: dict[str, Any]
    sources: dict[str, bytes]


def _drive(run: _Run, tasks: Sequence[str], actors: tuple[int, int]) -> Iterator[str]:
    """Has Ray Data score tasks and yields their results as they come."""
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what ends the run is raised
    ray.data.DataContext.get_current().enable_progress_bars = False
    config = ScoreConfig.model_validate(run.settings)
    pool = {
        "compute": ray.data.ActorPoolStrategy(min_size=actors[0], max_size=actors[1]),
        "num_cpus": config.cpus_per_actor,
        "num_gpus": config.gpus_per_actor,
    }
    dataset = ray.data.from_items([{"task": task} for task in tasks], override_num_blocks=len(tasks))
    for row in (_on_gpus if config.gpus_per_actor else _on_cpus)(dataset, run, pool).iter_rows():
        yield row["results"]


def _drive_there(run: _Run, tasks: Sequence[str], actors: tuple[int, int]) -> Iterator[str]:
    """Does the same in a process of the cluster's: Ray Data does not work from a Ray client."""
    driver = ray.remote(num_cpus=0)(_Driver).remote(run, tasks, actors)
    while (text := ray.get(driver.next.remote())) is not None:
        yield text


class _Driver:
    """Drives Ray Data for a Ray client; runs on a Ray worker."""

    def __init__(self, run: _Run, tasks: Sequence[str], actors: tuple[int, int]) -> None:
        self._texts = _drive(run, tasks, actors)

    def next(self) -> str | None:
        """Returns the next result, or None when there is no more."""
        return next(self._texts, None)


@contextmanager
def _others_ended() -> Iterator[None]:
    """Waits, at the end, for the threads that were begun meanwhile.

    Ray Data's end a while after who reads from it has stopped, by an error or Ctrl-C, and Ray ends the whole process,
    without a word, if a thread calls it once it has been shut down.
    """
    known = set(threading.enumerate())
    try:
        yield
    finally:
        deadline = time.monotonic() + _THREADS_END_WITHIN_S
        for thread in set(threading.enumerate()) - known:
            if thread.name != IDLE_DATA_THREAD:
                thread.join(max(0.0, deadline - time.monotonic()))


def _runs(items: Sequence[T], size: int) -> Iterator[list[T]]:
    """Cuts a sequence into lists of `size`, the last one perhaps shorter."""
    return (list(items[start : start + size]) for start in range(0, len(items), size))


def _read_planned(model: str, model_hash: str) -> Bundle:
    """Reads the bundle that the run was planned with: an actor may start hours later.

    Raises:
        BundleError: It cannot be read, or is another one by now.
    """
    bundle = read_bundle(model)
    if bundle.hash != model_hash:
        raise BundleError(f"{model}: has changed since the run was planned: score with it into another --output")
    return bundle


def _on_cpus(dataset: Any, run: _Run, pool: dict[str, Any]) -> Any:
    given = (run.settings, run.model_hash, run.layout, run.sources)
    return dataset.map_batches(_ScoringActor, fn_constructor_args=given, batch_size=1, **pool)


class _ScoringActor:
    """Reads, tokenizes, scores and writes; runs on a Ray worker."""

    def __init__(
        self, settings: dict[str, Any], model_hash: str, layout: dict[str, Any], code: dict[str, bytes]
    ) -> None:
        self._config = ScoreConfig.model_validate(settings)
        self._model_hash = model_hash
        self._threads = max(1, int(self._config.cpus_per_actor))
        pa.set_cpu_count(self._threads)
        self._layout = _decode_layout(layout)
        self._code = code

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        task = _parse_task(batch["task"][0])
        try:
            parts = list(tasks.score_task(task, self._layout, self._scorer, self._config.output))
        except LstmRayError as error:
            return {"results": [_failure(task, error)]}
        return {"results": [_results(parts)]}

    @cached_property  # made for the first task, so that an error in it is handed over too
    def _scorer(self) -> Scorer:
        with user_code.unpacked(self._code):
            return Scorer(_read_planned(self._config.model, self._model_hash), self._config.engine, self._threads)


def _on_gpus(dataset: Any, run: _Run, pool: dict[str, Any]) -> Any:
    model = {"settings": run.settings, "model_hash": run.model_hash}
    writing = {"layout": run.layout, "output": run.settings["output"], "threshold": run.threshold}
    stage: dict[str, Any] = {"batch_size": 1, "batch_format": "pyarrow"}
    encoded = dataset.map_batches(_encode_stage, fn_kwargs={**model, "layout": run.layout}, num_cpus=1, **stage)
    given = {**model, "code": run.sources}
    scored = encoded.map_batches(_GpuActor, fn_constructor_kwargs=given, **stage, **pool)
    return scored.map_batches(_write_stage, fn_kwargs=writing, num_cpus=1, **stage)


def _encode_stage(row: pa.Table, settings: dict[str, Any], model_hash: str, layout: dict[str, Any]) -> pa.Table:
    """Reads and tokenizes the chunks of a task."""
    pa.set_cpu_count(1)
    text_column = _decode_layout(layout).text_column

    def encode(task: Task) -> Columns:
        encoder = _encoder_of(settings["model"], model_hash)
        chunks = [encode_column(encoder, table[text_column]) for _, table in tasks.read_task(task, [text_column])]
        return {
            "token_ids": [chunk.sequences.token_ids for chunk in chunks],
            "offsets": [chunk.sequences.offsets for chunk in chunks],
            "reasons": [chunk.reasons for chunk in chunks],
        }

    return _next_row(row, encode)


class _GpuActor:
    """Turns token ids into probabilities, chunk by chunk, so that no batch depends on how chunks became tasks."""

    def __init__(self, settings: dict[str, Any], model_hash: str, code: dict[str, bytes]) -> None:
        self._config = ScoreConfig.model_validate(settings)
        self._model_hash = model_hash
        self._code = code

    def __call__(self, row: pa.Table) -> pa.Table:
        return _next_row(row, lambda _: self._score(row))

    def _score(self, row: pa.Table) -> Columns:
        chunks = zip(_arrays(row, "token_ids", np.int32), _arrays(row, "offsets", np.int64), strict=True)
        probability = [self._engine.probabilities(Sequences(*chunk)) for chunk in chunks]
        return {"probability": probability, "reasons": _arrays(row, "reasons", np.int8)}

    @cached_property
    def _engine(self) -> Engine:
        assert self._config.engine != "auto"  # `run.score` has decided
        threads = max(1, int(self._config.cpus_per_actor))
        with user_code.unpacked(self._code):
            return make_engine(_read_planned(self._config.model, self._model_hash), self._config.engine, threads)


def _write_stage(row: pa.Table, layout: dict[str, Any], output: str, threshold: float) -> pa.Table:
    """Reads the kept columns of a task's chunks again and writes the parts."""
    pa.set_cpu_count(1)
    if row["results"][0].is_valid:
        return row.select(["results"])
    task = _parse_task(row["task"][0].as_py())
    look = _decode_layout(layout)
    scores = zip(_arrays(row, "probability", np.float32), _arrays(row, "reasons", np.int8), strict=True)
    try:
        chunks = tasks.read_task(task, look.kept or [look.text_column])
        parts = [
            tasks.write_part(look, chunk, table, Scored.from_probabilities(*score, threshold), output)
            for (chunk, table), score in zip(chunks, scores, strict=True)
        ]
    except LstmRayError as error:
        return pa.table({"results": [_failure(task, error)]})
    return pa.table({"results": [_results(parts)]})


@lru_cache(maxsize=1)  # a worker process runs many tasks of a run, and then perhaps those of another
def _encoder_of(model: str, model_hash: str) -> Encoder:
    return Encoder(_read_planned(model, model_hash))


def _next_row(row: pa.Table, work: Callable[[Task], Columns]) -> pa.Table:
    """Does a stage's work on a task's row; one that has failed in an earlier stage is passed on."""
    if "results" in row.column_names and row["results"][0].is_valid:
        return row
    text = row["task"][0].as_py()
    task = _parse_task(text)
    try:
        columns = work(task)
    except LstmRayError as error:
        return pa.table({"task": [text], "results": [_failure(task, error)]})
    stored = {name: pa.array([[a.tobytes() for a in chunks]], _ARRAYS) for name, chunks in columns.items()}
    return pa.table({"task": [text], "results": pa.nulls(1, pa.string()), **stored})


def _arrays(row: pa.Table, name: str, kind: type[np.generic]) -> list[npt.NDArray[Any]]:
    """Returns an array for each chunk of a task's row."""
    return [np.frombuffer(value.as_buffer(), kind) for value in row[name][0].values]


def _results(parts: list[Part]) -> str:
    return json.dumps([asdict(part) for part in parts])


def _failure(task: Task, error: LstmRayError) -> str:
    """Returns what was wrong with a task's file, or with anything else; raised, Ray Data would only quote it."""
    if isinstance(error, errors.InputError):
        return json.dumps(asdict(tasks.bad_file(task, error)))
    return json.dumps({"raised": type(error).__name__, "message": str(error)})


def _parse_results(text: str) -> Iterator[Part | BadFile]:
    fields = json.loads(text)
    if isinstance(fields, list):
        yield from (Part(**part) for part in fields)
    elif "raised" in fields:
        raise getattr(errors, fields["raised"])(fields["message"])
    else:
        yield BadFile(**fields)


def _encode_layout(layout: PartLayout) -> dict[str, Any]:
    schema = layout.schema.serialize().to_pybytes()
    return {"schema": schema, "text_column": layout.text_column, "fingerprint": layout.fingerprint}


def _decode_layout(fields: dict[str, Any]) -> PartLayout:
    return PartLayout(**{**fields, "schema": pa.ipc.read_schema(pa.py_buffer(fields["schema"]))})


def _parse_task(text: str) -> Task:
    fields = json.loads(text)
    chunks = [Chunk(**{**chunk, "row_groups": tuple(chunk["row_groups"])}) for chunk in fields["chunks"]]
    return Task(InputFile(**fields["file"]), chunks)
