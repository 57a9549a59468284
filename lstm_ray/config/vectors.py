"""Settings of learning word vectors."""

from __future__ import annotations

from lstm_ray.config.base import FILES, Settings, setting
from lstm_ray.config.shared import RowSettings
from lstm_ray.config.train import TokenSettings


class SkipGramSettings(Settings):
    """How vectors are learned from the words around each word: skip-gram with negative sampling."""

    size: int = setting(128, "Numbers in a word's vector.", panel="Model", ge=1, le=4096)
    min_count: int = setting(5, "Leave out words that occur less often than this.", panel="Text", ge=1)
    max_words: int = setting(
        100_000, "Words that get a vector: the most frequent ones of those that occur often enough.", panel="Text", ge=1
    )
    window: int = setting(
        10,
        "Words on either side that a word is learned from: up to this many, drawn anew each time.",
        panel="Training",
        ge=1,
    )
    negatives: int = setting(5, "Random words that each word learns to differ from.", panel="Training", ge=1, le=15)
    subsample: float = setting(
        1e-3,
        "Occurrences of words above this share of all are skipped, the more the more frequent they are; 0 skips none.",
        panel="Training",
        ge=0,
        lt=1,
    )
    epochs: int = setting(5, "Times to go through the texts.", panel="Training", ge=1)
    learning_rate: float = setting(
        0.025, "Step size at the beginning; it falls to nearly 0 at the end.", panel="Training", gt=0
    )
    seed: int = setting(
        0,
        "Decides initial vectors, order of the texts and everything that is drawn.",
        panel="Training",
        ge=0,
        le=2**32 - 1,
    )


class VectorsConfig(TokenSettings, SkipGramSettings, RowSettings):
    """Everything that decides what vectors a corpus gives."""

    text: tuple[str, ...] = setting(
        (),
        "Reviews as Parquet, labelled or not: files, directories, globs, s3:// gs:// abfs:// URIs.",
        panel=FILES,
        metavar="PATH",
        must_be_given=True,
        path="input",
    )
    output: str = setting(
        "",
        "File for the vectors, in word2vec's text format; one whose name ends in .gz is packed.",
        panel=FILES,
        metavar="FILE",
        must_be_given=True,
        path="output",
    )
    overwrite: bool = setting(False, "Replace the file if there is one.", panel=FILES, flag=True)
