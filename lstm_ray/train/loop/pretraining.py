"""Before the first epoch: the network learns to predict the next word of all texts, labelled or not.

    texts -> pieces -> epochs of the language model (train/native/language_model.py) -> the weights that the run begins
    with

All workers take part. Rank 0 saves checkpoints in OUTPUT/pretraining, as in the run itself, so that an interrupted run
resumes here too. They are deleted once the run's model is written.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_ray import storage
from lstm_ray.config import TrainConfig
from lstm_ray.config.train.learning import LearningSettings
from lstm_ray.text.sequences import Sequences
from lstm_ray.train.data.corpus import Corpus, Prepared
from lstm_ray.train.loop import checkpoints
from lstm_ray.train.loop.agreement import check_epoch
from lstm_ray.train.loop.checkpoints import Checkpoint
from lstm_ray.train.loop.state import State
from lstm_ray.train.loop.steps import Context, StepLoop
from lstm_ray.train.resume import PRETRAINING, check_same_data
from lstm_ray.wording import counted

_PIECE = 200  # most tokens of a row: shorter rows leave less of a batch empty, and a word seldom depends on more
_ROWS = 40  # of a step, over all workers: 6,000 tokens of IMDb
_RATE = 0.003
_WARMUP = 100
_OF_THE_RUN = ("adam_beta_1", "adam_beta_2", "checkpoint_every", "seed")  # settings of learning that stay the run's
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
    from lstm_ray.train.native.language_model import LanguageModelStepper

    assert prepared.texts is not None
    corpus = pieces(prepared.texts, _PIECE)
    settings = _settings(config, len(corpus))
    checkpoint = checkpoints.latest(settings.output)
    if checkpoint is not None:
        check_same_data(config, checkpoint.state, prepared)
    stepper = LanguageModelStepper(settings, context.collective, corpus.sequences)
    if prepared.word_vectors is not None:
        stepper.set_word_vectors(prepared.word_vectors)
    with checkpoints.Writer(settings.output, *settings.checkpoint_interval) as writer:
        new = State(data=prepared.fingerprint())
        worker = _Worker(settings, corpus, context, writer, stepper, checkpoint, new)
        if context.collective.rank == 0 and worker.state.epoch < settings.epochs:
            context.report(
                f"learning to predict {counted(len(corpus.sequences.token_ids), 'word')} in "
                f"{counted(settings.epochs, 'epoch')}, from {worker.state.position()}"
            )
        while worker.state.epoch < settings.epochs:
            worker.learn()
        writer.wait()
    return stepper.lstm_weights()


class _Worker(StepLoop):
    """One worker: its language model, and the position in the texts.

    `loss_sum` and `right` of its state are the losses and the number of words predicted in this epoch.
    """

    _unit = "pieces of text"
    _activity = " of predicting words"
    _advice = "use --pretrain-epochs 0"

    def learn(self) -> None:
        """Does what is left of the epoch and saves it."""
        self.train()
        state, seconds = self.state, self.state.seconds
        perplexity = math.exp(min(state.loss_sum / max(state.right, 1), _MOST_NATS))
        check_epoch(self._collective, state.epoch + 1, self._stepper.state())
        state.end_epoch({"perplexity": perplexity})
        self.save()
        if self._is_first:
            line = f"predicting words, epoch {state.epoch}: perplexity {perplexity:.1f}  ({seconds:.0f} s)"
            self._context.report(line)
            self.stop_if_interrupted()

    def _checkpoint(self) -> Checkpoint:
        return Checkpoint(copy.deepcopy(self.state), self._stepper.state(), [])


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
    """Returns the settings of the language model's training in place of the run's: those of learning are its own."""
    steps = config.pretrain_epochs * -(-rows // _ROWS)
    learning = {name: field.default for name, field in LearningSettings.model_fields.items() if name not in _OF_THE_RUN}
    changed: dict[str, Any] = {
        **learning,
        "output": storage.join(config.output, PRETRAINING),
        "epochs": config.pretrain_epochs,
        "global_batch_size": _ROWS,
        "max_tokens": _PIECE,
        "mask": True,
        "learning_rate": _RATE,
        "schedule": "cosine",
        "warmup_steps": min(_WARMUP, steps // 10),
        "clip_norm": 1.0,
    }
    return config.model_copy(update=changed)
