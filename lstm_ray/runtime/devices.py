"""The cores and GPUs that this process may use."""

from __future__ import annotations

import os

_GPU_FILES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # NVIDIA, WSL (any vendor), AMD


def available_cores() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def may_have_gpu() -> bool:
    """Returns False if this process certainly has no GPU, judging by device files, within microseconds.

    `runtime.tensorflow.has_gpu` finds out whether TensorFlow can use a GPU, but takes seconds.
    """
    is_hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1")
    return not is_hidden and any(map(os.path.exists, _GPU_FILES))
