"""What takes a training step: the same for one worker and for many.

    gradients  ->  summed over the workers (collective/tcp.py)  ->  Adam

The loss of a step is the sum over its rows, on all workers, divided by their number. So each worker divides its own
sum by the global number of rows, and the gradients are added up over the workers. Every worker holds the whole model.
They begin equal (the seed decides) and stay equal, because each applies the same sum of gradients, equal to the bit.

    keras    Keras and TensorFlow, on GPUs and CPUs         train/step/keras_engine.py
    native   machine code made for the CPU it runs on       train/native/stepper.py

Both begin with the same weights, compute the same gradients to rounding, and go on from each other's checkpoints. They
draw other random numbers for dropout.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lstm_ray.text.word_vectors import WordVectors
from lstm_ray.train.data.batches import Batch


class Stepper(Protocol):
    """A model, its optimizer, and what trains and applies it."""

    def summary(self) -> str:
        """Returns what Keras prints of the model."""

    def set_word_vectors(self, words: WordVectors) -> None:
        """Gives the words that have a vector theirs."""

    def weights(self) -> list[npt.NDArray[Any]]:
        """Returns copies of the model's variables, in the order of Keras's `model.variables`."""

    def is_finite(self) -> bool:
        """Says whether every trainable number is one."""

    def state(self) -> list[npt.NDArray[Any]]:
        """Returns copies of all variables of model and optimizer, in an order that the configuration decides."""

    def restore(self, state: list[npt.NDArray[Any]]) -> None:
        """Goes on from what `state` returned."""

    def learning_rate(self) -> float:
        """Returns the learning rate of the last step."""

    def reseed(self, seed: int, epoch: int, step: int, rank: int) -> None:
        """Makes the next step's dropout a function of these four alone, so that a run can go on at any step."""

    def train(self, batch: Batch) -> Any:
        """Takes one step.

        Returns:
            float32[2], an array or a tensor: loss and number of right answers, each summed over the step's rows on all
            workers.
        """

    def predict(self, batch: Batch) -> npt.NDArray[np.float32]:
        """Returns the probabilities of this worker's rows that count, float32[rows]."""
