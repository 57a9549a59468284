"""A trial on a Ray worker; no Ray is started."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from lstm_ray.config import TrainConfig
from lstm_ray.errors import LstmRayError, TrainingError
from lstm_ray.runtime.tensorflow import start_tensorflow
from lstm_ray.tune import ray_trials
from lstm_ray.tune.results import marked


def test_a_trial_whose_gpu_tensorflow_does_not_see_is_no_result(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The node is at fault, not the trial's settings: the search ends, and the unmarked trial runs again."""
    start_tensorflow()
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    config = TrainConfig(train=("in.parquet",), output=str(tmp_path / "0001"))
    settings = {1: config.model_dump(mode="json")}
    with pytest.raises(LstmRayError, match="Ray assigned a GPU to this worker") as raised:
        ray_trials._run_trial({"trial": 1}, settings, threads=1, on_gpu=True, code={})
    assert not isinstance(raised.value, TrainingError)
    assert marked(config.output) is None


@pytest.mark.parametrize("epochs", [1, 2, 3, 4, 9])
def test_asha_stops_those_that_fall_behind_but_none_at_its_last_epoch(epochs: int) -> None:
    numbers = range(1, 7)
    asha = ray_trials.Asha({number: TrainConfig(epochs=epochs) for number in numbers})
    stopped_at: list[int] = []
    for number in numbers:  # each is worse than those before
        trial = SimpleNamespace(trial_id=f"trial {number}", config={"trial": number})
        asha.on_trial_add(None, trial)
        for epoch in range(1, epochs + 1):
            if asha.on_trial_result(None, trial, {"epoch": epoch, "rank": 1 / number}) == "STOP":
                stopped_at.append(epoch)
                break
    assert stopped_at == ([1] * 5 if epochs > 1 else [])


def test_asha_stops_nothing_at_a_last_epoch_that_comes_before_those_of_others() -> None:
    asha = ray_trials.Asha({1: TrainConfig(epochs=9), 2: TrainConfig(epochs=3), 3: TrainConfig(epochs=9)})
    decisions = []
    for number, reached in ((1, 0.9), (2, 0.1), (3, 0.5)):
        trial = SimpleNamespace(trial_id=f"trial {number}", config={"trial": number})
        asha.on_trial_add(None, trial)
        decisions.append(asha.on_trial_result(None, trial, {"epoch": 3, "rank": reached}))
    assert decisions == ["CONTINUE", "CONTINUE", "STOP"], "what the second reached counts for the third"
