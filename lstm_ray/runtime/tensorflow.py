"""Brings up TensorFlow the way lstm-ray wants it: quiet, Keras 3, and no more threads than it was given."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from lstm_ray.runtime.devices import available_cores
from lstm_ray.runtime.stderr import held_back

_POLICIES = {"float32": "float32", "bf16": "mixed_bfloat16", "fp16": "mixed_float16"}


def choose_keras() -> None:
    """Has Keras 3 run on TensorFlow, quietly, whatever the user's environment says."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # notices of CPU features and of GPUs that are not there
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    # Ray Train's TensorFlow integration sets this for Keras 2. We do not use it, but a user's environment might.
    os.environ.pop("TF_USE_LEGACY_KERAS", None)


def start_tensorflow(threads: int | None = None) -> None:
    """Imports TensorFlow; to be called before anything else in the process imports it.

    Args:
        threads: Threads an operation may use; None leaves all cores to it.
    """
    choose_keras()
    is_running = "tensorflow" in sys.modules  # then its threads are counted already
    with held_back():  # while it loads, TensorFlow logs before any log level of its own takes effect
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
    if threads is not None and not is_running:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(max(2, threads))
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)  # otherwise the first process takes all of a GPU's memory


def threads_given() -> int:
    """Returns how many threads this process was given by `start_tensorflow`."""
    import tensorflow as tf

    given: int = tf.config.threading.get_intra_op_parallelism_threads()
    return given or available_cores()


@contextmanager
def computing_in(precision: str) -> Iterator[None]:
    """Has the layers that are built meanwhile compute in a precision: float32, bf16 or fp16."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(_POLICIES[precision])
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
