"""The native stepper's threads. Its steps are tested with those of the Keras engine, in tests/unit/train/step."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from lstm_ray.collective.protocol import Alone
from lstm_ray.config import TrainConfig
from lstm_ray.runtime.tensorflow import start_tensorflow
from lstm_ray.train.data.batches import Batch


def test_threads_end_with_the_stepper(monkeypatch: pytest.MonkeyPatch) -> None:
    start_tensorflow()
    from lstm_ray.train.native import stepper

    monkeypatch.setattr(stepper, "threads_given", lambda: 2)
    config = TrainConfig.model_validate(
        {"preset": "none", "vocabulary_size": 9, "max_tokens": 4, "embedding_size": 4, "units": 4}
    )
    others = set(threading.enumerate())
    native = stepper.NativeStepper(config, Alone(), np.array([0, 1], np.int8))
    native.train(Batch(np.full((2, 4), 5, np.int32), np.float32([0, 1]), np.ones(2, np.float32), 2))
    own = [thread for thread in set(threading.enumerate()) - others if thread.name.startswith("lstm-step")]
    assert own
    del native
    for thread in own:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in own)
