"""What scoring on Ray does around Ray Data; the scoring itself is tested in tests/integration/."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lstm_ray.config import Precision, ScoreConfig
from lstm_ray.errors import BundleError, ConfigError, LstmRayError
from lstm_ray.kernels.emitter import Target
from lstm_ray.model.bundle import read_bundle
from lstm_ray.runtime.ray_internals import IDLE_DATA_THREAD
from lstm_ray.score import ray_data, wire
from lstm_ray.score.parts import Part, finished_parts
from lstm_ray.score.plan import BadFile, make_plan
from lstm_ray.score.ray_data import (
    _encode_stage,
    _GpuActor,
    _idle_actors,
    _new_threads_ended,
    _quiet_data,
    _Run,
    _ScoringActor,
    _write_stage,
)
from lstm_ray.score.scorer import Scorer, make_engine
from lstm_ray.score.tasks import score_task


@pytest.mark.parametrize(
    ("given", "parts", "remedy"),
    [
        ({"actors": "9"}, 3, "--actors 2, or --actors 0 for few rows"),
        ({"actors": "9"}, 1, "--actors 1, or --actors 0 for few rows"),
        ({"actors": "9", "gpus_per_actor": 0.1}, 1, "--actors 1"),
        ({"actors": "9", "address": "head:6379"}, 3, "--actors 3"),
        ({"actors": "9"}, 9, None),
        ({"actors": "9"}, 0, None),
        ({"actors": "1:9"}, 3, None),
    ],
)
def test_more_actors_than_parts_are_noted(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, object], parts: int, remedy: str | None
) -> None:
    monkeypatch.setattr(ray_data, "available_cores", lambda: 2)
    note = _idle_actors(ScoreConfig.model_validate(given), parts)
    written = f"{parts} part{'s' if parts > 1 else ''} to write"
    said = f"9 actors for {written}: more actors than parts gain nothing: use {remedy}"
    assert note == (said if remedy else None)


def test_threads_begun_meanwhile_end_before_ray_does() -> None:
    for_ever = threading.Event()
    threading.Thread(target=for_ever.wait, name="known before", daemon=True).start()
    slow = threading.Thread(target=time.sleep, args=(0.5,))
    begun = time.monotonic()
    with _new_threads_ended():
        threading.Thread(target=for_ever.wait, name=IDLE_DATA_THREAD, daemon=True).start()
        slow.start()
    assert not slow.is_alive()
    assert time.monotonic() < begun + 10, "threads from before, and Ray Data's idle one, are not waited for"
    for_ever.set()


def test_calls_in_two_threads_do_not_wait_for_each_others_threads() -> None:
    both_in, first_is_out = threading.Barrier(2, timeout=20), threading.Event()
    begun = time.monotonic()

    def second() -> None:
        with _new_threads_ended():
            both_in.wait()
            assert first_is_out.wait(20)

    with ThreadPoolExecutor(1) as pool:
        with _new_threads_ended():
            done = pool.submit(second)
            both_in.wait()
        first_is_out.set()
        done.result(20)
    assert time.monotonic() < begun + 10


# Ray Data's context sets its own deprecated settings when it is made.
@pytest.mark.filterwarnings("ignore:`use_(push_based_shuffle|polars|arrow_tensor_v2)` is deprecated:DeprecationWarning")
def test_ray_data_is_as_loud_as_before_after_two_calls_at_once() -> None:
    import ray.data  # noqa: F401  # when it is imported first, it sets the level of its log

    log = logging.getLogger("ray.data")
    before = log.level
    first, second = _quiet_data(), _quiet_data()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert log.level == logging.CRITICAL != before
    second.__exit__(None, None, None)
    assert log.level == before


def test_an_actor_whose_gpu_tensorflow_does_not_see_fails(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it would score on one CPU core."""
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    pq.write_table(pa.table({"text": ["good"]}), tmp_path / "in.parquet")
    config = ScoreConfig(inputs=(str(tmp_path / "in.parquet"),), model=str(tiny_bundle), engine="keras")
    bundle = read_bundle(config.model)
    plan = make_plan(config, bundle.identity())
    (task,) = plan.tasks(set())
    run = _Run(config, plan.layout, bundle.hash, bundle.threshold, {})
    encoded = _encode_stage(pa.table({"tasks": [wire.tasks_to_text([task])]}), run)
    failed = _write_stage(_GpuActor(run)(encoded), run)
    with pytest.raises(LstmRayError, match=r"TensorFlow sees none: .* or leave out --gpus-per-actor to score on CPUs"):
        list(wire.results_from_text(failed["results"][0].as_py()))


def scored_by_an_actor(tmp_path: Path, bundle_path: Path, precision: Precision) -> list[Part | BadFile]:
    """Returns the results of an actor, in this process."""
    pq.write_table(pa.table({"text": ["a good film", "bad acting"]}), tmp_path / "in.parquet")
    given = {"inputs": (str(tmp_path / "in.parquet"),), "model": str(bundle_path), "output": str(tmp_path / "out")}
    config = ScoreConfig.model_validate({**given, "engine": "native", "actors": 1, "precision": precision})
    bundle = read_bundle(config.model)
    plan = make_plan(config, bundle.identity())
    (task,) = plan.tasks(set())
    actor = _ScoringActor(_Run(config, plan.layout, bundle.hash, bundle.threshold, {}))
    return list(wire.results_from_text(actor({"tasks": [wire.tasks_to_text([task])]})["results"][0]))


def test_an_actor_scores_in_the_precision_of_the_run(
    tmp_path: Path, tiny_bundle: Path, low_precision: Precision
) -> None:
    scored_by_an_actor(tmp_path, tiny_bundle, low_precision)
    (part,) = (tmp_path / "out").glob("part-*")
    expected = Scorer(read_bundle(str(tiny_bundle)), "native", 1, precision=low_precision).score(
        pq.read_table(tmp_path / "in.parquet")["text"]
    )
    assert pq.read_table(part)["sentiment_probability"].combine_chunks() == expected.probability


def test_an_actor_scores_small_files_together_and_sets_a_bad_one_aside(tmp_path: Path, tiny_bundle: Path) -> None:
    for name in "abc":
        pq.write_table(pa.table({"text": ["a good film", "bad acting"]}), tmp_path / f"{name}.parquet")
    config = ScoreConfig(inputs=(str(tmp_path),), model=str(tiny_bundle), output=str(tmp_path / "out"), engine="native")
    bundle = read_bundle(config.model)
    plan = make_plan(config, bundle.identity())
    (tmp_path / "b.parquet").write_bytes(b"")
    actor = _ScoringActor(_Run(config, plan.layout, bundle.hash, bundle.threshold, {}))
    (text,) = actor({"tasks": [wire.tasks_to_text(list(plan.tasks(set())))]})["results"]
    first, bad, third = wire.results_from_text(text)
    assert (first, third) == tuple(finished_parts(plan, config.output))
    assert isinstance(bad, BadFile)
    assert bad.error.startswith("has changed since the run was planned")


def test_an_actor_that_cannot_read_the_model_says_so_for_every_task(tmp_path: Path, tiny_bundle: Path) -> None:
    pq.write_table(pa.table({"text": ["good"]}), tmp_path / "in.parquet")
    config = ScoreConfig(inputs=(str(tmp_path / "in.parquet"),), model=str(tiny_bundle), output=str(tmp_path / "out"))
    plan = make_plan(config, "hash")
    (task,) = plan.tasks(set())
    actor = _ScoringActor(_Run(config, plan.layout, "the hash of another bundle", 0.5, {}))
    assert isinstance(actor._scorer, LstmRayError)
    traceback = actor._scorer.__traceback__
    for _ in range(2):
        (result,) = actor({"tasks": [wire.tasks_to_text([task])]})["results"]
        with pytest.raises(BundleError, match="has changed since the run was planned"):
            list(wire.results_from_text(result))
    assert actor._scorer.__traceback__ is traceback, "it does not grow with each task"


def test_an_actor_whose_processor_lacks_the_precision_ends_the_run(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = Target.of("haswell", {"avx2": True, "fma": True})
    monkeypatch.setattr(Target, "host", classmethod(lambda cls: target))
    with pytest.raises(ConfigError, match=r"^--precision int8 needs a processor with VNNI; the one of .* has none"):
        scored_by_an_actor(tmp_path, tiny_bundle, "int8")


def test_the_stages_around_a_gpu_count_what_one_process_counts(tmp_path: Path, tiny_bundle: Path) -> None:
    texts = ["a good film", None, "bad unheard-of words", "long " * 50] * 30
    pq.write_table(pa.table({"text": texts}), tmp_path / "in.parquet")
    config = ScoreConfig(inputs=(str(tmp_path / "in.parquet"),), model=str(tiny_bundle), output=str(tmp_path / "out"))
    bundle = read_bundle(config.model)
    plan = make_plan(config, bundle.identity())
    (task,) = plan.tasks(set())
    run = _Run(config, plan.layout, bundle.hash, bundle.threshold, {})
    actor = _GpuActor(run)
    vars(actor)["_engine"] = make_engine(bundle, "native", 1)  # there is no GPU
    written = _write_stage(actor(_encode_stage(pa.table({"tasks": [wire.tasks_to_text([task])]}), run)), run)
    (part,) = wire.results_from_text(written["results"][0].as_py())
    with Scorer(bundle, "native", 1) as scorer:
        (expected,) = score_task(task, plan.layout, scorer, str(tmp_path / "here"))
    assert part == expected
    assert expected.profile["truncated"] == expected.profile["without_words"] == 30
