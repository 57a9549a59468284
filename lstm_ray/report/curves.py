"""What a training history says: which epoch is best, where overfitting begins, and that in one sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

# A validation loss this little above its lowest is flat: epochs differ by as much through shuffling alone.
FLAT_SHARE = 0.02

Values = Sequence[float | None]
"""One value an epoch; None where there was nothing to measure, NaN where training had diverged."""


@dataclass(frozen=True)
class Curves:
    """Losses and accuracies by epoch, and the two epochs that matter in them.

    Attributes:
        epochs: the epochs' numbers, from 1.
        training_loss: mean loss over the training rows.
        training_accuracy: share of training rows predicted right.
        validation_loss: the same over the validation rows, all None without validation.
        validation_accuracy: likewise.
        best_epoch: the epoch that is marked best, else the one of highest validation accuracy.
        overfit_from: the epoch after the lowest validation loss, if that loss ends higher while training loss ends
            lower than it was there; None if not.
    """

    epochs: Sequence[int]
    training_loss: Values
    training_accuracy: Values
    validation_loss: Values
    validation_accuracy: Values
    best_epoch: int | None
    overfit_from: int | None

    @property
    def has_validation(self) -> bool:
        """Whether any epoch was validated."""
        return any(value is not None for value in (*self.validation_loss, *self.validation_accuracy))

    def at_best(self, values: Values) -> float | None:
        """The value of the best epoch; None without one."""
        return None if self.best_epoch is None else values[list(self.epochs).index(self.best_epoch)]


def is_number(value: float | None) -> bool:
    """Whether there is a value and it is finite."""
    return value is not None and math.isfinite(value)


def read_curves(history: pa.Table) -> Curves:
    """Reads the curves from a history table; columns that it lacks count as null."""

    def column(name: str) -> list[float | None]:
        return history[name].to_pylist() if name in history.column_names else [None] * history.num_rows

    epochs: list[int] = history["epoch"].to_pylist()
    training_loss, validation_loss = column("loss"), column("validation_loss")
    validation_accuracy = column("validation_accuracy")
    return Curves(
        epochs=epochs,
        training_loss=training_loss,
        training_accuracy=column("accuracy"),
        validation_loss=validation_loss,
        validation_accuracy=validation_accuracy,
        best_epoch=_best_epoch(epochs, column("best"), validation_accuracy),
        overfit_from=_overfit_from(epochs, training_loss, validation_loss),
    )


def describe(curves: Curves) -> str:
    """Says in one English sentence, or two, what the curves mean for whoever trained the model."""
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
    reached = "" if accuracy is None else f"validation accuracy {accuracy:.1%}"
    if len(curves.epochs) == 1:
        return f"One epoch{reached and ': ' + reached}; whether more would help, a single point does not say."
    head = f"Best at epoch {curves.best_epoch} of {curves.epochs[-1]}{reached and f' ({reached})'}"
    return f"{head}{_describe_validation_loss(curves)}."


def _best_epoch(epochs: Sequence[int], marks: Values, validation_accuracy: Values) -> int | None:
    """The last epoch marked best (a mark may also mean "the best so far"), else the first of highest accuracy."""
    marked = [epoch for epoch, mark in zip(epochs, marks, strict=True) if mark]
    if marked:
        return marked[-1]
    measured = [(value, -epoch) for epoch, value in zip(epochs, validation_accuracy, strict=True) if is_number(value)]
    return -max(measured)[1] if measured else None


def _measured_losses(
    epochs: Sequence[int], training_loss: Values, validation_loss: Values
) -> list[tuple[int, float, float]]:
    """(epoch, training loss, validation loss) of each epoch where both are finite."""
    return [
        (epoch, training, validation)
        for epoch, training, validation in zip(epochs, training_loss, validation_loss, strict=True)
        if training is not None and validation is not None and math.isfinite(training) and math.isfinite(validation)
    ]


def _overfit_from(epochs: Sequence[int], training_loss: Values, validation_loss: Values) -> int | None:
    """The epoch after the lowest validation loss, if that loss then rises while training loss falls."""
    losses = _measured_losses(epochs, training_loss, validation_loss)
    if not losses:
        return None
    lowest = min(range(len(losses)), key=lambda at: losses[at][2])
    _, training_then, validation_then = losses[lowest]
    _, training_last, validation_last = losses[-1]
    if validation_last > validation_then * (1 + FLAT_SHARE) and training_last < training_then:
        return losses[lowest + 1][0]
    return None


def _first_not_a_number(curves: Curves) -> int | None:
    """The first epoch that has a loss which is NaN or infinite."""
    for epoch, *losses in zip(curves.epochs, curves.training_loss, curves.validation_loss, strict=True):
        if any(loss is not None and not math.isfinite(loss) for loss in losses):
            return epoch
    return None


def _describe_training_only(curves: Curves) -> str:
    unknown = "without validation data, nothing says how well the model does on new text"
    losses = [loss for loss in curves.training_loss if loss is not None]
    if not losses:
        return f"{unknown.capitalize()}."
    if len(losses) == 1:
        return f"One epoch: training loss {losses[0]:.3f}; {unknown}."
    verb = "fell" if losses[-1] < losses[0] else "went"
    return f"Training loss {verb} from {losses[0]:.3f} to {losses[-1]:.3f} in {len(losses)} epochs; {unknown}."


def _describe_validation_loss(curves: Curves) -> str:
    """How validation loss ended, as the second half of a sentence; empty when it was not measured."""
    losses = _measured_losses(curves.epochs, curves.training_loss, curves.validation_loss)
    if not losses:
        return ""
    lowest_epoch, _, lowest = min(losses, key=lambda epoch_losses: epoch_losses[2])
    last_epoch, _, last = losses[-1]
    if curves.overfit_from is not None:
        rise = f"validation loss rises by {last - lowest:.2f} while training loss still falls"
        return f"; from epoch {curves.overfit_from} on it overfits: {rise}"
    if lowest_epoch == last_epoch:
        return "; validation loss was still falling at the end, so more epochs may help"
    if last <= lowest * (1 + FLAT_SHARE):
        return f"; validation loss has been flat since epoch {lowest_epoch}"
    return f"; after epoch {lowest_epoch} both losses rise, so a lower learning rate may help"
