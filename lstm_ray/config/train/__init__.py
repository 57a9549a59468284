"""All settings of a training run, and which of them contradict each other.

Settings are declared by subject: files.py, words.py, learning.py and compute.py here, the model's in ../model.py.
"""

from __future__ import annotations

from typing import Any

from pydantic import model_validator

from lstm_ray.config.base import command_of, meaning_of
from lstm_ray.config.model import ModelSettings, TextSettings
from lstm_ray.config.presets import preset_of, with_preset
from lstm_ray.config.shared import LabelSettings, RowSettings, ThresholdSettings
from lstm_ray.config.train.compute import ComputeSettings
from lstm_ray.config.train.files import RunSettings
from lstm_ray.config.train.learning import LearningSettings
from lstm_ray.config.train.words import WordSettings
from lstm_ray.errors import ConfigError


class TrainConfig(
    LearningSettings,
    WordSettings,
    TextSettings,
    ModelSettings,
    ComputeSettings,
    LabelSettings,
    ThresholdSettings,
    RowSettings,
    RunSettings,
):
    """All settings of a training run."""

    @property
    def epoch_threshold(self) -> float:
        """Returns the threshold at which epochs are measured, and which the model keeps if none is chosen."""
        return 0.5 if self.threshold is None else self.threshold

    @property
    def has_validation(self) -> bool:
        """Returns whether there are rows to validate on."""
        return bool(self.validation) or self.validation_fraction > 0

    @property
    def refits_on_all_rows(self) -> bool:
        """Returns whether the n-gram part is fitted again at the end, including the held-out rows."""
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
        try:
            return with_preset(cls, given)
        except ConfigError as error:
            raise ValueError(f"`preset` is {preset_of(cls, given)!r}: {error}") from error

    @model_validator(mode="after")
    def _has_no_setting_of_other_commands(self) -> TrainConfig:
        command = command_of(type(self))
        for name, reasons in meaning_of(type(self), "refused").items():
            if command in reasons and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"`{name}` {reasons[command]}")
        return self

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
        wanting = "early_stopping" if self.early_stopping else self.goal and self.goal[0]
        if wanting and not self.has_validation:
            raise ValueError(
                f"`{wanting}` needs validation rows: give `validation`, or a `validation_fraction` above 0"
            )
        return self

    @model_validator(mode="after")
    def _groups_are_held_out(self) -> TrainConfig:
        if self.validation_group is None:
            return self
        if self.validation:
            raise ValueError(
                "`validation_group` decides what is held out of `train`, but with `validation` nothing is held out"
            )
        if self.validation_group == self.label_column:
            raise ValueError("`validation_group` is the label column: then all rows held out would have one label")
        if self.validation_fraction == 0:
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
    def _counts_tokens(self) -> TrainConfig:
        if self.batch_by == "tokens" and not self.mask:
            raise ValueError("`batch_by` tokens needs `mask`: without it every row has `max_tokens` tokens")
        return self

    @model_validator(mode="after")
    def _needs_vocabulary(self) -> TrainConfig:
        if self.unlisted_words == "drop" and self.vocabulary is None:
            raise ValueError("`unlisted_words` drop needs a `vocabulary`: it cannot be used with one that is counted")
        return self

    @model_validator(mode="after")
    def _fits_its_engine(self) -> TrainConfig:
        if self.engine != "native":
            return self
        if self.precision != "float32":
            raise ValueError(f"`engine` native computes in float32: `precision` {self.precision} needs `engine` keras")
        if self.gpus_per_worker:
            raise ValueError("`engine` native is for CPUs: `gpus_per_worker` needs `engine` keras")
        if self.collective == "tensorflow":
            raise ValueError("`engine` native sums over TCP: `collective` tensorflow needs `engine` keras")
        return self

    @model_validator(mode="after")
    def _fits_its_network(self) -> TrainConfig:
        if self.network is None:
            return self
        if self.engine == "native":
            raise ValueError("`engine` native computes only lstm-ray's own networks: `network` needs `engine` keras")
        if self.embeddings is not None:
            raise ValueError("`embeddings` are for lstm-ray's own networks: with `network` the function loads them")
        for name in ("adversarial", "pretrain_epochs"):
            if getattr(self, name):
                raise ValueError(f"`{name}` is for lstm-ray's own networks: with `network` it must be 0")
        if self.learns_vectors:
            learning = "unlabelled" if self.unlabelled else "learn_vectors"
            raise ValueError(
                f"`{learning}` is for lstm-ray's own networks: with `network`, learn vectors with lstm-ray vectors, "
                "and the function loads them"
            )
        return self
