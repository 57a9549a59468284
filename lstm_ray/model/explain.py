"""Which words decide a score: each is left out in turn, and the model scores what is left.

    text -> the words that the model reads -> the row, and a row without each word -> logits -> differences

A word's weight is the logit of the text minus its logit without the word, wherever the word occurs in it: above 0 it
speaks for the positive class, and 0.7 doubles the odds. This is exact for any network, and costs a row for each
different word. Gradients would cost two rows in all, but describe small changes only and are close to 0 where a gate is
shut or a maximum is elsewhere.

All occurrences are left out together: n-grams count once, and a maximum over time is reached by any of them, so that of
a word that occurs twice neither occurrence would count alone (M. Ribeiro et al., "Why Should I Trust You?", 2016, does
the same).

What is cut off a long text is not read, so it has no weight, and does not move up when a word is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lstm_ray.config import TextSettings
from lstm_ray.text.sequences import Sequences, concatenate, truncate
from lstm_ray.text.spans import Span, find_words
from lstm_ray.text.tokenize import tokenize
from lstm_ray.text.vocabulary import Vocabulary

Logits: TypeAlias = Callable[[Sequences], npt.NDArray[np.float64]]
"""Returns the log odds of the positive class for each row, float64[rows]."""

_MOST_TOKENS = 1 << 20  # in a call: about ten thousand rows
_START = -1  # stands for the start token among numbers of words
_NOTHING = -2  # is left out of a text's first row


@dataclass(frozen=True)
class WordWeight:
    """What a word counts in a text's score.

    Attributes:
        word: As the text has it where it occurs first.
        weight: Log odds of the positive class, minus those of the text without the word.
        spans: Where it occurs in the text, as far as the model reads that: first character, and the one after the last.
    """

    word: str
    weight: float
    spans: tuple[Span, ...]


def explain(
    texts: pa.LargeStringArray, settings: TextSettings, vocabulary: Vocabulary, logits: Logits
) -> list[list[WordWeight]]:
    """Returns the different words of each text that the model reads, by falling absolute weight.

    Args:
        texts: The texts; a null has no words.
        settings: How they become token ids.
        vocabulary: The words and their ids.
        logits: The model.
    """
    tokens = tokenize(texts, settings)
    ids = vocabulary.look_up(tokens)  # one for each word, whatever becomes of those that are not listed
    read = truncate(_read(tokens, ids, settings, vocabulary), settings.max_tokens, settings.truncating)
    rows = [
        _Row.of(text or "", words, read.token_ids[slice(*read.offsets[[row, row + 1]])] - ids.offsets[row] - 1)
        for row, (text, words) in enumerate(zip(texts.to_pylist(), tokens.to_pylist(), strict=True))
    ]
    row_ids = np.split(ids.token_ids[read.token_ids], read.offsets[1:-1])
    variants = (some for row, its in zip(rows, row_ids, strict=False) for some in row.without_each_word(its))
    found = np.split(_in_batches(variants, logits), np.cumsum([1 + len(row.words) for row in rows])[:-1])
    return [row.weighed(its[0] - its[1:], settings) for row, its in zip(rows, found, strict=False)]


def _read(tokens: pa.LargeListArray, ids: Sequences, settings: TextSettings, vocabulary: Vocabulary) -> Sequences:
    """Returns which of all words, by their position in `ids`, the model would read of texts of any length."""
    positions = np.arange(len(ids.token_ids), dtype=np.int32)
    words = Sequences(positions, ids.offsets)
    if settings.unlisted_words == "oov":
        return words
    is_listed = pc.is_in(tokens.flatten(), value_set=vocabulary.words).to_numpy(zero_copy_only=False)
    is_read = np.insert(is_listed, ids.offsets[:-1] - np.arange(len(ids)), True)
    return words.only(is_read)


@dataclass(frozen=True)
class _Row:
    """A text as the model reads it.

    Attributes:
        text: The text.
        tokens: All its words.
        kept: int[read], the words that are read, by their numbers in `tokens`; -1 is the start token.
        words: The different ones among them, in order.
        word_of: int[read], which of these each is.
    """

    text: str
    tokens: list[str]
    kept: npt.NDArray[np.int64]
    words: list[str]
    word_of: npt.NDArray[np.int64]

    @classmethod
    def of(cls, text: str, tokens: list[str], kept: npt.NDArray[np.int64]) -> _Row:
        """Numbers the words."""
        numbers: dict[str, int] = {}
        word_of = [
            _START if token == _START else numbers.setdefault(tokens[token], len(numbers)) for token in kept.tolist()
        ]
        return cls(text, tokens, kept, list(numbers), np.array(word_of, np.int64))

    def without_each_word(self, ids: npt.NDArray[np.int32]) -> Iterator[Sequences]:
        """Yields the row, and then the row without each word, some rows at a time.

        Args:
            ids: int32[read], the token ids.
        """
        left_out = np.array([_NOTHING, *range(len(self.words))])
        for some in np.split(left_out, range(0, len(left_out), max(1, _MOST_TOKENS // max(1, len(ids))))[1:]):
            stays = self.word_of != some[:, None]
            yield Sequences.of(np.broadcast_to(ids, stays.shape)[stays], stays.sum(axis=1))

    def weighed(self, weights: npt.NDArray[np.float64], settings: TextSettings) -> list[WordWeight]:
        """Returns the words by falling absolute weight, given the weight of each."""
        all_spans = find_words(self.text, self.tokens, settings)
        spans: list[list[Span]] = [[] for _ in self.words]
        for token, word in zip(self.kept.tolist(), self.word_of.tolist(), strict=True):
            if word != _START:
                spans[word].append(all_spans[token])
        return [
            WordWeight(self.text[slice(*spans[word][0])], float(weights[word]), tuple(spans[word]))
            for word in np.argsort(-np.abs(weights), kind="stable").tolist()
        ]


def _in_batches(variants: Iterable[Sequences], logits: Logits) -> npt.NDArray[np.float64]:
    """Returns the logits of all rows, computed for many at a time: an engine is fastest with a few hundred."""
    found, waiting, tokens = [np.zeros(0)], [], 0
    for some in variants:
        waiting.append(some)
        tokens += len(some.token_ids)
        if tokens >= _MOST_TOKENS:
            found.append(logits(concatenate(waiting)))
            waiting, tokens = [], 0
    if waiting:
        found.append(logits(concatenate(waiting)))
    return np.concatenate(found)
