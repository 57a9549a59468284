"""Reads a training history: the best epoch, where overfitting begins, and a description in words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeGuard

from lstm_ray.evaluate.ranking import METRIC_NAMES

if TYPE_CHECKING:
    import pyarrow as pa

# A validation loss up to this share above the lowest counts as flat: shuffling alone changes it by as much.
FLAT_SHARE = 0.02

Values = Sequence[float | None]
"""One value an epoch; None where nothing was measured, NaN after training diverged."""


@dataclass(frozen=True)
class Curves:
    """Losses and accuracies by epoch, and the two epochs that matter.

    Attributes:
        epochs: Numbers of the epochs, from 1.
        training_loss: Mean loss over the training rows.
        training_accuracy: Share of the training rows that were predicted correctly.
        validation_loss: Mean loss over the validation rows; all None without validation.
        validation_accuracy: Share of the validation rows that were predicted correctly.
        validation_error: Standard error of the validation accuracy.
        best_by: The metric that decides which epoch is best, a key of `METRIC_NAMES`.
        best_epoch: The best epoch; None if no epoch is marked.
        overfit_from: The epoch after the lowest validation loss, if validation loss ends higher than that while
            training loss ends lower than in that epoch; else None.
    """

    epochs: Sequence[int]
    training_loss: Values
    training_accuracy: Values
    validation_loss: Values
    validation_accuracy: Values
    validation_error: Values
    best_by: str
    best_epoch: int | None
    overfit_from: int | None

    @property
    def has_validation(self) -> bool:
        """Whether any epoch was validated."""
        return any(value is not None for value in (*self.validation_loss, *self.validation_accuracy))

    @property
    def best_label(self) -> str:
        """The chart's label for the best epoch."""
        by = METRIC_NAMES[self.best_by].removeprefix("validation ")
        return f"▲ best by {by}" if self.has_validation else "▲ best"

    def at_best(self, values: Values) -> float | None:
        """Returns the value of the best epoch; None without a best epoch."""
        return None if self.best_epoch is None else values[list(self.epochs).index(self.best_epoch)]


def is_number(value: float | None) -> TypeGuard[float]:
    """Returns whether a value was measured and is finite."""
    return value is not None and math.isfinite(value)


def points(error: float | None) -> str:
    """Returns a standard error in percentage points, to follow a percentage: " ± 0.6"; "" if it was not measured."""
    return f" ± {100 * error:.1f}" if is_number(error) else ""


def column(history: pa.Table, name: str) -> list[float | None]:
    """Returns the values of a history's column; all None if it lacks the column."""
    return history[name].to_pylist() if name in history.column_names else [None] * history.num_rows


def read_curves(history: pa.Table, best_by: str) -> Curves:
    """Reads the curves from a history table; missing columns count as null."""
    epochs: list[int] = history["epoch"].to_pylist()
    training_loss, validation_loss = column(history, "loss"), column(history, "validation_loss")
    marked = [epoch for epoch, is_best in zip(epochs, column(history, "best"), strict=True) if is_best]
    return Curves(
        epochs=epochs,
        training_loss=training_loss,
        training_accuracy=column(history, "accuracy"),
        validation_loss=validation_loss,
        validation_accuracy=column(history, "validation_accuracy"),
        validation_error=column(history, "validation_accuracy_standard_error"),
        best_by=best_by,
        best_epoch=marked[0] if marked else None,
        overfit_from=_overfit_from(epochs, training_loss, validation_loss),
    )


def describe(curves: Curves) -> str:
    """Describes in a sentence or two what the curves mean for the person who trained the model."""
    if not curves.epochs:
        return "No epoch was completed."
    diverged = _first_not_a_number(curves)
    if diverged is not None:
        before = "" if curves.best_epoch in (None, diverged) else f" Best before that: epoch {curves.best_epoch}."
        return (
            f"Training diverged at epoch {diverged}: the loss is no longer a number.{before} Try a lower learning rate."
        )
    if not curves.has_validation:
        return _describe_training_only(curves)
    accuracy = curves.at_best(curves.validation_accuracy)
    reached = "" if accuracy is None else f"accuracy {accuracy:.1%}{points(curves.at_best(curves.validation_error))}"
    if len(curves.epochs) == 1:
        return (
            f"One epoch{reached and ': validation ' + reached}. A single epoch does not show whether more would help."
        )
    by = METRIC_NAMES[curves.best_by]
    head = f"The model of epoch {curves.best_epoch} of {curves.epochs[-1]} was kept, the best by {by}"
    return " ".join([f"{head}{reached and f' ({reached})'}.", *_describe_validation_loss(curves)])


def _measured_losses(
    epochs: Sequence[int], training_loss: Values, validation_loss: Values
) -> list[tuple[int, float, float]]:
    """Returns (epoch, training loss, validation loss) of each epoch in which both are finite."""
    return [
        (epoch, training, validation)
        for epoch, training, validation in zip(epochs, training_loss, validation_loss, strict=True)
        if is_number(training) and is_number(validation)
    ]


def _overfit_from(epochs: Sequence[int], training_loss: Values, validation_loss: Values) -> int | None:
    """Returns the epoch after the lowest validation loss, if that loss then rises while training loss falls."""
    losses = _measured_losses(epochs, training_loss, validation_loss)
    if not losses:
        return None
    lowest = min(range(len(losses)), key=lambda row: losses[row][2])
    _, training_then, validation_then = losses[lowest]
    _, training_last, validation_last = losses[-1]
    if validation_last > validation_then * (1 + FLAT_SHARE) and training_last < training_then:
        return losses[lowest + 1][0]
    return None


def _first_not_a_number(curves: Curves) -> int | None:
    """Returns the first epoch with a loss that is NaN or infinite."""
    for epoch, *losses in zip(curves.epochs, curves.training_loss, curves.validation_loss, strict=True):
        if any(loss is not None and not math.isfinite(loss) for loss in losses):
            return epoch
    return None


def _describe_training_only(curves: Curves) -> str:
    unknown = "without validation data, it is not known how well the model does on new text"
    losses = [loss for loss in curves.training_loss if loss is not None]
    if not losses:
        return f"{unknown.capitalize()}."
    if len(losses) == 1:
        return f"One epoch: training loss {losses[0]:.3f}; {unknown}."
    verb = "fell" if losses[-1] < losses[0] else "went"
    return f"Training loss {verb} from {losses[0]:.3f} to {losses[-1]:.3f} in {len(losses)} epochs; {unknown}."


def _describe_validation_loss(curves: Curves) -> Iterator[str]:
    """Yields sentences on how validation loss ended and what that means for the kept epoch; none if not measured."""
    losses = _measured_losses(curves.epochs, curves.training_loss, curves.validation_loss)
    if not losses:
        return
    lowest_epoch, _, lowest = min(losses, key=lambda epoch_losses: epoch_losses[2])
    last_epoch, _, last = losses[-1]
    if curves.overfit_from is not None:
        rise = f"validation loss, lowest in epoch {lowest_epoch}, rises by {last - lowest:.2f}"
        yield f"From epoch {curves.overfit_from} on it overfits: {rise} while training loss still falls."
        if curves.best_by != "loss" and curves.best_epoch is not None and curves.best_epoch >= curves.overfit_from:
            by = METRIC_NAMES[curves.best_by]
            kept = f"The kept epoch is one of these, as {by} improved until then"
            yield f"{kept}; --best-by loss keeps epoch {lowest_epoch}."
    elif lowest_epoch == last_epoch:
        yield "Validation loss was still falling at the end, so more epochs may help."
    elif last <= lowest * (1 + FLAT_SHARE):
        yield f"Validation loss has been flat since epoch {lowest_epoch}."
    else:
        yield f"After epoch {lowest_epoch} both losses rise, so a lower learning rate may help."
