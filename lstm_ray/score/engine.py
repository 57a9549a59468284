"""The fast CPU scorer: a network's probabilities from token ids, through the compiled LSTM kernel.

Rows are sorted by length and cut into blocks; a block goes through all layers in one thread. The probability of a row
depends on nothing but its token ids and the weights, to the last bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lstm_ray.kernels.emitter import Target
from lstm_ray.kernels.function import Floats, aligned_empty
from lstm_ray.kernels.lstm import PLANES, Output, lstm_layer, pack
from lstm_ray.kernels.products import product
from lstm_ray.kernels.threads import Threads
from lstm_ray.model.weights import LstmWeights, NetworkWeights

Ids = NDArray[np.int32]
Counts = NDArray[np.int64]

BLOCK_TILES = (
    16  # most tiles in a call: 96 rows on AVX-512, 5 ms of work at 80 tokens, against 0.1 ms of Python around it
)
PROJECT_ROWS = 512  # words per call when the embedding is projected: they and their weights stay in the second cache


@dataclass(frozen=True)
class EngineRows:
    """Some rows in kernel order, longest first, their steps one after the other.

    Attributes:
        token_ids: int32[places]; row r owns the places base[r] .. base[r] + steps[r] - 1.
        base: int64[rows].
        steps: int64[rows], a masked network's tokens, or the max_tokens of an unmasked one.
        padding: int64[rows], how many of the steps are padding.
    """

    token_ids: Ids
    base: Counts
    steps: Counts
    padding: Counts


class Direction:
    """One direction of one LSTM layer, its weights packed for the kernel.

    Attributes:
        units: values that a step puts out.
        padded_units: the same, padded to whole vectors; a sequence has a column for each.
    """

    def __init__(self, weights: LstmWeights, backward: bool, output: Output, target: Target) -> None:
        """Packs the weights; `backward` reads the last step first."""
        self._output = output
        self._backward = backward
        self._target = target
        self._layer = lstm_layer(target, output)
        self._kernel = pack(weights.kernel, target.lanes)
        self._recurrent = pack(weights.recurrent, target.lanes)
        self._starts = pack(weights.bias[None], target.lanes).reshape(1, -1)
        self._reads_tokens = False
        self._after_padding: Floats | None = None
        self.units = weights.units
        self.padded_units = len(self._recurrent) * target.lanes

    def read_tokens(self, embedding: Floats, threads: Threads) -> None:
        """Makes this a first layer: projects the embedding, so that a step starts from a word's table row.

        The table is float32[vocabulary_size, 4 * padded_units]: 40 MB for 20,000 words and 128 units.
        """
        project = product(self._target, embedding.shape[1], self.padded_units, False)
        table = aligned_empty(len(embedding), self._starts.shape[1])

        def project_words(begin: int) -> None:
            words = np.ascontiguousarray(embedding[begin : begin + PROJECT_ROWS])
            project(rows=len(words), values=words, weights=self._kernel, bias=self._starts, out=table[begin:])

        threads.run(project_words, range(0, len(embedding), PROJECT_ROWS))
        self._starts = table
        self._reads_tokens = True

    def read_padding_ahead(self, steps: int) -> None:
        """Computes the states after 0 .. steps steps of padding: they are the same for every row, so rows start there.

        Only for a direction that reads its padding before its tokens.
        """
        one, zero = np.ones(1, np.int64), np.zeros(1, np.int64)
        states = [self._cold_state(1)]
        for _ in range(steps):
            states.append(self._run(np.zeros(1, np.int32), zero, one, states[-1], None, None))
        self._after_padding = np.concatenate(states, axis=1)

    def run(self, rows: EngineRows, inputs: Floats | None, sequence: Floats | None) -> Floats:
        """Runs over all steps of the rows.

        Args:
            rows: in kernel order.
            inputs: float32[places, features] that the layer below put out; None for a first layer.
            sequence: float32[places, features] whose first padded_units columns are filled; None unless the output is
                "sequence". Rows may lie further apart than that.

        Returns:
            The final hidden state, or the maximum or sum over the steps: float32[rows, units].
        """
        skipped = np.zeros_like(rows.padding) if self._after_padding is None else rows.padding
        first = rows.base + (rows.steps - 1 - skipped if self._backward else skipped)
        state = self._cold_state(len(first)) if self._after_padding is None else self._after_padding[:, skipped]
        final = self._run(rows.token_ids, first, rows.steps - skipped, state, inputs, sequence)
        return final[0 if self._output in ("last", "sequence") else 2, :, : self.units]

    def _cold_state(self, rows: int) -> Floats:
        """Returns the state before the first step, float32[planes, rows, padded_units]."""
        state = np.zeros((PLANES[self._output], rows, self.padded_units), np.float32)
        if self._output == "max":
            state[2] = -np.inf
        return state

    def _run(
        self,
        token_ids: Ids,
        first: Counts,
        lengths: Counts,
        state: Floats,
        inputs: Floats | None,
        sequence: Floats | None,
    ) -> Floats:
        """Calls the kernel; returns the state after each row's last step, shaped as `state` before its first."""
        both = aligned_empty(2, *state.shape)
        both[0] = state
        self._layer(
            rows=len(first),
            first=first,
            lengths=lengths,
            direction=-1 if self._backward else 1,
            token_ids=token_ids,
            starts=self._starts,
            start_size=self._starts.shape[1] if self._reads_tokens else 0,
            inputs=inputs,
            input_size=0 if inputs is None else inputs.shape[1],
            input_weights=self._kernel,
            recurrent_weights=self._recurrent,
            units=self.units,
            blocks=len(self._recurrent),
            state=both,
            is_cold=not state[0].any(),
            sequence=sequence,
            sequence_size=0 if sequence is None else sequence.strides[0] // sequence.itemsize,
        )
        final: Floats = np.where((lengths & 1)[:, None] == 0, both[0], both[1])
        return final


class FastEngine:
    """Scores rows of token ids as Keras would score them padded.

    Example: with padding "pre" and max_tokens 4, the row [7, 9] means [0, 0, 7, 9]. An unmasked network reads all four
    steps, a masked one only 7 and 9.

    A row without tokens in a masked network has the features 0, so its probability is sigmoid(output_bias).
    """

    def __init__(self, weights: NetworkWeights, threads: int = 1) -> None:
        """Compiles, packs and projects: some 0.2 s for 20,000 words and 128 units.

        Args:
            weights: the network.
            threads: how many cores a call uses; with 1, calls from several threads run side by side.

        Raises:
            BundleError: the weights don't fit together; machine code must not find out.
        """
        weights.check()
        target = Target.host()
        self._weights = weights
        self._threads = Threads(threads, "lstm-engine")
        self._tile_rows = target.tile_rows
        self._output_kernel = weights.output_kernel.astype(np.float64)
        self._layers: list[list[Direction]] = []
        for depth, layer in enumerate(weights.layers):
            output: Output = weights.pooling if depth == len(weights.layers) - 1 else "sequence"
            below = self._layers[-1] if self._layers else []
            directions = []
            for lstm, backward in zip(layer, (False, True), strict=False):
                direction = Direction(_spread(lstm, below), backward, output, target)
                if not below:
                    direction.read_tokens(weights.embedding, self._threads)
                directions.append(direction)
                reads_padding_first = backward == (weights.padding == "post")
                if len(weights.layers) == 1 and reads_padding_first and not weights.masked:
                    direction.read_padding_ahead(weights.max_tokens)
            self._layers.append(directions)

    def probabilities(self, token_ids: Ids, offsets: Counts) -> Floats:
        """Returns the probability of the positive class, float32[rows].

        Args:
            token_ids: int32[total], the ids of all rows, truncated and not padded.
            offsets: int64[rows + 1]; row r is token_ids[offsets[r]:offsets[r + 1]].

        Raises:
            ValueError: an id outside the vocabulary, offsets that don't cut token_ids into rows, or a row longer than
                max_tokens.
        """
        token_ids, offsets = np.asarray(token_ids, np.int32), np.asarray(offsets, np.int64)
        self._check(token_ids, offsets)
        if self._weights.masked and not token_ids.all():  # to a masked network, id 0 is padding wherever it stands
            offsets = np.concatenate([[0], np.cumsum(token_ids != 0)])[offsets]
            token_ids = token_ids[token_ids != 0]
        lengths = np.diff(offsets)
        order = np.argsort(-lengths, kind="stable")
        result = np.empty(len(lengths), np.float32)

        def score(rows: NDArray[np.intp]) -> None:
            result[rows] = self._score(self._arrange(token_ids, offsets[rows], lengths[rows]))

        self._threads.run(score, self._cut(order))
        return result

    def _check(self, token_ids: Ids, offsets: Counts) -> None:
        """Raises ValueError for ids or offsets that would read outside the arrays."""
        vocabulary_size = len(self._weights.embedding)
        if len(token_ids) and not 0 <= token_ids.min() <= token_ids.max() < vocabulary_size:
            wrong = token_ids[(token_ids < 0) | (token_ids >= vocabulary_size)][0]
            raise ValueError(f"token id {wrong} is outside the vocabulary of {vocabulary_size} ids")
        lengths = np.diff(offsets)
        if not len(offsets) or offsets[0] != 0 or offsets[-1] != len(token_ids) or (lengths < 0).any():
            raise ValueError(f"offsets must rise from 0 to the {len(token_ids)} token ids")
        if (lengths > self._weights.max_tokens).any():
            raise ValueError(
                f"row {lengths.argmax()} has {lengths.max()} tokens, max_tokens is {self._weights.max_tokens}"
            )

    def _cut(self, order: NDArray[np.intp]) -> list[NDArray[np.intp]]:
        """Cuts the rows into blocks of whole tiles: smaller ones to the end, so that all threads finish together."""
        blocks = []
        begin = 0
        while begin < len(order):
            tiles_left = (len(order) - begin) // self._tile_rows
            tiles = min(BLOCK_TILES, max(1, tiles_left // (2 * self._threads.count)))
            blocks.append(order[begin : begin + tiles * self._tile_rows])
            begin += tiles * self._tile_rows
        return blocks

    def _arrange(self, token_ids: Ids, begins: Counts, lengths: Counts) -> EngineRows:
        """Puts the tokens of the rows next to each other, with padding if the network reads it."""
        steps = lengths if self._weights.masked else np.full_like(lengths, self._weights.max_tokens)
        padding = steps - lengths
        base = np.cumsum(steps) - steps
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        places = np.zeros(steps.sum(), np.int32)
        target = base + padding if self._weights.padding == "pre" else base
        places[np.repeat(target, lengths) + within] = token_ids[np.repeat(begins, lengths) + within]
        return EngineRows(places, base, steps, padding)

    def _score(self, rows: EngineRows) -> Floats:
        """Runs the rows through all layers and the output."""
        inputs: Floats | None = None
        for layer in self._layers[:-1]:
            sequence = aligned_empty(len(rows.token_ids), sum(direction.padded_units for direction in layer))
            column = 0
            for direction in layer:
                direction.run(rows, inputs, sequence[:, column:])
                column += direction.padded_units
            inputs = sequence
        features = np.concatenate([direction.run(rows, inputs, None) for direction in self._layers[-1]], axis=1)
        if self._weights.pooling == "mean":
            features /= np.maximum(rows.steps, 1)[:, None].astype(np.float32)
        features[rows.steps == 0] = 0
        # Not a matrix product: the order of its additions would depend on how many rows there are.
        logits = (features * self._output_kernel).sum(axis=1) + self._weights.output_bias
        probabilities: Floats = (0.5 + 0.5 * np.tanh(0.5 * logits)).astype(np.float32)
        return probabilities


def _spread(lstm: LstmWeights, below: Sequence[Direction]) -> LstmWeights:
    """Returns the weights with a kernel row of zeros for every padding column of the sequence that they read."""
    if not below:
        return lstm
    parts = []
    begin = 0
    for direction in below:
        part = np.zeros((direction.padded_units, lstm.kernel.shape[1]), np.float32)
        part[: direction.units] = lstm.kernel[begin : begin + direction.units]
        parts.append(part)
        begin += direction.units
    return LstmWeights(np.concatenate(parts), lstm.recurrent, lstm.bias)
