"""A training step on CPUs with compiled kernels.

    words of the batch  ->  take the Adam steps that they missed       adam.py
    rows, divided among the threads  ->  gradients                     network.py, layers.py, rows.py, lstm_ray/kernels/
    sums over threads, then over workers                               lstm_ray/collective/tcp.py
    sums  ->  Adam                                                     adam.py

Keras builds the model and names its variables, so that a seed gives the same initial weights with both engines, and
each engine reads the other's checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import keras
import numpy as np
import numpy.typing as npt

from lstm_ray.arrays import Floats
from lstm_ray.collective.protocol import Collective, SparseRows
from lstm_ray.config import TrainConfig
from lstm_ray.kernels.emitter import Target
from lstm_ray.kernels.layout import GATES, transpose, wide
from lstm_ray.model.architectures import build_model, summary_text
from lstm_ray.runtime.tensorflow import threads_given
from lstm_ray.runtime.threads import Threads
from lstm_ray.text.word_vectors import WordVectors
from lstm_ray.train.data.batches import Batch
from lstm_ray.train.native.adam import AVERAGES, FIRST, SECOND, VALUES, AdamMatrix, Clock
from lstm_ray.train.native.layers import Dropout, Weights
from lstm_ray.train.native.layout import WeightLayout, directions, lay_out
from lstm_ray.train.native.network import Gradients, Network, sigmoid
from lstm_ray.train.step.loss import Labels, class_weights
from lstm_ray.train.step.schedule import count_steps, is_scheduled, learning_rate_at

_DENSE = np.zeros(1, np.int64)  # all weights but the embedding are one vector: a matrix whose only row is 0
_PREDICTED_ROWS = 48  # rows that a thread predicts in one call: the states of more would not fit in the caches


@dataclass(frozen=True)
class VariablePart:
    """Where a Keras variable is stored.

    Attributes:
        matrix: The matrix that contains it.
        array: The array of the matrix: VALUES, FIRST, SECOND or AVERAGES.
        where: The index in that array.
    """

    matrix: AdamMatrix
    array: int
    where: Any


Variable: TypeAlias = VariablePart | Clock | npt.NDArray[Any]
"""A Keras variable: weights or moments, the number of steps, or a constant that this engine does not use."""


class NativeStepper:
    """A model's weights, their Adam optimizer, and the threads that compute steps."""

    def __init__(self, config: TrainConfig, collective: Collective, labels: Labels) -> None:
        """Builds the model.

        Args:
            config: The run's settings.
            collective: Sums gradients over the workers.
            labels: Labels of all training rows: a schedule's length and balanced class weights depend on them.
        """
        self._config, self._collective = config, collective
        self._steps = steps = count_steps(config, len(labels))
        self._class_weights = np.array(class_weights(config, labels), np.float32)
        self._target = target = _common_target(collective)
        self._layout = self._lay_out(target.lanes)
        self._threads = Threads(threads_given(), "lstm-step")
        betas = (config.adam_beta_1, config.adam_beta_2)
        self._clock = Clock(
            lambda numbers: learning_rate_at(config, steps, numbers), steps, betas, config.ema, config.weight_decay
        )
        self._learned = AVERAGES if config.ema else VALUES  # the weights that are validated and kept
        self._embedding, self._dense = (
            AdamMatrix(rows, width, self._clock, target, self._threads, frozen)
            for rows, width, frozen in (
                (config.vocabulary_size, self._layout.embedding_width, config.freeze_embeddings),
                (1, self._layout.size, False),
            )
        )
        self._networks = [Network(config, self._layout, target) for _ in range(self._threads.count)]
        self._random = np.random.default_rng(config.seed)
        model = build_model(config, config, config.seed)
        model.get_layer("embedding").trainable = not config.freeze_embeddings
        self._summary = summary_text(model)
        self._model_variables, self._optimizer_variables = self._variables(model)
        self._averages = [
            replace(part, array=AVERAGES)
            for part, variable in zip(self._model_variables, model.variables, strict=True)
            if config.ema and isinstance(part, VariablePart) and variable.trainable
        ]
        for part, variable in zip(self._model_variables, model.variables, strict=True):
            if isinstance(part, VariablePart):
                part.matrix.write(part.array, part.where, variable.numpy())

    def _lay_out(self, lanes: int) -> WeightLayout:
        """Returns the layout of the weights."""
        return lay_out(self._config, lanes)

    def summary(self) -> str:
        """Returns what Keras prints of the model."""
        return self._summary

    def reseed(self, seed: int, epoch: int, step: int, rank: int) -> None:
        """Makes the next step's dropout depend only on the arguments, so that a run can resume at any step."""
        self._random = np.random.default_rng([seed, epoch, step, rank])

    @np.errstate(all="ignore")  # `is_finite` finds what overflows
    def train(self, batch: Batch) -> npt.NDArray[np.float32]:
        """Takes one step; see `Stepper.train`."""
        words = np.unique(batch.token_ids)
        return self._learn(words, *self._gradients(batch, self._weights(words, with_transposed=True)))

    def _weights(self, words: npt.NDArray[Any], with_transposed: bool, array: int = VALUES) -> Weights:
        """Returns the weights for a batch of these words; the backward pass needs the transposed ones too."""
        vectors, dense = self._embedding.rows(words, array), self._dense.rows(_DENSE, array)[0]
        lanes = self._layout.lanes
        if not with_transposed:
            return Weights(words, vectors, dense, {})
        matrices = [
            part
            for direction in directions(self._layout)
            for part in ((direction.kernel, direction.inputs), (direction.recurrent, direction.width))
        ]
        transposed = list(self._threads.map(lambda part: transpose(dense[part[0]], part[1], lanes), matrices))
        pairs = zip(transposed[::2], transposed[1::2], strict=True)
        return Weights(words, vectors, dense, dict(zip(directions(self._layout), pairs, strict=True)))

    def _gradients(self, batch: Batch, weights: Weights) -> tuple[Floats, Floats]:
        """Returns the gradients of this worker's rows, summed over the threads.

        Returns:
            float32[size + 2], with respect to the dense weights; then the sum of the losses and the number of correct
            answers. float32[words, embedding_width], with respect to the words' vectors.
        """
        counts = batch.weights * np.where(batch.labels > 0.5, self._class_weights[1], self._class_weights[0])
        smoothing = np.float32(self._config.label_smoothing)
        targets = batch.labels * (1 - smoothing) + smoothing / 2
        dropout = self._draw(batch.token_ids)
        dense = np.zeros(self._layout.size + 2, np.float32)
        d_vectors = np.zeros_like(weights.vectors)
        for rows in self._shares(batch):

            def gradients(task: tuple[Network, npt.NDArray[np.intp]]) -> tuple[npt.NDArray[np.intp], Gradients]:
                network, share = task
                arguments = (batch.token_ids[share], targets[share], counts[share] / np.float32(batch.global_rows))
                return share, network.gradients(*arguments, weights, dropout.of(share))

            for share, found in self._threads.map(gradients, zip(self._networks, rows, strict=False)):
                dense[:-2] += found.dense
                if found.embedding is not None:
                    d_vectors[np.searchsorted(weights.words, found.words)] += found.embedding
                labels, logits = batch.labels[share], found.logits
                losses = np.maximum(logits, 0) - logits * targets[share] + np.log1p(np.exp(-np.abs(logits)))
                dense[-2] += (losses * counts[share]).sum()
                dense[-1] += (((logits > 0) == (labels > 0.5)) * batch.weights[share]).sum()
        return dense, d_vectors

    def _shares(self, batch: Batch) -> Iterable[Sequence[npt.NDArray[np.intp]]]:
        """Yields, for each slice of the batch, the rows of each thread, with about the same number of steps each."""
        steps = (batch.token_ids != 0).sum(axis=1) if self._config.mask else np.ones(len(batch.token_ids), np.int64)
        slices = np.array_split(np.arange(len(steps)), min(self._config.accumulate, len(steps)))
        for rows in slices:
            by_length = rows[np.argsort(-steps[rows], kind="stable")]
            ends = np.cumsum(steps[by_length])
            cuts = np.searchsorted(ends, ends[-1] * np.arange(1, len(self._networks)) / len(self._networks))
            yield [share for share in np.split(by_length, cuts) if len(share)]

    def _draw(self, token_ids: npt.NDArray[np.int32]) -> Dropout:
        """Draws a step's dropout, as Keras's layers do."""
        config, lanes, rows = self._config, self._layout.lanes, len(token_ids)

        def factors(rate: float, *shape: int) -> Floats:
            return (self._random.random((rows, *shape), np.float32) >= rate) * np.float32(1 / (1 - rate))

        shape = (1 if config.shared_dropout else token_ids.shape[1], config.embedding_size)
        embedding = factors(config.embedding_dropout, *shape) if config.embedding_dropout else None
        inputs, recurrent = {}, {}
        # With recurrent dropout Keras computes the gates one by one, and each has its own mask for the inputs too.
        masks = GATES if config.recurrent_dropout else 1
        for direction in directions(self._layout):
            if config.dropout:
                inputs[direction] = factors(config.dropout, masks, wide(direction.inputs, lanes))
            if config.recurrent_dropout:
                recurrent[direction] = factors(config.recurrent_dropout, GATES, wide(direction.width, lanes))
        kernel = self._layout.output_kernel
        output = factors(config.output_dropout, kernel.stop - kernel.start) if config.output_dropout else None
        return Dropout(embedding, inputs, recurrent, output)

    def _learn(self, words: npt.NDArray[Any], dense: Floats, d_vectors: Floats) -> npt.NDArray[np.float32]:
        """Sums gradients over the workers and takes an Adam step with the sums.

        Args:
            words: int[n], the distinct words of the batch.
            dense, d_vectors: As `_gradients` returns them.

        Returns:
            float32[2], the sums of the last two values of `dense`.
        """
        sparse = [] if self._config.freeze_embeddings else [SparseRows(words.astype(np.int64), d_vectors)]
        total, sparse = self._collective.all_reduce(dense, sparse)
        dense = total[:-2]
        clip = self._config.clip_norm
        factor = np.float32(1)
        if clip is not None:  # the sum over the workers is clipped, so that the norm is that of the whole step
            # In float64 the square of every float32 is finite; an infinite norm would make the factor 0.
            parts = [dense, *(rows.values for rows in sparse)]
            squares = sum(np.square(part, dtype=np.float64).sum() for part in parts)
            factor = np.float32(min(1.0, clip / np.sqrt(squares)))
        for rows in sparse:
            self._embedding.learn(rows.ids, rows.values * factor)
        self._dense.learn(_DENSE, dense[None] * factor)
        self._clock.steps += 1
        return total[-2:].copy()

    @np.errstate(all="ignore")
    def predict(self, batch: Batch) -> npt.NDArray[np.float32]:
        """Returns the probabilities of this worker's rows, without filler rows, float32[rows]."""
        weights = self._weights(np.unique(batch.token_ids), with_transposed=False, array=self._learned)
        logits = np.empty(len(batch.token_ids), np.float32)
        free = list(self._networks)  # a task takes one and puts it back

        def predict(start: int) -> None:
            network = free.pop()
            rows = slice(start, start + _PREDICTED_ROWS)
            logits[rows] = network.logits(batch.token_ids[rows], weights)
            free.append(network)

        self._threads.run(predict, range(0, len(logits), _PREDICTED_ROWS))
        return sigmoid(logits)[batch.weights > 0]

    def learning_rate(self) -> float:
        """Returns the learning rate of the last step."""
        return float(learning_rate_at(self._config, self._steps, np.float64(self._clock.steps - 1)))

    def is_finite(self) -> bool:
        """Returns whether all weights are finite."""
        return self._embedding.is_finite() and self._dense.is_finite()

    def set_weights(self, weights: Sequence[npt.NDArray[np.float32]]) -> None:
        """Sets the weights that the model begins with; see `Stepper.set_weights`."""
        parts = [part for part in self._model_variables if isinstance(part, VariablePart)]
        for part, value in zip(parts, weights, strict=False):
            whole = self._read(part)
            whole[: len(value)] = value
            part.matrix.write(part.array, part.where, whole)

    def set_word_vectors(self, words: WordVectors) -> None:
        """Sets the embeddings of the words that have a vector."""
        self._embedding.write(VALUES, (words.ids, slice(self._config.embedding_size)), words.vectors)

    def weights(self) -> list[npt.NDArray[Any]]:
        """Returns copies of the model's variables (with `ema`, their averages), in the order of `Model.variables`."""
        return [
            self._read(replace(variable, array=self._learned) if isinstance(variable, VariablePart) else variable)
            for variable in self._model_variables
        ]

    def state(self) -> list[npt.NDArray[Any]]:
        """Returns copies of all variables of model and optimizer, in Keras's order, then of the averages."""
        return [self._read(variable) for variable in self._state_variables()]

    def restore(self, state: list[npt.NDArray[Any]]) -> None:
        """Restores a state that `state` returned, of this engine or of the Keras engine."""
        steps = 0
        for variable, value in zip(self._state_variables(), state, strict=True):
            if isinstance(variable, VariablePart):
                variable.matrix.write(variable.array, variable.where, value)
            elif isinstance(variable, Clock):
                steps = int(value)
        self._clock.steps = steps
        self._embedding.restart()
        self._dense.restart()

    def _variables(self, model: keras.Model) -> tuple[list[Variable], list[Variable]]:
        """Returns the variables of a model and those of its Keras Adam optimizer, in Keras's order."""

        def name_of(variable: Any) -> str:  # the name that Keras's Adam derives its variables' names from
            return str(variable.path).replace("/", "_")

        floats = [variable for variable in model.variables if variable.dtype == "float32"]
        locations = [
            (self._embedding, (slice(None), slice(self._config.embedding_size))),
            *((self._dense, (0, offsets)) for offsets in self._layout.offsets),
        ]
        parts = {
            name_of(variable) + suffix: VariablePart(matrix, array, where)
            for variable, (matrix, where) in zip(floats, locations, strict=True)
            for suffix, array in (("", VALUES), ("_momentum", FIRST), ("_velocity", SECOND))
        }
        optimizer = keras.optimizers.Adam((lambda: 0.0) if is_scheduled(self._config) else self._config.learning_rate)
        optimizer.build(model.trainable_variables)
        return (
            [parts.get(name_of(variable), variable.numpy()) for variable in model.variables],
            [
                self._clock if variable.name == "iteration" else parts.get(variable.name, variable.numpy())
                for variable in optimizer.variables
            ],
        )

    def _state_variables(self) -> list[Variable]:
        return [*self._model_variables, *self._optimizer_variables, *self._averages]

    def _read(self, variable: Variable) -> npt.NDArray[Any]:
        if isinstance(variable, VariablePart):
            return variable.matrix.read(variable.array, variable.where)
        return np.array(variable.steps, np.int64) if isinstance(variable, Clock) else variable.copy()


def _common_target(collective: Collective) -> Target:
    """Returns this processor, limited to what every worker supports: layouts and Adam's rounding must agree."""
    target = Target.host()
    lanes, fused = collective.all_gather([target.lanes, target.fused]).min(axis=0)
    return replace(target, lanes=int(lanes), fused=bool(fused))
