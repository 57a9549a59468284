"""The epochs of a run on one worker, without Ray.

    fit the n-gram part, if the run has one and no checkpoint contains it
    for each epoch: train -> validate -> end the epoch -> save -> report
    between two steps: save, when a checkpoint is due

`run` is the same in this process and on every Ray worker. What differs (the peers, and who receives reports) is passed
as a `Context`.

Rank 0 saves when a checkpoint is due, without asking its peers: the weights are equal on all workers, a step's loss is
already summed over them, and batches and dropout depend only on (seed, epoch, step, rank). So a resumed run ends in the
same bits as one that was never interrupted.
"""

from __future__ import annotations

import copy
import math
import time
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lstm_ray.collective.protocol import Collective
from lstm_ray.config import TrainConfig
from lstm_ray.errors import TrainingError
from lstm_ray.evaluate.counts import BinaryCounts
from lstm_ray.evaluate.ranking import rank
from lstm_ray.model.architectures import build_model, network_weights, with_ngrams
from lstm_ray.model.bundle import write_bundle
from lstm_ray.model.profile import TrainingData
from lstm_ray.model.weights import Mix
from lstm_ray.progress import Count, Epoch, Event
from lstm_ray.runtime.tensorflow import threads_given
from lstm_ray.storage import join
from lstm_ray.train.data.batches import epoch_order, validation_order, worker_batches
from lstm_ray.train.data.corpus import Corpus, Prepared
from lstm_ray.train.loop import checkpoints, tensorboard
from lstm_ray.train.loop.agreement import check_epoch, check_start
from lstm_ray.train.loop.checkpoints import Checkpoint
from lstm_ray.train.loop.pretraining import discard, pretrain
from lstm_ray.train.loop.state import State
from lstm_ray.train.ngrams.fit import NgramPart
from lstm_ray.train.ngrams.tower import Mixer, fit_on, unmeasured_mix
from lstm_ray.train.step.choice import make_stepper
from lstm_ray.train.step.schedule import count_steps, learning_rate_at, steps_per_epoch
from lstm_ray.wording import counted

_VALIDATION_BATCH = 512  # rows of a step over all workers: no gradients, so more fit in memory than in training
_PROGRESS_EVERY_S = 0.5
_REPORT_EVERY_S = 10.0  # while n-grams are fitted: on a million long reviews that takes most of an hour
_CHECK_EVERY_STEPS = 50  # that the loss is finite: not by the clock, so that all workers check after the same step


class Context(Protocol):
    """The environment of a worker. Only rank 0 calls its methods.

    Attributes:
        collective: The workers of the run.
    """

    collective: Collective

    def begin(self, state: State) -> None:
        """Receives the state that the run starts or resumes from."""

    def report(self, event: Event) -> None:
        """Receives messages, the number of rows done about twice a second, and each epoch after it was saved."""

    def is_interrupted(self) -> bool:
        """Returns whether to save the run and stop. Called between two steps, also while n-grams are fitted."""


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


class _Worker:
    """One worker of a run: its model, the position of the run, and on rank 0 the checkpoints.

    Attributes:
        state: Position and history of the run.
    """

    def __init__(self, config: TrainConfig, prepared: Prepared, context: Context, writer: checkpoints.Writer) -> None:
        """Builds the model, and restores the last checkpoint if there is one.

        Raises:
            TrainingError: The workers built different models.
            WorkerLostError: The workers found different checkpoints.
        """
        self._config, self._prepared, self._context, self._writer = config, prepared, context, writer
        self._collective = context.collective
        self._rank = self._collective.rank
        self._is_first = self._rank == 0
        self._has_reported_sums = False
        self._stepper = make_stepper(config, self._collective, prepared.training.labels)
        self._stepper.set_weights(prepared.weights)
        if prepared.word_vectors is not None:
            self._stepper.set_word_vectors(prepared.word_vectors)
        self._best: list[npt.NDArray[Any]] = []  # the model's variables after the best epoch, on rank 0 only
        checkpoint = checkpoints.latest(config.output)
        if checkpoint is None:
            self.state = State(summary=self._stepper.summary(), data=prepared.fingerprint())
        else:
            self._stepper.restore(checkpoint.variables)
            self.state = checkpoint.state
            self._best = checkpoint.best if self._is_first else []
        check_start(config, self._collective, self._stepper, checkpoint)
        if self._is_first:
            checkpoints.discard_after(config.output, None if checkpoint is None else self.state)
            context.begin(self.state)
        if checkpoint is None and config.pretrain_epochs:
            self._stepper.set_weights(pretrain(config, prepared, context))
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
                self._context.report(f"fitting n-grams: {evaluations} evaluations, {reported - began:.0f} s")

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

    def train(self) -> npt.NDArray[np.float64]:
        """Trains on the rows that are left of the epoch.

        Returns:
            float64[steps, 2], loss and number of correct answers of the steps taken here, each summed over the step's
            rows. In a resumed epoch, earlier steps are not included.

        Raises:
            TrainingError: The loss is not finite.
            KeyboardInterrupt: The run was interrupted and has been saved.
        """
        config, state, corpus = self._config, self.state, self._prepared.training
        epoch = state.epoch + 1
        batches = worker_batches(
            corpus,
            epoch_order(corpus.sequences.lengths, config, epoch),
            config,
            rank=self._rank,
            world_size=self._collective.world_size,
            batch_size=config.global_batch_size,
            first_step=state.step,
            epoch=epoch,
        )
        meter = _Meter(state)
        recent: list[Any] = []
        step_sums: list[npt.NDArray[np.float32]] = []
        for batch in batches:
            self._stepper.reseed(config.seed, epoch, state.step, self._rank)
            recent.append(self._stepper.train(batch))  # on a GPU a tensor: reading it now would wait for the GPU
            state.step += 1
            meter.count(batch.global_rows)
            self._report_sums()
            if self._is_first and meter.is_report_due():
                done = (epoch - 1) * len(corpus) + min(state.step * config.global_batch_size, len(corpus))
                stage = f"epoch {epoch}/{config.epochs}"
                self._context.report(Count(done, config.epochs * len(corpus), "rows", stage, meter.rows_per_s()))
            is_due = self._is_first and (self._writer.count_step() or self._context.is_interrupted())
            if is_due or state.step % _CHECK_EVERY_STEPS == 0:
                step_sums += self._add_to_state(recent)
            if is_due:
                state.seconds = meter.seconds()
                self.save()
                self._stop_if_interrupted()
        step_sums += self._add_to_state(recent)
        state.seconds = meter.seconds()
        return np.array(step_sums, np.float64).reshape(-1, 2)

    def _report_sums(self) -> None:
        """Reports once, after the first step, how gradients are summed, if there are several workers."""
        if self._is_first and self._collective.world_size > 1 and not self._has_reported_sums:
            self._has_reported_sums = True
            self._context.report(f"gradients are summed by {self._collective.describe()}")

    def _add_to_state(self, recent: list[Any]) -> list[npt.NDArray[np.float32]]:
        """Adds the sums of the last steps to the state, empties the list, and returns the sums as arrays.

        Raises:
            TrainingError: The loss or a weight is not finite.
        """
        config, state, rows = self._config, self.state, len(self._prepared.training)
        steps = [np.asarray(step_sums) for step_sums in recent]
        recent.clear()
        for loss, right in steps:  # one by one: the same rounding, wherever the run is interrupted
            state.loss_sum += float(loss)
            state.right += float(right)
        # A step's loss is computed before its update, so the weights are checked too: they show if the last step
        # diverged.
        if not (math.isfinite(state.loss_sum) and self._stepper.is_finite()):
            first = next((number for number, s in enumerate(steps, 1) if not np.isfinite(s).all()), len(steps))
            step = state.step - len(steps) + first
            before = state.epoch * steps_per_epoch(config, rows)
            rate = float(learning_rate_at(config, count_steps(config, rows), before + step - 1))
            raise TrainingError(
                f"the loss is no longer a number in epoch {state.epoch + 1}, by step {step}, at learning rate "
                f"{rate:.3g}: try a lower --learning-rate, or --clip-norm 1"
                + (", or --precision bf16" if config.precision == "fp16" else "")
            )
        return steps

    def validate(self) -> _Measured:
        """Returns the counts over all validation rows, which are divided among the workers, and the best mix.

        Raises:
            KeyboardInterrupt: The run was interrupted and has been saved.
        """
        corpus = self._prepared.validation
        if len(corpus) == 0:
            return _Measured(None, None if self._part is None else unmeasured_mix())
        order = validation_order(corpus.sequences.lengths)
        batches = worker_batches(
            corpus,
            order,
            self._config,
            rank=self._rank,
            world_size=self._collective.world_size,
            batch_size=_VALIDATION_BATCH,
        )
        predicted = [np.zeros(0, np.float32)]
        for batch in batches:
            predicted.append(self._stepper.predict(batch))
            if self._is_first and self._context.is_interrupted():
                self.save()
                self._stop_if_interrupted()
        steps = np.split(order, range(_VALIDATION_BATCH, len(order), _VALIDATION_BATCH))
        rows = np.concatenate([step[self._rank :: self._collective.world_size] for step in steps])
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

    def save(self) -> None:
        """Starts to save the run, on rank 0. The state must be complete and finite."""
        if self._is_first:
            ngrams = [] if self._part is None else self._part.arrays()
            self._writer.save(Checkpoint(copy.deepcopy(self.state), self._stepper.state(), list(self._best), ngrams))

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
            self._stop_if_interrupted()

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

    def _stop_if_interrupted(self) -> None:
        """Raises KeyboardInterrupt if the run should stop. Called on rank 0, after `save`."""
        if self._context.is_interrupted():
            self._writer.wait()
            raise KeyboardInterrupt(f"interrupted: saved at {self.state.position()}; the same command resumes there")


class _Meter:
    """Measures the time of an epoch's steps, except the first one in a process, which spends seconds compiling."""

    def __init__(self, state: State) -> None:
        self._seconds_before = state.seconds
        self._started = self._reported = time.perf_counter()
        self._steps = self._rows = 0

    def count(self, rows: int) -> None:
        """Counts a step."""
        if self._steps == 0:
            self._started = time.perf_counter()
        self._steps += 1
        self._rows += rows

    def seconds(self) -> float:
        """Returns the seconds of the epoch's steps, including those before the run was resumed."""
        return self._seconds_before + time.perf_counter() - self._started

    def rows_per_s(self) -> float:
        """Returns the mean speed since the first step."""
        return self._rows / (time.perf_counter() - self._started)

    def is_report_due(self) -> bool:
        """Returns whether a report is due, and if so restarts the interval."""
        now = time.perf_counter()
        if self._steps < 2 or now - self._reported <= _PROGRESS_EVERY_S:
            return False
        self._reported = now
        return True


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
        profile=_profile(prepared, state, metrics),
        config=config,
        mix=mix,
        metrics=metrics,
        threshold=metrics.get("threshold", config.epoch_threshold),
    )
