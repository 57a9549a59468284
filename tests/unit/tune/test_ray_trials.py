"""A trial on a Ray worker; no Ray is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from lstm_ray.config import TrainConfig
from lstm_ray.errors import LstmRayError, TrainingError
from lstm_ray.runtime.tensorflow import start_tensorflow
from lstm_ray.tune import ray_trials
from lstm_ray.tune.results import marked


def test_a_trial_whose_gpu_tensorflow_does_not_see_is_no_result(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The node is at fault, not the trial's settings: the search ends, and a trial that is not marked runs again."""
    start_tensorflow()
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    config = TrainConfig(train=("in.parquet",), output=str(tmp_path / "0001"))
    settings = {1: config.model_dump(mode="json")}
    with pytest.raises(LstmRayError, match="Ray assigned a GPU to this worker") as raised:
        ray_trials._run_trial({"trial": 1}, settings, threads=1, on_gpu=True, code={})
    assert not isinstance(raised.value, TrainingError)
    assert marked(config.output) is None
