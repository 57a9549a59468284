"""Scoring on Ray Data: a pool of actors, each scoring the tasks of a plan it is handed.

    driver: tasks as plain numbers -> ray.data.from_items -> actors run sink.score_task -> counts back to the driver

No text passes through Ray's object store: an actor reads its rows from the input and writes its parts to the output.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import ray
import ray.data

from lstm_ray.config import ScoreConfig
from lstm_ray.model.bundle import Bundle, read_bundle
from lstm_ray.ray_session import connect
from lstm_ray.score import sink
from lstm_ray.score.plan import BadFile, Chunk, Plan
from lstm_ray.score.scorer import Scorer
from lstm_ray.score.sink import Part


def score_on_ray(
    config: ScoreConfig, bundle: Bundle, plan: Plan, tasks: Iterable[list[Chunk]]
) -> Iterator[list[Part] | BadFile]:
    """Scores on `config.actors` Ray actors and yields results as they come."""
    del bundle  # each actor reads it from config.model
    items = [{"task": json.dumps([asdict(chunk) for chunk in task])} for task in tasks]
    if not items:
        return
    actors = min(config.actors, len(items))
    with connect(config.address, cpus=actors * config.cpus_per_actor):
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.verbose_progress = False
        files = Plan(plan.files, [], plan.schema, plan.kept, fingerprint=plan.fingerprint)
        results = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            _ScoringActor,
            fn_constructor_args=(config.model_dump(mode="json"), ray.put(files)),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=actors),
            num_cpus=config.cpus_per_actor,
            num_gpus=config.gpus_per_actor,
        )
        for row in results.iter_rows():
            yield _parse(row["result"])


class _ScoringActor:
    """Holds a scorer; runs on a Ray worker."""

    def __init__(self, settings: dict[str, Any], plan: Any) -> None:
        self._config = ScoreConfig.model_validate(settings)
        self._plan: Plan = ray.get(plan)
        threads = max(1, int(self._config.cpus_per_actor))
        pa.set_cpu_count(threads)
        self._scorer = Scorer(read_bundle(self._config.model), self._config.engine, threads)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        task = [_chunk(**fields) for fields in json.loads(batch["task"][0])]
        result = sink.score_task(self._plan, task, self._scorer, self._config.text_column, self._config.output)
        fields = asdict(result) if isinstance(result, BadFile) else [asdict(part) for part in result]
        return {"result": [json.dumps(fields)]}


def _chunk(row_groups: list[int], **fields: int) -> Chunk:
    return Chunk(row_groups=(row_groups[0], row_groups[1]), **fields)


def _parse(result: str) -> list[Part] | BadFile:
    fields = json.loads(result)
    return BadFile(**fields) if isinstance(fields, dict) else [Part(**part) for part in fields]
