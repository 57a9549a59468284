"""A scoring run: planned, scored, completed; in this process or on Ray. A rerun does only what is missing.

From a review in Parquet to its score:

    plan.py                    footers read, row groups cut into chunks, fingerprint   (columns.py: the parts' columns)
    output.py                  the output directory checked, locked and cleared
    local.py or ray_data.py    tasks handed out: to two threads here, or to Ray actors
    tasks.py                   one task: read, score, write
    reading.py                 the rows of its chunks
    scorer.py                  texts to token ids, token ids to probabilities (engine.py: the native engine)
    parts.py                   a part written, or recognised in a later run
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Generator, Iterator
from dataclasses import replace

import numpy as np

from lstm_ray import storage
from lstm_ray.config import ScoreConfig, paths_of, with_paths
from lstm_ray.errors import ConfigError, InputError
from lstm_ray.kernels.emitter import Target, slow_note
from lstm_ray.kernels.precision.choice import check_precision
from lstm_ray.model.bundle import Bundle, read_bundle
from lstm_ray.model.drift import compare, warn
from lstm_ray.model.trained_columns import columns_of_training_named
from lstm_ray.progress import Count, Progress
from lstm_ray.report.scoring_page import scoring_report
from lstm_ray.runtime.tensorflow import has_gpu
from lstm_ray.score.local import score_here
from lstm_ray.score.output import (
    Manifest,
    check_output,
    check_parts,
    describe_files,
    finish_output,
    finish_replacing,
    locked_output,
    start_output,
    write_manifest,
)
from lstm_ray.score.parts import FileCounts, Part, Tally, finished_parts
from lstm_ray.score.plan import BadFile, Plan, check_bad_files, make_plan
from lstm_ray.score.scorer import check_band, pick_engine
from lstm_ray.storage.inputs import check_apart
from lstm_ray.wording import counted


def score(config: ScoreConfig, progress: Progress) -> Manifest:
    """Scores the input, or what is missing of it.

    Args:
        config: What to score with what.
        progress: Receives a message at each stage, the input files whose footer is read, and the rows that are scored.

    Raises:
        BundleError: The model cannot be used.
        InputError: The input cannot be used, or more files are bad than allowed.
        OutputError: The output holds something else, is being written by another run, or cannot be written.
    """
    started = time.perf_counter()
    config = _with_absolute_paths(config)
    check_apart(config.inputs, config.output, "part-0.parquet", "so a rerun would read its own scores")
    storage.check_writable(config.output)
    bundle = read_bundle(config.model)
    if note := bundle.note():
        progress(note)
    threshold = bundle.threshold if config.threshold is None else config.threshold
    check_band(config.decision[1], threshold)
    config = _with_engine(config, bundle, progress)
    plan = _plan(config, bundle, progress)
    check_output(config, plan)
    with locked_output(config.output):
        check_output(config, plan)  # again: the run that held the lock may have ended
        check_parts(config.output, plan)
        directory = start_output(config, plan, progress)
        if directory != config.output:
            progress("the old scores stay until the new ones are complete")
        tally = _tally_finished(plan, directory, progress)
        kept_parts, kept_rows = len(tally.done), tally.rows
        bad_files = _score_missing(config.model_copy(update={"output": directory}), bundle, plan, tally, progress)
        finish_output(directory, plan, tally, bad_files)
        seconds = time.perf_counter() - started
        manifest = Manifest(
            output=config.output,
            parts=len(tally.done),
            parts_kept=kept_parts,
            rows=tally.rows,
            positives=tally.positives,
            errors=dict(sorted((+tally.errors).items())),
            bad_files=len(bad_files),
            seconds=seconds,
            rows_per_s=max(0, tally.rows - kept_rows) / seconds,
            model_hash=bundle.hash,
            fingerprint=plan.layout.fingerprint,
            profile=tally.profile.to_json(),
            files=describe_files(plan, tally),
            unsure=tally.unsure,
        )
        is_as_trained = config.unsure is None and threshold == bundle.threshold
        positive = manifest.positives / max(manifest.scored, 1) if is_as_trained else None
        movements = compare(tally.profile, bundle.profile, positive)
        manifest = replace(manifest, moved={one.name: one.to_json() for one in movements})
        settings = {**config.model_dump(mode="json"), "threshold": threshold}
        report = scoring_report(manifest, tally.profile, bundle.profile, movements, settings)
        write_manifest(manifest, report, directory)
        finish_replacing(config.output)
        if warning := warn(movements, config.max_rows):
            progress(f"warning: {warning}")
        return manifest


def _with_absolute_paths(config: ScoreConfig) -> ScoreConfig:
    """Returns the settings with paths that mean the same everywhere, URIs with the options of their stores."""
    options = config.filesystem_option
    if options and not any("://" in path for paths in paths_of(config).values() for path in paths):
        raise ConfigError("--filesystem-option is for URIs, and all paths here are local")
    config = with_paths(config, lambda path: storage.with_options(storage.absolute(path), options))
    return config.model_copy(update={"filesystem_option": ()})


def _with_engine(config: ScoreConfig, bundle: Bundle, progress: Progress) -> ScoreConfig:
    """Returns the settings with the engine that scores; reports what makes it slow.

    It is chosen once, here: a run resumed elsewhere must not mix results of two engines, whose last bits differ.

    Raises:
        ConfigError: The engine cannot compute the network, or the processor lacks the instructions of the precision.
    """
    is_on_gpu = config.engine == "auto" and has_gpu() if config.actors == "0" else config.gpus_per_actor > 0
    engine = pick_engine(config.engine, is_on_gpu, bundle.model.network, config.precision)
    if config.actors == "0":
        check_precision(config.precision, Target.host())  # else each actor checks its own processor
    if engine == "native" and (note := slow_note()):
        progress(f"note: {note}")
    if config.explain:
        progress(
            "note: --explain scores a row again for every word in it: rows of 20 words take about 15 times as long"
        )
    return config.model_copy(update={"engine": engine})


def _plan(config: ScoreConfig, bundle: Bundle, progress: Progress) -> Plan:
    """Plans the run and reports its size.

    Raises:
        InputError: The input cannot be used, or more files are bad than allowed.
    """
    progress("planning: reading the input's footers")
    with columns_of_training_named(config):
        plan = make_plan(config, bundle.identity(), progress)
    if not plan.rows and config.fail_if_empty:
        raise InputError(f"{', '.join(config.inputs)}: no rows to score")
    files = len({chunk.file for chunk in plan.chunks()}) if plan.rows == config.max_rows else len(plan.files)
    progress(f"{counted(plan.rows, 'row')} in {counted(files, 'file')}, {counted(plan.parts, 'part')} to write")
    return plan


def _tally_finished(plan: Plan, directory: str, progress: Progress) -> Tally:
    """Returns the tally of the parts that are already done, and reports them."""
    tally = Tally(np.zeros((max(1, len(plan.files)), len(FileCounts._fields)), np.int64))
    for part in finished_parts(plan, directory):
        tally.add(part)
    if tally.done:
        progress(f"{counted(len(tally.done), 'part')} already done")
    progress(Count(tally.rows, plan.rows, "rows"))
    return tally


def _score_missing(config: ScoreConfig, bundle: Bundle, plan: Plan, tally: Tally, progress: Progress) -> list[BadFile]:
    """Scores what is not done yet and adds it to the tally; returns the bad files, those of the plan first.

    Raises:
        InputError: More files are bad than allowed, or all that have rows.
    """
    bad = {file.path: file for file in plan.bad_files}
    good: set[str] = set()  # files with rows; looked for at the first bad one, once: there may be many of both
    # Closed on a failure too: the work in progress ends before the lock is released.
    with (
        _all_parts_counted(plan, config.output, progress),
        contextlib.closing(_score_all(config, bundle, plan, tally.done, progress)) as results,
    ):
        for result in results:
            if isinstance(result, BadFile):
                good = good or {plan.files[chunk.file].path for chunk in plan.chunks()}
                good.discard(result.path)
                bad[result.path] = result
                check_bad_files(list(bad.values()), config.max_bad_files, not good)
            else:
                tally.add(result)
                progress(Count(tally.rows, plan.rows, "rows"))
    return list(bad.values())


@contextlib.contextmanager
def _all_parts_counted(plan: Plan, directory: str, progress: Progress) -> Iterator[None]:
    """On Ctrl-C, reports the rows of all parts that are written: actors have not reported those of unfinished tasks."""
    try:
        yield
    except KeyboardInterrupt:
        names = set(storage.list_names(directory))
        progress(Count(sum(chunk.rows for chunk in plan.chunks() if chunk.part_name in names), plan.rows, "rows"))
        raise


def _score_all(
    config: ScoreConfig, bundle: Bundle, plan: Plan, done: Collection[str], progress: Progress
) -> Generator[Part | BadFile, None, None]:
    """Scores what is not among the parts done; yields parts and bad files as they come."""
    if config.actors == "0":
        return score_here(config, bundle, plan, done)
    from lstm_ray.score.ray_data import score_on_ray

    return score_on_ray(config, bundle, plan, done, progress)
