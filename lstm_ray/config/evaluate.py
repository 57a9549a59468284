"""Settings of an evaluation."""

from __future__ import annotations

from pydantic import model_validator

from lstm_ray.config import labels
from lstm_ray.config.base import FILES, Settings, setting
from lstm_ray.config.labels import LabelList


class EvaluateConfig(Settings):
    """Everything that decides an evaluation."""

    inputs: tuple[str, ...] = setting(
        (), "Labelled Parquet: files, directories, globs, URIs.", panel=FILES, argument=True
    )
    model: str = setting("", "Model bundle, as train writes to OUTPUT/model.", panel=FILES, metavar="DIR")
    output: str | None = setting(None, "Directory for metrics.json and report.html.", panel=FILES, metavar="DIR")
    text_column: str = setting("text", "Column of the reviews.", panel=FILES, metavar="NAME")
    label_column: str = setting("label", labels.HELP_COLUMN, panel=FILES, metavar="NAME")
    positive_labels: LabelList = setting((), labels.HELP_POSITIVE, panel=FILES, metavar=labels.METAVAR)
    negative_labels: LabelList = setting((), labels.HELP_NEGATIVE, panel=FILES, metavar=labels.METAVAR)
    max_rows: int | None = setting(None, "Use only this many rows, drawn evenly: for a quick try.", panel=FILES, ge=1)
    threshold: float | None = setting(
        None,
        "Probability above which a review counts as positive; the bundle's if not given.",
        panel=FILES,
        gt=0,
        lt=1,
    )
    address: str | None = setting(
        None,
        "Ray to run on: auto, HOST:PORT or ray://HOST:PORT joins one, local starts one here; if not given, none.",
        panel="Compute",
    )

    @model_validator(mode="after")
    def _labels_are_told_apart(self) -> EvaluateConfig:
        labels.check_labels(self.positive_labels, self.negative_labels)
        return self
