"""The preset `best`: chooses settings that fit the training data.

    footers            -> rows                                  -> settings, each with its reason
    a sample of texts  -> lengths, distinct words and n-grams

Only settings that are declared as `from_data` (config/) and that the user has not set are chosen. The choice
depends only on the data, so that the same command resumes a run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from lstm_ray.config import TrainConfig, TuneConfig, as_option, left_open, resolve
from lstm_ray.datasets.labelled import Shard, read_shard
from lstm_ray.datasets.labels import label_mapping
from lstm_ray.datasets.unlabelled import find_text_shards
from lstm_ray.text.ngrams import LONGEST, bags
from lstm_ray.text.tokenize import tokenize
from lstm_ray.text.vocabulary import build_vocabulary, count_words
from lstm_ray.wording import counted

C = TypeVar("C", bound=TrainConfig)

_SAMPLED_SHARDS = 8  # row groups, spread over the files
_SAMPLED_ROWS = 4_096
_MOST_NGRAMS = 60_000_000  # that the n-gram part is fitted on, all rows' together; they take 2.5 GB
_PRETRAINED_TEXTS = 450_000  # read by the language model in all its epochs: 35 minutes for those of IMDb, two cores
# Without unlabelled texts, other rows and longer texts gain too little for the time that it takes.
_PRETRAINED_ROWS = range(4_000, 20_000)
_PRETRAINED_TOKENS = 200
_FEW_ROWS = 10_000
_BUCKETS = (
    20  # for each distinct n-gram: they are cheap, and collisions seldom cost accuracy (docs/explanation/best.md)
)
_GROWTH = 0.65
"""Exponent of Heaps' law: distinct words and n-grams grow with the text's length to this power; reviews: 0.5 to 0.8."""


@dataclass(frozen=True)
class DataFacts:
    """What the choice depends on.

    Attributes:
        rows: Training rows, including those held out.
        long_text: The 98th percentile of the texts' lengths, in tokens.
        words: Distinct words, estimated for all rows.
        ngrams: Distinct n-grams, estimated for all rows.
        row_ngrams: N-grams of a row, on average.
        unlabelled: Texts without labels.
    """

    rows: int
    long_text: int
    words: int
    ngrams: int
    row_ngrams: float
    unlabelled: int = 0


def choose(config: C, shards: Sequence[Shard]) -> tuple[C, list[str]]:
    """Returns the settings with those chosen for the data, and a line for each: the option to copy, and the reason.

    Args:
        config: The settings.
        shards: Row groups of a run, as `find_all_shards` lists them.

    Raises:
        ConfigError: A chosen setting contradicts a given one, such as more workers than rows in a step.
        InputError: The data cannot be read.
    """
    if not (left := left_open(config)):
        return config, []
    training = [shard for shard in shards if not shard.is_validation and len(shard.rows)]
    names = set(left) - _settled(config) if training else set()
    given = None if "pretrain_epochs" in names else config.pretrain_epochs
    offered = choices(look_at(config, training), given) if names else {}
    chosen = {name: choice for name, choice in offered.items() if name in names}
    lines = [f"{as_option(name, value)}: {reason}" for name, (value, reason) in chosen.items()]
    # Passing every setting marks it as given, so that a resumed run chooses nothing.
    return resolve(type(config), {**dict(config), **{name: value for name, (value, _) in chosen.items()}}), lines


def _settled(config: TrainConfig) -> set[str]:
    """Returns the settings that follow from other settings, and those that a search draws.

    The trials of a search do not pretrain unless `pretrain_epochs` is given: each would learn the same.
    """
    drawn = set(config.search) if isinstance(config, TuneConfig) else set()
    settled = {
        "validation_fraction": config.validation,
        "vocabulary_size": config.vocabulary,
        "pretrain_epochs": config.layers > 1 or config.network or isinstance(config, TuneConfig),
        "learn_vectors": config.embeddings or config.unlabelled or config.network or drawn & {"embeddings", "network"},
        **dict.fromkeys(("ngram_buckets", "ngram_rows"), "ngrams" in config.model_fields_set and config.ngrams == 0),
    }
    return drawn | {name for name, is_settled in settled.items() if is_settled}


def choices(facts: DataFacts, pretrain_epochs: int | None = None) -> dict[str, tuple[Any, str]]:
    """Returns each setting's value and the reason for it.

    Args:
        facts: What the choice depends on.
        pretrain_epochs: How often the LSTM is pretrained on all texts, if that is not to be chosen.
    """
    rows = counted(facts.rows, "row")
    few = facts.rows < _FEW_ROWS

    def compared(limit: int) -> str:
        return f"{rows}, fewer than {limit:,}" if facts.rows < limit else f"{rows}, {limit:,} or more"

    held_out = 0.2 if facts.rows < 4_000 else 0.1 if facts.rows < 200_000 else max(0.01, 20_000 / facts.rows)
    epochs = int(np.clip(150_000 // facts.rows, 3, 10 if few else 15))
    fitted = _rounded_up(int(_MOST_NGRAMS / facts.row_ngrams))
    chosen: dict[str, tuple[Any, str]] = {
        "vocabulary_size": (
            int(np.clip(_rounded_up(facts.words), 1_000, 60_000)),
            f"about {counted(facts.words, 'distinct word')}",
        ),
        "max_tokens": (
            int(np.clip(-(-facts.long_text // 20) * 20, 40, 1_000)),
            f"98 of 100 texts have at most {counted(facts.long_text, 'token')}",
        ),
        "learn_vectors": (facts.rows >= 1_000, f"{rows}, and no other word vectors are given"),
        "units": (128, "texts without labels") if facts.unlabelled else (64, "no texts without labels"),
        "ngrams": (_longest_ngrams(facts.rows), compared(_FEW_ROWS)),
        "ngram_buckets": (
            2 ** int(np.clip(math.ceil(math.log2(_BUCKETS * facts.ngrams)), 16, 23)),
            f"about {facts.ngrams:,} distinct n-grams",
        ),
        "validation_fraction": (round(held_out, 3), f"{rows}: enough to compare epochs, at most a fifth"),
        "epochs": (epochs, f"{rows}; the epoch with the best validation is kept"),
        "learning_rate": (0.003 if few else 0.001, compared(_FEW_ROWS)),
        "embedding_dropout": (0.5, "without pretraining"),
        "dropout": (0.3, "without pretraining"),
        "global_batch_size": (32 if facts.rows < 100_000 else 128, compared(100_000)),
    }
    if pretrain_epochs is None:
        pretrain_epochs, reason = _pretraining(facts)
        chosen["pretrain_epochs"] = (pretrain_epochs, reason)
    if pretrain_epochs:  # the LSTM knows much already: few epochs of fine-tuning are enough, and in many it overfits
        half = int(np.clip(75_000 // facts.rows, 3, epochs))
        chosen["epochs"] = (half, f"{rows}, after pretraining; the epoch with the best validation is kept")
        chosen["learning_rate"] = (0.003 if few else 0.002, f"{compared(_FEW_ROWS)}, after pretraining")
        # The language model knows no noise that differs from word to word: with it, what was learned is lost.
        dropout = {"embedding_dropout": 0.3, "shared_dropout": True, "dropout": 0.0, "output_dropout": 0.5}
        chosen |= {name: (value, "after pretraining") for name, value in dropout.items()}
    if fitted < facts.rows:
        chosen["ngram_rows"] = (fitted, f"about {facts.row_ngrams:.0f} n-grams in each of {rows}, to save memory")
    return chosen


def _pretraining(facts: DataFacts) -> tuple[int, str]:
    """Returns how often the LSTM is pretrained on all texts, and the reason."""
    texts = facts.rows + facts.unlabelled
    if not facts.unlabelled and (facts.rows not in _PRETRAINED_ROWS or facts.long_text > _PRETRAINED_TOKENS):
        return 0, f"{counted(facts.rows, 'row')} of up to {facts.long_text:,} tokens, and no texts without labels"
    epochs = min(6, _PRETRAINED_TEXTS // texts)
    reason = "to predict words of" if epochs else "would take too long: give fewer, or a number"
    return epochs, f"{counted(texts, 'text')} {reason}"


def _longest_ngrams(rows: int) -> int:
    """Returns the number of words of the longest n-grams, unless they are given."""
    return 2 if rows < _FEW_ROWS else LONGEST


def look_at(config: TrainConfig, shards: Sequence[Shard]) -> DataFacts:
    """Reads a sample of the training texts."""
    rows = sum(len(shard.rows) for shard in shards)
    picked = np.unique(np.linspace(0, len(shards) - 1, _SAMPLED_SHARDS).astype(int))
    texts = pa.chunked_array([_sample(shards[number], config, _SAMPLED_ROWS // len(picked)) for number in picked])
    tokens = tokenize(texts.combine_chunks(), config)
    counts = count_words(tokens)
    vocabulary = build_vocabulary(counts, len(counts) + 4)
    sequences = vocabulary.look_up(tokens, "oov")
    growth = (rows / max(1, len(tokens))) ** _GROWTH
    ngrams = bags(sequences, config.ngrams or _longest_ngrams(rows), 2**28).buckets
    return DataFacts(
        rows,
        max(1, int(np.quantile(sequences.lengths, 0.98))) if len(sequences) else 1,
        int(growth * len(counts)),
        max(1, int(growth * len(np.unique(ngrams)))),
        max(1.0, len(ngrams) / max(1, len(sequences))),
        sum(len(shard.rows) for shard in find_text_shards(config.unlabelled, config.text_column)),
    )


def _sample(shard: Shard, config: TrainConfig, rows: int) -> pa.LargeStringArray:
    """Returns the texts of at most `rows` rows, spread over the shard."""
    spread = np.unique(np.linspace(0, len(shard.rows) - 1, rows).astype(int))
    some = replace(shard, rows=np.asarray(shard.rows)[spread])
    return read_shard(some, config.text_column, config.label_column, label_mapping(config)).texts


def _rounded_up(number: int) -> int:
    """Rounds a number up to two significant digits."""
    unit: int = 10 ** max(0, len(str(number)) - 2)
    return -(-number // unit) * unit
