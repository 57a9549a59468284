"""Encodes texts as word numbers, from which word vectors are learned."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lstm_ray.config import SkipGramSettings, TokenSettings
from lstm_ray.errors import InputError
from lstm_ray.runtime.in_flight import on_all_cores
from lstm_ray.text.sequences import Sequences, concatenate
from lstm_ray.text.tokenize import tokenize
from lstm_ray.text.vocabulary import FIRST_WORD_ID, build_vocabulary, count_words, merge_counts, number_words
from lstm_ray.wording import counted


@dataclass(frozen=True)
class TextCorpus:
    """Encoded texts.

    Attributes:
        texts: For each text the indices of its words in `words`; words that get no vector are left out.
        words: large_string[words], the most frequent first.
        counts: int64[words], the number of occurrences of each word.
    """

    texts: Sequences
    words: pa.LargeStringArray
    counts: npt.NDArray[np.int64]

    def fingerprint(self) -> str:
        """Returns a hash of every text and word."""
        digest = hashlib.sha256("\0".join(self.words.to_pylist()).encode("utf-8", "surrogatepass"))
        digest.update(self.texts.token_ids.data)
        digest.update(self.texts.offsets.data)
        return digest.hexdigest()


def read_corpus(
    reads: Sequence[Callable[[], pa.LargeStringArray]], tokens: TokenSettings, settings: SkipGramSettings, where: str
) -> TextCorpus:
    """Reads texts and counts their words, on all cores.

    Args:
        reads: Functions that each return some texts, without nulls; called on several threads.
        tokens: How texts are split into words.
        settings: Which words get a vector.
        where: Name of the input, for messages.

    Raises:
        InputError: The texts cannot be read, or no word occurs often enough.
    """
    encoded = list(on_all_cores(lambda read: _encode(read(), tokens), reads))
    counts = merge_counts([shard.counts for shard in encoded])
    frequent = counts.filter(pc.field("count") >= settings.min_count)
    vocabulary = build_vocabulary(frequent, settings.max_words + FIRST_WORD_ID)
    if len(vocabulary.words) == 0:
        size = sum(len(shard.codes) for shard in encoded)
        raise InputError(
            f"{where}: nothing to learn word vectors from: no word occurs {counted(settings.min_count, 'time')} in "
            f"{counted(size, 'text')}: give more texts, or learn no vectors"
        )
    texts = concatenate([_numbered(shard, vocabulary.words) for shard in encoded])
    return TextCorpus(texts, vocabulary.words, vocabulary.counts.to_numpy())


@dataclass(frozen=True)
class _EncodedTexts:
    """A shard's texts; `codes` are indices in the shard's own `words`."""

    codes: Sequences
    words: pa.LargeStringArray
    counts: pa.Table


def _encode(texts: pa.LargeStringArray, settings: TokenSettings) -> _EncodedTexts:
    tokens = tokenize(texts, settings)
    return _EncodedTexts(*number_words(tokens), count_words(tokens))


def _numbered(shard: _EncodedTexts, words: pa.LargeStringArray) -> Sequences:
    """Returns a shard's texts as indices in `words`, without words that are not there."""
    number_of_code = pc.fill_null(pc.index_in(shard.words, value_set=words), -1).to_numpy(zero_copy_only=False)
    numbers = number_of_code[shard.codes.token_ids] if len(number_of_code) else shard.codes.token_ids
    return Sequences(numbers.astype(np.int32, copy=False), shard.codes.offsets).only(numbers >= 0)
