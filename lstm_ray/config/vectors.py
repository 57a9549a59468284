"""Settings for learning word vectors."""

from __future__ import annotations

from lstm_ray.config.base import FILES, Settings, setting
from lstm_ray.config.model import TokenSettings
from lstm_ray.config.shared import RowSettings


class SkipGramSettings(Settings):
    """How word vectors are learned: skip-gram with negative sampling."""

    size: int = setting(128, "Dimensions of the word vectors.", panel="Model", ge=1, le=4096)
    min_count: int = setting(5, "Leave out words that occur less often than this.", panel="Text", ge=1)
    max_words: int = setting(
        100_000, "Maximum number of words that get a vector: the most frequent ones.", panel="Text", ge=1
    )
    window: int = setting(
        10,
        "Maximum number of words on either side that a word is learned from; the number is drawn at random.",
        panel="Training",
        ge=1,
    )
    negatives: int = setting(
        5, "Negative samples: random words that each word learns to differ from.", panel="Training", ge=1, le=15
    )
    subsample: float = setting(
        1e-3,
        "Words that make up more than this share of the texts are skipped at random, frequent ones more often; 0 skips "
        "none.",
        panel="Training",
        ge=0,
        lt=1,
    )
    epochs: int = setting(5, "Passes over the texts.", panel="Training", ge=1)
    learning_rate: float = setting(
        0.025, "Initial learning rate; it falls to nearly 0 at the end.", panel="Training", gt=0
    )
    seed: int = setting(
        0,
        "Random seed for initial vectors, the order of the texts and all draws.",
        panel="Training",
        ge=0,
        le=2**32 - 1,
    )


class VectorsConfig(TokenSettings, SkipGramSettings, RowSettings):
    """All settings of `lstm-ray vectors`."""

    text: tuple[str, ...] = setting(
        (),
        "Reviews as Parquet, labelled or not: files, directories, globs, or s3:// gs:// abfs:// URIs.",
        panel=FILES,
        metavar="PATH",
        must_be_given=True,
        path="input",
    )
    output: str = setting(
        "",
        "File for the vectors, in word2vec's text format; compressed if its name ends in .gz.",
        panel=FILES,
        metavar="FILE",
        must_be_given=True,
        path="output",
    )
    overwrite: bool = setting(False, "Replace the file if it exists.", panel=FILES, flag=True)
