"""Settings of an evaluation, and of a calibration."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from lstm_ray.config.base import FILES, setting
from lstm_ray.config.shared import (
    BundleSettings,
    InputSettings,
    LabelSettings,
    NameList,
    PrecisionSettings,
    RowSettings,
    ThresholdSettings,
    without_password,
)

LENGTH = "length"
"""The name in `--by` that groups rows by their number of words; every other name is that of a column."""


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the names without repetitions."""
    return tuple(dict.fromkeys(names))


class MeasureSettings(LabelSettings, ThresholdSettings, RowSettings, BundleSettings, InputSettings):
    """What an evaluation and a calibration share: a model, and labelled rows that it is measured on."""

    allow_seen_files: bool = setting(False, "Allow files that the model was trained on.", panel=FILES, flag=True)


class EvaluateConfig(PrecisionSettings, MeasureSettings):
    """Everything that decides an evaluation."""

    output: str | None = setting(
        None, "Directory for metrics.json, report.html and evaluation.png.", panel=FILES, metavar="DIR", path="output"
    )
    predictions: str | None = setting(
        None,
        "Parquet file to write, with text, label and probability of every row, and whether the prediction is right.",
        panel=FILES,
        metavar="FILE",
        path="output",
    )
    mistakes: int = setting(
        12, "Number of wrong predictions in the report, the largest errors first.", panel=FILES, ge=0, le=10_000
    )
    by: Annotated[NameList, AfterValidator(_distinct)] = setting(
        (),
        f"Columns to group the rows by: each group is measured too; {LENGTH} groups rows by their number of words.",
        panel=FILES,
        metavar="COLUMN,...",
    )
    compare: str | None = setting(
        None,
        "Another model bundle to measure on the same rows, always in float32.",
        panel=FILES,
        metavar="DIR",
        path="input",
    )
    # Unlike other commands', it may be None: no count of workers says that Ray is not wanted.
    address: Annotated[str | None, AfterValidator(without_password)] = setting(
        None,
        "Ray cluster to run on: auto, HOST:PORT or ray://HOST:PORT connects to a running cluster, local starts Ray on "
        "this machine; by default Ray is not used.",
        panel="Compute",
        metavar="local|auto|HOST:PORT",
    )


class CalibrateConfig(MeasureSettings):
    """Everything that decides a calibration."""

    output: str = setting(
        "", "Directory for the new model bundle.", panel=FILES, metavar="DIR", must_be_given=True, path="output"
    )
