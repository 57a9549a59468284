"""The loss: binary cross-entropy, class weights, and adversarial training.

Adversarial training adds to each row's loss the cross-entropy of the same row with its inputs shifted. Let x,
float32[time, size], be the vectors that the first LSTM layer reads (after dropout, without a masked network's padding),
g the gradient of the row's loss with respect to x, and |.| the L2 norm of a whole array. Then

    loss(row) = cross_entropy(x) + cross_entropy(x + shift)    shift = adversarial * |x| / sqrt(time) * g / |g|

with the same dropout in both terms. The shift is treated as a constant when the gradients are computed, and is 0 where
g is 0. Reported losses and accuracies are those at x.

|x| / sqrt(time) is the typical length of the row's vectors (the root of their mean square). The shift grows with the
vectors, so that training cannot evade it by enlarging them. The paper instead has a shift of fixed length, and
normalises the vectors over the vocabulary, after which their typical length is the square root of their size; its best
shift, of length 5 for vectors of 256 values, corresponds to 0.3 here. Our measure depends on the row alone: workers and
resumed runs need no other information, and plain Keras layers can compute the network.

Source: Miyato, Dai and Goodfellow, "Adversarial Training Methods for Semi-Supervised Text Classification", 2017.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lstm_ray.config import TrainConfig

Labels = npt.NDArray[np.int8]


def class_weights(config: TrainConfig, labels: Labels) -> tuple[float, float]:
    """Returns the weights of negative and positive rows, like `class_weight` in Keras's `fit`.

    "balanced" gives a class of n rows the weight rows / (2 n), so that both classes have the same total weight.
    """
    fixed = config.fixed_class_weights
    if fixed is not None:
        return fixed
    negatives, positives = np.bincount(labels, minlength=2).tolist()
    return len(labels) / (2 * negatives), len(labels) / (2 * positives)
