"""The weight of each class in the loss, which is binary cross-entropy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lstm_ray.config import TrainConfig

Labels = npt.NDArray[np.int8]


def class_weights(config: TrainConfig, labels: Labels) -> tuple[float, float]:
    """Returns the weights of negative and positive rows, as `class_weight` in Keras's `fit`.

    "balanced" gives a class of n rows the weight rows / (2 n): both classes count the same in total.
    """
    fixed = config.fixed_class_weights
    if fixed is not None:
        return fixed
    negatives, positives = np.bincount(labels, minlength=2).tolist()
    return len(labels) / (2 * negatives), len(labels) / (2 * positives)
