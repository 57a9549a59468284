"""The native engine for scoring: computes probabilities from token ids with the compiled LSTM kernel.

Rows are sorted by length and divided into shares; one thread runs a share through all layers. The probability of a row
depends only on its token ids and the weights, to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_ray.arrays import Floats, Ids
from lstm_ray.config import Precision
from lstm_ray.kernels.emitter import Target
from lstm_ray.kernels.forward import PLANES, Output, forward
from lstm_ray.kernels.function import aligned_empty
from lstm_ray.kernels.layout import RowOffsets, pack, rounded_up
from lstm_ray.kernels.ngrams import WORD_BITS, ngram_sums
from lstm_ray.kernels.precision.base import Stored
from lstm_ray.kernels.precision.choice import FORMATS, check_precision
from lstm_ray.kernels.products import product
from lstm_ray.model.weights import LstmWeights, NetworkWeights
from lstm_ray.runtime.threads import Threads
from lstm_ray.text.sequences import Sequences

Counts = NDArray[np.int64]

# Most tiles in a share: 96 rows on AVX-512, 5 ms of work at 80 tokens, against 0.1 ms of Python around it.
_SHARE_TILES = 16
_PROJECTED_WORDS = 512  # in a call: they and their weights stay in the second cache


@dataclass(frozen=True)
class _Share:
    """Rows that one thread scores in one call.

    Attributes:
        token_ids: int32[offsets].
        rows: The rows' offsets; a masked network has a step for each token, an unmasked one `max_tokens` steps.
        padding: int64[rows], the number of steps that are padding.
    """

    token_ids: Ids
    rows: RowOffsets
    padding: Counts


class Direction:
    """One direction of one LSTM layer, its weights packed for the kernel.

    Attributes:
        units: Number of values that a step returns.
        width: The same, rounded up to whole vectors; the number of columns of a sequence.
    """

    def __init__(
        self,
        weights: LstmWeights,
        is_backward: bool,
        output: Output,
        target: Target,
        below: Sequence[Direction],
        precision: Precision = "float32",
    ) -> None:
        """Packs the weights.

        Args:
            weights: The direction's weights.
            is_backward: True if it reads the last step first.
            output: What is kept of its steps.
            target: The processor.
            below: The directions whose sequence it reads; empty for the first layer.
            precision: Of the weights, and of the hidden states that a product reads.
        """
        self.units, self.width = weights.units, rounded_up(weights.units, target.lanes)
        self._output, self._is_backward, self._target = output, is_backward, target
        self._form = form = FORMATS[precision]
        self._recurrent = form.pack(pack(weights.recurrent, target.lanes), self.units, target.lanes)
        self._starts = pack(weights.bias[None], target.lanes)[None]
        self._reads_tokens = not below
        self._after_padding: Floats | None = None
        widths = np.cumsum([0, *(one.width for one in below)])
        columns = [begin + np.arange(one.units) for begin, one in zip(widths, below, strict=False)]
        inputs = int(widths[-1])
        self._kernel = None
        if below:
            packed = pack(weights.kernel, target.lanes, np.concatenate(columns), inputs)
            self._kernel = form.pack(packed, inputs, target.lanes)
        self._forward = forward(target, self.units, inputs, output, precision=precision)

    def project(self, kernel: Floats, embedding: Floats, threads: Threads) -> None:
        """Multiplies the embedding by the first layer's kernel, so that a step starts from its word's row of the table.

        The table is float32[vocabulary_size, 4 * width]: 40 MB for 20,000 words and 128 units.
        """
        product_of = product(self._target, embedding.shape[1], self.width, False)
        weights, bias = pack(kernel, self._target.lanes), self._starts[0]
        table = aligned_empty(len(embedding), len(bias))

        def project_words(begin: int) -> None:
            words = slice(begin, begin + _PROJECTED_WORDS)
            product_of(values=np.ascontiguousarray(embedding[words]), weights=weights, bias=bias, out=table[words])

        threads.run(project_words, range(0, len(embedding), _PROJECTED_WORDS))
        self._starts = table

    def read_padding_ahead(self, steps: int) -> None:
        """Computes the states after 0 .. steps steps of padding, which are the same for every row, so rows start there.

        Only for a direction that reads padding before tokens.
        """
        step, states = RowOffsets.of(np.ones(1, np.int64)).walk(self._is_backward), [self._cold_state(1)]
        for _ in range(steps):
            states.append(self._run(np.zeros(1, np.int32), step, states[-1], None, None))
        self._after_padding = np.concatenate(states, axis=1)

    def run(self, share: _Share, inputs: Stored | None, sequence: Stored | None) -> Floats:
        """Runs over all steps of the rows.

        Args:
            share: The rows.
            inputs: stored[offsets, features], the output of the layer below; None for the first layer.
            sequence: stored[offsets, at least width], whose first columns are filled; None unless the output is
                "sequence". Its rows may be any distance apart.

        Returns:
            The final hidden state, or the sum or maximum over the steps, or both, float32[1 or 2, rows, units].
        """
        if self._after_padding is None:
            walk, state = share.rows.walk(self._is_backward), self._cold_state(len(share.padding))
        else:
            walk, state = share.rows.walk(self._is_backward, share.padding), self._after_padding[:, share.padding]
        start_ids = share.token_ids if self._reads_tokens else np.zeros_like(share.token_ids)
        final = self._run(start_ids, walk, state, inputs, sequence)
        return (final[2:] if len(final) > 2 else final[:1])[:, :, : self.units]

    def _cold_state(self, rows: int) -> Floats:
        """Returns the state before the first step, float32[planes, rows, width]."""
        planes = PLANES[self._output]
        state = np.zeros((len(planes), rows, self.width), np.float32)
        if "max" in planes:
            state[planes.index("max")] = -np.inf
        return state

    def _run(
        self,
        start_ids: Ids,
        walk: dict[str, Any],
        state: Floats,
        inputs: Stored | None,
        sequence: Stored | None,
    ) -> Floats:
        """Calls the kernel, and returns the state after each row's last step, in the shape of `state`."""
        both = aligned_empty(2, *state.shape)
        both[0] = state
        stored = None
        if self._form.per_element > 1:
            stored = aligned_empty(2, *state.shape[1:], dtype=self._form.dtype)
            stored[0] = self._form.store(state[0])
        optional = {"stored": stored, "inputs": inputs, "input_weights": self._kernel, "sequence": sequence}
        self._forward(
            **walk,
            starts=self._starts,
            start_ids=start_ids,
            recurrent_weights=self._recurrent,
            state=both,
            is_cold=not state[0].any(),
            **{name: array for name, array in optional.items() if array is not None},
        )
        final: Floats = np.where((walk["lengths"] & 1)[:, None] == 0, both[0], both[1])
        return final


class NativeEngine:
    """Scores rows of token ids as Keras would score the padded rows.

    Example: with padding "pre" and max_tokens 4, the row [7, 9] means [0, 0, 7, 9]. An unmasked network reads all four
    steps, a masked one only 7 and 9.

    In a masked network, a row without tokens has features of 0 and no n-grams: its probability is sigmoid(output_bias).
    """

    def __init__(self, weights: NetworkWeights, threads: int = 1, precision: Precision = "float32") -> None:
        """Compiles the kernels and prepares the weights: about 0.2 s for 20,000 words and 128 units.

        Args:
            weights: The network.
            threads: Threads that a call uses; with 1, calls from several threads run in parallel.
            precision: Of the LSTM's products; bf16 and int8 are faster and not exact.

        Raises:
            ConfigError: The processor lacks the instructions of that precision.
            BundleError: The shapes of the weights are inconsistent.
        """
        weights.check()
        target = self._target = Target.host()
        check_precision(precision, target)
        self._form = FORMATS[precision]
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
                direction = Direction(lstm, backward, output, target, below, precision)
                if not below:
                    direction.project(lstm.kernel, weights.embedding, self._threads)
                directions.append(direction)
                reads_padding_first = backward == (weights.padding == "post")
                if len(weights.layers) == 1 and reads_padding_first and not weights.masked:
                    direction.read_padding_ahead(weights.max_tokens)
            self._layers.append(directions)

    def probabilities(self, sequences: Sequences) -> Floats:
        """Returns the probability of the positive class, float32[rows].

        Args:
            sequences: As for `logits`.
        """
        probabilities: Floats = (0.5 + 0.5 * np.tanh(0.5 * self.logits(sequences))).astype(np.float32)
        return probabilities

    def logits(self, sequences: Sequences) -> NDArray[np.float64]:
        """Returns the log odds of the positive class, float64[rows].

        Args:
            sequences: The rows, truncated and not padded.

        Raises:
            ValueError: An id is outside the vocabulary, offsets do not divide token_ids into rows, or a row is longer
                than max_tokens.
        """
        token_ids, offsets = sequences.token_ids, sequences.offsets
        self._check(token_ids, offsets)
        if self._weights.masked and not token_ids.all():  # to a masked network, id 0 is padding at any position
            offsets = np.concatenate([[0], np.cumsum(token_ids != 0)])[offsets]
            token_ids = token_ids[token_ids != 0]
        lengths = np.diff(offsets)
        order = np.argsort(-lengths, kind="stable")
        result = np.empty(len(lengths))

        def score(rows: NDArray[np.intp]) -> None:
            logits = self._logits(self._arrange(token_ids, offsets[rows], lengths[rows]))
            if self._weights.ngram_table is not None:
                logits += self._ngram_sums(sequences, rows, self._weights.ngram_table)
            result[rows] = logits

        self._threads.run(score, self._cut(order))
        return result

    def close(self) -> None:
        """Ends the engine's threads."""
        self._threads.close()

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
        """Divides the rows into shares of whole tiles; the last ones are smaller, so that all threads end together."""
        shares = []
        begin = 0
        while begin < len(order):
            tiles_left = (len(order) - begin) // self._tile_rows
            tiles = min(_SHARE_TILES, max(1, tiles_left // (2 * self._threads.count)))
            shares.append(order[begin : begin + tiles * self._tile_rows])
            begin += tiles * self._tile_rows
        return shares

    def _arrange(self, token_ids: Ids, begins: Counts, lengths: Counts) -> _Share:
        """Stores the rows' tokens one row after another, with padding if the network reads it."""
        steps = lengths if self._weights.masked else np.full_like(lengths, self._weights.max_tokens)
        rows, padding = RowOffsets.of(steps), steps - lengths
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        arranged = np.zeros(rows.size, np.int32)
        target = rows.begin + padding if self._weights.padding == "pre" else rows.begin
        arranged[np.repeat(target, lengths) + within] = token_ids[np.repeat(begins, lengths) + within]
        return _Share(arranged, rows, padding)

    def _logits(self, share: _Share) -> NDArray[np.float64]:
        """Runs the rows through all layers and returns the LSTM's logits, float64[rows]."""
        steps = share.rows.steps
        inputs: Stored | None = None
        for layer in self._layers[:-1]:
            columns = sum(direction.width for direction in layer)
            sequence = aligned_empty(share.rows.size, columns, dtype=self._form.dtype)
            column = 0
            for direction in layer:
                direction.run(share, inputs, sequence[:, column:])
                column += direction.width
            inputs = sequence
        pooled = np.concatenate([direction.run(share, inputs, None) for direction in self._layers[-1]], axis=2)
        if self._weights.pooling in ("mean", "mean_max"):
            pooled[0] /= np.maximum(steps, 1)[:, None].astype(np.float32)
        features = np.concatenate(pooled, axis=1)
        features[steps == 0] = 0
        # Not a matrix product: the order of its additions would depend on how many rows there are.
        logits: NDArray[np.float64] = (features * self._output_kernel).sum(axis=1) + self._weights.output_bias
        return logits

    def _ngram_sums(self, sequences: Sequences, rows: NDArray[np.intp], table: Floats) -> NDArray[np.float64]:
        """Returns the sum of the table over the distinct n-grams of each row, float64[rows]."""
        sums = np.empty(len(rows))
        ngram_sums(self._target, self._weights.ngrams, len(table))(
            token_ids=sequences.token_ids,
            begin=sequences.offsets[rows],
            lengths=sequences.offsets[rows + 1] - sequences.offsets[rows],
            table=table,
            seen=np.zeros(-(-len(table) // WORD_BITS), np.int32),
            listed=np.empty(self._weights.ngrams * self._weights.max_tokens, np.int32),
            out=sums,
        )
        return sums
