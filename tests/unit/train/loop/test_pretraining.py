"""Learning to predict words before the first epoch."""

from __future__ import annotations

import threading
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from steps import VOCABULARY_SIZE, settings

from lstm_ray.errors import InputError, OutputError, TrainingError
from lstm_ray.progress import Count
from lstm_ray.runtime.tensorflow import start_tensorflow
from lstm_ray.text.sequences import Sequences
from lstm_ray.text.vocabulary import OOV_ID, Vocabulary
from lstm_ray.text.word_vectors import WordVectors
from lstm_ray.train.data.corpus import Corpus, Prepared
from lstm_ray.train.local import LocalContext
from lstm_ray.train.loop import pretraining, steps
from lstm_ray.train.loop.pretraining import pieces


@given(st.lists(st.integers(0, 30), max_size=8), st.integers(2, 9))
def test_pieces_are_the_texts_cut_evenly(lengths: list[int], longest: int) -> None:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    texts = Sequences(np.arange(offsets[-1], dtype=np.int32), offsets)
    found = pieces(texts, longest).sequences
    assert found.lengths.max(initial=0) <= longest
    expected = []
    for begin, length in zip(offsets[:-1], lengths, strict=True):
        parts = -(-length // longest)
        cuts = [begin + length * part // parts for part in range(parts)] + [begin + length]
        expected += [list(range(a, b)) for a, b in pairwise(cuts) if b - a > 1]
    assert [row.tolist() for row in np.split(found.token_ids, found.offsets[1:-1])][: len(found)] == expected


@pytest.fixture
def data() -> Prepared:
    """Returns the data of a run with 90 texts in which a word is always followed by the next one."""
    first = np.random.default_rng(2).integers(4, VOCABULARY_SIZE, (90, 1))
    ids = 4 + (first + np.arange(6) - 4) % (VOCABULARY_SIZE - 4)
    texts = Sequences(ids.astype(np.int32).ravel(), np.arange(0, ids.size + 1, 6))
    words = pa.array([f"word{number:02d}" for number in range(VOCABULARY_SIZE - 4)], pa.large_string())
    vocabulary = Vocabulary(words, pa.array(np.ones(len(words), np.int64)), VOCABULARY_SIZE)
    none = Corpus(Sequences(np.zeros(0, np.int32), np.zeros(1, np.int64)), np.zeros(0, np.int8))
    return Prepared(none, none, vocabulary, 0, texts=texts)


def test_words_are_learned_and_an_interrupted_run_ends_in_the_same_bits(
    data: Prepared, watcher: Any, tmp_path: Path
) -> None:
    start_tensorflow()
    config = settings(learn_vectors=True, mask=True, bidirectional=True, pretrain_epochs=6, output=str(tmp_path / "a"))
    whole = pretraining.pretrain(config, data, LocalContext(watcher, threading.Event()))
    perplexities = [float(line.split()[-3]) for line in watcher.said if "perplexity" in line]
    assert perplexities == sorted(perplexities, reverse=True)
    assert len(perplexities) == 6

    class InterruptedOnce(threading.Event):
        """Is set after the second step of the second epoch, where it is asked twice."""

        asked = 0

        def is_set(self) -> bool:
            self.asked += 1
            return self.asked in (6, 7)

    config = config.model_copy(update={"output": str(tmp_path / "b")})
    context = LocalContext(watcher, InterruptedOnce())
    with pytest.raises(KeyboardInterrupt, match="saved at epoch 2, step 2 of predicting words;"):
        pretraining.pretrain(config, data, context)
    assert data.texts is not None
    others = replace(data, texts=Sequences(data.texts.token_ids[::-1].copy(), data.texts.offsets))
    with pytest.raises(OutputError, match="the data has changed since this run began"):
        pretraining.pretrain(config, others, context)
    for one, other in zip(whole, pretraining.pretrain(config, data, context), strict=True):
        np.testing.assert_array_equal(one, other)
    pretraining.discard(config)
    assert not (tmp_path / "b" / pretraining.PRETRAINING).exists()


def test_progress_counts_pieces_of_text_and_a_position_steps(
    data: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_tensorflow()
    monkeypatch.setattr(steps, "_PROGRESS_EVERY_S", -1)
    config = settings(learn_vectors=True, mask=True, pretrain_epochs=2, output=str(tmp_path))
    told: list[Any] = []
    pretraining.pretrain(config, data, LocalContext(told.append, threading.Event()))
    counts = [(one.done, one.total, one.unit) for one in told if isinstance(one, Count)]
    assert counts == [(done, 180, "pieces of text") for done in (80, 90, 170, 180)]  # not after the first step


def test_texts_of_unknown_words_and_infinite_vectors_are_refused(data: Prepared, watcher: Any, tmp_path: Path) -> None:
    start_tensorflow()
    config = settings(learn_vectors=True, mask=True, pretrain_epochs=1, output=str(tmp_path))
    context = LocalContext(watcher, threading.Event())
    assert data.texts is not None
    unknown = Sequences(np.full_like(data.texts.token_ids, OOV_ID), data.texts.offsets)
    with pytest.raises(InputError, match="no word of the texts is in the vocabulary"):
        pretraining.pretrain(config, replace(data, texts=unknown), context)
    infinite = WordVectors(np.arange(4, 9), np.full((5, config.embedding_size), np.inf, np.float32))
    with pytest.raises(TrainingError, match="use --pretrain-epochs 0"):
        pretraining.pretrain(config, replace(data, word_vectors=infinite), context)
    assert not (tmp_path / pretraining.PRETRAINING / "checkpoints").exists(), "nothing was saved"
