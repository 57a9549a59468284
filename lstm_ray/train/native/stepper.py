"""A training step on CPUs by our own machine code; see `train/native/network.py` for what is computed and how.

    words of the batch  ->  Adam's steps that they missed       train/native/adam.py
    rows, shared out over the threads  ->  gradients            train/native/network.py
    added up over threads, then workers  ->  Adam

Keras builds the model, so that a seed gives the same weights whatever computes the steps, and names its variables, so
that checkpoints are the same too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from lstm_ray.collective.protocol import Collective, SparseRows
from lstm_ray.config import TrainConfig
from lstm_ray.kernels.emitter import Target
from lstm_ray.kernels.function import Floats
from lstm_ray.kernels.products import wide
from lstm_ray.kernels.threads import Threads
from lstm_ray.kernels.tiles import GATES
from lstm_ray.model.architectures import build_model, summary_text
from lstm_ray.runtime.tensorflow import threads_given
from lstm_ray.text.word_vectors import WordVectors
from lstm_ray.train.data.batches import Batch
from lstm_ray.train.native.adam import AdamMatrix, corrected
from lstm_ray.train.native.layout import directions, lay_out, transposed
from lstm_ray.train.native.network import Dropout, Gradients, Network, Weights, sigmoid
from lstm_ray.train.step.loss import Labels, class_weights
from lstm_ray.train.step.schedule import count_steps, is_scheduled, learning_rate_at

_ALL_DENSE = np.zeros(1, np.int32)  # the vector of all weights but the embedding, as a matrix of one row
_PREDICTED_TOGETHER = 48  # rows of a thread: more would leave the caches


@dataclass(frozen=True)
class _Slot:
    """One variable as Keras knows it, and where its numbers are.

    Attributes:
        read: Returns a copy.
        write: Sets it.
    """

    read: Callable[[], npt.NDArray[Any]]
    write: Callable[[npt.NDArray[Any]], None]


class NativeStepper:
    """A model's numbers, Adam's, and the threads that change them."""

    def __init__(self, config: TrainConfig, collective: Collective, labels: Labels) -> None:
        """Builds them.

        Args:
            config: The run's settings.
            collective: How gradients meet those of the other workers.
            labels: Of all training rows: a schedule's length and balanced class weights depend on them.
        """
        self._config, self._collective = config, collective
        self._run_steps = count_steps(config, len(labels))
        self._class_weights = np.array(class_weights(config, labels), np.float32)
        target = _common_target(collective)
        self._layout = lay_out(config, target.lanes)
        self._threads = Threads(threads_given(), "lstm-step")
        self._embedding = AdamMatrix(config.vocabulary_size, self._layout.embedding_width, target, self._threads)
        self._dense = AdamMatrix(1, self._layout.size, target, self._threads)
        self._steps = 0
        self._rates = np.zeros(0, np.float32)
        self._networks = [Network(config, self._layout, target) for _ in range(self._threads.count)]
        self._random = np.random.default_rng(config.seed)
        model = build_model(config, config, config.seed)
        model.get_layer("embedding").trainable = not config.freeze_embeddings
        self._summary = summary_text(model)
        self._model_slots, self._optimizer_slots = self._slots(model)

    def _slots(self, model: keras.Model) -> tuple[list[_Slot], list[_Slot]]:
        """Takes over a model's numbers; returns its variables and those that Keras's Adam would have."""
        own: dict[str, _Slot] = {}

        def add(name: str, matrix: AdamMatrix, places: Any) -> None:
            for suffix, array in (("", matrix.values), ("_momentum", matrix.first), ("_velocity", matrix.second)):

                def read(array: Floats = array) -> npt.NDArray[Any]:
                    value: npt.NDArray[Any] = array[places]
                    return value.copy()

                def write(value: npt.NDArray[Any], array: Floats = array) -> None:
                    array[places] = value

                own[name + suffix] = _Slot(read, write)

        def as_adam_calls(variable: Any) -> str:
            return str(variable.path).replace("/", "_")

        table, *others = [variable for variable in model.variables if variable.dtype == "float32"]
        add(as_adam_calls(table), self._embedding, (slice(None), slice(self._config.embedding_size)))
        for variable, places in zip(others, self._layout.places, strict=True):
            add(as_adam_calls(variable), self._dense, (0, places))
        optimizer = keras.optimizers.Adam((lambda: 0.0) if is_scheduled(self._config) else self._config.learning_rate)
        optimizer.build(model.trainable_variables)

        def set_steps(value: npt.NDArray[Any]) -> None:
            self._steps = int(value)

        model_slots = [
            own[as_adam_calls(variable)] if variable.dtype == "float32" else _constant(variable.numpy())
            for variable in model.variables
        ]
        for slot, variable in zip(model_slots, model.variables, strict=True):
            slot.write(variable.numpy())
        optimizer_slots = []
        for variable in optimizer.variables:
            if variable.name == "iteration":
                optimizer_slots.append(_Slot(lambda: np.array(self._steps, np.int64), set_steps))
            elif variable.name == "learning_rate":
                optimizer_slots.append(_constant(variable.numpy()))
            else:
                optimizer_slots.append(own[variable.name])
        return model_slots, optimizer_slots

    def summary(self) -> str:
        """Returns what Keras prints of the model."""
        return self._summary

    def set_word_vectors(self, words: WordVectors) -> None:
        """Gives the words that have a vector theirs."""
        self._embedding.values[words.ids, : self._config.embedding_size] = words.vectors

    def weights(self) -> list[npt.NDArray[Any]]:
        """Returns copies of the model's variables, in the order of Keras's `model.variables`."""
        self._catch_up(None)
        return [slot.read() for slot in self._model_slots]

    def is_finite(self) -> bool:
        """Says whether every trainable number is one."""
        return self._embedding.is_finite() and self._dense.is_finite()

    def state(self) -> list[npt.NDArray[Any]]:
        """Returns copies of all variables of model and optimizer, as Keras would order them."""
        return [*self.weights(), *(slot.read() for slot in self._optimizer_slots)]

    def restore(self, state: list[npt.NDArray[Any]]) -> None:
        """Goes on from what `state` returned, here or from Keras."""
        for slot, value in zip([*self._model_slots, *self._optimizer_slots], state, strict=True):
            slot.write(value)
        self._embedding.restart(self._steps)
        self._dense.restart(self._steps)

    def learning_rate(self) -> float:
        """Returns the learning rate of the last step."""
        return float(learning_rate_at(self._config, self._run_steps, np.float64(self._steps - 1)))

    def reseed(self, seed: int, epoch: int, step: int, rank: int) -> None:
        """Makes the next step's dropout a function of these four alone, so that a run can go on at any step."""
        self._random = np.random.default_rng([seed, epoch, step, rank])

    @np.errstate(all="ignore")  # weights that are no longer numbers are found by `is_finite`
    def train(self, batch: Batch) -> npt.NDArray[np.float32]:
        """Takes one step; see `Stepper.train`."""
        words = np.unique(batch.token_ids)
        self._catch_up(words)
        weights = self._weights_both_ways()
        counts = batch.weights * np.where(batch.labels > 0.5, self._class_weights[1], self._class_weights[0])
        dropout = self._draw(batch.token_ids)
        dense = np.zeros(self._layout.size + 2, np.float32)
        embedding = np.zeros((len(words), self._layout.embedding_width), np.float32)
        for rows in self._shares(batch):

            def gradients(task: tuple[Network, npt.NDArray[np.intp]]) -> tuple[npt.NDArray[np.intp], Gradients]:
                network, share = task
                arguments = (batch.token_ids[share], batch.labels[share], counts[share] / np.float32(batch.global_rows))
                return share, network.gradients(*arguments, weights, dropout.of(share))

            for share, found in self._threads.map(gradients, zip(self._networks, rows, strict=False)):
                dense[:-2] += found.dense
                if found.embedding is not None:
                    embedding[np.searchsorted(words, found.words)] += found.embedding
                labels, logits = batch.labels[share], found.logits
                losses = np.maximum(logits, 0) - logits * labels + np.log1p(np.exp(-np.abs(logits)))
                dense[-2] += (losses * counts[share]).sum()
                dense[-1] += (((logits > 0) == (labels > 0.5)) * batch.weights[share]).sum()
        sparse = [] if self._config.freeze_embeddings else [SparseRows(words.astype(np.int64), embedding)]
        total, by_word = self._collective.all_reduce(dense, sparse)
        self._learn(total[:-2], by_word)
        return total[-2:].copy()

    @np.errstate(all="ignore")
    def predict(self, batch: Batch) -> npt.NDArray[np.float32]:
        """Returns the probabilities of this worker's rows that count, float32[rows]."""
        self._catch_up(np.unique(batch.token_ids))
        weights = Weights(self._embedding.values, self._dense.values[0], {})
        logits = np.empty(len(batch.token_ids), np.float32)
        free = list(self._networks)  # a task takes one and puts it back

        def predict(start: int) -> None:
            network = free.pop()
            rows = slice(start, start + _PREDICTED_TOGETHER)
            logits[rows] = network.logits(batch.token_ids[rows], weights)
            free.append(network)

        self._threads.run(predict, range(0, len(logits), _PREDICTED_TOGETHER))
        return sigmoid(logits)[batch.weights > 0]

    def _learn(self, dense: Floats, sparse: Sequence[SparseRows]) -> None:
        """Takes Adam's step with the sums over all workers; `sparse` is the embedding's, or nothing."""
        rates = self._rates_until(self._steps + 1)
        clip = self._config.clip_norm
        factor = np.float32(1)
        if clip is not None:  # of the sum over the workers, so that the norm is that of the whole step
            # In float64, where no float32's square is endless: a factor of 0 would be a step that learns nothing.
            parts = [dense, *(rows.values for rows in sparse)]
            squares = sum(np.square(part, dtype=np.float64).sum() for part in parts)
            factor = np.float32(min(1.0, clip / np.sqrt(squares)))
        for rows in sparse:
            self._embedding.learn(rows.ids, rows.values * factor, self._steps, rates)
        self._dense.learn(_ALL_DENSE, dense[None] * factor, self._steps, rates)
        self._steps += 1

    def _catch_up(self, words: npt.NDArray[Any] | None) -> None:
        self._embedding.catch_up(words, self._steps, self._rates_until(self._steps))

    def _rates_until(self, steps: int) -> Floats:
        """Returns the corrected learning rates of at least so many steps."""
        if len(self._rates) < steps:
            numbers = np.arange(max(2 * steps, self._run_steps), dtype=np.float64)
            self._rates = corrected(learning_rate_at(self._config, self._run_steps, numbers))
        return self._rates

    def _weights_both_ways(self) -> Weights:
        dense, lanes = self._dense.values[0], self._layout.lanes
        matrices = [
            part
            for direction in directions(self._layout)
            for part in ((direction.kernel, direction.inputs), (direction.recurrent, direction.width))
        ]
        turned = list(self._threads.map(lambda part: transposed(dense[part[0]], part[1], lanes), matrices))
        pairs = zip(turned[::2], turned[1::2], strict=True)
        return Weights(self._embedding.values, dense, dict(zip(directions(self._layout), pairs, strict=True)))

    def _shares(self, batch: Batch) -> Iterable[Sequence[npt.NDArray[np.intp]]]:
        """Yields, for each slice of the rows, which of them each thread computes: about as many steps each."""
        steps = (batch.token_ids != 0).sum(axis=1) if self._config.mask else np.ones(len(batch.token_ids), np.int64)
        slices = np.array_split(np.arange(len(steps)), min(self._config.accumulate, len(steps)))
        for rows in slices:
            by_length = rows[np.argsort(-steps[rows], kind="stable")]
            ends = np.cumsum(steps[by_length])
            cuts = np.searchsorted(ends, ends[-1] * np.arange(1, len(self._networks)) / len(self._networks))
            yield [share for share in np.split(by_length, cuts) if len(share)]

    def _draw(self, token_ids: npt.NDArray[np.int32]) -> Dropout:
        """Draws what a step drops, as Keras's layers do."""
        config, lanes, rows = self._config, self._layout.lanes, len(token_ids)

        def factors(rate: float, *shape: int) -> Floats:
            return (self._random.random((rows, *shape), np.float32) >= rate) * np.float32(1 / (1 - rate))

        dropout = Dropout(None, {}, {})
        if config.embedding_dropout:
            shape = (token_ids.shape[1], config.embedding_size)
            dropout = replace(dropout, embedding=factors(config.embedding_dropout, *shape))
        # Recurrent dropout makes Keras compute the gates one by one, and then the inputs' masks are each gate's too.
        masks = GATES if config.recurrent_dropout else 1
        for direction in directions(self._layout):
            if config.dropout:
                dropout.inputs[direction] = factors(config.dropout, masks, wide(direction.inputs, lanes))
            if config.recurrent_dropout:
                dropout.recurrent[direction] = factors(config.recurrent_dropout, GATES, wide(direction.width, lanes))
        return dropout


def _common_target(collective: Collective) -> Target:
    """Returns this processor with no more than every worker's has: gradients lie alike, Adam rounds alike."""
    target = Target.host()
    lanes, fused = collective.all_gather([target.lanes, target.fused]).min(axis=0)
    return replace(target, lanes=int(lanes), fused=bool(fused))


def _constant(value: npt.NDArray[Any]) -> _Slot:
    """Returns a variable that Keras keeps and we have no use for, such as the state of a random generator."""
    return _Slot(value.copy, lambda _: None)
