"""Whether TensorFlow sees a GPU: one answer for training and scoring, without loading it on machines without one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lstm_ray.errors import LstmRayError
from lstm_ray.runtime import tensorflow


@pytest.mark.parametrize(
    ("may_have", "seen", "has"), [(False, ["GPU:0"], False), (True, [], False), (True, ["GPU:0"], True)]
)
def test_a_gpu_counts_if_tensorflow_sees_it(
    monkeypatch: pytest.MonkeyPatch, may_have: bool, seen: list[str], has: bool
) -> None:
    tensorflow.start_tensorflow()
    import tensorflow as tf

    monkeypatch.setattr(tensorflow, "may_have_gpu", lambda: may_have)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: seen)
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", lambda device, grow: None)
    assert tensorflow.has_gpu() == has


def test_a_machine_without_a_gpu_does_not_load_tensorflow() -> None:
    code = "import sys; from lstm_ray.runtime import tensorflow; tensorflow.may_have_gpu = lambda: False; "
    code += "print(tensorflow.has_gpu(), 'tensorflow' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, timeout=60).split() == ["False", "False"]


def test_keras_on_another_backend_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    tensorflow.start_tensorflow()
    import keras

    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(LstmRayError, match="Keras runs on jax in this process"):
        tensorflow.start_tensorflow()
