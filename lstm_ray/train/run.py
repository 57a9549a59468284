"""A training run: started or resumed, trained, completed; in this process or on Ray.

OUTPUT/config.yaml  model/  vectors/  checkpoints/  tensorboard/
       history.parquet  history.png  metrics.json  report.html

    checks.py      checks before the run starts      resume.py      whether the directory's run can be resumed
    warm_start.py  the model to start from           unlabelled.py  word vectors learned before the run
    best.py        settings chosen for the data      results.py     what is written at the end
    local.py       this process as the only worker   dry_run.py     what a run would do
    ray/           workers on Ray
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

from lstm_ray import storage
from lstm_ray.config import TrainConfig, left_open, with_paths
from lstm_ray.datasets.labelled import Shard, doubt_left_out
from lstm_ray.datasets.labels import label_mapping
from lstm_ray.datasets.seen import describe_seen
from lstm_ray.datasets.unlabelled import find_text_shards
from lstm_ray.model.bundle import Bundle
from lstm_ray.model.user_network import check_network
from lstm_ray.progress import Progress
from lstm_ray.runtime.tensorflow import start_tensorflow
from lstm_ray.text.vocabulary import FIRST_WORD_ID
from lstm_ray.text.word_vectors import WordVectors, read_word_vectors
from lstm_ray.train.best import choose
from lstm_ray.train.checks import check_inputs, notes_on_no_effect, performance_notes
from lstm_ray.train.data.corpus import EncodedShard, Prepared, assemble, find_all_shards, read_given_vocabulary
from lstm_ray.train.loop import checkpoints
from lstm_ray.train.loop.mlflow_run import MlflowRun
from lstm_ray.train.loop.state import State
from lstm_ray.train.results import Outcome, is_complete, read_outcome, write_results
from lstm_ray.train.resume import (
    LOCK,
    as_begun,
    begin_run,
    changed_after_the_end,
    check_same_data,
    open_run,
    pretraining_begun,
    remove_if_empty,
)
from lstm_ray.train.step.choice import choose_collective, choose_engine, runs_on_gpu
from lstm_ray.train.step.schedule import check_schedule
from lstm_ray.train.unlabelled import learn_file, read_all_texts, read_token_ids
from lstm_ray.train.warm_start import metrics_before, start_from, with_weights_of
from lstm_ray.wording import are, counted, named

_FEW_WORDS = 2  # on average, below which the column more likely holds ids


class Workers(Protocol):
    """The workers of a run: this process, or workers on Ray."""

    def encode_all(self, shards: Sequence[Shard], config: TrainConfig) -> Iterator[EncodedShard]:
        """Runs `encode_shard` on all shards, a bounded number at a time; yields the results in the same order."""

    def run(self, config: TrainConfig, prepared: Prepared) -> State:
        """Runs `epochs.run` to its end on every worker, and returns the final state.

        Args:
            config: The run's settings, with the engine and the collective that were chosen.
            prepared: The corpus.
        """


def train(config: TrainConfig, progress: Progress) -> Outcome:
    """Trains a model, or resumes an earlier run with the same settings in the same directory.

    Raises:
        InputError: The data cannot be used.
        OutputError: The output directory contains something else, or cannot be written.
        TrainingError: Training failed.
    """
    config, bundle = start_from(with_paths(config, storage.absolute))
    check_inputs(config)
    shards = find_all_shards(config, progress)
    # The texts are read much later, but errors in their files are reported now.
    texts = find_text_shards(config.unlabelled, config.text_column, progress)
    open_settings = left_open(config)
    config, reasons = choose(as_begun(config), shards)
    open_run(config, open_settings)
    with storage.locked(config.output, LOCK):
        # Again, because a run that held the lock may have ended in between.
        resumed = open_run(config, open_settings)
        try:
            state = checkpoints.latest_state(config.output) if resumed else None
            if state is not None:
                has_results = is_complete(config, state)
                for note in _notes_on_ended(config, state, [*shards, *texts] if has_results else []):
                    progress(note)
                if has_results:
                    return read_outcome(config, state)
            for note in notes_on_no_effect(config, open_settings):
                progress(f"note: {note}")
            return _train(config, shards, reasons, progress, state, bundle)
        finally:
            remove_if_empty(config.output)


def _notes_on_ended(config: TrainConfig, state: State, shards: Sequence[Shard]) -> Iterator[str]:
    """Yields what the user should know of a run that has ended, if it has.

    Args:
        config: The settings.
        state: The run's state.
        shards: What it was trained on, if its results are written.
    """
    if config.epochs < state.epoch:
        yield (
            f"note: --epochs {config.epochs} changes nothing: {counted(state.epoch, 'epoch')} of this run are done, "
            "and its best one is kept; --fresh starts over"
        )
    if changed := changed_after_the_end(config, {shard.file.path: shard.file for shard in shards}.values()):
        yield f"warning: {named(changed)} changed after this run had ended: --fresh trains on the files as they are now"


def _train(
    config: TrainConfig,
    shards: Sequence[Shard],
    reasons: Sequence[str],
    progress: Progress,
    state: State | None,
    bundle: Bundle | None,
) -> Outcome:
    if state is not None:
        progress(f"resuming from {state.position()}")
    if config.network is not None:
        start_tensorflow()
        check_network(config)
    on_gpu = runs_on_gpu(config)
    for note in performance_notes(config, on_gpu):
        progress(f"note: {note}")
    tracker = MlflowRun(config, progress) if config.mlflow else None
    with _failure_logged(tracker), _workers(config, tracker or progress) as workers:
        prepared = _read(config, shards, workers, bundle, progress)
        for reason in reasons if state is None else ():
            progress(f"preset best: {reason}")
        prepared = _with_first_weights(config, shards, prepared, state, bundle, progress)
        if state is not None:
            check_same_data(config, state, prepared)
            begin_run(config)
        if tracker is not None:
            tracker.begin()
        # Chosen once, here, because workers could choose differently. config.yaml keeps what the user set.
        chosen = {"engine": choose_engine(config, on_gpu=on_gpu), "collective": choose_collective(config)}
        state = workers.run(config.model_copy(update=chosen), prepared)
    outcome = Outcome(
        state,
        config,
        training_rows=len(prepared.training),
        validation_rows=len(prepared.validation),
        rows_without_text=prepared.rows_without_text,
        rows_with_other_label=prepared.rows_with_other_label,
        groups=prepared.groups,
        validation_rows_seen=prepared.validation_rows_seen,
        profile=prepared.profile,
        before={} if bundle is None else metrics_before(bundle, prepared.validation),
    )
    with _failure_logged(tracker):
        write_results(config, outcome)
    if tracker is not None:
        tracker.finish(state)
    return outcome


def _read(
    config: TrainConfig, shards: Sequence[Shard], workers: Workers, bundle: Bundle | None, progress: Progress
) -> Prepared:
    """Returns the corpus, read and tokenized by the workers."""
    progress("reading and tokenizing")
    read_given_vocabulary.cache_clear()  # the file may have changed since an earlier run of this process
    prepared = assemble(workers.encode_all(shards, config), config, None if bundle is None else bundle.seen())
    progress(
        f"{counted(len(prepared.training), 'row')} to train on, {len(prepared.validation):,} to validate on, "
        f"{counted(len(prepared.vocabulary.words), 'word')} known"
    )
    other, mapping = prepared.rows_with_other_label, label_mapping(config)
    if (doubt := doubt_left_out(other, shards, config.label_column, mapping)) is not None:
        progress(f"warning: {', '.join(config.train)}: {doubt}")
    read = prepared.profile.training
    if read.words + read.truncated < _FEW_WORDS * read.rows:
        average = f"{read.words / read.rows:.1f} words on average"
        column = f"is --text-column {config.text_column} right, and are its words separated?"
        progress(f"note: the texts have {average}: {column}")
    if prepared.contradictory_texts:
        progress(
            f"note: {counted(prepared.contradictory_texts, 'text')} of the training data "
            f"{are(prepared.contradictory_texts)} labelled positive in one row and negative in another: no model can "
            "learn both"
        )
    if prepared.validation_rows_seen:
        progress(f"warning: {describe_seen(prepared.validation_rows_seen, len(prepared.validation), 'validation')}")
    check_schedule(config, len(prepared.training))
    return prepared


def _with_first_weights(
    config: TrainConfig,
    shards: Sequence[Shard],
    prepared: Prepared,
    state: State | None,
    bundle: Bundle | None,
    progress: Progress,
) -> Prepared:
    """Returns the corpus with what the weights start from: a model, word vectors, texts to pretrain on.

    A new run begins here: it is marked as begun before vectors are learned, so that the same command resumes that.
    """
    if bundle is not None:
        prepared = with_weights_of(bundle, config, prepared, progress)
    if config.embeddings is not None:
        first_id = FIRST_WORD_ID if bundle is None else bundle.vocabulary().end
        source = f"a vector of {os.path.basename(config.embeddings)}"
        prepared = _add_word_vectors(prepared, config.embeddings, progress, first_id, source)
    texts = read_all_texts(config, shards, progress) if config.learns_vectors else None
    if state is None:
        begin_run(config)
    if texts is not None:
        has_checkpoint = state is not None or pretraining_begun(config)
        vectors = learn_file(config, texts, progress, has_checkpoint=has_checkpoint)
        prepared = _add_word_vectors(prepared, vectors, progress)
    if config.pretrain_epochs:
        prepared = replace(prepared, texts=read_token_ids(config, shards, prepared.vocabulary))
    return prepared


@contextmanager
def _failure_logged(tracker: MlflowRun | None) -> Iterator[None]:
    """Ends the MLflow run, if there is one, when the block fails or is interrupted."""
    try:
        yield
    except BaseException as error:
        if tracker is not None:
            tracker.fail(error)
        raise


@contextmanager
def _workers(config: TrainConfig, progress: Progress) -> Iterator[Workers]:
    if config.worker_limits == (0, 0):
        from lstm_ray.train.local import LocalWorkers

        yield LocalWorkers(progress)
    else:
        from lstm_ray.train.ray.launch import RayWorkers, session

        with session(config, progress) as is_ours:
            yield RayWorkers(progress, is_here=is_ours)


def _add_word_vectors(
    prepared: Prepared, path: str, progress: Progress, first_id: int = FIRST_WORD_ID, source: str = "a learned vector"
) -> Prepared:
    """Returns the corpus with the vectors that a file has of its words, from an id on; `source` is for the message."""
    vectors = read_word_vectors(path, prepared.vocabulary)
    is_new = vectors.ids >= first_id
    vectors = WordVectors(vectors.ids[is_new], vectors.vectors[is_new])
    found, words = len(vectors.ids), FIRST_WORD_ID + len(prepared.vocabulary.words) - first_id
    share = f" ({found / words:.0%})" if words else ""
    progress(f"{found:,} of {words:,} words{share} start with {source}")
    return replace(prepared, word_vectors=vectors)
