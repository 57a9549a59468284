"""The epochs of a run, on one worker; no Ray.

    for each epoch: step through worker_batches -> validate -> save
    between two steps, now and then: save

The same function runs in this process and on every Ray worker. What differs (who the others are, who hears of progress)
comes in as a `Context`.

Rank 0 saves, when it finds that it is time to, and asks nobody: variables are equal on all workers, a step's loss comes
back summed over them, and batches and dropout are functions of (seed, epoch, step, rank). So what goes on from a
checkpoint equals what was never interrupted.
"""

from __future__ import annotations

import copy
import math
import time
import zlib
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lstm_ray.collective.protocol import Collective
from lstm_ray.config import TrainConfig
from lstm_ray.errors import TrainingError, WorkerLostError
from lstm_ray.evaluate.counts import BinaryCounts
from lstm_ray.model.architectures import build_model, network_weights
from lstm_ray.model.bundle import write_bundle
from lstm_ray.progress import Progress
from lstm_ray.storage import join
from lstm_ray.text.vocabulary import Vocabulary
from lstm_ray.train.data.batches import epoch_order, validation_order, worker_batches
from lstm_ray.train.data.corpus import Corpus, Prepared
from lstm_ray.train.loop import checkpoints, tensorboard
from lstm_ray.train.loop.checkpoints import Checkpoint
from lstm_ray.train.loop.state import State
from lstm_ray.train.step.choice import make_stepper
from lstm_ray.train.step.protocol import Stepper
from lstm_ray.train.step.schedule import count_steps, learning_rate_at

THRESHOLD = 0.5
_VALIDATION_BATCH = 512  # rows of a step over all workers: forward only, so memory allows more than in training
_PROGRESS_EVERY_S = 0.5
_LOOK_EVERY_STEPS = 50  # at the loss: by steps, not by the clock, so that all workers find the same at the same step


class Context(Protocol):
    """What surrounds a worker. Only rank 0 calls its functions.

    Attributes:
        rank: Its number, from 0.
        world_size: Workers in all.
        collective: How it adds up numbers with the others.
    """

    rank: int
    world_size: int
    collective: Collective

    def begin(self, state: State) -> None:
        """Hears where the run begins or goes on."""

    def progress(self, progress: Progress) -> None:
        """Hears how far the epoch has come."""

    def epoch(self, row: dict[str, Any]) -> None:
        """Hears an epoch's row of history."""

    def is_interrupted(self) -> bool:
        """Says whether the run is to be saved and to stop; asked between two steps."""


def run(config: TrainConfig, prepared: Prepared, context: Context) -> State:
    """Trains, or goes on from the last checkpoint, and saves the best epoch's model on rank 0.

    Raises:
        TrainingError: The loss is no longer a number.
        WorkerLostError: Another worker does not answer.
        KeyboardInterrupt: The run was to stop, and has been saved; rank 0 only. Its message says where.
    """
    stepper = make_stepper(config, context.collective, prepared.training.labels)
    if prepared.word_vectors is not None:
        stepper.set_word_vectors(prepared.word_vectors)
    state = State(summary=stepper.summary(), data=prepared.fingerprint())
    best: list[npt.NDArray[Any]] = []
    checkpoint = checkpoints.latest(config.output)
    if checkpoint is not None:
        stepper.restore(checkpoint.variables)
        state = checkpoint.state
        best = checkpoint.best if context.rank == 0 else []
    elif config.network is not None:
        _begin_alike(config, stepper, context)
    _agree(config, stepper, context, checkpoint)
    if context.rank == 0:
        checkpoints.discard_after(config.output, None if checkpoint is None else state)
        context.begin(state)
    del checkpoint  # its arrays are as large as the model and the optimizer
    with checkpoints.Writer(config.output) as writer:
        saver = _Saver(config, stepper, context, writer, state, best)
        del best
        while not state.has_ended(config):
            row, sums = _train_epoch(config, prepared.training, stepper, context, saver)
            counts = _validate(config, prepared.validation, stepper, context, saver)
            _end_epoch(saver, row, counts)
            if context.rank == 0:
                tensorboard.write_epoch(config, state.history[-1], sums, len(prepared.training))
                writer.wait()  # whoever hears of the epoch may end this process
                context.epoch(state.history[-1])
            saver.stop_if_interrupted()  # not before the epoch has been told: the next start does not tell it again
        writer.wait()
    if context.rank == 0:
        _write_model(config, saver.best, prepared.vocabulary, state)
    context.collective.all_gather([])  # nobody leaves while another still needs the group
    return state


class _Saver:
    """Holds what a checkpoint holds beside the variables, and on rank 0 saves it when it is time.

    Attributes:
        state: Where the run stands.
        best: The model's variables after the best epoch; on rank 0 alone, and none before the first epoch's end.
    """

    def __init__(
        self,
        config: TrainConfig,
        stepper: Stepper,
        context: Context,
        writer: checkpoints.Writer,
        state: State,
        best: list[npt.NDArray[Any]],
    ) -> None:
        self.state = state
        self.best = best
        self._seconds, self._steps = config.checkpoint_interval
        self._stepper, self._context, self._writer = stepper, context, writer
        self._saved_at, self._steps_since = time.monotonic(), 0

    def keep_best(self) -> None:
        """Takes the variables as they are for those of the best epoch."""
        if self._context.rank == 0:
            self.best = self._stepper.weights()

    def is_due(self) -> bool:
        """Counts a step, and says whether the run is to be saved after it."""
        if self._context.rank > 0:
            return False
        self._steps_since += 1
        waited = time.monotonic() - self._saved_at
        return waited >= self._seconds or self._steps_since >= self._steps or self._context.is_interrupted()

    def save(self) -> None:
        """Saves the run, whose state must be complete and finite."""
        if self._context.rank > 0:
            return
        self._writer.save(Checkpoint(copy.deepcopy(self.state), self._stepper.state(), list(self.best)))
        self._saved_at, self._steps_since = time.monotonic(), 0

    def stop_if_interrupted(self) -> None:
        """Ends the run, which has just been saved.

        Raises:
            KeyboardInterrupt: It was to stop.
        """
        if self._context.rank == 0 and self._context.is_interrupted():
            self._writer.wait()
            raise KeyboardInterrupt(f"interrupted: saved at {self.state.place()}; the same command goes on there")


def _agree(config: TrainConfig, stepper: Stepper, context: Context, checkpoint: Checkpoint | None) -> None:
    """Makes sure that all workers go on from the same checkpoint.

    They might not: a worker may not see the directory, or have looked while another worker, long given up, wrote there.
    """
    mine = [0, 0, 0]
    if checkpoint is not None:
        mine = [checkpoint.state.epoch, checkpoint.state.step, _checksum(checkpoint.variables)]
    all_of_them = context.collective.all_gather(mine)
    if (all_of_them != all_of_them[0]).any():
        raise WorkerLostError(f"{config.output}: not every worker sees the same checkpoints there; is it on all nodes?")


def _begin_alike(config: TrainConfig, stepper: Stepper, context: Context) -> None:
    """Makes sure that the user's function has built the same model on every worker.

    Raises:
        TrainingError: It has not.
    """
    all_of_them = context.collective.all_gather([_checksum(stepper.weights())])
    if (all_of_them != all_of_them[0]).any():
        raise TrainingError(
            f"network {config.network}: its weights do not begin the same on every worker: they may depend on the "
            "function's two arguments and Keras's random numbers alone, which have the same seed everywhere"
        )


def _checksum(variables: list[npt.NDArray[Any]]) -> int:
    checksum = 0
    for variable in variables:
        checksum = zlib.crc32(np.ascontiguousarray(variable).data, checksum)
    return checksum


def _train_epoch(
    config: TrainConfig, corpus: Corpus, stepper: Stepper, context: Context, saver: _Saver
) -> tuple[dict[str, Any], npt.NDArray[np.float64]]:
    """Goes through the training rows that are left of an epoch.

    Returns:
        The epoch's row of history, without validation; and float64[steps, 2], loss and right answers of the steps taken
        here, summed over their rows: after a resumption in mid-epoch those that were left.
    """
    state = saver.state
    epoch, seconds_before, first_step = state.epoch + 1, state.seconds, state.step
    started = last_shown = time.perf_counter()
    batches = worker_batches(
        corpus,
        epoch_order(corpus.sequences.lengths, config, epoch),
        config,
        rank=context.rank,
        world_size=context.world_size,
        batch_size=config.global_batch_size,
        first_step=first_step,
    )
    sums: list[Any] = []
    by_step: list[npt.NDArray[np.float32]] = []
    rows = 0
    for batch in batches:
        stepper.reseed(config.seed, epoch, state.step, context.rank)
        sums.append(stepper.train(batch))  # on a GPU a tensor: reading its value here would make it wait for Python
        state.step += 1
        if not rows:
            started = time.perf_counter()  # the first step compiles: seconds, and no measure of speed
        rows += batch.global_rows
        now = time.perf_counter()
        if context.rank == 0 and state.step - first_step > 1 and now - last_shown > _PROGRESS_EVERY_S:
            last_shown = now
            done = first_step * config.global_batch_size + rows
            context.progress(Progress(epoch, config.epochs, done, len(corpus), rows / (now - started)))
        if len(sums) == _LOOK_EVERY_STEPS:
            by_step += _add_up(config, len(corpus), stepper, state, sums)
        if saver.is_due():
            state.seconds = seconds_before + now - started
            by_step += _add_up(config, len(corpus), stepper, state, sums)
            saver.save()
            saver.stop_if_interrupted()
    state.seconds = seconds_before + time.perf_counter() - started
    by_step += _add_up(config, len(corpus), stepper, state, sums)
    row = {
        "epoch": epoch,
        "loss": state.loss_sum / len(corpus),
        "accuracy": state.right / len(corpus),
        "learning_rate": stepper.learning_rate(),
        "seconds": state.seconds,
        "rows_per_s": len(corpus) / max(state.seconds, 1e-9),
    }
    return row, np.array(by_step, np.float64).reshape(-1, 2)


def _add_up(
    config: TrainConfig, rows: int, stepper: Stepper, state: State, sums: list[Any]
) -> list[npt.NDArray[np.float32]]:
    """Adds the sums of the last steps to the state, one by one as ever, forgets the tensors and returns their values.

    Raises:
        TrainingError: The loss or a weight is no longer a number.
    """
    steps = [np.asarray(step_sums) for step_sums in sums]
    sums.clear()
    for loss, right in steps:
        state.loss_sum += float(loss)
        state.right += float(right)
    # A step's loss is of the weights before it: the last step may have spoilt them with no loss to show it.
    if not (math.isfinite(state.loss_sum) and stepper.is_finite()):
        first = next((number for number, s in enumerate(steps, 1) if not np.isfinite(s).all()), len(steps))
        step = state.step - len(steps) + first
        before = state.epoch * -(-rows // config.global_batch_size)
        rate = float(learning_rate_at(config, count_steps(config, rows), before + step - 1))
        raise TrainingError(
            f"the loss is no longer a number in epoch {state.epoch + 1}, by step {step}, at learning rate {rate:.3g}: "
            "try a lower --learning-rate, or --clip-norm 1"
            + (", or --precision bf16" if config.precision == "fp16" else "")
        )
    return steps


def _validate(
    config: TrainConfig, corpus: Corpus, stepper: Stepper, context: Context, saver: _Saver
) -> BinaryCounts | None:
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
        if context.rank == 0 and context.is_interrupted():
            saver.save()
            saver.stop_if_interrupted()
    local = BinaryCounts.from_scores(np.concatenate(labels), np.concatenate(probabilities), threshold=THRESHOLD)
    return BinaryCounts.from_array(context.collective.all_gather(local.to_array()).sum(axis=0), threshold=THRESHOLD)


def _end_epoch(saver: _Saver, row: dict[str, Any], counts: BinaryCounts | None) -> None:
    """Adds an epoch to the state, keeps its variables if it is the best so far, and saves the run."""
    state = saver.state
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
    state.epoch, state.step = row["epoch"], 0
    state.loss_sum = state.right = state.seconds = 0.0
    if is_best:
        state.best_epoch, state.metrics = row["epoch"], metrics
        saver.keep_best()
    saver.save()


def _write_model(config: TrainConfig, best: list[npt.NDArray[Any]], vocabulary: Vocabulary, state: State) -> None:
    model = build_model(config, config, config.seed)  # in float32, whatever the training's precision
    for variable, value in zip(model.variables, best, strict=True):
        variable.assign(value)
    write_bundle(
        join(config.output, "model"),
        model=model,
        weights=None if config.network is not None else network_weights(model, config, config),
        vocabulary=vocabulary,
        config=config,
        metrics=state.metrics,
        threshold=THRESHOLD,
    )
