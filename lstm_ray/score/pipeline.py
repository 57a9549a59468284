"""Scoring on Ray Data: a pool of actors, each scoring the tasks of a plan it is handed.

    driver: tasks as plain numbers -> ray.data.from_items -> actors run sink.score_task -> counts back to the driver

No text passes through Ray's object store: an actor reads its rows from the input and writes its parts to the output.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Generator, Iterable
from dataclasses import asdict
from functools import cached_property
from typing import Any

import pyarrow as pa
import ray
import ray.data

from lstm_ray import errors
from lstm_ray.config import ScoreConfig
from lstm_ray.errors import LstmRayError
from lstm_ray.model.bundle import Bundle, read_bundle
from lstm_ray.nodes import check_paths
from lstm_ray.ray_session import connect, our_error
from lstm_ray.score import sink
from lstm_ray.score.plan import BadFile, Chunk, Layout, Plan, Task
from lstm_ray.score.scorer import Scorer
from lstm_ray.score.sink import Part
from lstm_ray.storage import InputFile


def score_on_ray(
    config: ScoreConfig, bundle: Bundle, plan: Plan, tasks: Iterable[Task], notify: Callable[[str], None]
) -> Generator[list[Part] | BadFile, None, None]:
    """Scores on a pool of Ray actors and yields results as they come."""
    del bundle  # each actor reads it from config.model
    items = [{"task": json.dumps(asdict(task))} for task in tasks]
    if not items:
        return
    least, most = (min(count, len(items)) for count in config.actor_limits)
    cpus, gpus = most * config.cpus_per_actor, least * config.gpus_per_actor
    with connect(config.address, cpus, gpus, notify, least_cpus=least * config.cpus_per_actor):
        if config.address != "local":
            check_paths([config.model, *(file.path for file in plan.files)], config.output)
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what ends the run is raised
        ray.data.DataContext.get_current().enable_progress_bars = False
        results = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            _ScoringActor,
            fn_constructor_args=(config.model_dump(mode="json"), _encode_layout(plan.layout)),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(min_size=least, max_size=most),
            num_cpus=config.cpus_per_actor,
            num_gpus=config.gpus_per_actor,
        )
        try:
            for row in results.iter_rows():
                yield _parse_result(row["result"])
        except ray.exceptions.RayError as error:
            raise our_error(error, LstmRayError) from error


class _ScoringActor:
    """Holds a scorer; runs on a Ray worker."""

    def __init__(self, settings: dict[str, Any], layout: dict[str, Any]) -> None:
        config = ScoreConfig.model_validate(settings)
        self._config = config
        self._threads = max(1, int(config.cpus_per_actor))
        pa.set_cpu_count(self._threads)
        self._layout = _decode_layout(layout)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        try:
            result = sink.score_task(_parse_task(batch["task"][0]), self._layout, self._scorer, self._config.output)
        except LstmRayError as error:  # Ray Data would raise an error of its own that only quotes it
            return {"result": [json.dumps({"raised": type(error).__name__, "message": str(error)})]}
        return {"result": [json.dumps(asdict(result) if isinstance(result, BadFile) else [asdict(p) for p in result])]}

    @cached_property  # made for the first task, so that an error in it is handed over too
    def _scorer(self) -> Scorer:
        return Scorer(read_bundle(self._config.model), self._config.engine, self._threads)


def _encode_layout(layout: Layout) -> dict[str, Any]:
    schema = layout.schema.serialize().to_pybytes()
    return {"schema": schema, "text_column": layout.text_column, "fingerprint": layout.fingerprint}


def _decode_layout(fields: dict[str, Any]) -> Layout:
    return Layout(**{**fields, "schema": pa.ipc.read_schema(pa.py_buffer(fields["schema"]))})


def _parse_task(text: str) -> Task:
    fields = json.loads(text)
    chunks = [Chunk(**{**chunk, "row_groups": tuple(chunk["row_groups"])}) for chunk in fields["chunks"]]
    return Task(InputFile(**fields["file"]), chunks)


def _parse_result(text: str) -> list[Part] | BadFile:
    fields = json.loads(text)
    if "raised" in fields:
        raise getattr(errors, fields["raised"])(fields["message"])
    return BadFile(**fields) if isinstance(fields, dict) else [Part(**part) for part in fields]
