"""A scoring run: planned, scored, finished; in this process or on Ray. A rerun does only what is missing."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field

from lstm_ray import storage
from lstm_ray.config import ScoreConfig, paths_of, to_yaml, with_paths
from lstm_ray.errors import ConfigError, InputError, LstmRayError, OutputError
from lstm_ray.kernels.emitter import slow_note
from lstm_ray.model.bundle import Bundle, read_bundle
from lstm_ray.runtime.devices import has_gpu
from lstm_ray.score import tasks
from lstm_ray.score.plan import BadFile, Plan, Progress, Task, check_bad_files, make_plan
from lstm_ray.score.scorer import Scorer, pick_engine
from lstm_ray.score.tasks import Part
from lstm_ray.storage.inputs import check_apart
from lstm_ray.wording import counted

_LOCK = "_plan/lock"
_TASKS_AT_ONCE = 2  # one reads and writes while the other computes

Notify = Callable[[str], None]


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


@dataclass
class Tally:
    """The parts that are done, and what they come to."""

    done: set[str] = field(default_factory=set)
    rows: int = 0
    positives: int = 0
    errors: Counter[str] = field(default_factory=Counter)

    def add(self, part: Part) -> None:
        """Counts a part."""
        self.done.add(part.name)
        self.rows += part.rows
        self.positives += part.positives
        self.errors.update(part.errors)

    def remove(self, part: Part) -> None:
        """Takes a part out of the count."""
        self.done.remove(part.name)
        self.rows -= part.rows
        self.positives -= part.positives
        self.errors.subtract(part.errors)


Results = Generator[Part | BadFile, None, None]
ScoreAll = Callable[[ScoreConfig, Bundle, Plan, Collection[str]], Results]
"""Scores what is not among the parts done, and yields results as they come."""


def score(
    config: ScoreConfig, notify: Notify, progress: Progress, planning: Progress = lambda done, total: None
) -> Manifest:
    """Scores the input, or what is missing of it.

    Args:
        config: What to score with what.
        notify: Hears what is being done.
        progress: Hears how many rows are scored.
        planning: Hears how many input files have been looked at.

    Raises:
        BundleError: The model cannot be used.
        InputError: The input cannot be used, or more files are bad than allowed.
        OutputError: The output holds something else, is being written by another run, or cannot be written.
    """
    started = time.perf_counter()
    config = _with_places(config)
    check_apart(config.inputs, config.output, "part-0.parquet", "so a rerun would read its own scores")
    storage.check_writable(config.output)
    bundle = read_bundle(config.model)
    if note := bundle.note():
        notify(note)
    # Decided here, once: a run that goes on elsewhere must not mix the last bits of two engines.
    is_on_gpu = has_gpu() if config.actors == "0" else config.gpus_per_actor > 0
    config = config.model_copy(update={"engine": pick_engine(config.engine, is_on_gpu, bundle.model.network)})
    if config.engine == "cpu" and (note := slow_note()):
        notify(note)
    notify("planning: reading the input's footers")
    plan = make_plan(config, bundle.identity(), planning)
    if not plan.rows:
        raise InputError(f"{', '.join(config.inputs)}: no rows to score")
    notify(f"{counted(plan.rows, 'row')} in {counted(len(plan.files), 'file')}, to be {counted(plan.parts, 'part')}")
    _check_output(config, plan)
    with _locked(config.output):
        _check_output(config, plan)  # again: the run that wrote here may have ended in between
        _clear_output(config, plan)
        _write_plan(config, plan)
        tally = Tally()
        for part in tasks.finished_parts(plan, config.output):
            tally.add(part)
        kept_parts, kept_rows = len(tally.done), tally.rows
        if kept_parts:
            notify(f"{counted(kept_parts, 'part')} there already")
        progress(kept_rows, plan.rows)
        bad = {file.path: file for file in plan.bad_files}
        with contextlib.closing(_score_all(config, notify)(config, bundle, plan, tally.done)) as results:
            # Closed on a failure too: what still runs ends before the lock is given back.
            for result in results:
                if isinstance(result, BadFile):
                    bad[result.path] = result
                    check_bad_files(list(bad.values()), config.max_bad_files)
                else:
                    tally.add(result)
                    progress(tally.rows, plan.rows)
        _finish(config, plan, tally, list(bad.values()))
        seconds = time.perf_counter() - started
        manifest = Manifest(
            output=config.output,
            parts=len(tally.done),
            parts_kept=kept_parts,
            rows=tally.rows,
            positives=tally.positives,
            errors=dict(sorted((+tally.errors).items())),
            bad_files=len(bad),
            seconds=seconds,
            rows_per_s=max(0, tally.rows - kept_rows) / seconds,
            model_hash=bundle.hash,
            fingerprint=plan.layout.fingerprint,
        )
        content = json.dumps(asdict(manifest), indent=2) + "\n"
        storage.write_bytes(storage.join(config.output, "_manifest.json"), content.encode())
        storage.write_bytes(storage.join(config.output, "_SUCCESS"), b"")
        return manifest


@contextlib.contextmanager
def _locked(output: str) -> Iterator[None]:
    """Keeps other runs out. A run that is refused before its first part leaves nothing behind in a new place."""
    was_there, was_empty = storage.exists(output), not storage.list_names(output)
    with storage.locked(output, _LOCK):
        try:
            yield
        except LstmRayError:
            if was_empty and storage.list_names(output) == ["_plan"]:
                storage.delete(storage.join(output, "_plan") if was_there else output)
            raise


def _with_places(config: ScoreConfig) -> ScoreConfig:
    """Returns the settings with paths that mean the same everywhere, URIs with the options of their stores."""
    options = config.filesystem_option
    if options and not any("://" in path for paths in paths_of(config).values() for path in paths):
        raise ConfigError("--filesystem-option is for URIs, and all paths here are local")
    config = with_paths(config, lambda path: storage.with_options(storage.absolute(path), options))
    return config.model_copy(update={"filesystem_option": ()})


def score_here(config: ScoreConfig, bundle: Bundle, plan: Plan, done: Collection[str]) -> Results:
    """Scores in this process, on all its cores."""
    tasks = plan.tasks(done)
    first = next(tasks, None)
    if first is None:
        return
    tasks = itertools.chain([first], tasks)
    scorer = Scorer(bundle, config.engine)
    results: queue.SimpleQueue[Part | BadFile | None] = queue.SimpleQueue()
    taking, stopped = threading.Lock(), threading.Event()

    def take() -> Task | None:
        with taking:
            return None if stopped.is_set() else next(tasks, None)

    def work() -> None:
        try:
            while task := take():
                for result in _score_task(task, plan, scorer, config.output):
                    results.put(result)
                    if stopped.is_set():
                        return
        except BaseException:  # raised again below, when the other worker has stopped too
            stopped.set()
            raise
        finally:
            results.put(None)

    with ThreadPoolExecutor(_TASKS_AT_ONCE) as pool:
        workers = [pool.submit(work) for _ in range(_TASKS_AT_ONCE)]
        try:
            for _ in workers:
                while (result := results.get()) is not None:
                    yield result
            for worker in workers:
                worker.result()  # raises what ended it
        finally:
            stopped.set()  # on a failure or Ctrl-C: who is at a part finishes it


def _score_task(task: Task, plan: Plan, scorer: Scorer, output: str) -> Iterator[Part | BadFile]:
    try:
        yield from tasks.score_task(task, plan.layout, scorer, output)
    except InputError as error:
        yield tasks.bad_file(task, error)


def _score_all(config: ScoreConfig, notify: Notify) -> ScoreAll:
    if config.actors == "0":
        return score_here
    from lstm_ray.score.ray_data import score_on_ray

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
        "parts": plan.parts,
        "files": [asdict(file) for file in plan.files],
        "bad_files": [asdict(file) for file in plan.bad_files],
    }
    storage.write_bytes(storage.join(config.output, "_plan/config.yaml"), to_yaml(config).encode())
    storage.write_bytes(storage.join(config.output, "_plan/plan.json"), (json.dumps(summary, indent=1) + "\n").encode())


def _finish(config: ScoreConfig, plan: Plan, tally: Tally, bad_files: list[BadFile]) -> None:
    """Takes away what does not belong to the result, and checks that all the rest is there."""
    bad_chunks = list(plan.chunks_of({file.path for file in bad_files}))
    for chunk in bad_chunks:  # some may have been written before the file turned out to be bad
        part = tasks.read_part(storage.join(config.output, chunk.part_name), plan.layout.fingerprint)
        if part is not None and part.name in tally.done:
            tally.remove(part)
    if missing := plan.parts - len(bad_chunks) - len(tally.done):
        raise LstmRayError(f"{config.output}: {counted(missing, 'part')} not written: run the same command again")
    for name in storage.list_names(config.output):
        if name.startswith("part-") and name not in tally.done:
            storage.delete(storage.join(config.output, name))
    storage.delete_unfinished(config.output)  # of an actor that was killed and replaced
    tasks.write_bad_files(config.output, bad_files)
