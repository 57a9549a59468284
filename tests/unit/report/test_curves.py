"""The sentence below a report's heading says what the curves show, and no more."""

import math

import pyarrow as pa
import pytest

from lstm_ray.report.curves import describe, read_curves


def history(loss, validation_loss=None, validation_accuracy=None, best=None):
    """A history table with as many epochs as there are losses, one marked best; other columns not given are missing."""
    columns = {"epoch": pa.array(range(1, len(loss) + 1), pa.int32()), "loss": pa.array(loss, pa.float64())}
    if validation_loss is not None:
        columns["validation_loss"] = pa.array(validation_loss, pa.float64())
    if validation_accuracy is not None:
        columns["validation_accuracy"] = pa.array(validation_accuracy, pa.float64())
    if best is not None:
        columns["best"] = pa.array([epoch == best for epoch in range(1, len(loss) + 1)])
    return pa.table(columns)


FALLING = [0.6, 0.4, 0.3, 0.2, 0.1]
PEAKED = [0.80, 0.83, 0.86, 0.85, 0.84]


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (
            history(FALLING, [0.50, 0.40, 0.36, 0.50, 0.67], PEAKED, best=3),
            "The model of epoch 3 of 5 was kept, the best by validation loss (accuracy 86.0%). From epoch 4 on it "
            "overfits: validation loss, lowest in epoch 3, rises by 0.31 while training loss still falls.",
        ),
        (
            history(FALLING, [0.50, 0.45, 0.40, 0.38, 0.36], [0.80, 0.81, 0.82, 0.83, 0.84], best=5),
            "The model of epoch 5 of 5 was kept, the best by validation loss (accuracy 84.0%). "
            "Validation loss was still falling at the end, so more epochs may help.",
        ),
        (
            history(FALLING, [0.50, 0.40, 0.36, 0.363, 0.362], PEAKED, best=3),
            "The model of epoch 3 of 5 was kept, the best by validation loss (accuracy 86.0%). "
            "Validation loss has been flat since epoch 3.",
        ),
        (
            history([0.6, 0.4, 0.3, 0.5, 0.7], [0.50, 0.40, 0.36, 0.50, 0.67], PEAKED, best=3),
            "The model of epoch 3 of 5 was kept, the best by validation loss (accuracy 86.0%). "
            "After epoch 3 both losses rise, so a lower learning rate may help.",
        ),
        (
            history(FALLING, None, PEAKED, best=3),
            "The model of epoch 3 of 5 was kept, the best by validation loss (accuracy 86.0%).",
        ),
        (
            history([0.5], [0.4], [0.83], best=1),
            "One epoch: validation accuracy 83.0%. A single epoch does not show whether more would help.",
        ),
        (
            history(FALLING),
            "Training loss fell from 0.600 to 0.100 in 5 epochs; "
            "without validation data, it is not known how well the model does on new text.",
        ),
        (
            history(FALLING[:1], [None], [None]),
            "One epoch: training loss 0.600; "
            "without validation data, it is not known how well the model does on new text.",
        ),
        (
            history([0.5, 0.4, math.nan], [0.5, 0.45, math.nan], [0.8, 0.82, 0.5], best=2),
            "Training diverged at epoch 3: the loss is no longer a number. Best before that: epoch 2. "
            "Try a lower learning rate.",
        ),
        (
            history([math.inf], [0.5], [0.5]),
            "Training diverged at epoch 1: the loss is no longer a number. Try a lower learning rate.",
        ),
        (history([]), "No epoch was completed."),
    ],
)
def test_the_sentence_says_what_the_curves_show(table, sentence):
    assert describe(read_curves(table, "loss")) == sentence


@pytest.mark.parametrize(("best_by", "name"), [("loss", "loss"), ("auc", "AUC"), ("accuracy", "accuracy")])
def test_the_best_epoch_is_the_marked_one_and_the_metric_that_decided_is_named(best_by, name):
    curves = read_curves(history(FALLING, FALLING, PEAKED, best=2), best_by)
    assert curves.best_epoch == 2
    assert describe(curves).startswith(
        f"The model of epoch 2 of 5 was kept, the best by validation {name} (accuracy 83.0%)"
    )
    assert curves.best_label == f"▲ best by {name}"


def test_an_epoch_that_was_kept_although_it_overfits_is_explained():
    table = history(FALLING, [0.50, 0.36, 0.40, 0.50, 0.67], PEAKED, best=3)
    why = "The kept epoch is one of these, as validation accuracy improved until then; --best-by loss keeps epoch 2."
    assert describe(read_curves(table, "accuracy")).endswith(why)
    earlier = history(FALLING, [0.50, 0.40, 0.36, 0.50, 0.67], PEAKED, best=2)
    assert "one of these" not in describe(read_curves(earlier, "accuracy"))


def test_overfitting_that_starts_after_the_best_epoch_is_dated_by_the_loss():
    curves = read_curves(history(FALLING, [0.50, 0.36, 0.40, 0.50, 0.67], PEAKED, best=3), "accuracy")
    assert (curves.best_epoch, curves.overfit_from) == (3, 3)


@pytest.mark.parametrize("validation_loss", [[0.5, 0.4, 0.36, 0.361, 0.365], [None] * 5, [0.5, 0.4, 0.3, 0.2, 0.1]])
def test_no_overfitting_is_claimed_where_validation_loss_is_flat_absent_or_falling(validation_loss):
    assert read_curves(history(FALLING, validation_loss, PEAKED), "loss").overfit_from is None


def test_a_missing_column_reads_as_not_measured():
    curves = read_curves(history(FALLING), "loss")
    assert curves.training_accuracy == [None] * 5
    assert not curves.has_validation
    assert curves.best_epoch is None
    assert curves.at_best(curves.training_loss) is None
