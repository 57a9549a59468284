"""The epochs of a run, on one worker; no Ray.

    for each epoch: step through worker_batches -> validate -> report with a checkpoint

The same function runs in this process and on every Ray worker. What differs (who the others are, where a checkpoint
goes, who hears of progress) comes in as a `Context`.
"""

from __future__ import annotations

import math
import tempfile
import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lstm_ray.config import TrainConfig
from lstm_ray.errors import TrainingError
from lstm_ray.evaluate.metrics import BinaryCounts
from lstm_ray.model.architectures import network_weights, summary_text
from lstm_ray.model.bundle import write_bundle
from lstm_ray.storage import join
from lstm_ray.text.vocabulary import Vocabulary
from lstm_ray.train import checkpoints
from lstm_ray.train.batches import epoch_order, validation_order, worker_batches
from lstm_ray.train.checkpoints import Checkpoint, State
from lstm_ray.train.collective import Collective
from lstm_ray.train.corpus import Corpus, Prepared
from lstm_ray.train.progress import Progress
from lstm_ray.train.step import Stepper

THRESHOLD = 0.5
_VALIDATION_BATCH = 512  # rows of a step over all workers: forward only, so memory allows more than in training
_PROGRESS_EVERY_S = 0.5


class Context(Protocol):
    """What surrounds a worker.

    Attributes:
        rank: Its number, from 0.
        world_size: Workers in all.
        collective: How it adds up numbers with the others.
    """

    rank: int
    world_size: int
    collective: Collective

    def report(self, row: dict[str, Any], checkpoint: Path | None) -> None:
        """Takes an epoch's row of history, and on rank 0 the directory of a checkpoint, which it copies."""

    def progress(self, progress: Progress) -> None:
        """Hears how far the epoch has come; rank 0 only."""


def run(config: TrainConfig, prepared: Prepared, context: Context) -> State:
    """Trains, or goes on from the last checkpoint, and saves the best epoch's model on rank 0.

    Raises:
        TrainingError: The loss is no longer a number.
    """
    stepper = Stepper(config, context.collective)
    state = State(summary=summary_text(stepper.model), data=prepared.fingerprint())
    best = [variable.numpy() for variable in stepper.model.variables]
    checkpoint = checkpoints.latest(config.output)
    if checkpoint is not None:
        for variable, value in zip(stepper.variables(), checkpoint.variables, strict=True):
            variable.assign(value)
        state, best = checkpoint.state, checkpoint.best
    while state.epoch < config.epochs:
        row = _train_epoch(config, prepared.training, stepper, context, state.epoch + 1)
        counts = _validate(config, prepared.validation, stepper, context)
        is_best = _add_epoch(state, row, counts)
        if is_best:
            best = [variable.numpy() for variable in stepper.model.variables]
        with tempfile.TemporaryDirectory() as directory:
            if context.rank == 0:
                values = [variable.numpy() for variable in stepper.variables()]
                checkpoints.save(Path(directory), Checkpoint(state, values, best))
            context.report(state.history[-1], Path(directory) if context.rank == 0 else None)
    if context.rank == 0:
        _write_model(config, stepper, best, prepared.vocabulary, state)
    stepper.all_reduce(np.zeros(1))  # nobody leaves while another still needs the group
    return state


def _train_epoch(config: TrainConfig, corpus: Corpus, stepper: Stepper, context: Context, epoch: int) -> dict[str, Any]:
    """Goes through the training rows once; returns the epoch's row of history, without validation."""
    started = last_shown = time.perf_counter()
    order = epoch_order(corpus.sequences.lengths, config, epoch)
    batches = worker_batches(
        corpus,
        order,
        config,
        rank=context.rank,
        world_size=context.world_size,
        batch_size=config.global_batch_size,
    )
    sums = []
    rows = 0
    for step, batch in enumerate(batches, 1):
        stepper.reseed(config.seed, epoch, step, context.rank)
        sums.append(stepper.train(batch))  # a tensor: reading its value here would make the device wait for Python
        if not rows:
            started = time.perf_counter()  # the first step compiles: seconds, and no measure of speed
        rows += batch.global_rows
        now = time.perf_counter()
        if context.rank == 0 and len(sums) > 1 and now - last_shown > _PROGRESS_EVERY_S:
            last_shown = now
            context.progress(Progress(epoch, config.epochs, rows, len(corpus), rows / (now - started)))
    local: npt.NDArray[np.float64] = np.stack([step_sums.numpy() for step_sums in sums]).sum(axis=0, dtype=np.float64)
    loss, right = (stepper.all_reduce(local) / len(corpus)).tolist()
    # A step's loss is of the weights before it: the last step may have spoilt them with no loss to show it.
    weights_are_finite = all(np.isfinite(variable.numpy()).all() for variable in stepper.model.trainable_variables)
    if not (math.isfinite(loss) and weights_are_finite):
        first = next((number for number, s in enumerate(sums, 1) if not np.isfinite(s.numpy()).all()), len(sums))
        raise TrainingError(
            f"the loss is no longer a number in epoch {epoch}, by step {first}, at learning rate "
            f"{config.learning_rate:g}: try a lower --learning-rate"
        )
    seconds = time.perf_counter() - started
    return {
        "epoch": epoch,
        "loss": loss,
        "accuracy": right,
        "learning_rate": config.learning_rate,
        "seconds": seconds,
        "rows_per_s": len(corpus) / seconds,
    }


def _validate(config: TrainConfig, corpus: Corpus, stepper: Stepper, context: Context) -> BinaryCounts | None:
    """Applies the model to the validation rows, shared out over the workers; the counts of all of them."""
    if len(corpus) == 0:
        return None
    batches = worker_batches(
        corpus,
        validation_order(corpus.sequences.lengths),
        config,
        rank=context.rank,
        world_size=context.world_size,
        batch_size=_VALIDATION_BATCH,
    )
    labels = [corpus.labels[:0]]
    probabilities = [np.zeros(0, np.float32)]
    for batch in batches:
        labels.append(batch.labels[batch.weights > 0].astype(np.int8))
        probabilities.append(stepper.predict(batch))
    local = BinaryCounts.from_scores(np.concatenate(labels), np.concatenate(probabilities), threshold=THRESHOLD)
    return BinaryCounts.from_array(stepper.all_reduce(local.to_array()), threshold=THRESHOLD)


def _add_epoch(state: State, row: dict[str, Any], counts: BinaryCounts | None) -> bool:
    """Adds an epoch to the state and says whether it is the best so far."""
    metrics = counts.metrics() if counts is not None else {}
    before = state.metrics.get("accuracy")
    is_best = counts is None or before is None or metrics["accuracy"] > before
    state.history.append(
        {
            **row,
            "validation_loss": metrics.get("log_loss"),
            "validation_accuracy": metrics.get("accuracy"),
            "validation_auc": metrics.get("auc"),
        }
    )
    state.epoch = row["epoch"]
    if is_best:
        state.best_epoch, state.metrics = row["epoch"], metrics
    return is_best


def _write_model(
    config: TrainConfig, stepper: Stepper, best: list[npt.NDArray[Any]], vocabulary: Vocabulary, state: State
) -> None:
    for variable, value in zip(stepper.model.variables, best, strict=True):
        variable.assign(value)
    write_bundle(
        join(config.output, "model"),
        model=stepper.model,
        weights=network_weights(stepper.model, config, config),
        vocabulary=vocabulary,
        config=config,
        metrics=state.metrics,
        threshold=THRESHOLD,
    )
