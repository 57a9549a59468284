"""Class weights of the loss."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lstm_ray.config import TrainConfig

Labels = npt.NDArray[np.int8]


def class_weights(config: TrainConfig, labels: Labels) -> tuple[float, float]:
    """Returns what the loss of a negative and of a positive row counts, as `class_weight` in Keras's `fit`.

    Balanced, a class of n of all rows counts rows / (2 n), so that both together count what they did.
    """
    fixed = config.fixed_class_weights
    if fixed is not None:
        return fixed
    negatives, positives = np.bincount(labels, minlength=2).tolist()
    return len(labels) / (2 * negatives), len(labels) / (2 * positives)
