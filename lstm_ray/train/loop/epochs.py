"""The epochs of a run on one worker, without Ray.

    fit the n-gram part, if the run has one and no checkpoint contains it
    for each epoch: train -> validate -> end the epoch -> save -> report
    between two steps: save, when a checkpoint is due

`run` is the same in this process and on every Ray worker. What differs (the peers, and who receives reports) is passed
as a `Context`. The steps of an epoch are in steps.py.
"""

from __future__ import annotations

import copy
import time
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_ray.config import TrainConfig
from lstm_ray.evaluate.counts import BinaryCounts
from lstm_ray.evaluate.ranking import rank
from lstm_ray.model.architectures import build_model, network_weights, with_ngrams
from lstm_ray.model.bundle import write_bundle
from lstm_ray.model.profile import TrainingData
from lstm_ray.model.weights import Mix
from lstm_ray.progress import Epoch
from lstm_ray.runtime.tensorflow import threads_given
from lstm_ray.storage import join
from lstm_ray.train.data.batches import validation_steps, worker_batches
from lstm_ray.train.data.corpus import Corpus, Prepared
from lstm_ray.train.loop import checkpoints, tensorboard
from lstm_ray.train.loop.agreement import check_epoch
from lstm_ray.train.loop.checkpoints import Checkpoint
from lstm_ray.train.loop.pretraining import discard, pretrain
from lstm_ray.train.loop.state import State
from lstm_ray.train.loop.steps import Context, StepLoop
from lstm_ray.train.ngrams.fit import NgramPart
from lstm_ray.train.ngrams.tower import Mixer, fit_on, unmeasured_mix
from lstm_ray.train.step.choice import make_stepper
from lstm_ray.wording import counted

_VALIDATION_BATCH = 512  # rows of a step over all workers: no gradients, so more fit in memory than in training
_REPORT_EVERY_S = 10.0  # while n-grams are fitted: on a million long reviews that takes most of an hour


def run(config: TrainConfig, prepared: Prepared, context: Context) -> State:
    """Trains from the start or the last checkpoint to the end; rank 0 saves the best epoch's model.

    Raises:
        TrainingError: The loss is not finite, or the workers' weights differ.
        WorkerLostError: A peer died or does not answer.
        KeyboardInterrupt: The run was interrupted and has been saved; on rank 0 only. The message names the position.
    """
    with checkpoints.Writer(config.output, *config.checkpoint_interval) as writer:
        worker = _Worker(config, prepared, context, writer)
        while not worker.state.has_ended(config):
            step_sums = worker.train()
            worker.end_epoch(worker.validate())
            worker.save()
            worker.report_epoch(step_sums)
        worker.finish()
    return worker.state


@dataclass(frozen=True)
class _Measured:
    """Validation results of an epoch.

    Attributes:
        counts: Over all validation rows; None if there are none.
        mix: How the LSTM's logits are mixed with the n-grams'; None without n-grams.
        columns: Columns of the history about the LSTM and the n-grams.
    """

    counts: BinaryCounts | None
    mix: Mix | None = None
    columns: dict[str, Any] = field(default_factory=dict)


class _Worker(StepLoop):
    """One worker of a run: its model, the n-gram part, and the best epoch so far."""

    def __init__(self, config: TrainConfig, prepared: Prepared, context: Context, writer: checkpoints.Writer) -> None:
        """Builds the model, and restores the last checkpoint if there is one.

        Raises:
            TrainingError: The workers built different models.
            WorkerLostError: The workers found different checkpoints.
        """
        stepper = make_stepper(config, context.collective, prepared.training.labels)
        stepper.set_weights(prepared.weights)
        if prepared.word_vectors is not None:
            stepper.set_word_vectors(prepared.word_vectors)
        checkpoint = checkpoints.latest(config.output)
        new = State(summary=stepper.summary(), data=prepared.fingerprint())
        super().__init__(config, prepared.training, context, writer, stepper, checkpoint, new)
        self._prepared = prepared
        self._advice = "try a lower --learning-rate, or --clip-norm 1"
        if config.precision == "fp16":
            self._advice += ", or --precision bf16"
        # The model's variables after the best epoch, on rank 0 only.
        self._best = [] if checkpoint is None or not self._is_first else checkpoint.best
        if self._is_first:
            context.begin(self.state)
        if checkpoint is None and config.pretrain_epochs:
            stepper.set_weights(pretrain(config, prepared, context))
        self._part: NgramPart | None = None
        if config.ngrams:
            self._part = (
                self._fit_ngrams(prepared.training) if checkpoint is None else NgramPart.from_arrays(checkpoint.ngrams)
            )
            self._mixer = Mixer(config, prepared, self._part, self._collective)

    def _fit_ngrams(self, corpus: Corpus) -> NgramPart:
        """Fits the n-gram part. All workers call this, because either all have a checkpoint or none has."""
        began = reported = time.monotonic()
        config, evaluations = self._config, 0

        def evaluated() -> None:
            nonlocal reported, evaluations
            evaluations += 1
            if self._is_first and self._context.is_interrupted():
                at = self.state.position()
                raise KeyboardInterrupt(f"interrupted: fitting n-grams at {at}; the same command resumes there")
            if self._is_first and time.monotonic() - reported > _REPORT_EVERY_S:
                reported = time.monotonic()
                self._context.report(f"fitting n-grams: {counted(evaluations, 'evaluation')}, {reported - began:.0f} s")

        if self._is_first:
            self._context.report(f"fitting n-grams of up to {counted(config.ngrams, 'word')} on {len(corpus):,} rows")
        words, before = self._prepared.vocabulary, self._prepared.ngram_table
        part = fit_on(config, corpus, words, self._collective, threads_given(), evaluated, before)
        if self._is_first:
            used = np.count_nonzero(part.table)
            self._context.report(
                f"fitted in {time.monotonic() - began:.0f} s: {used:,} of {config.ngram_buckets:,} buckets are used"
            )
        return part

    def validate(self) -> _Measured:
        """Returns the counts over all validation rows, which are divided among the workers, and the best mix.

        Raises:
            KeyboardInterrupt: The run was interrupted and has been saved.
        """
        corpus = self._prepared.validation
        if len(corpus) == 0:
            return _Measured(None, None if self._part is None else unmeasured_mix())
        steps = validation_steps(corpus.sequences.lengths, _VALIDATION_BATCH)
        rank, world_size = self._collective.rank, self._collective.world_size
        batches = worker_batches(corpus, steps, self._config, rank=rank, world_size=world_size)
        predicted = [np.zeros(0, np.float32)]
        for batch in batches:
            predicted.append(self._stepper.predict(batch))
            if self._is_first and self._context.is_interrupted():
                self.save()
                self.stop_if_interrupted()
        rows = np.concatenate([step[rank::world_size] for step in steps])
        probabilities, threshold = np.concatenate(predicted), self._config.epoch_threshold
        if self._part is not None:
            mixed = self._mixer.mix(rows, probabilities, threshold)
            return _Measured(mixed.counts, mixed.mix, mixed.columns())
        mine = BinaryCounts.from_scores(corpus.labels[rows], probabilities, threshold=threshold)
        total = self._collective.all_gather(mine.to_array()).sum(axis=0)
        return _Measured(BinaryCounts.from_array(total, threshold=threshold))

    def end_epoch(self, measured: _Measured) -> None:
        """Adds the epoch to the state, and keeps its weights if it is the best so far.

        Raises:
            TrainingError: The workers' weights differ.
        """
        state, rows = self.state, len(self._prepared.training)
        weights = self._stepper.weights()
        # With `ema` the whole state is compared: an average would hide a difference of a few bits.
        check_epoch(self._collective, state.epoch + 1, self._stepper.state() if self._config.ema else weights)
        metrics = {} if measured.counts is None else measured.counts.metrics()
        state.end_epoch(
            {
                "epoch": state.epoch + 1,
                "loss": state.loss_sum / rows,
                "accuracy": state.right / rows,
                "learning_rate": self._stepper.learning_rate(),
                "seconds": state.seconds,
                "rows_per_s": rows / max(state.seconds, 1e-9),
                "validation_loss": metrics.get("log_loss"),
                "validation_accuracy": metrics.get("accuracy"),
                "validation_accuracy_standard_error": metrics.get("accuracy_standard_error"),
                "validation_auc": metrics.get("auc"),
                **measured.columns,
            }
        )
        best_by = self._config.best_by
        if not metrics or not state.metrics or rank(metrics, best_by) > rank(state.metrics, best_by):
            state.best_epoch, state.metrics = state.epoch, metrics
            state.keep_counts(measured.counts)
            state.mix = {} if measured.mix is None else asdict(measured.mix)
            self._best = weights if self._is_first else []

    def _checkpoint(self) -> Checkpoint:
        ngrams = [] if self._part is None else self._part.arrays()
        return Checkpoint(copy.deepcopy(self.state), self._stepper.state(), list(self._best), ngrams)

    def report_epoch(self, step_sums: npt.NDArray[np.float64]) -> None:
        """Reports the last epoch on rank 0, after it was saved.

        Raises:
            KeyboardInterrupt: The run was interrupted. The epoch is reported first, because a resumed run would not.
        """
        if self._is_first:
            row = self.state.history[-1]
            tensorboard.write_epoch(self._config, row, step_sums, len(self._prepared.training))
            self._writer.wait()  # the receiver may end this process
            self._context.report(Epoch(row))
            self.stop_if_interrupted()

    def finish(self) -> None:
        """Writes the best epoch's model on rank 0. Workers return together."""
        part, config = self._part, self._config
        if part is not None and config.refits_on_all_rows and len(self._prepared.validation):
            part = self._fit_ngrams(self._prepared.all_rows())
        if self._is_first:
            self._writer.wait()
            _write_model(config, self._best, part, self._prepared, self.state)
            discard(config)
        self._collective.all_gather([])  # no worker leaves while another still needs it


def _profile(prepared: Prepared, state: State, metrics: dict[str, Any]) -> TrainingData:
    """Returns what the model reads of its data, with what it predicts for the validation rows."""
    validation, counts = prepared.profile.validation, state.best_counts()
    if counts is not None:
        positives = metrics["true_positives"] + metrics["false_positives"]
        validation = replace(validation, positives=positives, scores=counts.calibration_rows)
    return replace(prepared.profile, validation=validation)


def _write_model(
    config: TrainConfig, best: list[npt.NDArray[Any]], part: NgramPart | None, prepared: Prepared, state: State
) -> None:
    model = build_model(config, config, config.seed)  # in float32, whatever the precision of the steps
    for variable, value in zip(model.variables, best, strict=True):
        variable.assign(value)
    mix = None
    if part is not None:
        mix = Mix(**state.mix)
        mix = replace(mix, bias=mix.bias + mix.ngrams * part.bias)
        model = with_ngrams(model, config, part.table, mix)
    metrics, _ = state.decide(config)
    write_bundle(
        join(config.output, "model"),
        model=model,
        weights=None if config.network is not None else network_weights(model, config, config),
        vocabulary=prepared.vocabulary,
        seen=prepared.seen,
        chosen_on=[prepared.sum_of_validation_texts] if len(prepared.validation) else [],
        profile=_profile(prepared, state, metrics),
        config=config,
        mix=mix,
        ngram_bias=None if part is None else part.bias,
        metrics=metrics,
        threshold=metrics.get("threshold", config.epoch_threshold),
    )
