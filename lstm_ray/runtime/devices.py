"""What the machine we run on has to compute with: the cores and GPUs that this process may use."""

from __future__ import annotations

import os

_NVIDIA = "/dev/nvidiactl"
_OTHER_GPUS = ("/dev/dxg", "/dev/kfd")  # any maker's in Windows' Linux, AMD's


def available_cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_gpu() -> bool:
    """Says whether this process may use an NVIDIA GPU, without loading what would find out for sure."""
    return _is_allowed() and os.path.exists(_NVIDIA)


def may_have_gpu() -> bool:
    """Says whether a Ray started here could find a GPU of any maker, without the seconds of starting it."""
    return _is_allowed() and any(map(os.path.exists, (_NVIDIA, *_OTHER_GPUS)))


def _is_allowed() -> bool:
    return os.environ.get("CUDA_VISIBLE_DEVICES", "0") not in ("", "-1")
