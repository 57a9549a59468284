"""A scoring run: planned, scored, finished; in this process or on Ray. A rerun does only what is missing."""

from __future__ import annotations

import contextlib
import functools
import json
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass

from lstm_ray import storage
from lstm_ray.config import ScoreConfig, to_yaml
from lstm_ray.errors import InputError, LstmRayError, OutputError
from lstm_ray.model.bundle import Bundle, read_bundle
from lstm_ray.score import sink
from lstm_ray.score.plan import BadFile, Plan, Task, check_bad_files, make_plan
from lstm_ray.score.scorer import Scorer, has_gpu, pick_engine
from lstm_ray.score.sink import Part
from lstm_ray.wording import counted

_LOCK = "_plan/lock"
_TASKS_AT_ONCE = 2  # one reads and writes while the other computes

Notify = Callable[[str], None]
Progress = Callable[[int, int], None]
"""Hears (rows done, rows in all)."""


@dataclass(frozen=True)
class Manifest:
    """What a scoring run did.

    Attributes:
        output: Where the parts lie.
        parts: Output files.
        parts_kept: Those of them that an earlier run had written.
        rows: In all parts.
        positives: Rows whose sentiment is positive.
        errors: Rows without a score, by reason.
        bad_files: Input files set aside.
        seconds: Of this run, reading the model and planning included.
        rows_per_s: Rows that this run scored, by its seconds.
        model_hash: Of the bundle.
        fingerprint: Of the plan.
    """

    output: str
    parts: int
    parts_kept: int
    rows: int
    positives: int
    errors: dict[str, int]
    bad_files: int
    seconds: float
    rows_per_s: float
    model_hash: str
    fingerprint: str


Results = Generator[list[Part] | BadFile, None, None]
ScoreAll = Callable[[ScoreConfig, Bundle, Plan, Iterable[Task]], Results]
"""Runs `sink.score_task` over tasks and yields results as they come."""


def score(config: ScoreConfig, notify: Notify, progress: Progress) -> Manifest:
    """Scores the input, or what is missing of it.

    Raises:
        BundleError: The model cannot be used.
        InputError: The input cannot be used, or more files are bad than allowed.
        OutputError: The output holds something else, is being written by another run, or cannot be written.
    """
    started = time.perf_counter()
    paths = {"model": storage.absolute(config.model), "output": storage.absolute(config.output)}
    # Decided here, once: a run that goes on elsewhere must not mix the last bits of two engines.
    engine = pick_engine(config.engine, has_gpu() if config.actors == "0" else config.gpus_per_actor > 0)
    config = config.model_copy(update={**paths, "engine": engine})
    storage.check_writable(config.output)
    bundle = read_bundle(config.model)
    notify("planning: reading the input's footers")
    plan = make_plan(config, bundle.hash)
    if not plan.rows:
        raise InputError(f"{', '.join(config.inputs)}: no rows to score")
    notify(
        f"{counted(plan.rows, 'row')} in {counted(len(plan.files), 'file')}, to be {counted(len(plan.chunks), 'part')}"
    )
    _check_output(config, plan)
    with storage.locked(config.output, _LOCK):
        _check_output(config, plan)  # again: the run that wrote here may have ended in between
        _clear_output(config, plan)
        _write_plan(config, plan)
        parts = sink.finished_parts(plan, config.output)
        kept = len(parts)
        done_before = done = sum(part.rows for part in parts.values())
        if kept:
            notify(f"{counted(kept, 'part')} there already")
        progress(done, plan.rows)
        bad = {file.path: file for file in plan.bad_files}
        tasks = list(plan.tasks(set(parts)))
        with contextlib.closing(_score_all(config, notify)(config, bundle, plan, tasks)) as results:
            # Closed on a failure too: what still runs ends before the lock is given back.
            for result in results:
                if isinstance(result, BadFile):
                    bad[result.path] = result
                    check_bad_files(list(bad.values()), config.max_bad_files)
                    continue
                parts.update((part.name, part) for part in result)
                done += sum(part.rows for part in result)
                progress(done, plan.rows)
        return _finish(config, plan, bundle, parts, kept, list(bad.values()), done - done_before, started)


def score_here(config: ScoreConfig, bundle: Bundle, plan: Plan, tasks: Iterable[Task]) -> Results:
    """Scores in this process, on all its cores."""
    tasks = list(tasks)
    if not tasks:
        return
    scorer = Scorer(bundle, config.engine)
    with ThreadPoolExecutor(_TASKS_AT_ONCE) as pool:
        running = set()
        for task in tasks:
            running.add(pool.submit(sink.score_task, task, plan.layout, scorer, config.output))
            if len(running) == _TASKS_AT_ONCE:
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in finished)
        yield from (future.result() for future in running)


def _score_all(config: ScoreConfig, notify: Notify) -> ScoreAll:
    if config.actors == "0":
        return score_here
    from lstm_ray.score.pipeline import score_on_ray

    notify("starting Ray" if config.address == "local" else f"connecting to Ray at {config.address}")
    return functools.partial(score_on_ray, notify=notify)


def _check_output(config: ScoreConfig, plan: Plan) -> None:
    """Checks that the output is empty, belongs to this plan, or may be overwritten.

    Raises:
        OutputError: It holds something else.
    """
    names = storage.list_names(config.output)
    if not names:
        return
    if "_plan" not in names:
        raise OutputError(f"{config.output}: not empty, and not written by lstm-ray score: choose another --output")
    if names == ["_plan"] or config.overwrite:  # alone, it is of a run that ended before it wrote a part
        return
    if _planned_fingerprint(config.output) != plan.layout.fingerprint:
        raise OutputError(
            f"{config.output}: holds the scores of other inputs, another model or other settings: choose another "
            "--output, or --overwrite to delete them"
        )


def _clear_output(config: ScoreConfig, plan: Plan) -> None:
    """Takes away what another plan or a killed run has left. `_plan` stays: by it a rerun knows what to finish."""
    if _planned_fingerprint(config.output) != plan.layout.fingerprint:
        for name in storage.list_names(config.output):
            if name != "_plan":
                storage.delete(storage.join(config.output, name))
    for directory in (config.output, storage.join(config.output, "_plan")):
        storage.delete_unfinished(directory)


def _planned_fingerprint(output: str) -> str | None:
    path = storage.join(output, "_plan/plan.json")
    if not storage.exists(path):
        return None
    try:
        return str(json.loads(storage.read_bytes(path))["fingerprint"])
    except (ValueError, KeyError, TypeError):
        return None


def _write_plan(config: ScoreConfig, plan: Plan) -> None:
    """Writes what the run is going to do, for people and for the next run."""
    storage.delete(storage.join(config.output, "_SUCCESS"))
    summary = {
        "fingerprint": plan.layout.fingerprint,
        "rows": plan.rows,
        "parts": len(plan.chunks),
        "files": [asdict(file) for file in plan.files],
        "bad_files": [asdict(file) for file in plan.bad_files],
    }
    storage.write_bytes(storage.join(config.output, "_plan/config.yaml"), to_yaml(config).encode())
    storage.write_bytes(storage.join(config.output, "_plan/plan.json"), (json.dumps(summary, indent=1) + "\n").encode())


def _finish(
    config: ScoreConfig,
    plan: Plan,
    bundle: Bundle,
    parts: dict[str, Part],
    kept: int,
    bad_files: list[BadFile],
    rows_scored: int,
    started: float,
) -> Manifest:
    """Takes away what does not belong to the result, writes the manifest, and `_SUCCESS` last."""
    bad_paths = {file.path for file in bad_files}
    wanted = {chunk.part_name for chunk in plan.chunks if plan.files[chunk.file].path not in bad_paths}
    for name in storage.list_names(config.output):
        if name.startswith("part-") and name not in wanted:
            storage.delete(storage.join(config.output, name))
    parts = {name: part for name, part in parts.items() if name in wanted}
    if missing := wanted - set(parts):
        raise LstmRayError(f"{config.output}: {counted(len(missing), 'part')} not written: run the same command again")
    sink.write_bad_files(config.output, bad_files)
    errors: Counter[str] = Counter()
    for part in parts.values():
        errors.update(part.errors)
    seconds = time.perf_counter() - started
    manifest = Manifest(
        output=config.output,
        parts=len(parts),
        parts_kept=kept,
        rows=sum(part.rows for part in parts.values()),
        positives=sum(part.positives for part in parts.values()),
        errors=dict(sorted(errors.items())),
        bad_files=len(bad_files),
        seconds=seconds,
        rows_per_s=rows_scored / seconds,
        model_hash=bundle.hash,
        fingerprint=plan.layout.fingerprint,
    )
    storage.write_bytes(
        storage.join(config.output, "_manifest.json"), (json.dumps(asdict(manifest), indent=2) + "\n").encode()
    )
    storage.write_bytes(storage.join(config.output, "_SUCCESS"), b"")
    return manifest
