"""Evaluation on Ray: one task for each shard; the driver adds up their counts in the order of the shards.

So the sums are equal to the last bit, whichever node evaluates a shard, and when.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple, TypeAlias

import pyarrow as pa
import ray

from lstm_ray import user_code
from lstm_ray.config import EvaluateConfig, Precision
from lstm_ray.datasets.labelled import Shard
from lstm_ray.errors import BundleError, LstmRayError
from lstm_ray.evaluate.shard import Models, ShardScores, evaluate_shard, ngrams_alone
from lstm_ray.model.bundle import Bundle, read_bundle
from lstm_ray.runtime.in_flight import in_order
from lstm_ray.runtime.nodes import check_paths
from lstm_ray.runtime.ray_session import connect, our_error
from lstm_ray.runtime.room import Asked
from lstm_ray.score.scorer import Scorer, pick_engine

_Code: TypeAlias = "tuple[tuple[str, bytes], ...]"  # the user's modules by path; hashable


class _Named(NamedTuple):
    """What a task needs to read a bundle: its path, its hash, the user modules of its network, and the precision."""

    path: str
    hash: str
    code: _Code
    precision: Precision


_TASKS_PER_CORE = 2  # submitted at once; each returns a MiB of counts for each model, and predictions if asked for
_MIN_TASKS = 64  # submitted at once, so that an autoscaler sees work for more nodes


def evaluate_on_ray(
    shards: Sequence[Shard],
    config: EvaluateConfig,
    bundle: Bundle,
    other: Bundle | None,
    notify: Callable[[str], None],
) -> Generator[ShardScores, None, None]:
    """Evaluates shards in Ray tasks of one core each and yields the results, in the order of the shards.

    Args:
        shards: The shards to evaluate.
        config: The settings; paths of models must be absolute, and `threshold` set.
        bundle: The model, as the driver read it.
        other: The model to compare with, if there is one.
        notify: Called with messages for the user: Ray starts, the cluster has to grow.

    Raises:
        LstmRayError: A task raised it, or no Ray can run the tasks.
    """
    assert config.address is not None
    with connect(config.address, Asked(1, 1, cpus=1, gpus=0), notify) as is_ours:
        if not is_ours:
            others = [] if config.compare is None else [config.compare]
            check_paths([config.model, *others, *(shard.file.path for shard in shards)])
        task = ray.remote(num_cpus=1)(_evaluate)
        settings = ray.put(config)
        models = tuple(  # by absolute paths, because a task has another working directory
            _Named(str(path), one.hash, tuple(one.sources().items()), precision)
            for path, one, precision in (
                (config.model, bundle, config.precision),
                (config.compare, other, EvaluateConfig.model_fields["precision"].default),
            )
            if one is not None
        )
        at_once = max(_MIN_TASKS, int(_TASKS_PER_CORE * ray.cluster_resources().get("CPU", 0)))
        try:
            yield from in_order(shards, lambda shard: task.remote(shard, settings, models), ray.get, most=at_once)
        except ray.exceptions.RayError as error:
            raise our_error(error, LstmRayError) from error


def _evaluate(shard: Shard, config: EvaluateConfig, models: tuple[_Named, ...]) -> ShardScores:
    return evaluate_shard(shard, config, _load(models))


@lru_cache(maxsize=1)  # a worker process evaluates many shards, perhaps of several runs in turn
def _load(models: tuple[_Named, ...]) -> Models:
    pa.set_cpu_count(1)
    (bundle, scorer), *others = map(_scorer_of, models)
    found = Models(scorer, bundle.seen(), ngrams=ngrams_alone(bundle, threads=1))
    for other, its_scorer in others:  # one, or none
        found = replace(found, other=its_scorer, other_seen=other.seen())
    return found


def _scorer_of(model: _Named) -> tuple[Bundle, Scorer]:
    bundle = read_bundle(model.path)
    if bundle.hash != model.hash:
        raise BundleError(f"{model.path}: changed since the evaluation began: run it again")
    # The tasks ask Ray for no GPU.
    engine = pick_engine("auto", False, bundle.model.network, model.precision)
    with user_code.unpacked(dict(model.code)):
        return bundle, Scorer(bundle, engine, threads=1, precision=model.precision)
