"""Settings of an evaluation."""

from __future__ import annotations

from lstm_ray.config.base import FILES, setting
from lstm_ray.config.labels import LabelSettings
from lstm_ray.config.shared import InputSettings, RowSettings


class EvaluateConfig(LabelSettings, RowSettings, InputSettings):
    """Everything that decides an evaluation."""

    output: str | None = setting(
        None, "Directory for metrics.json and report.html.", panel=FILES, metavar="DIR", path="output"
    )
    allow_seen_files: bool = setting(
        False, "Evaluate on files that the model was trained on too.", panel=FILES, flag=True
    )
    threshold: float | None = setting(
        None, "Probability above which a review counts as positive; the bundle's if not given.", panel=FILES, gt=0, lt=1
    )
    # Unlike other commands', it may be None: no count of workers says that Ray is not wanted.
    address: str | None = setting(
        None,
        "Ray to run on: auto, HOST:PORT or ray://HOST:PORT joins one, local starts one here; if not given, none.",
        panel="Compute",
    )
