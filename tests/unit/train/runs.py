"""Settings of a training run that takes a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lstm_ray.config import TrainConfig


def small_run(directory: Path) -> TrainConfig:
    """Writes 60 rows into a directory and returns settings of a run on them."""
    texts = [f"{'good' if number % 2 else 'bad'} film {number}" for number in range(60)]
    pq.write_table(pa.table({"text": texts, "label": [number % 2 for number in range(60)]}), directory / "in.parquet")
    return TrainConfig.model_validate(
        {
            "preset": "none",
            "train": (str(directory / "in.parquet"),),
            "output": str(directory / "run"),
            "vocabulary_size": 20,
            "max_tokens": 4,
            "embedding_size": 3,
            "units": 2,
            "epochs": 2,
            "validation_fraction": 0.3,
        }
    )


def changed(settings: TrainConfig, **changes: Any) -> TrainConfig:
    """Returns the settings with changes."""
    return TrainConfig.model_validate({**settings.model_dump(), **changes})
