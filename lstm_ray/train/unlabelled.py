"""Learns word vectors for a run from its training rows and from texts without labels.

The driver does this before the workers start, with bit-identical results for any number of workers and cores. The
vectors are saved as OUTPUT/vectors/<hash>.txt, where the hash is that of the texts and settings that they were learned
from; a resumed run finds them there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial

import pyarrow as pa

from lstm_ray import storage
from lstm_ray.config import SkipGramSettings, TrainConfig
from lstm_ray.datasets.held_out import group_keys, hash_keys, held_out, keys_of_rows
from lstm_ray.datasets.labelled import Shard, read_columns
from lstm_ray.datasets.seen import SeenTexts, hash_texts
from lstm_ray.datasets.unlabelled import find_text_shards, read_texts
from lstm_ray.progress import Progress
from lstm_ray.runtime.in_flight import on_all_cores
from lstm_ray.text.sequences import Sequences, concatenate
from lstm_ray.text.tokenize import decode_texts, tokenize
from lstm_ray.text.vocabulary import Vocabulary
from lstm_ray.text.word_vectors import write_word_vectors
from lstm_ray.train.resume import VECTORS, data_changed
from lstm_ray.vectors.corpus import TextCorpus, read_corpus
from lstm_ray.vectors.learn import learn_vectors
from lstm_ray.wording import counted


def read_all_texts(config: TrainConfig, shards: Sequence[Shard], progress: Progress) -> TextCorpus:
    """Reads all texts of a run, to learn word vectors from.

    Args:
        config: The run's settings.
        shards: The run's labelled rows.
        progress: Receives the number of texts that were left out.

    Raises:
        InputError: A file cannot be read, or no word occurs often enough.
    """
    reads, left_out = _reads(config, shards)
    corpus = read_corpus(reads, config, skip_gram_settings(config), ", ".join((*config.train, *config.unlabelled)))
    if sum(left_out):
        progress(f"{counted(sum(left_out), 'unlabelled text')} left out: also in the validation rows")
    return corpus


def read_token_ids(config: TrainConfig, shards: Sequence[Shard], vocabulary: Vocabulary) -> Sequences:
    """Reads the same texts as token ids, whole, to learn to predict their words.

    Raises:
        InputError: A file cannot be read.
    """

    def encode(read: Callable[[], pa.LargeStringArray]) -> Sequences:
        return vocabulary.look_up(tokenize(read(), config), config.unlisted_words)

    return concatenate(list(on_all_cores(encode, _reads(config, shards)[0])))


def _reads(config: TrainConfig, shards: Sequence[Shard]) -> tuple[list[Callable[[], pa.LargeStringArray]], list[int]]:
    """Returns functions that each read some training rows or unlabelled texts, on any thread.

    Unlabelled texts that are also in a validation row are left out; while texts are read, the second list gets their
    numbers.
    """
    validating = shards if config.unlabelled else ()
    in_validation = SeenTexts(hash_texts(_texts_of(shard, config, of_validation=True)) for shard in validating)
    left_out: list[int] = []  # number of texts in each shard; several threads append to it

    def read_others(shard: Shard) -> pa.LargeStringArray:
        texts = read_texts(shard, config.text_column)
        is_kept = ~in_validation.contains(hash_texts(texts))
        left_out.append(len(texts) - int(is_kept.sum()))
        return texts.filter(pa.array(is_kept))

    reads: list[Callable[[], pa.LargeStringArray]] = [
        partial(_texts_of, shard, config, of_validation=False) for shard in shards
    ]
    reads += [partial(read_others, shard) for shard in find_text_shards(config.unlabelled, config.text_column)]
    return reads, left_out


def learn_file(config: TrainConfig, corpus: TextCorpus, progress: Progress, *, has_checkpoint: bool) -> str:
    """Returns the path of the run's word vectors. Learns them unless the file exists, and deletes those of other texts.

    Args:
        config: The run's settings.
        corpus: The texts to learn from.
        progress: Receives what is learned from.
        has_checkpoint: True if something was learned already with the vectors of the run.

    Raises:
        OutputError: The file cannot be written; or the run has a checkpoint, and vectors of other texts only.
    """
    settings = skip_gram_settings(config)
    name = hashlib.sha256(f"{settings.model_dump_json()} {corpus.fingerprint()}".encode()).hexdigest()[:16]
    path = storage.join(config.output, f"{VECTORS}/{name}.txt")
    if storage.exists(path):
        return path
    others = storage.list_names(storage.join(config.output, VECTORS))
    if others and has_checkpoint:
        raise data_changed(config)
    occurrences = len(corpus.texts.token_ids)
    progress(f"learning word vectors from {occurrences:,} words of {counted(len(corpus.texts), 'text')}")
    write_word_vectors(path, corpus.words, learn_vectors(corpus, settings, progress))
    for other in others:
        storage.delete(storage.join(config.output, f"{VECTORS}/{other}"))
    return path


def skip_gram_settings(config: TrainConfig) -> SkipGramSettings:
    """Returns the settings with which a run's vectors are learned."""
    return SkipGramSettings(
        size=config.embedding_size, window=config.vector_window, epochs=config.vector_epochs, seed=config.seed
    )


def _texts_of(shard: Shard, config: TrainConfig, of_validation: bool) -> pa.LargeStringArray:
    """Returns the texts of a shard's validation rows, or of its training rows."""
    if shard.is_validation not in (None, of_validation):
        return pa.array([], pa.large_string())
    if shard.is_validation is not None:
        return read_texts(shard, config.text_column)
    group = [] if config.validation_group is None else [config.validation_group]
    columns = read_columns(shard, [config.text_column, *group])
    texts = shard.pick(decode_texts(columns[config.text_column]))
    groups = shard.pick(group_keys(columns[group[0]])) if group else None
    is_text = texts.is_valid()
    texts, groups = texts.filter(is_text), None if groups is None else groups.filter(is_text)
    is_validation = held_out(hash_keys(keys_of_rows(texts, groups), config.seed), config.validation_fraction)
    return texts.filter(pa.array(is_validation == of_validation))
