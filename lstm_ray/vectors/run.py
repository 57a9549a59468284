"""Learns word vectors from files of reviews and writes them.

files -> corpus.py: encoded texts -> learn.py: vectors -> text/word_vectors.py: file
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial

from lstm_ray import storage
from lstm_ray.config import VectorsConfig
from lstm_ray.datasets.labelled import sample_rows
from lstm_ray.datasets.unlabelled import find_text_shards, read_texts
from lstm_ray.errors import OutputError
from lstm_ray.progress import Progress
from lstm_ray.text.word_vectors import write_word_vectors
from lstm_ray.vectors.corpus import read_corpus
from lstm_ray.vectors.learn import learn_vectors


@dataclass(frozen=True)
class LearnedFile:
    """A file of vectors that was written.

    Attributes:
        output: The file.
        texts: Number of texts.
        words: Number of words that have a vector.
        occurrences: Number of occurrences of these words in the texts.
        seconds: Duration of the training in seconds.
    """

    output: str
    texts: int
    words: int
    occurrences: int
    seconds: float


def write_vectors(config: VectorsConfig, progress: Progress) -> LearnedFile:
    """Learns vectors and writes them.

    Args:
        config: The settings.
        progress: Receives messages and the number of words done.

    Raises:
        InputError: A file is missing, is not Parquet or lacks the column, or no word occurs often enough.
        OutputError: The output exists and `overwrite` is False, or it cannot be written.
    """
    storage.check_writable(storage.join(config.output, ".."))
    if storage.exists(config.output) and not config.overwrite:
        raise OutputError(f"{config.output}: exists already: choose another --output, or pass --overwrite")
    shards = find_text_shards(config.text, config.text_column, progress)
    if config.max_rows is not None:
        shards = sample_rows(shards, config.max_rows, config.seed)
    progress("reading and tokenizing")
    reads = [partial(read_texts, shard, config.text_column) for shard in shards]
    corpus = read_corpus(reads, config, config, ", ".join(config.text))
    started = time.perf_counter()
    vectors = learn_vectors(corpus, config, progress)
    seconds = time.perf_counter() - started
    write_word_vectors(config.output, corpus.words, vectors)
    return LearnedFile(config.output, len(corpus.texts), len(corpus.words), len(corpus.texts.token_ids), seconds)
