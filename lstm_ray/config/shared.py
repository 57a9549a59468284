"""Settings that several commands share."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from lstm_ray.config.base import FILES, Settings, fixed, free, setting


class InputSettings(Settings):
    """Inputs and model of `score` and `evaluate`."""

    inputs: tuple[str, ...] = setting(
        (),
        "Reviews as Parquet: files, directories, globs, or s3:// gs:// abfs:// URIs.",
        panel=FILES,
        argument=True,
        must_be_given=True,
        path="input",
        fingerprint="content",
    )
    model: str = setting(
        "",
        "Directory of the model bundle, such as OUTPUT/model of train.",
        panel=FILES,
        metavar="DIR",
        must_be_given=True,
        path="input",
        fingerprint="content",
    )


class RowSettings(Settings):
    """Which rows and which text column of the input are read, for all commands."""

    text_column: str = fixed("text", "Column of the reviews.", panel=FILES, metavar="NAME", fingerprint="value")
    max_rows: int | None = fixed(
        None,
        "Use only this many rows, for a quick try: score takes the first, other commands sample the whole input.",
        panel=FILES,
        ge=1,
        fingerprint="value",
    )


class RaySettings(Settings):
    """The Ray cluster that runs the workers of `train` and the actors of `score`."""

    address: str = free(
        "local",
        "Ray to run on: local starts one here; auto, HOST:PORT (Ray's or the dashboard's), ray://HOST:PORT join one.",
        panel="Compute",
        fingerprint="nothing",
    )


class PrecisionSettings(Settings):
    """How exactly the native engine scores: `score`, `evaluate` and a loaded model."""

    precision: Literal["float32", "bf16", "int8"] = setting(
        "float32",
        "Numbers of the native engine: bf16 and int8 are faster, and differ a little; the processor must have them.",
        panel="Compute",
        fingerprint="value if changed",
    )


class ThresholdSettings(Settings):
    """How the threshold is set: `train`, `evaluate` and `calibrate`."""

    threshold: float | None = fixed(
        None, "Probability above which a review counts as positive.", panel="Threshold", gt=0, lt=1
    )
    maximize: Literal["accuracy", "balanced_accuracy", "f1"] | None = fixed(
        None, "Choose the threshold with the highest value of this on the labelled rows.", panel="Threshold"
    )
    target_precision: float | None = fixed(
        None,
        "Choose the threshold that has at least this precision, and then the highest recall.",
        panel="Threshold",
        metavar="SHARE",
        gt=0,
        le=1,
    )
    target_recall: float | None = fixed(
        None,
        "Choose the threshold that has at least this recall, and then the highest precision.",
        panel="Threshold",
        metavar="SHARE",
        gt=0,
        le=1,
    )

    @property
    def goal(self) -> tuple[str, Any] | None:
        """Returns the setting that a threshold is chosen by, and its value; None if none is to be chosen."""
        names = ("maximize", "target_precision", "target_recall")
        return next(((name, getattr(self, name)) for name in names if getattr(self, name) is not None), None)

    @model_validator(mode="after")
    def _has_one_goal(self) -> ThresholdSettings:
        names = ("threshold", "maximize", "target_precision", "target_recall")
        given = [name for name in names if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"`{given[0]}` and `{given[1]}` exclude each other")
        return self
