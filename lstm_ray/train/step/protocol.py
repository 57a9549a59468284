"""What a training engine must implement: one step, the same for one worker and for many.

    gradients  ->  summed over the workers (collective/protocol.py)  ->  Adam

The loss of a step is the mean over its rows on all workers (loss.py). So each worker divides its own sum by the global
number of rows, and the gradients are summed over the workers. Every worker holds the whole model. The seed gives all
workers the same initial weights, and each applies the same sums of gradients, so the weights stay bit-identical. Adam's
learning rate depends on the step's number (schedule.py).

Two engines implement `Stepper`, and choice.py chooses between them:

    native   machine code compiled for the CPU at start     train/native/stepper.py
    keras    Keras and TensorFlow, on GPUs and CPUs         train/step/keras_engine.py

Both start with the same weights, compute the same gradients up to rounding, and resume from each other's checkpoints.
Only their random numbers for dropout differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lstm_ray.text.word_vectors import WordVectors
from lstm_ray.train.data.batches import Batch


class Stepper(Protocol):
    """A model and its optimizer."""

    def summary(self) -> str:
        """Returns Keras's summary of the model."""

    def set_weights(self, weights: Sequence[npt.NDArray[np.float32]]) -> None:
        """Sets the weights that the model begins with.

        Args:
            weights: Of the embedding, which may have fewer rows than the model's; of each direction of each layer its
                kernel, recurrent kernel and bias; of the output kernel and bias, which may be missing. The rest stays
                random.
        """

    def set_word_vectors(self, words: WordVectors) -> None:
        """Sets the embeddings of the words that have a vector."""

    def weights(self) -> list[npt.NDArray[Any]]:
        """Returns copies of the model's variables, in the order of Keras's `model.variables`.

        With `ema` these are the averages, which validation and the bundle use.
        """

    def is_finite(self) -> bool:
        """Returns whether all weights are finite."""

    def state(self) -> list[npt.NDArray[Any]]:
        """Returns copies of all variables of model and optimizer, and of averages.

        Their order depends only on the settings.
        """

    def restore(self, state: list[npt.NDArray[Any]]) -> None:
        """Sets all variables to what `state` returned."""

    def learning_rate(self) -> float:
        """Returns the learning rate of the last step."""

    def reseed(self, seed: int, epoch: int, step: int, rank: int) -> None:
        """Makes the next step's dropout depend only on the arguments, so that a run can resume at any step."""

    def train(self, batch: Batch) -> Any:
        """Takes one step.

        Returns:
            float32[2], an array or a tensor: loss and number of correct answers, each summed over the step's rows on
            all workers.
        """

    def predict(self, batch: Batch) -> npt.NDArray[np.float32]:
        """Returns the probabilities of this worker's rows, without filler rows, float32[rows]."""
