"""Texts in, probabilities out, without Ray: the one way in which lstm-ray scores.

    Arrow texts -> tokenize -> token ids -> engine -> float32 probabilities, null where a text cannot be scored

Two engines: `CpuEngine` runs our compiled kernel and never imports TensorFlow; `KerasEngine` runs the Keras model, on a
GPU where there is one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lstm_ray.model.bundle import Bundle
from lstm_ray.model.weights import NetworkWeights
from lstm_ray.text.sequences import Sequences, bucket_length, pad, truncate
from lstm_ray.text.tokenize import decode_texts, tokenize

EngineName = Literal["auto", "cpu", "keras"]

SENTIMENTS = ("negative", "positive")

_BATCH_ROWS = 2048  # rows tokenized and scored at a time by one thread: enough batches for all cores in a small part
_KERAS_BATCH_ROWS = 512


@dataclass(frozen=True)
class Scored:
    """Scores of a column of texts.

    Attributes:
        probability: float32[rows], of the positive class; null where the text cannot be scored.
        sentiment: dictionary<string>[rows], "positive" or "negative"; null likewise.
        error: dictionary<string>[rows], why there is no score; null where there is one.
    """

    probability: pa.FloatArray
    sentiment: pa.DictionaryArray
    error: pa.DictionaryArray


class Engine(Protocol):
    """Computes probabilities from token ids."""

    def probabilities(self, sequences: Sequences) -> npt.NDArray[np.float32]:
        """Returns float32[rows]; a row's result depends on no other row. May be called from several threads."""


class CpuEngine:
    """Our compiled LSTM kernel; a call runs on the thread that makes it."""

    def __init__(self, weights: NetworkWeights) -> None:
        from lstm_ray.score.engine import FastEngine

        self._engine = FastEngine(weights)

    def probabilities(self, sequences: Sequences) -> npt.NDArray[np.float32]:
        """Returns float32[rows]."""
        return self._engine.probabilities(sequences.token_ids, sequences.offsets)


class KerasEngine:
    """The Keras model, in batches of one size."""

    def __init__(self, bundle: Bundle, threads: int | None) -> None:
        from lstm_ray.model.runtime import start_tensorflow

        start_tensorflow(threads)
        import tensorflow as tf

        model = bundle.keras_model()
        self._apply = tf.function(lambda token_ids: model(token_ids, training=False)[:, 0], reduce_retracing=True)
        self._text = bundle.text
        self._masked = bundle.model.mask
        self._lock = threading.Lock()

    def probabilities(self, sequences: Sequences) -> npt.NDArray[np.float32]:
        """Returns float32[rows]."""
        results = [np.zeros(0, np.float32)]
        for start in range(0, len(sequences), _KERAS_BATCH_ROWS):
            rows = np.arange(start, min(start + _KERAS_BATCH_ROWS, len(sequences)))
            batch = sequences.take(rows)
            longest = int(batch.lengths.max())
            time = bucket_length(longest, self._text.max_tokens) if self._masked else self._text.max_tokens
            padded = np.zeros((_KERAS_BATCH_ROWS, time), np.int32)
            padded[:, 0 if self._text.padding == "post" else -1] = 1  # no row without a token: cuDNN refuses it
            padded[: len(rows)] = pad(batch, time, self._text.padding)
            with self._lock:
                results.append(self._apply(padded).numpy()[: len(rows)])
        return np.concatenate(results)


class Scorer:
    """Scores texts with a bundle's model.

    Attributes:
        engine_name: What computes: "cpu" or "keras".
    """

    def __init__(self, bundle: Bundle, engine: EngineName = "auto", threads: int | None = None) -> None:
        """Prepares the engine.

        Args:
            bundle: The model.
            engine: "auto" takes Keras where there is a GPU, else our kernel.
            threads: Threads to tokenize and score on; None takes one for each core this process may use.
        """
        self._bundle = bundle
        self._vocabulary = bundle.vocabulary()
        self.engine_name = pick_engine(engine, has_gpu())
        is_keras = self.engine_name == "keras"
        self._engine: Engine = KerasEngine(bundle, threads) if is_keras else CpuEngine(bundle.weights())
        self._pool = ThreadPoolExecutor(threads or available_cores(), "score")

    def score(self, texts: pa.Array | pa.ChunkedArray) -> Scored:
        """Scores a column of texts of any Arrow text type, rows in order."""
        decoded = decode_texts(texts)
        batches = [decoded.slice(start, _BATCH_ROWS) for start in range(0, len(decoded), _BATCH_ROWS)]
        parts = list(self._pool.map(self._score_batch, batches))
        probability = np.concatenate([np.zeros(0, np.float32), *(part[0] for part in parts)])
        has_words = np.concatenate([np.zeros(0, np.bool_), *(part[1] for part in parts)])
        is_positive = pa.array((probability > self._bundle.threshold).astype(np.int8), mask=~has_words)
        return Scored(
            pa.array(probability, pa.float32(), mask=~has_words),
            pa.DictionaryArray.from_arrays(is_positive, pa.array(SENTIMENTS)),
            _explain(texts, decoded, has_words),
        )

    def _score_batch(self, texts: pa.LargeStringArray) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Returns probabilities, float32[rows], and which rows have any, bool[rows]."""
        settings = self._bundle.text
        words = tokenize(
            texts,
            strip_html=settings.strip_html,
            lowercase=settings.lowercase,
            split_on=settings.split_on,
            # Words that are dropped leave room for others further away from the end that is kept.
            keep=None if settings.unlisted_words == "drop" else settings.max_tokens,
            truncating=settings.truncating,
        )
        has_words = words.value_lengths().to_numpy() > 0
        ids = self._vocabulary.look_up(words, settings.unlisted_words)
        sequences = truncate(ids, settings.max_tokens, settings.truncating).take(np.flatnonzero(has_words))
        probability = np.zeros(len(texts), np.float32)
        probability[has_words] = self._engine.probabilities(sequences)
        return probability, has_words


ERRORS = ("null_text", "invalid_utf8", "empty_text", "no_words")
"""Why a row has no score: no text; bytes that are not UTF-8; nothing but white space; nothing but punctuation."""


def _explain(
    texts: pa.Array | pa.ChunkedArray, decoded: pa.LargeStringArray, has_words: npt.NDArray[np.bool_]
) -> pa.DictionaryArray:
    """Returns the reason for each row without words."""
    reasons = np.zeros(len(has_words), np.int8)
    without = np.flatnonzero(~has_words)
    if len(without):
        is_null = np.asarray(texts.is_null())[without]  # not texts.take(...): Arrow cannot take from a string_view
        undecoded = decoded.take(pa.array(without))
        is_undecoded = undecoded.is_null().to_numpy(zero_copy_only=False)
        is_blank = pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(undecoded)), 0)
        is_empty = pc.fill_null(is_blank, False).to_numpy(zero_copy_only=False)
        reasons[without] = np.select([is_null, is_undecoded, is_empty], [0, 1, 2], default=3)
    return pa.DictionaryArray.from_arrays(pa.array(reasons, mask=has_words), pa.array(ERRORS))


def pick_engine(wanted: EngineName, is_on_gpu: bool) -> Literal["cpu", "keras"]:
    """Returns the engine that "auto" stands for, or the one that is wanted."""
    if wanted == "auto":
        return "keras" if is_on_gpu else "cpu"
    return wanted


def has_gpu() -> bool:
    """Says whether this process may use an NVIDIA GPU, without loading what would find out for sure."""
    return os.path.exists("/dev/nvidiactl") and os.environ.get("CUDA_VISIBLE_DEVICES", "0") not in ("", "-1")


def available_cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def score_texts(scorer: Scorer, texts: Sequence[str]) -> list[dict[str, object]]:
    """Scores a few texts: text, sentiment, probability and error of each."""
    scored = scorer.score(pa.array(texts, pa.large_string()))
    return [
        {"text": text, "sentiment": sentiment, "probability": probability, "error": error}
        for text, sentiment, probability, error in zip(
            texts, scored.sentiment.to_pylist(), scored.probability.to_pylist(), scored.error.to_pylist(), strict=True
        )
    ]
