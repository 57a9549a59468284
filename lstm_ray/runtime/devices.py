"""The cores and GPUs that this process may use."""

from __future__ import annotations

import os

_GPU_FILES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # NVIDIA, Windows' Linux (any maker), AMD


def available_cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def may_have_gpu() -> bool:
    """Returns whether this process may have a GPU, judged by device files, in microseconds.

    False is certain. Whether TensorFlow can use the GPU is what `runtime.tensorflow.has_gpu` finds out, in seconds.
    """
    is_hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1")
    return not is_hidden and any(map(os.path.exists, _GPU_FILES))
