"""The steps of an epoch on one worker: of the run (epochs.py), and of the language model before it (pretraining.py).

    for each batch: train -> count -> report -> check -> save, when a checkpoint is due

Rank 0 saves when a checkpoint is due, without asking its peers: the weights are equal on all workers, a step's loss is
already summed over them, and batches and dropout depend only on (seed, epoch, step, rank). So a resumed run ends in the
same bits as one that was never interrupted.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lstm_ray.collective.protocol import Collective
from lstm_ray.config import TrainConfig
from lstm_ray.errors import TrainingError
from lstm_ray.progress import Count, Event
from lstm_ray.train.data.batches import epoch_steps, worker_batches
from lstm_ray.train.data.corpus import Corpus
from lstm_ray.train.loop import checkpoints
from lstm_ray.train.loop.agreement import check_start
from lstm_ray.train.loop.checkpoints import Checkpoint
from lstm_ray.train.loop.state import State
from lstm_ray.train.step.protocol import Stepper
from lstm_ray.train.step.schedule import count_steps, learning_rate_at, steps_per_epoch

_PROGRESS_EVERY_S = 0.5
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


class StepLoop(ABC):
    """A model, the position of its training on one worker, and on rank 0 the checkpoints.

    Attributes:
        state: Position and history.
    """

    _unit = "rows"
    _activity = ""  # what an epoch belongs to, in messages
    _advice: str  # what to do if the loss is not finite

    def __init__(
        self,
        config: TrainConfig,
        corpus: Corpus,
        context: Context,
        writer: checkpoints.Writer,
        stepper: Stepper,
        checkpoint: Checkpoint | None,
        new: State,
    ) -> None:
        """Restores the checkpoint; without one, starts from the state `new`.

        Raises:
            TrainingError: The workers built different models.
            WorkerLostError: The workers found different checkpoints.
        """
        self._config, self._corpus, self._context, self._writer = config, corpus, context, writer
        self._stepper, self._collective = stepper, context.collective
        self._is_first = self._collective.rank == 0
        self._has_reported_sums = False
        self.state = new
        if checkpoint is not None:
            stepper.restore(checkpoint.variables)
            self.state = checkpoint.state
        check_start(config, self._collective, stepper, checkpoint)
        if self._is_first:
            checkpoints.discard_after(config.output, None if checkpoint is None else self.state)

    @abstractmethod
    def _checkpoint(self) -> Checkpoint:
        """Returns what to save. The state is complete and finite; arrays must not change any more."""

    def train(self) -> npt.NDArray[np.float64]:
        """Trains on the rows that are left of the epoch.

        Returns:
            float64[steps, 3], what `Stepper.train` returned for the steps taken here, and their rows. In a resumed
            epoch, earlier steps are not included.

        Raises:
            TrainingError: The loss is not finite.
            KeyboardInterrupt: The run was interrupted and has been saved.
        """
        config, state, corpus = self._config, self.state, self._corpus
        epoch = state.epoch + 1
        steps, first = epoch_steps(corpus.sequences.lengths, config, epoch), state.step
        rows_done = np.cumsum([0, *map(len, steps)])
        batches = worker_batches(
            corpus,
            steps,
            config,
            rank=self._collective.rank,
            world_size=self._collective.world_size,
            first_step=first,
            epoch=epoch,
        )
        meter = _Meter(state)
        recent: list[Any] = []
        step_sums: list[npt.NDArray[np.float32]] = []
        for batch in batches:
            self._stepper.reseed(config.seed, epoch, state.step, self._collective.rank)
            recent.append(self._stepper.train(batch))  # on a GPU a tensor: reading it now would wait for the GPU
            state.step += 1
            meter.count(batch.global_rows)
            self._report_sums()
            if self._is_first and meter.is_report_due():
                done = (epoch - 1) * len(corpus) + int(rows_done[state.step])
                stage = f"epoch {epoch}/{config.epochs}{self._activity}"
                self._context.report(Count(done, config.epochs * len(corpus), self._unit, stage, meter.rows_per_s()))
            is_due = self._is_first and (self._writer.count_step() or self._context.is_interrupted())
            if is_due or state.step % _CHECK_EVERY_STEPS == 0:
                step_sums += self._add_to_state(recent)
            if is_due:
                state.seconds = meter.seconds()
                self.save()
                self.stop_if_interrupted()
        step_sums += self._add_to_state(recent)
        state.seconds = meter.seconds()
        return np.column_stack([np.reshape(step_sums, (-1, 2)), np.diff(rows_done[first:])])

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
        config, state, rows = self._config, self.state, len(self._corpus)
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
                f"the loss is no longer a number in epoch {state.epoch + 1}{self._activity}, by step {step}, at "
                f"learning rate {rate:.3g}: {self._advice}"
            )
        return steps

    def save(self) -> None:
        """Starts to save the run, on rank 0. The state must be complete and finite."""
        if self._is_first:
            self._writer.save(self._checkpoint())

    def stop_if_interrupted(self) -> None:
        """Raises KeyboardInterrupt if the run should stop. Called on rank 0, after `save`."""
        if self._context.is_interrupted():
            self._writer.wait()
            at = f"{self.state.position()}{self._activity}"
            raise KeyboardInterrupt(f"interrupted: saved at {at}; the same command resumes there")


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
