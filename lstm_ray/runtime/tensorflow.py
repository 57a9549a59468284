"""Starts TensorFlow for lstm-ray (quiet, with Keras 3 and a limited number of threads), and detects GPUs."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from lstm_ray.errors import LstmRayError
from lstm_ray.runtime.devices import available_cores, may_have_gpu
from lstm_ray.runtime.stderr import held_back

_POLICIES = {"float32": "float32", "bf16": "mixed_bfloat16", "fp16": "mixed_float16"}


def choose_keras() -> None:
    """Sets the environment so that Keras 3 runs on TensorFlow, with few log messages."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # hides notices of CPU features and missing GPUs
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    # Ray Train's TensorFlow integration sets this for Keras 2. We do not use it, but the user's environment may set it.
    os.environ.pop("TF_USE_LEGACY_KERAS", None)


def start_tensorflow(threads: int | None = None) -> None:
    """Imports TensorFlow and Keras. Must be called before anything else in the process imports them.

    Args:
        threads: Number of threads that an operation may use; None for all cores.

    Raises:
        LstmRayError: The process already uses Keras with another backend.
    """
    choose_keras()
    is_running = "tensorflow" in sys.modules  # then its number of threads is fixed
    with held_back():  # TensorFlow logs while it loads, before its own log level takes effect
        import keras
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
    if keras.config.backend() != "tensorflow":
        raise LstmRayError(
            f"Keras runs on {keras.config.backend()} in this process, and lstm-ray needs TensorFlow: set "
            "KERAS_BACKEND=tensorflow before the first import of keras"
        )
    if threads is not None and not is_running:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(max(2, threads))
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)  # otherwise the first process takes all of a GPU's memory


def has_gpu() -> bool:
    """Returns whether TensorFlow can use a GPU in this process.

    TensorFlow is loaded only if there is a GPU device file: scoring on CPUs does not need it.
    """
    return may_have_gpu() and _sees_gpu()


def require_gpu(otherwise: str = "set --gpus-per-worker 0 to train on CPUs") -> None:
    """Checks that TensorFlow sees the GPU that Ray assigned to this worker.

    Args:
        otherwise: What the user can do instead of repairing the node.

    Raises:
        LstmRayError: TensorFlow sees no GPU, and would silently compute on the CPU.
    """
    if not _sees_gpu():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "not set")
        raise LstmRayError(
            f"{socket.gethostname()}: Ray assigned a GPU to this worker (CUDA_VISIBLE_DEVICES: {visible}), but "
            "TensorFlow sees none: install CUDA's libraries there (pip install 'lstm-ray[gpu]'), check the driver with "
            f"nvidia-smi, or {otherwise}"
        )


def _sees_gpu() -> bool:
    start_tensorflow()
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def threads_given() -> int:
    """Returns the number of threads that an operation may use in this process."""
    import tensorflow as tf

    given: int = tf.config.threading.get_intra_op_parallelism_threads()
    return given or available_cores()


@contextmanager
def computing_in(precision: str) -> Iterator[None]:
    """Sets the precision (float32, bf16 or fp16) of layers that are built inside the block."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(_POLICIES[precision])
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
