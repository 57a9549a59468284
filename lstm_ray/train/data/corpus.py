"""Turns labelled Parquet into token ids, once per run.

    files -> shards (one row group each) -> encode_shard, on any worker, in any order -> assemble -> Prepared

The vocabulary is known only after every shard has been counted, but no text should be tokenized twice. So a shard is
encoded as codes, which are indices into the shard's list of words. `assemble` adds up the counts of all shards, builds
the vocabulary, and translates each shard's codes with one look-up of its word list.
"""

from __future__ import annotations

import copy
import functools
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lstm_ray.config import TrainConfig
from lstm_ray.datasets.held_out import Hashes, group_keys, hash_keys, held_out, keys_of_rows, share_that_divides
from lstm_ray.datasets.labelled import Shard, describe_left_out, find_shards, read_columns, read_shard, sample_rows
from lstm_ray.datasets.labels import label_mapping
from lstm_ray.datasets.seen import Hashes40, SeenTexts, hash_texts, sum_of
from lstm_ray.errors import InputError
from lstm_ray.model.profile import Profile, TrainingData, count_texts
from lstm_ray.progress import Progress, ignore
from lstm_ray.storage.inputs import shared_files
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
    number_words,
)
from lstm_ray.text.word_vectors import WordVectors
from lstm_ray.wording import are, counted

_START_CODE = 0  # codes of a shard's words start at 1


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
class Groups:
    """Number of groups on each side, with `--validation-group`.

    Attributes:
        training: Groups to train on.
        validation: Groups held out.
        rows_without: Rows whose group is null; they are held out by their text.
    """

    training: int
    validation: int
    rows_without: int


@dataclass(frozen=True)
class Prepared:
    """The data of a training run.

    Attributes:
        training: Rows to train on.
        validation: Rows to validate on; none if nothing was held out.
        vocabulary: Counted on the training rows only, or read from `--vocabulary`, perhaps with words added.
        rows_without_text: Rows left out because they have no words: no text, or an empty one.
        rows_with_other_label: Rows left out because the label mapping does not name their label.
        seen: The training texts.
        validation_rows_seen: Validation rows whose text is also a training text.
        contradictory_texts: Training texts that are labelled positive in one row and negative in another.
        sum_of_validation_texts: Sum of the hashes of the validation texts.
        word_vectors: Initial vectors of the words, if they were given or learned.
        texts: Token ids of texts with and without labels, that the network first learns to predict words of.
        groups: Of both sides, if `--validation-group` was given.
        profile: What the model reads of both sides; nothing is predicted yet.
        weights: What the model begins with, see `Stepper.set_weights`; none if it begins with random weights.
        ngram_table: float32[ngram_buckets], of the model that the run begins with, if that has n-grams.
    """

    training: Corpus
    validation: Corpus
    vocabulary: Vocabulary
    rows_without_text: int
    rows_with_other_label: int = 0
    seen: SeenTexts = field(default_factory=SeenTexts)
    validation_rows_seen: int = 0
    contradictory_texts: int = 0
    sum_of_validation_texts: int = 0
    word_vectors: WordVectors | None = None
    texts: Sequences | None = None
    groups: Groups | None = None
    profile: TrainingData = field(default_factory=TrainingData)
    weights: Sequence[npt.NDArray[np.float32]] = ()
    ngram_table: npt.NDArray[np.float32] | None = None

    def all_rows(self) -> Corpus:
        """Returns the training rows followed by the validation rows."""
        sides = (self.training, self.validation)
        return Corpus(concatenate([side.sequences for side in sides]), np.concatenate([side.labels for side in sides]))

    def fingerprint(self) -> str:
        """Returns a hash of all tokens, labels, words, vectors and first weights: of what a model is trained on."""
        digest = hashlib.sha256()
        for corpus in (self.training, self.validation):
            for array in (corpus.sequences.token_ids, corpus.sequences.offsets, corpus.labels):
                digest.update(np.ascontiguousarray(array).data)
        digest.update("\0".join(self.vocabulary.words.to_pylist()).encode("utf-8", "surrogatepass"))
        if self.word_vectors is not None:
            digest.update(self.word_vectors.ids.data)
            digest.update(self.word_vectors.vectors.data)
        if self.texts is not None:
            digest.update(self.texts.token_ids.data)
            digest.update(self.texts.offsets.data)
        for weights in (*self.weights, *([] if self.ngram_table is None else [self.ngram_table])):
            digest.update(np.ascontiguousarray(weights).data)
        return digest.hexdigest()


@dataclass(frozen=True)
class EncodedShard:
    """A shard encoded as codes.

    Attributes:
        training: Rows to train on. A code is 0 for the start of a text, otherwise an index in `words` plus 1. With a
            given vocabulary to which no words are added, it is a token id.
        validation: Rows held out, encoded in the same way.
        words: large_string[n], the shard's distinct words; None with such a vocabulary.
        counts: Words and their counts in the shard's training rows; None with such a vocabulary.
        rows_without_text: Rows left out because they have no words.
        rows_with_other_label: Rows left out because the label mapping does not name their label.
        training_texts: Hashes of the training texts.
        validation_texts: Hashes of the validation texts.
        groups: Hashes of the distinct groups of all its rows; None without `--validation-group`.
        rows_without_group: Rows whose group is null.
        truncated: Numbers of truncated rows: of those to train on, and of those held out.
    """

    training: Corpus
    validation: Corpus
    words: pa.LargeStringArray | None
    counts: pa.Table | None
    rows_without_text: int
    rows_with_other_label: int
    training_texts: Hashes40
    validation_texts: Hashes40
    groups: Hashes | None = None
    rows_without_group: int = 0
    truncated: tuple[int, int] = (0, 0)


def find_all_shards(config: TrainConfig, progress: Progress = ignore) -> list[Shard]:
    """Lists the row groups of a run, those for training first; `progress` receives notes on files and labels.

    Raises:
        InputError: A file is missing or not Parquet, lacks a column, or has a column of the wrong type; or a file is in
            both `train` and `validation`.
    """
    columns = (config.text_column, config.label_column, mapping := label_mapping(config))
    if (doubt := mapping.doubt()) is not None:
        progress(f"warning: {doubt}")
    once = functools.cache(progress)  # a note may hold for both sides
    is_validation = False if config.validation else None
    shards = find_shards(
        config.train, *columns, is_validation=is_validation, group_column=config.validation_group, progress=once
    )
    validation = find_shards(config.validation, *columns, is_validation=True, progress=once)
    _check_apart(shards, validation, config)
    if config.max_rows is not None:
        shards = sample_rows(shards, config.max_rows, config.seed)
    return shards + validation


def _check_apart(training: Sequence[Shard], validation: Sequence[Shard], config: TrainConfig) -> None:
    """Raises InputError if a file is in both `train` and `validation`, unless the user allows that."""
    shared = shared_files((shard.file for shard in validation), (shard.file for shard in training))
    if shared and not config.allow_seen_files:
        raise InputError(
            f"{shared[0].path}: is in --train and in --validation, so validation would measure memorized texts: "
            "leave out --validation to hold out a part of --train, or pass --allow-seen-files"
        )


def encode_shard(shard: Shard, config: TrainConfig) -> EncodedShard:
    """Reads one shard, splits its texts into words and encodes them.

    Raises:
        InputError: The row group cannot be read, or a label is not 0 or 1.
    """
    rows = read_shard(shard, config.text_column, config.label_column, label_mapping(config), config.validation_group)
    tokens = tokenize(rows.texts, config)
    # A row without words teaches the model nothing; scoring gives it no score either.
    has_words = np.diff(tokens.offsets.to_numpy()) > 0
    texts, labels, groups = rows.texts, rows.labels, rows.groups
    if not has_words.all():
        kept = pa.array(has_words)
        tokens, texts, labels = tokens.filter(kept), texts.filter(kept), labels[has_words]
        groups = None if groups is None else groups.filter(kept)
    if shard.is_validation is None and config.validation_fraction:
        hashes = hash_keys(keys_of_rows(texts, groups), config.seed)
        is_validation = held_out(hashes, config.validation_fraction)
    else:
        is_validation = np.full(len(texts), bool(shard.is_validation))
    if config.vocabulary is not None and not config.add_words:
        vocabulary = read_given_vocabulary(config.vocabulary, config.vocabulary_size)
        codes, words, counts = vocabulary.look_up(tokens, config.unlisted_words), None, None
    else:
        numbers, words = number_words(tokens)
        codes = Sequences(numbers.token_ids + 1, numbers.offsets).prepended(_START_CODE)
        counts = count_words(tokens.filter(pa.array(~is_validation)))
    is_cut = codes.lengths > config.max_tokens
    codes = truncate(codes, config.max_tokens, config.truncating)
    training, validation = (
        Corpus(codes.take(np.flatnonzero(side)), labels[side]) for side in (~is_validation, is_validation)
    )
    text_hashes = hash_texts(texts)
    encoded = EncodedShard(
        training,
        validation,
        words,
        counts,
        rows_without_text=rows.without_text + int((~has_words).sum()),
        rows_with_other_label=rows.with_other_label,
        training_texts=text_hashes[~is_validation],
        validation_texts=text_hashes[is_validation],
        truncated=(int((is_cut & ~is_validation).sum()), int((is_cut & is_validation).sum())),
    )
    if groups is None:
        return encoded
    has_group = groups.is_valid().to_numpy(zero_copy_only=False)
    return replace(encoded, groups=np.unique(hashes[has_group]), rows_without_group=int((~has_group).sum()))


def assemble(shards: Iterable[EncodedShard], config: TrainConfig, seen_before: SeenTexts | None = None) -> Prepared:
    """Builds the vocabulary from all shards' counts and translates their codes into token ids.

    Args:
        shards: The encoded shards, in order. Their arrays are copied: arrays that Ray returns are views, and each one
            that is kept would keep the whole shard in the object store.
        config: The run's settings.
        seen_before: The texts that the model was trained on before this run.

    Raises:
        InputError: There are no rows, only one class, or no validation rows although some were to be held out.
    """
    training, validation = _Rows(), _Rows()
    counts = merge_counts([])
    words: list[pa.LargeStringArray] = []
    uncounted: list[pa.Table] = []
    groups: list[Hashes] = []
    by_label: tuple[list[Hashes40], list[Hashes40]] = ([], [])
    validation_texts: list[Hashes40] = []
    without_text = with_other_label = without_group = 0
    for shard in shards:
        training.add(shard.training, shard.truncated[0])
        validation.add(shard.validation, shard.truncated[1])
        without_text += shard.rows_without_text
        with_other_label += shard.rows_with_other_label
        without_group += shard.rows_without_group
        for label, hashes in enumerate(by_label):
            hashes.append(shard.training_texts[shard.training.labels == label])
        validation_texts.append(shard.validation_texts.copy())
        if shard.groups is not None:
            groups.append(shard.groups.copy())
        if shard.words is not None:
            words.append(copy.deepcopy(shard.words))
            uncounted.append(copy.deepcopy(shard.counts))
            # Not for every shard: that would merge all words again each time.
            if sum(map(len, uncounted)) > len(counts):
                counts, uncounted = merge_counts([counts, *uncounted]), []
    counts = merge_counts([counts, *uncounted])
    if config.vocabulary is None:
        vocabulary = build_vocabulary(counts, config.vocabulary_size)
    else:
        vocabulary = read_given_vocabulary(config.vocabulary, config.vocabulary_size - config.add_words)
    if config.add_words:
        vocabulary = vocabulary.extended(counts, config.add_words)
    for number, shard_words in enumerate(words):
        ids = _ids_of_codes(shard_words, vocabulary)
        for rows in (training, validation):
            codes = rows.codes_of(number)
            codes[:] = ids[codes]
    negative, positive = map(SeenTexts, by_label)
    seen = SeenTexts([negative.hashes, positive.hashes, *([] if seen_before is None else [seen_before.hashes])])
    leaked = sum(map(seen.count, validation_texts))
    if config.refits_on_all_rows:
        seen = SeenTexts([seen.hashes, *validation_texts])
    prepared = Prepared(
        training.corpus(),
        validation.corpus(),
        vocabulary,
        rows_without_text=without_text,
        rows_with_other_label=with_other_label,
        seen=seen,
        validation_rows_seen=leaked,
        contradictory_texts=negative.count(positive.hashes),
        sum_of_validation_texts=sum(map(sum_of, validation_texts)),
        profile=TrainingData(training.profile() + Profile(without_words=without_text), validation.profile()),
    )
    share = None
    if groups:
        divided, share = _divide(groups, without_group, config.validation_fraction)
        prepared = replace(prepared, groups=divided)
    _check_classes(prepared, config, share)
    return prepared


def _divide(hashes: Sequence[Hashes], rows_without: int, fraction: float) -> tuple[Groups, float | None]:
    """Returns how many groups are on each side; if all are on one, also the nearest share that divides them."""
    distinct = np.unique(np.concatenate(hashes))
    on_validation = int(held_out(distinct, fraction).sum())
    groups = Groups(len(distinct) - on_validation, on_validation, rows_without)
    return groups, None if groups.training and groups.validation else share_that_divides(distinct, fraction)


def check_groups(shards: Sequence[Shard], config: TrainConfig) -> None:
    """Raises InputError if the column of `--validation-group` holds out all rows or none; reads no other column."""
    if config.validation_group is None:
        return
    name = config.validation_group
    columns = [shard.pick(group_keys(read_columns(shard, [name])[name])) for shard in shards]
    hashes = [hash_keys(column.drop_null(), config.seed) for column in columns]
    groups, share = _divide(hashes, sum(column.null_count for column in columns), config.validation_fraction)
    if 0 in (groups.training, groups.validation) and not groups.rows_without:
        rows = sum(map(len, columns))
        raise _undivided(config, rows, groups, share, is_all_held_out=not groups.training)


class _Rows:
    """Rows of many shards. The token ids grow in place, because concatenating arrays would need twice the memory."""

    def __init__(self) -> None:
        self._token_ids = bytearray()
        self._ends = [0]  # end of each shard, in tokens
        self._lengths = [np.zeros(0, np.int32)]
        self._labels = [np.zeros(0, np.int8)]
        self._truncated = 0

    def add(self, rows: Corpus, truncated: int) -> None:
        """Appends a shard's rows; `truncated` of them were truncated."""
        self._token_ids += np.ascontiguousarray(rows.sequences.token_ids, np.int32).data
        self._ends.append(self._ends[-1] + len(rows.sequences.token_ids))
        self._lengths.append(rows.sequences.lengths.astype(np.int32))
        self._labels.append(rows.labels.copy())
        self._truncated += truncated

    def codes_of(self, shard: int) -> npt.NDArray[np.int32]:
        """Returns a view of the codes of the shard that was added as number `shard`, from 0."""
        return np.frombuffer(self._token_ids, np.int32)[self._ends[shard] : self._ends[shard + 1]]

    def profile(self) -> Profile:
        """Counts all rows, whose codes are token ids by now; shard by shard, so that no array has the size of all."""
        total = Profile(truncated=self._truncated, positives=sum(int(labels.sum()) for labels in self._labels))
        for shard, lengths in enumerate(self._lengths[1:]):
            total += count_texts(Sequences.of(self.codes_of(shard), lengths))
        return total

    def corpus(self) -> Corpus:
        """Returns all rows. No rows can be added afterwards."""
        sequences = Sequences.of(np.frombuffer(self._token_ids, np.int32), np.concatenate(self._lengths))
        return Corpus(sequences, np.concatenate(self._labels))


@functools.lru_cache(maxsize=1)  # every shard needs it
def read_given_vocabulary(path: str, size: int) -> Vocabulary:
    """Reads the file that `--vocabulary` names: our Parquet, or JSON of word to rank."""
    return Vocabulary.read_word_index(path, size) if path.endswith(".json") else Vocabulary.read(path).resized(size)


def _ids_of_codes(words: pa.LargeStringArray, vocabulary: Vocabulary) -> npt.NDArray[np.int32]:
    """Returns the token id of each of a shard's codes."""
    positions = pc.fill_null(pc.index_in(words, value_set=vocabulary.words), -1).to_numpy(zero_copy_only=False)
    ids = np.where(positions < 0, OOV_ID, positions + FIRST_WORD_ID)
    return np.concatenate([[START_ID], ids]).astype(np.int32)


def _check_classes(prepared: Prepared, config: TrainConfig, share: float | None) -> None:
    """Raises InputError if a side has no rows, or training one class; proposes a share that divides the groups."""
    where = ", ".join(config.train)
    training, validation, groups = prepared.training, prepared.validation, prepared.groups

    def left_out() -> str:
        counts = prepared.rows_without_text, prepared.rows_with_other_label
        return describe_left_out(*counts, find_all_shards(config), config.label_column, label_mapping(config))

    if len(training) == 0 and len(validation) and not config.validation:
        raise _undivided(config, len(validation), groups, share, is_all_held_out=True, left_out=left_out())
    if len(training) == 0:
        raise InputError(f"{where}: no rows to train on{left_out()}")
    if len(np.unique(training.labels)) == 1:
        label, both = str(training.labels[0]), "0 and 1"
        if config.positive_labels:
            label, both = ("negative", "positive")[training.labels[0]], "positive and negative labels"
        raise InputError(
            f"{where}: column {config.label_column!r}: all {len(training):,} training rows have the label {label}; "
            f"both {both} are needed{left_out()}"
        )
    if len(validation) == 0 and config.validation:
        raise InputError(f"{', '.join(config.validation)}: no rows to validate on{left_out()}")
    if len(validation) == 0 and config.validation_fraction:
        raise _undivided(config, len(training), groups, share, is_all_held_out=False, left_out=left_out())


def _undivided(
    config: TrainConfig,
    rows: int,
    groups: Groups | None,
    share: float | None,
    *,
    is_all_held_out: bool,
    left_out: str = "",
) -> InputError:
    """Returns the error for a split in which all rows are held out, or none."""
    of_groups = f" of {counted(groups.training + groups.validation, 'group')}" if groups is not None else ""
    found = f"{counted(rows, 'row')}{of_groups}"
    fraction = "--validation-fraction" if share is None else f"--validation-fraction to {share}"
    change = f"lower {fraction}" if is_all_held_out else f"raise {fraction}, or set it to 0"
    if groups is not None and groups.training + groups.validation == 1 and not groups.rows_without:
        change = "choose another column with --validation-group"
    problem = f"none of its {found} is held out for validation"
    if is_all_held_out:
        problem = f"all its {found} {are(rows)} held out for validation"
    return InputError(f"{', '.join(config.train)}: {problem}: {change}{left_out}")
