"""Calibrates a model on labelled rows: a temperature for its probabilities, and a threshold.

    rows -> counts of the model -> temperature -> the model with it -> counts of that -> threshold -> a new bundle

The temperature T divides the logit. It is fitted so that of the texts with sigmoid(logit / T) = 0.8, 80 % are positive;
the order of the texts stays the same. It is folded into the weights of the last layer, so that the native engine,
Keras, ONNX and SavedModel need not know of it. Source: Guo et al. 2017, "On Calibration of Modern Neural Networks".
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lstm_ray import storage
from lstm_ray.config import CalibrateConfig, EvaluateConfig, LabelSettings, RowSettings
from lstm_ray.datasets.labelled import doubt_left_out
from lstm_ray.datasets.labels import label_mapping
from lstm_ray.datasets.seen import describe_lost, describe_seen
from lstm_ray.errors import InputError
from lstm_ray.evaluate.counts import LOG_LOSS_EPSILON, BinaryCounts, bin_ends, bin_starts
from lstm_ray.evaluate.evaluation import add_up, check_unseen, evaluate_here, labelled_shards
from lstm_ray.evaluate.shard import Models
from lstm_ray.evaluate.thresholds import choose_threshold
from lstm_ray.model.bundle import read_bundle, write_calibrated
from lstm_ray.model.temperature import at_temperature
from lstm_ray.model.trained_columns import columns_of_training_named
from lstm_ray.progress import Progress
from lstm_ray.score.scorer import Scorer
from lstm_ray.wording import as_call, counted

_HOTTEST = 100.0  # beyond this temperature, or below its inverse, the rows count as having none
_HALVINGS = 60
_LEAST_GAIN = 0.001  # of the log loss; with a few thousand rows, smaller gains are noise


@dataclass(frozen=True)
class Calibration:
    """What a calibration changed.

    Attributes:
        output: Directory of the new bundle.
        temperature: The divisor of the logits; above 1 if the model was overconfident.
        before: Counts of the old model on the rows.
        after: Counts of the new model on the rows, at its threshold.
    """

    output: str
    temperature: float
    before: BinaryCounts
    after: BinaryCounts

    def __repr__(self) -> str:
        """Returns what the new bundle has, and its accuracy; `metrics` has all."""
        chosen = {name: getattr(self, name) for name in ("output", "temperature", "threshold")}
        return as_call("Calibration", {**chosen, "accuracy": self.metrics["accuracy"]})

    @property
    def threshold(self) -> float:
        """Returns the threshold of the new bundle."""
        return self.after.threshold

    @property
    def metrics(self) -> dict[str, Any]:
        """Returns the metrics of the new model on the rows, by name."""
        return self.after.metrics()


def calibrate(config: CalibrateConfig, progress: Progress) -> Calibration:
    """Fits a temperature to labelled rows, chooses a threshold, and writes a new bundle; the old one stays as it is.

    Without a goal, the threshold moves with the probabilities, so that every text keeps its sentiment.

    Args:
        config: The settings.
        progress: Receives messages, and the number of rows done; all rows are scored twice.

    Raises:
        BundleError: The model cannot be used, or was replaced meanwhile.
        InputError: The rows cannot be used, or determine no temperature, or no threshold reaches the target.
        OutputError: The output directory is not empty, or cannot be written.
    """
    storage.check_empty(config.output)
    with columns_of_training_named(config):
        shards = labelled_shards(config, progress)
    bundle = read_bundle(config.model)
    if note := bundle.note():
        progress(note)
    if not config.allow_seen_files:
        check_unseen(shards, bundle)
    rows = {name: getattr(config, name) for name in (*LabelSettings.model_fields, *RowSettings.model_fields)}
    measured = EvaluateConfig(inputs=config.inputs, mistakes=0, **rows)
    # A copy is not checked: a bundle's threshold may be 0 or 1, which `--threshold` refuses.
    measured = measured.model_copy(update={"threshold": bundle.threshold})
    results = evaluate_here(shards, measured, Models(Scorer(bundle), bundle.seen()))
    with columns_of_training_named(config), contextlib.closing(results):
        first = add_up(shards, results, measured, progress)
    before = first.counts
    if bundle.lost_its_texts():
        progress(f"warning: {', '.join(config.inputs)}: {describe_lost(bundle.path)}")
    if first.rows_seen:
        accuracy = before.metrics()["accuracy"]
        seen = describe_seen(first.rows_seen, before.rows, "evaluation", accuracy=accuracy)
        progress(f"warning: {', '.join(config.inputs)}: {seen}")
    mapping = label_mapping(config)
    if (doubt := doubt_left_out(first.rows_with_other_label, shards, config.label_column, mapping)) is not None:
        progress(f"warning: {', '.join(config.inputs)}: {doubt}")
    temperature = fit_temperature(before)
    progress(f"temperature {temperature:.4g}: scoring the rows again with it")
    scaled = at_temperature(bundle, temperature)
    threshold = _scaled(bundle.threshold, temperature) if config.threshold is None else config.threshold
    measured = measured.model_copy(update={"threshold": threshold})
    with contextlib.closing(evaluate_here(shards, measured, Models(Scorer(scaled)))) as results:
        evaluation = add_up(shards, results, measured, progress)
    after = evaluation.counts if config.goal is None else choose_threshold(evaluation.counts, config.goal)
    if (note := describe_gain(before.metrics(), after.metrics())) is not None:
        progress(f"note: {note}")
    write_calibrated(config.output, scaled, after.threshold, after.metrics(), evaluation.sum_of_texts, temperature)
    return Calibration(config.output, temperature, before, after)


def describe_gain(before: Mapping[str, Any], after: Mapping[str, Any]) -> str | None:
    """Returns what a calibration did not improve, or None. The log loss cannot rise by more than the fit is inexact."""
    loss, error = (f"({before[name]:.4f} -> {after[name]:.4f})" for name in ("log_loss", "calibration_error"))
    if before["log_loss"] - after["log_loss"] < _LEAST_GAIN:
        return f"log loss hardly changes {loss}: a temperature does not improve these probabilities"
    if after["calibration_error"] > before["calibration_error"]:
        return (
            f"the calibration error rises {error}, though log loss falls {loss}: compare both models on other rows "
            "with lstm-ray evaluate before you use the new one"
        )
    return None


def fit_temperature(counts: BinaryCounts) -> float:
    """Returns the temperature with the highest likelihood.

    It is computed from the histograms of probabilities, with each row at the middle of its bin. A bin's width is at
    most 1/512 of its distance from 0, 0.5 or 1, which changes the temperature by less than a thousandth.

    Raises:
        InputError: The likelihood has no maximum: all rows have one label, the model separates them perfectly, or it is
            no better than chance.
    """
    occupied = np.flatnonzero(counts.positive_histogram + counts.negative_histogram)
    middles = (bin_starts()[occupied].astype(np.float64) + bin_ends()[occupied]) / 2
    middles = np.clip(middles, LOG_LOSS_EPSILON, 1 - LOG_LOSS_EPSILON)
    logits = np.log(middles) - np.log1p(-middles)
    positives = counts.positive_histogram[occupied]
    rows = positives + counts.negative_histogram[occupied]

    def slope(inverse: float) -> float:
        """Returns the derivative of the log likelihood by the inverse temperature; it falls as that rises."""
        return float(logits @ (positives - rows * (0.5 + 0.5 * np.tanh(inverse * logits / 2))))

    low, high = -math.log(_HOTTEST), math.log(_HOTTEST)
    if counts.positives == 0 or counts.negatives == 0 or slope(math.exp(low)) <= 0 or slope(math.exp(high)) >= 0:
        raise InputError(
            f"no temperature can be computed from {counted(counts.rows, 'row')}: all have one label, or the model "
            "separates them perfectly, or it is no better than chance: give other rows, or more"
        )
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(math.exp(middle)) > 0 else (low, middle)
    return math.exp(-low)


def _scaled(threshold: float, temperature: float) -> float:
    """Returns the threshold that separates the same texts once the temperature divides the logits."""
    if threshold in (0.0, 1.0):
        return threshold
    logit = math.log(threshold / (1 - threshold)) / temperature
    odds = math.exp(-abs(logit))  # of the less probable class: may underflow to 0, but never overflows
    return (1 if logit > 0 else odds) / (1 + odds)
