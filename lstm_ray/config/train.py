"""Settings of training: texts, network, workers, and the run itself."""

from __future__ import annotations

import difflib
import math
import re
from typing import Any, Literal

from pydantic import field_validator, model_validator

from lstm_ray import user_code
from lstm_ray.config.base import COUNT, FILES, Settings, fixed, free, learned, limits_of, setting
from lstm_ray.config.labels import LabelSettings
from lstm_ray.config.presets import PRESETS, preset_settings
from lstm_ray.config.shared import RaySettings, RowSettings
from lstm_ray.errors import ConfigError

Side = Literal["pre", "post"]
Truncating = Literal["pre", "post", "middle"]
Punctuation = Literal["drop", "keep"]


class TokenSettings(Settings):
    """How a text becomes words."""

    strip_html: bool = learned(True, "Turn <br />, <br/> and <br> into a space before splitting words.", panel="Text")
    lowercase: Literal["unicode", "ascii"] = learned(
        "unicode", "Lower-case all letters, or A-Z alone as the ids of keras.datasets.imdb were made.", panel="Text"
    )
    split_on: Literal["space", "whitespace"] = learned(
        "whitespace", "What separates words: any white space, or the space alone as Keras does.", panel="Text"
    )
    punctuation: Punctuation = learned(
        "drop", "Punctuation and symbols of ASCII: left out as Keras does, or each a word of its own.", panel="Text"
    )


class TextSettings(TokenSettings):
    """How a text becomes token ids. A bundle keeps these, so that scoring does what training did."""

    unlisted_words: Literal["oov", "drop"] = learned(
        "oov", "A word the vocabulary does not list: id 2, or left out as keras.datasets.imdb does.", panel="Text"
    )
    vocabulary_size: int = learned(
        20_000,
        "Number of ids, the 4 reserved ones included: the most frequent words keep one.",
        panel="Text",
        ge=5,
        from_data=True,
    )
    max_tokens: int = learned(
        80, "Tokens kept of a text, the start token counted.", panel="Text", ge=1, le=100_000, from_data=True
    )
    padding: Side = learned("pre", "Where short texts are padded.", panel="Text")
    truncating: Truncating = learned(
        "pre",
        "Where long texts are cut: pre keeps their end, post their beginning, middle one half of each.",
        panel="Text",
    )


class ModelSettings(Settings):
    """The network: Embedding, LSTM layers, pooling over time, Dense(1, sigmoid)."""

    embedding_size: int = learned(128, "Numbers in a word's vector.", panel="Model", ge=1)
    layers: int = learned(1, "LSTM layers, one on top of the other.", panel="Model", ge=1, le=16)
    units: int = learned(128, "Units of each LSTM layer (and direction).", panel="Model", ge=1, from_data=True)
    bidirectional: bool = learned(False, "Read each text in both directions (doubles the LSTM's work).", panel="Model")
    pooling: Literal["last", "max", "mean", "mean_max"] = learned(
        "last",
        "What the classifier gets from the top layer: its last state, its maximum or mean over time, or both of these.",
        panel="Model",
    )
    mask: bool = learned(
        False,
        "Skip padding: the network does not see it, and batches need only be as long as their rows.",
        panel="Model",
    )
    embedding_dropout: float = learned(
        0.0, "Share of the word vectors' numbers dropped in training.", panel="Model", ge=0, lt=1
    )
    shared_dropout: bool = learned(
        False, "Let --embedding-dropout drop the same numbers at all words of a text.", panel="Model"
    )
    dropout: float = learned(0.2, "Share of each LSTM's inputs dropped in training.", panel="Model", ge=0, lt=1)
    recurrent_dropout: float = learned(
        0.0,
        "Share of each LSTM's state dropped in training; above 0 it rules out cuDNN on GPUs.",
        panel="Model",
        ge=0,
        lt=1,
    )
    ngrams: int = learned(
        0,
        "Longest n-grams of the linear part beside the LSTM, in words; 0 leaves that part out.",
        panel="Model",
        ge=0,
        le=3,
        from_data=True,
    )
    ngram_buckets: int = learned(
        2**20,
        "Weights of the linear part; n-grams that share one by chance count as the same.",
        panel="Model",
        ge=2,
        le=2**28,
        from_data=True,
    )
    network: str | None = learned(
        None,
        "A function in a module of your own that builds the Keras model; it may use the settings here.",
        panel="Model",
        metavar="MODULE:FUNCTION",
        examples=["mine:build"],
    )

    @field_validator("network")
    @classmethod
    def _names_a_function(cls, given: str | None) -> str | None:
        if given is not None and not user_code.is_named(given):
            raise ValueError("should be MODULE:FUNCTION, such as mine:build for the function build in mine.py")
        return given


class ComputeSettings(RaySettings):
    """Where training runs."""

    workers: str = setting(
        "0",
        "0 trains in this process; more on that many Ray workers, one device each, or on as many as have room.",
        panel="Compute",
        metavar="N|MIN:MAX",
        pattern=COUNT,
        examples=["4", "1:4"],
        coerce_numbers_to_str=True,
        may_change=("train",),
        searchable=False,
    )
    cpus_per_worker: float = free(1.0, "CPU cores of a Ray worker.", panel="Compute", gt=0)
    gpus_per_worker: int = free(0, "GPUs of a Ray worker: one or none.", panel="Compute", ge=0, le=1)
    collective_timeout_s: float = setting(
        300.0,
        "Seconds after which a worker that does not answer the others counts as lost.",
        panel="Compute",
        gt=0,
        le=86_400,
        may_change=("train",),
        searchable=False,
    )
    max_failures: int = free(
        3, "How many times lost Ray workers may be replaced before the run fails.", panel="Compute", ge=0
    )

    @property
    def worker_limits(self) -> tuple[int, int]:
        """Returns the least and the most workers; (0, 0) trains in this process."""
        return limits_of("workers", self.workers)

    @model_validator(mode="after")
    def _needs_workers(self) -> ComputeSettings:
        if self.worker_limits == (0, 0) and self.address != "local":
            raise ValueError(f"`address` {self.address!r} needs `workers` of 1 or more; 0 trains in this process")
        if self.worker_limits == (0, 0) and self.gpus_per_worker:
            raise ValueError(
                "`gpus_per_worker` needs `workers` of 1 or more; in this process a GPU is used if there is one"
            )
        return self


class RunSettings(Settings):
    """What a run reads, and where it writes."""

    preset: str | None = fixed(
        None,
        "Settings to start from: best (chosen for the data), lstm or bilstm (the textbook's two models), or a mapping "
        "in a module of your own.",
        panel=FILES,
        metavar="best|lstm|bilstm|MODULE:NAME",
        examples=["best", "lstm", "bilstm", "mine:small"],
    )
    train: tuple[str, ...] = fixed(
        (),
        "Parquet to learn from: files, directories, globs, s3:// gs:// abfs:// URIs.",
        panel=FILES,
        metavar="PATH",
        must_be_given=True,
        path="input",
    )
    validation: tuple[str, ...] = fixed(
        (), "Parquet to measure each epoch on, instead of a part of --train.", panel=FILES, metavar="PATH", path="input"
    )
    allow_seen_files: bool = free(
        False, "Measure on files of --train too, which --validation names again.", panel=FILES, flag=True
    )
    validation_fraction: float = fixed(
        0.1,
        "Share of --train held out when there is no --validation; equal texts stay on one side. 0 holds out none.",
        panel=FILES,
        ge=0,
        lt=1,
        from_data=True,
    )
    validation_group: str | None = fixed(
        None,
        "Column of --train whose equal values (a product's reviews, an author's) are held out together, or not at all.",
        panel=FILES,
        metavar="COLUMN",
    )
    output: str = free(
        "",
        "Directory of the run: model, checkpoints, history, report.",
        panel=FILES,
        metavar="DIR",
        must_be_given=True,
        path="output",
    )
    fresh: bool = free(
        False,
        "Delete the run that --output holds and start over; without it the same settings resume, others are refused.",
        panel=FILES,
        flag=True,
    )
    mlflow: str | None = setting(
        None,
        "Log to MLflow too: the URI of its tracking server or directory, or yes for MLFLOW_TRACKING_URI's.",
        panel=FILES,
        metavar="URI|yes",
        path="output",
        not_paths=r"yes|databricks(-uc)?|file:.*",
        may_change=("train",),
        searchable=False,
    )


class TrainConfig(TextSettings, ModelSettings, ComputeSettings, LabelSettings, RowSettings, RunSettings):
    """Everything that decides a training run."""

    vocabulary: str | None = learned(
        None,
        "Words and ids to use instead of counting them: a bundle's vocabulary.parquet, or a JSON object word: rank.",
        panel="Text",
        metavar="FILE",
        path="input",
    )
    embeddings: str | None = learned(
        None,
        "Word vectors to start from, in GloVe's or word2vec's text format; other words start with random vectors.",
        panel="Model",
        metavar="FILE",
        path="input",
    )
    unlabelled: tuple[str, ...] = fixed(
        (),
        "More reviews, without labels, as Parquet: the words' first vectors are learned from them and --train.",
        panel=FILES,
        metavar="PATH",
        path="input",
    )
    learn_vectors: bool = fixed(
        False,
        "Learn the words' first vectors from the texts of --train before training; with --unlabelled always.",
        panel="Model",
        from_data=True,
    )
    vector_epochs: int = fixed(5, "Times to go through the texts to learn word vectors from them.", panel="Model", ge=1)
    vector_window: int = fixed(
        10, "Words on either side that a word's vector is learned from, at most.", panel="Model", ge=1
    )
    freeze_embeddings: bool = learned(False, "Do not train the word vectors.", panel="Model")
    epochs: int = setting(
        5,
        "Times to go through the training rows.",
        panel="Training",
        ge=1,
        may_change=("train",),
        searchable=True,
        from_data=True,
    )
    global_batch_size: int = learned(
        64, "Rows of a step, divided among the workers.", panel="Training", ge=1, from_data=True
    )
    learning_rate: float = learned(0.001, "Adam's step size; with a schedule the highest.", panel="Training", gt=0)
    schedule: Literal["constant", "cosine", "linear"] = learned(
        "constant", "How the learning rate falls, to 0 at the end of the last epoch.", panel="Training"
    )
    warmup_steps: int = learned(
        0, "Steps in which the learning rate first rises linearly to its full value.", panel="Training", ge=0
    )
    best_by: Literal["loss", "auc", "accuracy"] = fixed(
        "accuracy",
        "Validation metric that decides the best epoch, whose model is kept; of equal ones the lower loss decides.",
        panel="Training",
    )
    early_stopping: int = setting(
        0,
        "Stop after this many epochs without a better one, see --best-by; 0 trains them all.",
        panel="Training",
        ge=0,
        may_change=("train",),
        searchable=True,
    )
    clip_norm: float | None = learned(
        None,
        "Largest norm of all gradients of a step together; larger ones are scaled down to it.",
        panel="Training",
        gt=0,
    )
    accumulate: int = setting(
        1,
        "Slices in which a worker computes its rows of a step, one after the other, to save memory.",
        panel="Training",
        ge=1,
        may_change=("train",),
        searchable=True,
    )
    word_dropout: float = learned(
        0.0, "Share of a text's words left out in training, others each time.", panel="Training", ge=0, lt=1
    )
    adam_beta_1: float = learned(
        0.9, "Adam's decay of the mean of earlier gradients, beta_1.", panel="Training", ge=0, le=0.99999
    )
    adam_beta_2: float = learned(
        0.999, "Adam's decay of the mean of their squares, beta_2.", panel="Training", ge=0, le=0.99999
    )
    weight_decay: float = learned(
        0.0,
        "Share of every weight, times the learning rate, that a step takes away from it, as in AdamW.",
        panel="Training",
        ge=0,
    )
    ema: float = learned(
        0.0,
        "Decay of a moving average of the weights, such as 0.999, which is validated and kept; 0 keeps the weights.",
        panel="Training",
        ge=0,
        lt=1,
    )
    label_smoothing: float = learned(
        0.0,
        "How far training moves labels towards 1/2: 0.1 makes 0.05 and 0.95 of 0 and 1.",
        panel="Training",
        ge=0,
        lt=1,
    )
    class_weights: str = learned(
        "none",
        "Weight of a row's loss: 1, balanced so that both classes count the same, or NEGATIVE,POSITIVE.",
        panel="Training",
        metavar="none|balanced|X,X",
    )
    ngram_refit: bool = learned(
        False,
        "At the end, fit the linear part once more, on the rows of --train that were held out for validation too. The "
        "reported metrics are those from before.",
        panel="Training",
    )
    ngram_c: float = learned(
        0.5,
        "Inverse strength of the penalty in the first of the linear part's two regressions, as scikit-learn's C.",
        panel="Training",
        gt=0,
    )
    adversarial: float = learned(
        0.0,
        "Adversarial training: length of the shift of a text's word vectors that raises its loss most, in lengths of a "
        "vector; 0 is none.",
        panel="Training",
        ge=0,
    )
    precision: Literal["float32", "bf16", "fp16"] = learned(
        "float32", "Numbers that training computes with; weights are kept as float32.", panel="Training"
    )
    engine: Literal["auto", "native", "keras"] = setting(
        "auto",
        "What computes the steps: Keras, or our own code for CPUs, 2 to 4 times as fast; auto takes that where it can.",
        panel="Training",
        may_change=("train",),
        searchable=True,
    )
    checkpoint_every: str = setting(
        "5min",
        "When to save a checkpoint, besides the end of each epoch: time or steps since the last one.",
        panel="Training",
        metavar="TIME|STEPS|epoch",
        pattern=r"^[1-9]\d*(s|min|h|steps)$|^epoch$",
        examples=["30s", "2min", "500steps", "epoch"],
        may_change=("train",),
        searchable=True,
    )
    # Not searched: it decides the held-out rows too, so that trials would be measured on different ones.
    seed: int = fixed(
        0,
        "Decides initial weights, row order, dropout and the held-out rows.",
        panel="Training",
        ge=0,
        le=2**32 - 1,  # what NumPy's and Keras's global seeds take
    )

    @property
    def checkpoint_interval(self) -> tuple[float, float]:
        """Returns the seconds and the steps after which to save; one of them, or both, infinite."""
        number, unit = re.fullmatch(r"(\d*)(\w+)", self.checkpoint_every).groups()  # type: ignore[union-attr]
        seconds = {"s": 1, "min": 60, "h": 3600}
        every = int(number or 0)
        return every * seconds[unit] if unit in seconds else math.inf, every if unit == "steps" else math.inf

    @property
    def fixed_class_weights(self) -> tuple[float, float] | None:
        """Returns what a negative and a positive row count, or None if the training rows decide (balanced)."""
        if self.class_weights == "balanced":
            return None
        negative, _, positive = ("1,1" if self.class_weights == "none" else self.class_weights).partition(",")
        return float(negative), float(positive)

    @property
    def learns_vectors(self) -> bool:
        """Returns whether word vectors are learned before training."""
        return self.learn_vectors or bool(self.unlabelled)

    @property
    def refits_on_all_rows(self) -> bool:
        """Returns whether the linear part learns from the rows held out too, at the end."""
        return self.ngrams > 0 and self.ngram_refit and not self.validation

    def may_change(self) -> set[str]:
        """Returns the settings that may have other values when a run of these settings is resumed.

        They do not decide what is learned, or only how far. With dropout, the number of workers, `accumulate` and the
        engine decide which of its draws a row meets, so that such a run ends in other weights; but in as good ones, and
        a run that ran out of memory or lost its cluster can be resumed. With a schedule the learning rate falls towards
        the end of the last epoch, so that `epochs` may not change.
        """
        return super().may_change() - ({"epochs"} if self.schedule != "constant" else set())

    @model_validator(mode="before")
    @classmethod
    def _start_from_the_preset(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        try:
            return {**preset_settings(cls, given), **given}
        except ConfigError as error:
            raise ValueError(f"`preset` is {given['preset']!r}: {error}") from error

    @field_validator("preset")
    @classmethod
    def _is_a_preset(cls, given: str | None) -> str | None:
        if given is not None and given not in PRESETS and not user_code.is_named(given):
            close = difflib.get_close_matches(given, PRESETS, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"should be 'lstm', 'bilstm' or 'best', or {user_code.FORM} for one of your own{hint}")
        return given

    @field_validator("mlflow", mode="before")
    @classmethod
    def _yes_is_a_word(cls, given: Any) -> Any:
        return {True: "yes", False: None}[given] if isinstance(given, bool) else given  # YAML's yes is true

    @field_validator("class_weights")
    @classmethod
    def _are_weights(cls, given: str) -> str:
        if given not in ("none", "balanced") and not re.fullmatch(r"\d+(\.\d+)?,\d+(\.\d+)?", given):
            raise ValueError("should be none, balanced or two numbers such as 1,2.5")
        if re.fullmatch(r"[0.]+,[0.]+", given):
            raise ValueError("there is nothing to learn if no row counts")
        return given

    @model_validator(mode="after")
    def _needs_embeddings(self) -> TrainConfig:
        if self.freeze_embeddings and self.embeddings is None and not self.learns_vectors:
            raise ValueError(
                "`freeze_embeddings` needs `embeddings`, `learn_vectors` or `unlabelled`: random word vectors have to "
                "be trained"
            )
        if self.learns_vectors and self.embeddings is not None:
            learning = "unlabelled" if self.unlabelled else "learn_vectors"
            raise ValueError(f"`{learning}` learns word vectors, `embeddings` reads them: give one of them")
        return self

    @model_validator(mode="after")
    def _needs_validation(self) -> TrainConfig:
        if self.early_stopping and not self.validation and self.validation_fraction == 0:
            raise ValueError(
                "`early_stopping` needs validation rows: give `validation`, or a `validation_fraction` above 0"
            )
        return self

    @model_validator(mode="after")
    def _groups_are_held_out(self) -> TrainConfig:
        if self.validation_group is not None and self.validation:
            raise ValueError("`validation_group` says what is held out of `train`: with `validation` nothing is")
        if self.validation_group is not None and self.validation_fraction == 0:
            raise ValueError("`validation_group` needs a `validation_fraction` above 0: with 0 nothing is held out")
        return self

    @model_validator(mode="after")
    def _needs_rows_for_all(self) -> TrainConfig:
        most = self.worker_limits[1]
        if most > self.global_batch_size:
            raise ValueError(
                f"`global_batch_size` {self.global_batch_size} cannot be divided among `workers` {self.workers}: each "
                f"needs a row of a step: raise `global_batch_size` to {most} or more, or take fewer `workers`"
            )
        return self

    @model_validator(mode="after")
    def _needs_vocabulary(self) -> TrainConfig:
        if self.unlisted_words == "drop" and self.vocabulary is None:
            raise ValueError("`unlisted_words` drop needs a `vocabulary`: a counted one lists no other words to drop")
        return self

    @model_validator(mode="after")
    def _fits_its_engine(self) -> TrainConfig:
        if self.engine == "native" and self.precision != "float32":
            raise ValueError(f"`engine` native computes in float32: `precision` {self.precision} needs `engine` keras")
        if self.engine == "native" and self.gpus_per_worker:
            raise ValueError("`engine` native is for CPUs: `gpus_per_worker` needs `engine` keras")
        return self

    @model_validator(mode="after")
    def _fits_its_network(self) -> TrainConfig:
        if self.network is not None and self.engine == "native":
            raise ValueError("`engine` native computes only lstm-ray's own networks: `network` needs `engine` keras")
        if self.network is not None and self.embeddings is not None:
            raise ValueError("`embeddings` are for lstm-ray's own networks: with `network` the function loads them")
        if self.network is not None and self.adversarial:
            raise ValueError("`adversarial` is for lstm-ray's own networks: with `network` it must be 0")
        if self.network is not None and self.learns_vectors:
            learning = "unlabelled" if self.unlabelled else "learn_vectors"
            raise ValueError(
                f"`{learning}` is for lstm-ray's own networks: with `network`, learn vectors with lstm-ray vectors, "
                "and the function loads them"
            )
        return self
