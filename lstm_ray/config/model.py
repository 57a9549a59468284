"""Settings of a model: how a text becomes token ids, and the network. Every bundle contains them."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator

from lstm_ray import user_code
from lstm_ray.config.base import Settings, learned

Side = Literal["pre", "post"]
Truncating = Literal["pre", "post", "middle"]
Punctuation = Literal["drop", "keep"]
Unlisted = Literal["oov", "drop"]
Pooling = Literal["last", "max", "mean", "mean_max"]


def pools_of(pooling: Pooling) -> int:
    """Returns how many numbers the output layer reads of each feature: with "mean_max" its mean, then its maximum."""
    return 2 if pooling == "mean_max" else 1


class TokenSettings(Settings):
    """How a text is split into words."""

    strip_html: bool = learned(
        True, "Replace <br />, <br/> and <br> by a space before splitting into words.", panel="Text"
    )
    lowercase: Literal["unicode", "ascii"] = learned(
        "unicode", "Lower-case all letters (unicode), or only A-Z (ascii), as in keras.datasets.imdb.", panel="Text"
    )
    split_on: Literal["space", "whitespace"] = learned(
        "whitespace", "Split words at any white space, or only at spaces, as Keras does.", panel="Text"
    )
    punctuation: Punctuation = learned(
        "drop",
        "Drop ASCII punctuation and symbols, as Keras does, or keep each one as a word.",
        panel="Text",
        later=True,
    )


class TextSettings(TokenSettings):
    """How a text becomes token ids. Bundles contain these settings, so that scoring does what training did."""

    unlisted_words: Unlisted = learned(
        "oov",
        "What happens to words that are not in the vocabulary: oov gives them id 2, drop leaves them out.",
        panel="Text",
    )
    vocabulary_size: int = learned(
        20_000,
        "Number of token ids, including 4 reserved ones; the most frequent words get the others.",
        panel="Text",
        ge=5,
        from_data=True,
    )
    max_tokens: int = learned(
        80,
        "Maximum tokens per text, including the start token; longer texts are cut.",
        panel="Text",
        ge=1,
        le=100_000,
        from_data=True,
    )
    padding: Side = learned("pre", "Side on which short texts are padded.", panel="Text")
    truncating: Truncating = learned(
        "pre",
        "Where long texts are cut: pre keeps the end, post the beginning, middle half of each.",
        panel="Text",
    )


class ModelSettings(Settings):
    """The network: Embedding, LSTM layers, pooling over time, Dense(1, sigmoid)."""

    embedding_size: int = learned(128, "Dimensions of the word vectors.", panel="Model", ge=1)
    layers: int = learned(1, "Number of stacked LSTM layers.", panel="Model", ge=1, le=16)
    units: int = learned(128, "Units of each LSTM layer, per direction.", panel="Model", ge=1, from_data=True)
    bidirectional: bool = learned(
        False, "Read each text in both directions, which doubles the LSTM's work.", panel="Model"
    )
    pooling: Pooling = learned(
        "last",
        "What the classifier reads from the last LSTM layer: the last state, the maximum over time, the mean over "
        "time, or mean and maximum.",
        panel="Model",
    )
    mask: bool = learned(
        False,
        "Make the network ignore padding; batches are then only as long as their longest row.",
        panel="Model",
    )
    embedding_dropout: float = learned(
        0.0,
        "Share of the word vectors' values dropped in training.",
        panel="Model",
        ge=0,
        lt=1,
        from_data=True,
        only_in_training=True,
    )
    shared_dropout: bool = learned(
        False,
        "Let --embedding-dropout drop the same dimensions for all words of a text.",
        panel="Model",
        from_data=True,
        only_in_training=True,
        later=True,
    )
    dropout: float = learned(
        0.2,
        "Share of each LSTM layer's inputs dropped in training.",
        panel="Model",
        ge=0,
        lt=1,
        from_data=True,
        only_in_training=True,
    )
    recurrent_dropout: float = learned(
        0.0,
        "Share of each LSTM layer's recurrent state dropped in training; above 0, GPUs cannot use cuDNN.",
        panel="Model",
        ge=0,
        lt=1,
        only_in_training=True,
    )
    output_dropout: float = learned(
        0.0,
        "Share of the classifier's inputs (see --pooling) dropped in training.",
        panel="Model",
        ge=0,
        lt=1,
        from_data=True,
        only_in_training=True,
        later=True,
    )
    ngrams: int = learned(
        0,
        "Maximum length, in words, of n-grams in the n-gram part, a linear model beside the LSTM; 0 leaves it out.",
        panel="Model",
        ge=0,
        le=3,
        from_data=True,
        later=True,
    )
    ngram_buckets: int = learned(
        2**20,
        "Number of weights of the n-gram part; n-grams with the same hash share one.",
        panel="Model",
        ge=2,
        le=2**28,
        from_data=True,
        later=True,
    )
    network: str | None = learned(
        None,
        "Function in your own module that builds the Keras model; it receives the settings of Text and Model.",
        panel="Model",
        metavar="MODULE:FUNCTION",
        examples=["mine:build"],
        later=True,
    )

    @field_validator("network")
    @classmethod
    def _names_a_function(cls, given: str | None) -> str | None:
        if given is not None and not user_code.is_named(given):
            raise ValueError("should be MODULE:FUNCTION, such as mine:build for the function build in mine.py")
        return given
