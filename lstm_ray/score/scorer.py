"""Scores texts with a bundle's model, without Ray: every command that scores does it here.

    Arrow texts -> Encoder -> token ids, or the reason why a row has none -> engine -> probabilities -> Scored

Two engines: `NativeEngine` (engine.py) never imports TensorFlow; `KerasEngine` runs the Keras model, on a GPU if there
is one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lstm_ray import user_code
from lstm_ray.arrays import Floats
from lstm_ray.config import EngineName, Precision
from lstm_ray.errors import BundleError, ConfigError
from lstm_ray.model.bundle import Bundle
from lstm_ray.model.explain import Logits, WordWeight, explain
from lstm_ray.model.profile import Profile, count_scores, count_texts
from lstm_ray.model.weights import NetworkWeights
from lstm_ray.runtime.devices import available_cores
from lstm_ray.runtime.tensorflow import has_gpu
from lstm_ray.text.sequences import Sequences, bucket_length, concatenate, pad_batch, truncate
from lstm_ray.text.tokenize import decode_texts, tokenize

Band: TypeAlias = tuple[float, float]
"""The least and the greatest probability of texts that are called unsure."""

RunAll: TypeAlias = Callable[..., Iterable[Any]]

SENTIMENTS = ("negative", "positive")
UNSURE = "unsure"
"""The sentiment of a text whose probability is in the band that a person should look at."""
ERRORS = ("null_text", "invalid_utf8", "empty_text", "no_words")
"""Why a row has no score: no text; not UTF-8; nothing but white space; nothing but punctuation, which is left out."""
HAS_WORDS = -1
"""Stands for "no reason": the row has words."""

_BATCH_ROWS = 2048  # rows tokenized at a time by one thread: enough batches for all cores in a small part
_KERAS_BATCH_ROWS = 512
_LEAST = 1e-7  # probability with a logit: a float32 near 1 may be 1 itself

WORDS = pa.list_(pa.struct([("word", pa.string()), ("weight", pa.float32())]))
"""The type of a column of the words that weighed most."""


@dataclass(frozen=True)
class Scored:
    """Scores of a column of texts.

    Attributes:
        probability: float32[rows], of the positive class; null where the text cannot be scored.
        sentiment: dictionary<string>[rows], "positive" or "negative", with a band also "unsure"; null likewise.
        error: dictionary<string>[rows], why there is no score; null where there is one.
        profile: Counts of the rows, to compare them with the training data.
        words: `WORDS`[rows], the words that weighed most, or None if they were not asked for; null without a score.
    """

    probability: pa.FloatArray
    sentiment: pa.DictionaryArray
    error: pa.DictionaryArray
    profile: Profile
    words: pa.ListArray | None = None

    def columns(self) -> list[pa.Array]:
        """Returns the columns that scoring adds, in order."""
        return [self.probability, self.sentiment, self.error, *([] if self.words is None else [self.words])]

    @classmethod
    def from_probabilities(
        cls,
        probability: Floats,
        reasons: npt.NDArray[np.int8],
        texts: Profile,
        threshold: float,
        unsure: Band | None = None,
    ) -> Scored:
        """Returns the scores of a column.

        Args:
            probability: float32[rows with words].
            reasons: int8[rows], `HAS_WORDS`, or the index in `ERRORS` of why there is no score.
            texts: Counts of the texts.
            threshold: Probability above which a text counts as positive.
            unsure: Probabilities that are called unsure instead, if any are.
        """
        without = reasons != HAS_WORDS
        values = np.zeros(len(reasons), np.float32)
        values[~without] = probability
        sentiment, names = (values > threshold).astype(np.int8), [*SENTIMENTS]
        if unsure is not None:
            low, high = map(np.float32, unsure)
            sentiment[(low <= values) & (values <= high)] = len(SENTIMENTS)
            names.append(UNSURE)
        return cls(
            pa.array(values, pa.float32(), mask=without),
            pa.DictionaryArray.from_arrays(pa.array(sentiment, mask=without), pa.array(names)),
            pa.DictionaryArray.from_arrays(pa.array(reasons, mask=~without), pa.array(ERRORS)),
            texts + count_scores(probability, threshold),
        )


@dataclass(frozen=True)
class Encoded:
    """Texts as token ids: the input of an engine.

    Attributes:
        sequences: The token ids of the rows that have words.
        reasons: int8[rows], `HAS_WORDS`, or the index in `ERRORS` of why there is no score.
        texts: Counts of the texts; nothing is predicted yet.
    """

    sequences: Sequences
    reasons: npt.NDArray[np.int8]
    texts: Profile


class Engine(Protocol):
    """Computes probabilities from token ids."""

    def probabilities(self, sequences: Sequences) -> Floats:
        """Returns float32[rows]. May be called from several threads."""

    def logits(self, sequences: Sequences) -> npt.NDArray[np.float64]:
        """Returns the log odds of the positive class, float64[rows]. May be called from several threads."""

    def close(self) -> None:
        """Ends the engine's threads."""


class Encoder:
    """Turns texts into token ids as training did. May be used from several threads."""

    def __init__(self, bundle: Bundle) -> None:
        self._settings = bundle.text
        self._vocabulary = bundle.vocabulary()

    def encode(self, texts: pa.Array | pa.ChunkedArray) -> Encoded:
        """Encodes a few thousand texts of any Arrow text type, rows in order."""
        settings = self._settings
        decoded = decode_texts(texts)
        words = tokenize(
            decoded,
            settings,
            # Unlisted words that are dropped make room for words further from the end that is kept.
            keep=None if settings.unlisted_words == "drop" else settings.max_tokens,
            truncating=settings.truncating,
        )
        has_words = words.value_lengths().to_numpy() > 0
        ids = self._vocabulary.look_up(words, settings.unlisted_words)
        sequences = truncate(ids, settings.max_tokens, settings.truncating).take(np.flatnonzero(has_words))
        # Of a longer text there may be fewer ids than words, but always more than are kept.
        counts = count_texts(sequences, truncated=int((ids.lengths > settings.max_tokens).sum()))
        counts += Profile(without_words=int((~has_words).sum()))
        return Encoded(sequences, _reasons(texts, decoded, has_words), counts)

    def explain(self, texts: pa.Array | pa.ChunkedArray, logits: Logits) -> list[list[WordWeight]]:
        """Returns the words of each text and what they weigh in its score, see `explain`."""
        return explain(decode_texts(texts), self._settings, self._vocabulary, logits)


class KerasEngine:
    """The Keras model, in batches of one size; rows of similar length share a batch."""

    def __init__(self, bundle: Bundle, threads: int) -> None:
        from lstm_ray.runtime.tensorflow import start_tensorflow

        start_tensorflow(threads)
        import tensorflow as tf

        model = bundle.keras_model()
        self._path, self._network = bundle.path, bundle.model.network
        self._apply = tf.function(lambda token_ids: model(token_ids, training=False)[:, 0], reduce_retracing=True)
        self._text = bundle.text
        self._masked = bundle.model.mask
        self._lock = threading.Lock()

    def probabilities(self, sequences: Sequences) -> Floats:
        """Returns float32[rows]."""
        result = np.zeros(len(sequences), np.float32)
        by_length = np.argsort(sequences.lengths, kind="stable")
        for start in range(0, len(sequences), _KERAS_BATCH_ROWS):
            rows = by_length[start : start + _KERAS_BATCH_ROWS]
            batch = sequences.take(rows)
            longest = int(batch.lengths.max())
            time = bucket_length(longest, self._text.max_tokens) if self._masked else self._text.max_tokens
            padded = pad_batch(batch, _KERAS_BATCH_ROWS, time, self._text.padding)
            with self._lock:
                result[rows] = self._call(padded)[: len(rows)]
        return result

    def logits(self, sequences: Sequences) -> npt.NDArray[np.float64]:
        """Returns the log odds, float64[rows]: as exact as float32 probabilities near 0 or 1 allow, and at most 16."""
        cut = np.clip(self.probabilities(sequences).astype(np.float64), _LEAST, 1 - _LEAST)
        log_odds: npt.NDArray[np.float64] = np.log(cut) - np.log1p(-cut)
        return log_odds

    def close(self) -> None:
        """Does nothing: the threads are TensorFlow's, which keeps them."""

    def _call(self, token_ids: npt.NDArray[np.int32]) -> Floats:
        try:
            probabilities: Floats = self._apply(token_ids).numpy()
            return probabilities
        except Exception as error:  # a user's layer may raise anything
            if self._network is None:
                raise
            raise BundleError(f"{self._path}: its network fails: {user_code.described(error)[:500]}") from error


def make_engine(
    bundle: Bundle, name: Literal["native", "keras"], threads: int, precision: Precision = "float32"
) -> Engine:
    """Returns an engine that computes on `threads` threads; only "native" has a choice of precision.

    Raises:
        ConfigError: The processor lacks the instructions of that precision.
    """
    return KerasEngine(bundle, threads) if name == "keras" else native_engine(bundle.weights(), threads, precision)


def native_engine(weights: NetworkWeights, threads: int | None = None, precision: Precision = "float32") -> Engine:
    """Returns a native engine; by default it computes on one thread for each core that this process may use.

    Raises:
        ConfigError: The processor lacks the instructions of that precision.
    """
    from lstm_ray.score.engine import NativeEngine

    return NativeEngine(weights, threads or available_cores(), precision)


def encode_column(encoder: Encoder, texts: pa.Array | pa.ChunkedArray, run_all: RunAll = map) -> Encoded:
    """Encodes a column of any length in batches; `run_all` may be the `map` of a thread pool."""
    batches = [texts.slice(start, _BATCH_ROWS) for start in range(0, len(texts), _BATCH_ROWS)]
    parts = list(run_all(encoder.encode, batches))
    reasons = np.concatenate([np.zeros(0, np.int8), *(part.reasons for part in parts)])
    counts = sum((part.texts for part in parts), Profile())
    return Encoded(concatenate([part.sequences for part in parts]), reasons, counts)


def check_band(unsure: Band | None, threshold: float) -> None:
    """Raises ConfigError unless a band has the threshold in it: on either side of it texts are sure, and different."""
    if unsure is not None and not unsure[0] <= threshold <= unsure[1]:
        shown = ":".join(f"{bound:g}" for bound in unsure)
        raise ConfigError(f"--unsure {shown} has no room for the threshold, {threshold:g}: choose a band around it")


class Scorer:
    """Scores texts with a bundle's model; as a context manager, it ends its threads.

    Attributes:
        threshold: Probability above which a text counts as positive.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: EngineName = "auto",
        threads: int | None = None,
        threshold: float | None = None,
        unsure: Band | None = None,
        precision: Precision = "float32",
    ) -> None:
        """Prepares the engine.

        Args:
            bundle: The model.
            engine: "auto" is Keras if there is a GPU or user code built the network, else the native engine.
            threads: Threads to tokenize and score on; None is one for each core that this process may use.
            threshold: Probability above which a text counts as positive; None is the bundle's.
            unsure: Probabilities that are called unsure instead, if any are.
            precision: Of the native engine.

        Raises:
            ConfigError: The engine or the processor cannot compute the network so, or the band does not have the
                threshold in it.
        """
        self.threshold, self._unsure = bundle.threshold if threshold is None else threshold, unsure
        check_band(unsure, self.threshold)
        self._encoder = Encoder(bundle)
        threads = threads or available_cores()
        name = pick_engine(engine, engine == "auto" and has_gpu(), bundle.model.network, precision)
        self._engine = make_engine(bundle, name, threads, precision)
        self._pool = ThreadPoolExecutor(threads, "encode")

    def __enter__(self) -> Scorer:
        """Returns the scorer itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the threads."""
        self._pool.shutdown()
        self._engine.close()

    def encode(self, texts: pa.Array | pa.ChunkedArray) -> Encoded:
        """Turns a column of texts of any Arrow text type into token ids, rows in order."""
        return encode_column(self._encoder, texts, self._pool.map)

    def probabilities(self, sequences: Sequences) -> Floats:
        """Returns the probability of the positive class, float32[rows]."""
        return self._engine.probabilities(sequences)

    def score(self, texts: pa.Array | pa.ChunkedArray, words: int = 0) -> Scored:
        """Scores a column of texts of any Arrow text type, rows in order.

        Args:
            texts: The texts.
            words: How many of the words that weighed most to return of each text; 0 returns none, and takes no time.
        """
        encoded = self.encode(texts)
        probability = self.probabilities(encoded.sequences)
        scored = Scored.from_probabilities(probability, encoded.reasons, encoded.texts, self.threshold, self._unsure)
        return replace(scored, words=self._heaviest(texts, scored, words)) if words else scored

    def explain(self, texts: pa.Array | pa.ChunkedArray) -> list[list[WordWeight]]:
        """Returns the different words of each text, by falling absolute weight; none of a text without a score."""
        return self._encoder.explain(texts, self._engine.logits)

    def _heaviest(self, texts: pa.Array | pa.ChunkedArray, scored: Scored, number: int) -> pa.ListArray:
        """Returns the words that weighed most, `WORDS`[rows]."""
        rows: list[Any] = []
        for start in range(0, len(texts), _BATCH_ROWS):
            for found in self.explain(texts.slice(start, _BATCH_ROWS)):
                rows.append([{"word": one.word, "weight": one.weight} for one in found[:number]])
        has_score = scored.probability.is_valid().to_pylist()
        return pa.array([row if is_one else None for row, is_one in zip(rows, has_score, strict=True)], WORDS)


def _reasons(
    texts: pa.Array | pa.ChunkedArray, decoded: pa.LargeStringArray, has_words: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int8]:
    """Returns, for each row without words, the reason, and for the others `HAS_WORDS`."""
    reasons = np.full(len(has_words), HAS_WORDS, np.int8)
    without = np.flatnonzero(~has_words)
    if len(without):
        is_null = np.asarray(texts.is_null())[without]  # not texts.take(...): Arrow cannot take from a string_view
        undecoded = decoded.take(pa.array(without))
        is_undecoded = undecoded.is_null().to_numpy(zero_copy_only=False)
        is_blank = pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(undecoded)), 0)
        is_empty = pc.fill_null(is_blank, False).to_numpy(zero_copy_only=False)
        reasons[without] = np.select([is_null, is_undecoded, is_empty], [0, 1, 2], default=3)
    return reasons


def pick_engine(
    wanted: EngineName, is_on_gpu: bool, network: str | None, precision: Precision = "float32"
) -> Literal["native", "keras"]:
    """Returns the engine to score with: the one asked for, or the one that "auto" stands for.

    Args:
        wanted: What the user asks for.
        is_on_gpu: Whether there is a GPU to score on.
        network: The user's function that built the network, if one did.
        precision: Of the scores; only the native engine has another than float32.

    Raises:
        ConfigError: The engine asked for cannot compute that network, or not in that precision.
    """
    if precision != "float32":
        if network is not None or wanted == "keras":
            reason = "--engine keras has none" if network is None else f"{network} needs keras, which has none"
            raise ConfigError(f"--precision {precision} is a choice of the native engine: {reason}")
        return "native"
    if network is not None:
        if wanted == "native":
            raise ConfigError(f"--engine native computes only lstm-ray's own networks: {network} needs keras")
        return "keras"
    if wanted == "auto":
        return "keras" if is_on_gpu else "native"
    return wanted
