"""The loss: binary cross-entropy, the weight of each class, and adversarial training.

Adversarial training adds, for each row, the cross-entropy of the same row shifted: let x, float32[time, size], be the
vectors that the first LSTM layer reads (dropped out, without a masked network's padding), g the gradient of the row's
loss by x, and |.| the L2 norm of a whole array. Then

    loss(row) = cross_entropy(x) + cross_entropy(x + shift)    shift = adversarial * |x| / sqrt(time) * g / |g|

with the same dropout in both terms. The shift counts as a constant when the gradients are computed, and is 0 where g
is. Reported losses and accuracies are those at x.

|x| / sqrt(time) is the length of the row's typical vector (the root of the mean of their squares). Longer vectors thus
make the shift longer, so that training cannot evade it by enlarging them; the paper has a fixed length for this, and
vectors normalised over the vocabulary, whose typical length is the root of their size: its best shift, of length 5 for
vectors of 256 numbers, is 0.3 here. Our measure depends on the row alone, so that neither workers nor a resumed run
need to know more, and the network stays one that plain Keras layers compute.

Source: Miyato, Dai and Goodfellow, "Adversarial Training Methods for Semi-Supervised Text Classification", 2017.
"""

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
