"""Before the first epoch: the network learns to predict the next word of all texts, labelled or not.

    texts -> pieces -> epochs of the language model (train/native/language_model.py) -> the weights that the run begins
    with

All workers take part. Rank 0 saves checkpoints in OUTPUT/pretraining, as in the run itself, so that an interrupted run
resumes here too. They are deleted once the run's model is written.
"""

from __future__ import annotations

import copy
import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lstm_ray import storage
from lstm_ray.config import TrainConfig
from lstm_ray.errors import TrainingError
from lstm_ray.progress import Count
from lstm_ray.text.sequences import Sequences
from lstm_ray.train.data.batches import epoch_order, worker_batches
from lstm_ray.train.data.corpus import Corpus, Prepared
from lstm_ray.train.loop import checkpoints
from lstm_ray.train.loop.agreement import check_epoch, check_start
from lstm_ray.train.loop.checkpoints import Checkpoint
from lstm_ray.train.loop.state import State
from lstm_ray.train.resume import PRETRAINING, check_same_data
from lstm_ray.wording import counted

if TYPE_CHECKING:
    from lstm_ray.train.loop.epochs import Context

_PIECE = 200  # most tokens of a row: shorter rows leave less of a batch empty, and a word seldom depends on more
_ROWS = 40  # of a step, over all workers: 6,000 tokens of IMDb
_RATE = 0.003
_WARMUP = 100
_PROGRESS_EVERY_S = 0.5
_MOST_NATS = 700.0  # a float64 holds their exponential


def pretrain(config: TrainConfig, prepared: Prepared, context: Context) -> list[npt.NDArray[np.float32]]:
    """Returns the weights that the run begins with, as `Stepper.set_weights` takes them. All workers call this.

    Args:
        config: The run's settings.
        prepared: The run's data, with texts.
        context: The worker's environment.

    Raises:
        InputError: No word of the texts is in the vocabulary.
        OutputError: The data has changed since the last checkpoint.
        TrainingError: The loss is not finite, or the workers' weights differ.
        WorkerLostError: A peer died or does not answer.
        KeyboardInterrupt: The run was interrupted and has been saved; on rank 0 only.
    """
    assert prepared.texts is not None
    corpus = pieces(prepared.texts, _PIECE)
    settings = _settings(config, len(corpus))
    checkpoint = checkpoints.latest(settings.output)
    if checkpoint is not None:
        check_same_data(config, checkpoint.state, prepared)
    with checkpoints.Writer(settings.output, *settings.checkpoint_interval) as writer:
        worker = _Worker(settings, corpus, prepared, checkpoint, context, writer)
        while worker.state.epoch < settings.epochs:
            worker.learn()
        writer.wait()
    return worker.stepper.lstm_weights()


class _Worker:
    """One worker: its language model, the position in the texts, and on rank 0 the checkpoints.

    Attributes:
        state: The position. `loss_sum` and `right` are the losses and the number of words predicted in this epoch.
        stepper: The language model.
    """

    def __init__(
        self,
        config: TrainConfig,
        corpus: Corpus,
        prepared: Prepared,
        checkpoint: Checkpoint | None,
        context: Context,
        writer: checkpoints.Writer,
    ) -> None:
        """Builds the model, and restores the checkpoint if there is one."""
        from lstm_ray.train.native.language_model import LanguageModelStepper

        self._config, self._corpus, self._context, self._writer = config, corpus, context, writer
        self._collective = context.collective
        self._is_first = self._collective.rank == 0
        self.stepper = LanguageModelStepper(config, self._collective, corpus.sequences)
        if prepared.word_vectors is not None:
            self.stepper.set_word_vectors(prepared.word_vectors)
        self.state = State(data=prepared.fingerprint()) if checkpoint is None else checkpoint.state
        if checkpoint is not None:
            self.stepper.restore(checkpoint.variables)
        check_start(config, self._collective, self.stepper, checkpoint)
        if self._is_first:
            checkpoints.discard_after(config.output, None if checkpoint is None else self.state)
            if self.state.epoch < config.epochs:
                context.report(
                    f"learning to predict {len(corpus.sequences.token_ids):,} words in "
                    f"{counted(config.epochs, 'epoch')}, from {self.state.position()}"
                )

    def learn(self) -> None:
        """Does what is left of the epoch and saves it."""
        config, corpus, state = self._config, self._corpus, self.state
        epoch, first = state.epoch + 1, state.step
        batches = worker_batches(
            corpus,
            epoch_order(corpus.sequences.lengths, config, epoch),
            config,
            rank=self._collective.rank,
            world_size=self._collective.world_size,
            batch_size=config.global_batch_size,
            first_step=first,
            epoch=epoch,
        )
        began = reported = time.monotonic()
        for batch in batches:
            self.stepper.reseed(config.seed, epoch, state.step, 0)  # with any rank: all draw the same words
            loss, predictions = self.stepper.train(batch)
            state.step += 1
            state.loss_sum += float(loss)
            state.right += float(predictions)
            now = time.monotonic()
            if self._is_first and now - reported > _PROGRESS_EVERY_S:
                reported = now
                stage = f"predicting words, epoch {epoch}/{config.epochs}"
                # Like the rows of training: over all epochs, while a position such as "epoch 2, step 3" is in one.
                done = (epoch - 1) * len(corpus) + min(state.step * _ROWS, len(corpus))
                rate = (state.step - first) * _ROWS / (now - began)
                self._context.report(Count(done, config.epochs * len(corpus), "pieces of text", stage, rate))
            is_due = self._is_first and (self._writer.count_step() or self._context.is_interrupted())
            if is_due or not math.isfinite(state.loss_sum):  # the same loss on all workers
                self._check_finite()
            if is_due:
                self._save()
                self._stop_if_interrupted()
        self._check_finite()
        perplexity = math.exp(min(state.loss_sum / max(state.right, 1), _MOST_NATS))
        check_epoch(self._collective, epoch, self.stepper.state())
        state.end_epoch({"perplexity": perplexity})
        self._save()
        if self._is_first:
            seconds = time.monotonic() - began
            self._context.report(f"predicting words, epoch {epoch}: perplexity {perplexity:.1f}  ({seconds:.0f} s)")
            self._stop_if_interrupted()

    def _check_finite(self) -> None:
        """Raises TrainingError if the loss or a weight is not finite."""
        if not (math.isfinite(self.state.loss_sum) and self.stepper.is_finite()):
            raise TrainingError(
                f"the loss is no longer a number in epoch {self.state.epoch + 1} of predicting words, by step "
                f"{self.state.step}: use --pretrain-epochs 0"
            )

    def _save(self) -> None:
        if self._is_first:
            self._writer.save(Checkpoint(copy.deepcopy(self.state), self.stepper.state(), []))

    def _stop_if_interrupted(self) -> None:
        """Raises KeyboardInterrupt if the run should stop. Called on rank 0, after `_save`."""
        if self._context.is_interrupted():
            self._writer.wait()
            at = self.state.position()
            raise KeyboardInterrupt(
                f"interrupted: saved while learning to predict words, at {at}; the same command resumes there"
            )


def discard(config: TrainConfig) -> None:
    """Deletes the checkpoints of the language model."""
    storage.delete(storage.join(config.output, PRETRAINING))


def pieces(texts: Sequences, longest: int) -> Corpus:
    """Cuts texts into pieces of equal lengths, at most `longest`; texts of one word are left out.

    Example: pieces of at most 200 of a text of 450 tokens have 150 tokens each.
    """
    lengths, begins = texts.lengths, texts.offsets[:-1]
    number = -(-lengths // longest)
    text_of = np.repeat(np.arange(len(lengths)), number)
    piece = np.arange(len(text_of)) - np.repeat(np.cumsum(number) - number, number)
    first = begins[text_of] + lengths[text_of] * piece // number[text_of]
    last = begins[text_of] + lengths[text_of] * (piece + 1) // number[text_of]
    whole = Sequences(texts.token_ids, np.append(first, texts.offsets[-1:]))  # they follow each other without gaps
    return Corpus(whole.take(np.flatnonzero(last - first >= 2)), np.zeros(int((last - first >= 2).sum()), np.int8))


def _settings(config: TrainConfig, rows: int) -> TrainConfig:
    """Returns the settings of the language model's training in place of the run's."""
    steps = config.pretrain_epochs * -(-rows // _ROWS)
    changed: dict[str, Any] = {
        "output": storage.join(config.output, PRETRAINING),
        "epochs": config.pretrain_epochs,
        "global_batch_size": _ROWS,
        "max_tokens": _PIECE,
        "mask": True,
        "learning_rate": _RATE,
        "schedule": "cosine",
        "warmup_steps": min(_WARMUP, steps // 10),
        "clip_norm": 1.0,
        "accumulate": 1,
        "word_dropout": 0.0,
        "weight_decay": 0.0,
        "ema": 0.0,
        "class_weights": "none",
        "adversarial": 0.0,
    }
    return config.model_copy(update=changed)
