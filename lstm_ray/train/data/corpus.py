"""Turns labelled Parquet into token ids, once per run.

    files -> shards (one row group each) -> encode_shard, anywhere, in any order -> assemble -> Corpus, Vocabulary

The vocabulary is known only when every shard has been counted, but no text should be tokenized twice. So a shard comes
back as codes into its own list of words, with that list and its counts; `assemble` merges the counts, builds the
vocabulary and translates each shard's codes with one look-up of its word list.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lstm_ray.config import TrainConfig
from lstm_ray.datasets.labelled import Shard, describe_left_out, find_shards, read_shard, sample_rows
from lstm_ray.datasets.labels import LabelMapping
from lstm_ray.errors import InputError
from lstm_ray.text.sequences import Sequences, concatenate, truncate
from lstm_ray.text.tokenize import tokenize
from lstm_ray.text.vocabulary import (
    FIRST_WORD_ID,
    OOV_ID,
    START_ID,
    Vocabulary,
    build_vocabulary,
    count_words,
    merge_counts,
)
from lstm_ray.text.word_vectors import WordVectors
from lstm_ray.wording import counted

_START_CODE = 0  # codes of a shard's own words begin at 1


@dataclass(frozen=True)
class Corpus:
    """Encoded, labelled rows.

    Attributes:
        sequences: Token ids of each row, truncated, not padded.
        labels: int8[rows], 1 positive, 0 negative.
    """

    sequences: Sequences
    labels: npt.NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Prepared:
    """What a training run learns from.

    Attributes:
        training: Rows to learn from.
        validation: Rows to measure on; none if nothing was held out.
        vocabulary: Counted on the training rows alone, or the one that was given.
        rows_without_text: Rows left out because they have no words: no text, or none in it.
        rows_with_other_label: Rows left out because the label mapping does not name their label.
        word_vectors: What words begin with, if `--embeddings` was given.
    """

    training: Corpus
    validation: Corpus
    vocabulary: Vocabulary
    rows_without_text: int
    rows_with_other_label: int = 0
    word_vectors: WordVectors | None = None

    def fingerprint(self) -> str:
        """Returns a hash of every token, label, word and vector: what a model learned from these depends on."""
        digest = hashlib.sha256()
        for corpus in (self.training, self.validation):
            for array in (corpus.sequences.token_ids, corpus.sequences.offsets, corpus.labels):
                digest.update(np.ascontiguousarray(array).data)
        digest.update("\0".join(self.vocabulary.words.to_pylist()).encode("utf-8", "surrogatepass"))
        if self.word_vectors is not None:
            digest.update(self.word_vectors.ids.data)
            digest.update(self.word_vectors.vectors.data)
        return digest.hexdigest()


@dataclass(frozen=True)
class EncodedShard:
    """A shard as codes into its own words.

    Attributes:
        codes: 0 for the start of a text, then the position in `words` plus 1; or, where a vocabulary was given, ids.
        words: large_string[n], the shard's distinct words; None where a vocabulary was given.
        counts: How often each word stands in the shard's training rows.
        labels: int8[rows].
        is_validation: bool[rows].
        rows_without_text: Rows left out.
        rows_with_other_label: Rows left out too.
    """

    codes: Sequences
    words: pa.LargeStringArray | None
    counts: pa.Table
    labels: npt.NDArray[np.int8]
    is_validation: npt.NDArray[np.bool_]
    rows_without_text: int
    rows_with_other_label: int


def find_all_shards(config: TrainConfig) -> list[Shard]:
    """Lists the row groups of a run, training ones first.

    Raises:
        InputError: A file is missing or not Parquet, or lacks a column, or a column has the wrong type.
    """
    columns = (config.text_column, config.label_column, label_mapping(config))
    shards = find_shards(config.train, *columns, is_validation=False if config.validation else None)
    if config.max_rows is not None:
        shards = sample_rows(shards, config.max_rows, config.seed)
    return shards + find_shards(config.validation, *columns, is_validation=True)


def label_mapping(config: TrainConfig) -> LabelMapping:
    """Returns which labels mean what."""
    return LabelMapping(config.positive_labels, config.negative_labels)


def encode_shard(shard: Shard, config: TrainConfig) -> EncodedShard:
    """Reads one shard, splits its texts into words and encodes them.

    Raises:
        InputError: The row group cannot be read, or a label is not 0 or 1.
    """
    rows = read_shard(shard, config.text_column, config.label_column, label_mapping(config))
    tokens = tokenize(rows.texts, strip_html=config.strip_html, lowercase=config.lowercase, split_on=config.split_on)
    # A row without words has nothing to learn from, and no score either.
    has_words = np.diff(tokens.offsets.to_numpy()) > 0
    texts, labels = rows.texts, rows.labels
    if not has_words.all():
        kept = pa.array(has_words)
        tokens, texts, labels = tokens.filter(kept), texts.filter(kept), labels[has_words]
    if shard.is_validation is None:
        is_validation = held_out(texts, config.validation_fraction, config.seed)
    else:
        is_validation = np.full(len(texts), shard.is_validation)
    counts = count_words(tokens.filter(pa.array(~is_validation)))
    if config.vocabulary is not None:
        ids = read_given_vocabulary(config.vocabulary, config.vocabulary_size).look_up(tokens, config.unlisted_words)
        codes, words = truncate(ids, config.max_tokens, config.truncating), None
    else:
        encoded = tokens.values.dictionary_encode()
        words = encoded.dictionary
        offsets = tokens.offsets.to_numpy()
        flat = encoded.indices.to_numpy()[offsets[0] : offsets[-1]] + 1
        offsets = offsets - offsets[0]
        with_start = np.insert(flat, offsets[:-1], _START_CODE).astype(np.int32, copy=False)
        codes = truncate(Sequences(with_start, offsets + np.arange(len(offsets))), config.max_tokens, config.truncating)
    without_words = rows.without_text + int((~has_words).sum())
    return EncodedShard(codes, words, counts, labels, is_validation, without_words, rows.with_other_label)


def assemble(shards: Sequence[EncodedShard], config: TrainConfig) -> Prepared:
    """Builds the vocabulary from all shards' counts and translates their codes into ids.

    Raises:
        InputError: There are no rows, only one class, or nothing was held out although a part should have been.
    """
    if config.vocabulary is not None:
        vocabulary = read_given_vocabulary(config.vocabulary, config.vocabulary_size)
    else:
        vocabulary = build_vocabulary(merge_counts([shard.counts for shard in shards]), config.vocabulary_size)
    sequences = concatenate([_translate(shard, vocabulary) for shard in shards])
    labels = np.concatenate([np.zeros(0, np.int8), *(shard.labels for shard in shards)])
    is_validation = np.concatenate([np.zeros(0, np.bool_), *(shard.is_validation for shard in shards)])

    def part(rows: npt.NDArray[np.int64]) -> Corpus:
        return Corpus(sequences.take(rows), labels[rows])

    prepared = Prepared(
        part(np.flatnonzero(~is_validation)),
        part(np.flatnonzero(is_validation)),
        vocabulary,
        sum(shard.rows_without_text for shard in shards),
        sum(shard.rows_with_other_label for shard in shards),
    )
    _check_classes(prepared, config)
    return prepared


def held_out(texts: pa.LargeStringArray, fraction: float, seed: int) -> npt.NDArray[np.bool_]:
    """Says which rows are for validation, bool[rows].

    The text alone decides (its keyed hash, as a share of all hashes), so that a review that stands in the data twice
    never is on both sides, and a row's side depends on no other row.
    """
    if fraction == 0:
        return np.zeros(len(texts), np.bool_)
    limit = int(fraction * 2**64)
    key = seed.to_bytes(8, "little", signed=False)
    return np.array(
        [
            int.from_bytes(hashlib.blake2b(text, digest_size=8, key=key).digest(), "little") < limit
            for text in texts.cast(pa.large_binary()).to_pylist()
        ],
        np.bool_,
    )


@functools.lru_cache(maxsize=1)  # each shard asks for it
def read_given_vocabulary(path: str, size: int) -> Vocabulary:
    """Reads the file that `--vocabulary` names: our Parquet, or JSON of word to rank."""
    return Vocabulary.read_word_index(path, size) if path.endswith(".json") else Vocabulary.read(path).resized(size)


def _translate(shard: EncodedShard, vocabulary: Vocabulary) -> Sequences:
    if shard.words is None:
        return shard.codes
    positions = pc.fill_null(pc.index_in(shard.words, value_set=vocabulary.words), -1).to_numpy(zero_copy_only=False)
    ids = np.where(positions < 0, OOV_ID, positions + FIRST_WORD_ID)
    id_of_code = np.concatenate([[START_ID], ids]).astype(np.int32)
    return Sequences(id_of_code[shard.codes.token_ids], shard.codes.offsets)


def _check_classes(prepared: Prepared, config: TrainConfig) -> None:
    where = ", ".join(config.train)
    training, validation = prepared.training, prepared.validation

    def left_out() -> str:
        counts = prepared.rows_without_text, prepared.rows_with_other_label
        return describe_left_out(*counts, find_all_shards(config), config.label_column)

    if len(training) == 0:
        raise InputError(f"{where}: no rows to train on{left_out()}")
    if len(np.unique(training.labels)) == 1:
        both = "0 and 1" if not config.positive_labels else "positive and negative ones"
        raise InputError(
            f"{where}: column {config.label_column!r}: all {len(training)} training rows have the label "
            f"{training.labels[0]}; both {both} are needed{left_out()}"
        )
    if len(validation) == 0 and config.validation:
        raise InputError(f"{', '.join(config.validation)}: no rows to validate on{left_out()}")
    if len(validation) == 0 and config.validation_fraction:
        raise InputError(
            f"{where}: of its {counted(len(training), 'row')} none is held out for validation: raise "
            "--validation-fraction, or set it to 0"
        )
