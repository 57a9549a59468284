"""Settings of a training run: its files, workers and steps. Those of the model are in model.py."""

from __future__ import annotations

import difflib
import math
import re
from typing import Any, Literal

from pydantic import field_validator, model_validator

from lstm_ray import user_code
from lstm_ray.config.base import COUNT, FILES, Settings, fixed, free, learned, limits_of, setting
from lstm_ray.config.model import ModelSettings, TextSettings
from lstm_ray.config.presets import PRESETS, preset_of, preset_settings
from lstm_ray.config.shared import LabelSettings, RaySettings, RowSettings, ThresholdSettings
from lstm_ray.errors import ConfigError


class ComputeSettings(RaySettings):
    """Where training runs."""

    workers: str = setting(
        "0",
        "Number of Ray workers, one device each; MIN:MAX uses as many as have room, and 0 trains in this process.",
        panel="Compute",
        metavar="N|MIN:MAX",
        pattern=COUNT,
        examples=["4", "1:4"],
        coerce_numbers_to_str=True,
        may_change=("train",),
        searchable=False,
    )
    cpus_per_worker: float = free(1.0, "CPU cores per Ray worker.", panel="Compute", gt=0)
    gpus_per_worker: int = free(0, "GPUs per Ray worker: 0 or 1.", panel="Compute", ge=0, le=1)
    collective_timeout_s: float = setting(
        300.0,
        "Seconds without an answer after which a worker counts as lost.",
        panel="Compute",
        gt=0,
        le=86_400,
        may_change=("train",),
        searchable=False,
    )
    collective: Literal["auto", "tcp", "tensorflow"] = setting(
        "auto",
        "What sums gradients over the workers: TCP, or TensorFlow's collectives (NCCL on GPUs, a ring on CPUs), which "
        "the Keras engine can use; auto takes TensorFlow's for workers with GPUs.",
        panel="Compute",
        may_change=("train",),
        searchable=False,
    )
    max_failures: int = free(
        3, "How often lost Ray workers may be replaced before the run fails.", panel="Compute", ge=0
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
        if self.worker_limits[1] < 2 and self.collective == "tensorflow":
            raise ValueError("`collective` tensorflow needs `workers` of 2 or more: one worker has nothing to sum")
        return self


class RunSettings(Settings):
    """What a run reads and where it writes."""

    preset: str = fixed(
        "best",
        "Settings to start from: best (chosen for the data), lstm or bilstm (the two textbook models), none (the "
        "defaults shown here; the default with --network and --from), or a mapping in your own module.",
        panel=FILES,
        metavar="best|lstm|bilstm|none|MODULE:NAME",
        examples=["best", "lstm", "bilstm", "none", "mine:small"],
    )
    train: tuple[str, ...] = fixed(
        (),
        "Training data as Parquet: files, directories, globs, or s3:// gs:// abfs:// URIs.",
        panel=FILES,
        metavar="PATH",
        must_be_given=True,
        path="input",
    )
    validation: tuple[str, ...] = fixed(
        (),
        "Validation data as Parquet; without it, a part of --train is held out.",
        panel=FILES,
        metavar="PATH",
        path="input",
    )
    allow_seen_files: bool = free(
        False, "Allow --validation to name files that --train names too.", panel=FILES, flag=True
    )
    validation_fraction: float = fixed(
        0.1,
        "Share of --train held out if there is no --validation; equal texts stay on one side, and 0 holds out none.",
        panel=FILES,
        ge=0,
        lt=1,
        from_data=True,
    )
    validation_group: str | None = fixed(
        None,
        "Column of --train whose groups (such as one product's or one author's reviews) are held out as a whole.",
        panel=FILES,
        metavar="COLUMN",
    )
    from_: str | None = fixed(
        None,
        "Model bundle to start from: with its weights, words and settings, unless others are given; the network and "
        "how it reads a text stay the same.",
        panel=FILES,
        metavar="DIR",
        path="input",
    )
    output: str = free(
        "",
        "Directory for the run: model, checkpoints, history and report.",
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
        "Log to MLflow too: URI of a tracking server or directory, or yes to use MLFLOW_TRACKING_URI.",
        panel=FILES,
        metavar="URI|yes",
        path="output",
        not_paths=r"yes|databricks(-uc)?|file:.*",
        may_change=("train",),
        searchable=False,
    )


class TrainConfig(
    TextSettings, ModelSettings, ComputeSettings, LabelSettings, ThresholdSettings, RowSettings, RunSettings
):
    """All settings of a training run."""

    vocabulary: str | None = learned(
        None,
        "Vocabulary to use instead of counting words: a bundle's vocabulary.parquet, or a JSON object word: rank.",
        panel="Text",
        metavar="FILE",
        path="input",
        from_bundle=False,
    )
    add_words: int = fixed(
        0,
        "Maximum number of words of --train to add to those of --from; they start with random vectors, or those of "
        "--embeddings.",
        panel="Text",
        ge=0,
    )
    embeddings: str | None = learned(
        None,
        "Initial word vectors, in GloVe's or word2vec's text format; other words start with random vectors.",
        panel="Model",
        metavar="FILE",
        path="input",
        from_bundle=False,
    )
    unlabelled: tuple[str, ...] = fixed(
        (),
        "Reviews without labels, as Parquet; word vectors are learned from them and from --train first, and with "
        "--pretrain-epochs, which the preset best chooses, the LSTM too.",
        panel=FILES,
        metavar="PATH",
        path="input",
    )
    learn_vectors: bool = fixed(
        False,
        "Learn initial word vectors from the texts of --train before training; --unlabelled implies this.",
        panel="Model",
        from_data=True,
    )
    vector_epochs: int = fixed(5, "Passes over the texts when word vectors are learned.", panel="Model", ge=1)
    vector_window: int = fixed(
        10, "Maximum number of words on either side that a word's vector is learned from.", panel="Model", ge=1
    )
    pretrain_epochs: int = fixed(
        0,
        "Passes over the texts of --train and --unlabelled in which the LSTM first learns to predict each next word.",
        panel="Model",
        ge=0,
        from_data=True,
    )
    freeze_embeddings: bool = learned(False, "Keep the initial word vectors: do not train them.", panel="Model")
    epochs: int = setting(
        5,
        "Passes over the training rows.",
        panel="Training",
        ge=1,
        may_change=("train",),
        searchable=True,
        from_data=True,
        from_bundle=True,
    )
    global_batch_size: int = learned(
        64, "Rows per step, divided among the workers.", panel="Training", ge=1, from_data=True
    )
    learning_rate: float = learned(
        0.001, "Adam's learning rate; with a schedule, its highest value.", panel="Training", gt=0, from_data=True
    )
    schedule: Literal["constant", "cosine", "linear"] = learned(
        "constant",
        "How the learning rate falls to 0 by the end of the last epoch; constant keeps it.",
        panel="Training",
    )
    warmup_steps: int = learned(
        0, "Steps over which the learning rate first rises linearly to its full value.", panel="Training", ge=0
    )
    best_by: Literal["loss", "auc", "accuracy"] = fixed(
        "accuracy",
        "Validation metric that selects the best epoch, whose model is kept; the lower loss decides ties.",
        panel="Training",
        from_bundle=True,
    )
    early_stopping: int = setting(
        0,
        "Stop after this many epochs without improvement in --best-by; 0 trains all epochs.",
        panel="Training",
        ge=0,
        may_change=("train",),
        searchable=True,
        from_bundle=True,
    )
    clip_norm: float | None = learned(
        None,
        "Maximum norm of all gradients of a step together; larger gradients are scaled down to it.",
        panel="Training",
        gt=0,
    )
    accumulate: int = setting(
        1,
        "Slices into which a worker divides its rows of a step and computes one after the other, to save memory.",
        panel="Training",
        ge=1,
        may_change=("train",),
        searchable=True,
    )
    word_dropout: float = learned(
        0.0, "Share of each text's words left out in training, chosen anew in each epoch.", panel="Training", ge=0, lt=1
    )
    adam_beta_1: float = learned(
        0.9, "Adam's beta_1, the decay of the moving average of gradients.", panel="Training", ge=0, le=0.99999
    )
    adam_beta_2: float = learned(
        0.999,
        "Adam's beta_2, the decay of the moving average of squared gradients.",
        panel="Training",
        ge=0,
        le=0.99999,
    )
    weight_decay: float = learned(
        0.0,
        "Weight decay as in AdamW: each step shrinks every weight by this share times the learning rate.",
        panel="Training",
        ge=0,
    )
    ema: float = learned(
        0.0,
        "Decay, such as 0.999, of a moving average of the weights, which is validated and kept; 0 keeps the weights.",
        panel="Training",
        ge=0,
        lt=1,
    )
    label_smoothing: float = learned(
        0.0,
        "How far labels are moved towards 1/2 in training: 0.1 turns 0 and 1 into 0.05 and 0.95.",
        panel="Training",
        ge=0,
        lt=1,
    )
    class_weights: str = learned(
        "none",
        "Weight of each class in the loss: 1, balanced so that both count the same in total, or NEGATIVE,POSITIVE.",
        panel="Training",
        metavar="none|balanced|X,X",
    )
    ngram_refit: bool = learned(
        False,
        "After training, fit the linear part again, including the rows of --train held out for validation; the "
        "reported metrics are from before.",
        panel="Training",
    )
    ngram_rows: int = learned(
        0,
        "Most training rows that the linear part is fitted on, to save memory (40 bytes an n-gram); 0: all of them.",
        panel="Training",
        ge=0,
        from_data=True,
    )
    ngram_c: float = learned(
        0.5,
        "Inverse strength of the penalty (scikit-learn's C) in the first of the linear part's two regressions.",
        panel="Training",
        gt=0,
    )
    adversarial: float = learned(
        0.0,
        "Adversarial training: how far a text's word vectors are shifted to raise its loss, in lengths of a vector; "
        "0 disables it.",
        panel="Training",
        ge=0,
    )
    precision: Literal["float32", "bf16", "fp16"] = learned(
        "float32", "Floating-point type of the computation in training; weights are kept in float32.", panel="Training"
    )
    engine: Literal["auto", "native", "keras"] = setting(
        "auto",
        "What computes the steps: Keras, or the native engine for CPUs, 2 to 4 times faster; auto prefers that.",
        panel="Training",
        may_change=("train",),
        searchable=True,
    )
    checkpoint_every: str = setting(
        "5min",
        "Time or steps between checkpoints; there is also one at the end of each epoch.",
        panel="Training",
        metavar="TIME|STEPS|epoch",
        pattern=r"^[1-9]\d*(s|min|h|steps)$|^epoch$",
        examples=["30s", "2min", "500steps", "epoch"],
        may_change=("train",),
        searchable=True,
    )
    # Not searchable: it also decides which rows are held out, and trials must be compared on the same rows.
    seed: int = fixed(
        0,
        "Random seed for initial weights, row order, dropout and the held-out rows.",
        panel="Training",
        ge=0,
        le=2**32 - 1,  # what NumPy's and Keras's global seeds take
    )

    @property
    def checkpoint_interval(self) -> tuple[float, float]:
        """Returns the seconds and the steps after which to save; at least one of them is infinite."""
        number, unit = re.fullmatch(r"(\d*)(\w+)", self.checkpoint_every).groups()  # type: ignore[union-attr]
        seconds = {"s": 1, "min": 60, "h": 3600}
        every = int(number or 0)
        return every * seconds[unit] if unit in seconds else math.inf, every if unit == "steps" else math.inf

    @property
    def fixed_class_weights(self) -> tuple[float, float] | None:
        """Returns the weights of negative and positive rows; None with "balanced", where they depend on the data."""
        if self.class_weights == "balanced":
            return None
        negative, _, positive = ("1,1" if self.class_weights == "none" else self.class_weights).partition(",")
        return float(negative), float(positive)

    @property
    def epoch_threshold(self) -> float:
        """Returns the threshold at which epochs are measured, and which the model keeps if none is chosen."""
        return 0.5 if self.threshold is None else self.threshold

    @property
    def learns_vectors(self) -> bool:
        """Returns whether word vectors are learned before training."""
        return self.learn_vectors or bool(self.unlabelled)

    @property
    def refits_on_all_rows(self) -> bool:
        """Returns whether the linear part is fitted again at the end, including the held-out rows."""
        return self.ngrams > 0 and self.ngram_refit and not self.validation

    def may_change(self) -> set[str]:
        """Returns the settings that may have other values when the run is resumed.

        They do not decide what is learned, or only for how long. With dropout, the number of workers, `accumulate` and
        the engine affect which dropout mask a row gets, so the run ends with different but equally good weights; in
        exchange, a run that ran out of memory or lost its cluster can be resumed. With a schedule the learning rate
        depends on the number of epochs, so `epochs` may not change.
        """
        return super().may_change() - ({"epochs"} if self.schedule != "constant" else set())

    @model_validator(mode="before")
    @classmethod
    def _start_from_the_preset(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        given = {"preset": preset_of(cls, given), **given}
        try:
            return {**preset_settings(cls, given), **given}
        except ConfigError as error:
            raise ValueError(f"`preset` is {given['preset']!r}: {error}") from error

    @field_validator("preset", mode="before")
    @classmethod
    def _none_is_a_preset(cls, given: Any) -> Any:
        return "none" if given is None else given  # as older versions wrote it, whose default it was

    @field_validator("preset")
    @classmethod
    def _is_a_preset(cls, given: str) -> str:
        if given not in PRESETS and not user_code.is_named(given):
            close = difflib.get_close_matches(given, PRESETS, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"should be 'best', 'lstm', 'bilstm' or 'none', or {user_code.FORM} for your own{hint}")
        return given

    @field_validator("mlflow", mode="before")
    @classmethod
    def _yes_is_a_word(cls, given: Any) -> Any:
        return {True: "yes", False: None, "no": None}.get(given, given)  # older job files hold true and false

    @field_validator("class_weights")
    @classmethod
    def _are_weights(cls, given: str) -> str:
        if given not in ("none", "balanced") and not re.fullmatch(r"\d+(\.\d+)?,\d+(\.\d+)?", given):
            raise ValueError("should be none, balanced or two numbers such as 1,2.5")
        if re.fullmatch(r"[0.]+,[0.]+", given):
            raise ValueError("at least one class needs a weight above 0")
        return given

    @model_validator(mode="after")
    def _needs_embeddings(self) -> TrainConfig:
        if self.freeze_embeddings and self.embeddings is None and not self.learns_vectors and self.from_ is None:
            raise ValueError(
                "`freeze_embeddings` needs `embeddings`, `learn_vectors` or `unlabelled`: random word vectors must be "
                "trained"
            )
        if self.learns_vectors and self.embeddings is not None:
            learning = "unlabelled" if self.unlabelled else "learn_vectors"
            raise ValueError(f"`{learning}` learns word vectors, `embeddings` reads them: give one of them")
        if self.pretrain_epochs and self.bidirectional and self.layers > 1:
            raise ValueError(
                "`pretrain_epochs` is for one bidirectional layer: a second one has read the word to predict"
            )
        return self

    @model_validator(mode="after")
    def _fits_its_beginning(self) -> TrainConfig:
        if self.from_ is None:
            if self.add_words:
                raise ValueError("`add_words` adds to the words of a model: it needs `from_`")
            return self
        if self.preset != "none":
            raise ValueError("`from_` brings the settings of its model: leave `preset` out")
        if self.learns_vectors:
            learning = "unlabelled" if self.unlabelled else "learn_vectors"
            raise ValueError(f"`{learning}` learns other word vectors than those of `from_`: leave it out")
        if self.pretrain_epochs:
            raise ValueError("`pretrain_epochs` learns other weights than those of `from_`: leave it out")
        if self.embeddings is not None and not self.add_words:
            raise ValueError("with `from_`, `embeddings` are for the words that `add_words` adds")
        return self

    @model_validator(mode="after")
    def _needs_validation(self) -> TrainConfig:
        if self.early_stopping and not self.validation and self.validation_fraction == 0:
            raise ValueError(
                "`early_stopping` needs validation rows: give `validation`, or a `validation_fraction` above 0"
            )
        return self

    @model_validator(mode="after")
    def _goal_has_rows(self) -> TrainConfig:
        if self.goal is not None and not self.validation and self.validation_fraction == 0:
            name = self.goal[0]
            raise ValueError(f"`{name}` needs validation rows: give `validation`, or a `validation_fraction` above 0")
        return self

    @model_validator(mode="after")
    def _groups_are_held_out(self) -> TrainConfig:
        if self.validation_group is not None and self.validation:
            raise ValueError(
                "`validation_group` decides what is held out of `train`, but with `validation` nothing is held out"
            )
        if self.validation_group is not None and self.validation_group == self.label_column:
            raise ValueError("`validation_group` is the label column: then all rows held out would have one label")
        if self.validation_group is not None and self.validation_fraction == 0:
            raise ValueError("`validation_group` needs a `validation_fraction` above 0: with 0 nothing is held out")
        return self

    @model_validator(mode="after")
    def _needs_rows_for_all(self) -> TrainConfig:
        most = self.worker_limits[1]
        if most > self.global_batch_size:
            raise ValueError(
                f"`global_batch_size` {self.global_batch_size} cannot be divided among `workers` {self.workers}: "
                f"raise `global_batch_size` to {most} or more, or take fewer `workers`"
            )
        return self

    @model_validator(mode="after")
    def _needs_vocabulary(self) -> TrainConfig:
        if self.unlisted_words == "drop" and self.vocabulary is None:
            raise ValueError("`unlisted_words` drop needs a `vocabulary`: it cannot be used with one that is counted")
        return self

    @model_validator(mode="after")
    def _fits_its_engine(self) -> TrainConfig:
        if self.engine == "native" and self.precision != "float32":
            raise ValueError(f"`engine` native computes in float32: `precision` {self.precision} needs `engine` keras")
        if self.engine == "native" and self.gpus_per_worker:
            raise ValueError("`engine` native is for CPUs: `gpus_per_worker` needs `engine` keras")
        if self.engine == "native" and self.collective == "tensorflow":
            raise ValueError("`engine` native sums over TCP: `collective` tensorflow needs `engine` keras")
        return self

    @model_validator(mode="after")
    def _fits_its_network(self) -> TrainConfig:
        if self.network is not None and self.engine == "native":
            raise ValueError("`engine` native computes only lstm-ray's own networks: `network` needs `engine` keras")
        if self.network is not None and self.embeddings is not None:
            raise ValueError("`embeddings` are for lstm-ray's own networks: with `network` the function loads them")
        if self.network is not None and self.adversarial:
            raise ValueError("`adversarial` is for lstm-ray's own networks: with `network` it must be 0")
        if self.network is not None and self.pretrain_epochs:
            raise ValueError("`pretrain_epochs` is for lstm-ray's own networks: with `network` it must be 0")
        if self.network is not None and self.learns_vectors:
            learning = "unlabelled" if self.unlabelled else "learn_vectors"
            raise ValueError(
                f"`{learning}` is for lstm-ray's own networks: with `network`, learn vectors with lstm-ray vectors, "
                "and the function loads them"
            )
        return self
