"""The arguments of an evaluation's tasks, with a fake Ray that runs them in this process."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from lstm_ray.config import EvaluateConfig
from lstm_ray.evaluate import ray_tasks
from lstm_ray.evaluate.evaluation import evaluate
from lstm_ray.kernels.emitter import Target
from lstm_ray.kernels.precision.choice import precisions_of
from lstm_ray.progress import ignore


def test_models_that_were_named_by_relative_paths_are_found_in_another_working_directory(
    tmp_path: Path, tiny_bundle: Path, make_bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def remote(num_cpus: int) -> Callable[[Any], Any]:
        def elsewhere(function: Any, *given: Any) -> Any:
            with monkeypatch.context() as there:
                there.chdir("/")
                return function(*given)

        return lambda function: SimpleNamespace(remote=lambda *given: elsewhere(function, *given))

    in_this_process = SimpleNamespace(
        put=lambda one: one, get=lambda one: one, remote=remote, cluster_resources=dict, exceptions=ray.exceptions
    )
    monkeypatch.setattr(ray_tasks, "ray", in_this_process)
    monkeypatch.setattr(ray_tasks, "connect", lambda *_: nullcontext(True))
    monkeypatch.setattr(pa, "set_cpu_count", lambda cores: None)
    monkeypatch.chdir(tmp_path)
    pq.write_table(pa.table({"text": ["a good film", "bad end"], "label": [1, 0]}), "reviews.parquet")
    given = {
        "inputs": ("reviews.parquet",),
        "model": os.path.relpath(tiny_bundle),
        "compare": os.path.relpath(make_bundle(seed=5)),
        "precision": precisions_of(Target.host())[-1],
    }
    here = evaluate(EvaluateConfig.model_validate(given), ignore)
    there = evaluate(EvaluateConfig.model_validate({**given, "address": "auto"}), ignore)
    assert there.metrics | {"rows_per_s": 0} == here.metrics | {"rows_per_s": 0}
    assert there.to_json()["comparison"] == here.to_json()["comparison"]
