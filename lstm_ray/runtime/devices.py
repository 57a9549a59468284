"""The cores, GPUs and memory that this process may use."""

from __future__ import annotations

import os
from pathlib import Path

_GPU_FILES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # NVIDIA, WSL (any vendor), AMD
_CGROUPS = Path("/sys/fs/cgroup")


def available_cores() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def may_have_gpu() -> bool:
    """Returns False if this process certainly has no GPU, judging by device files, within microseconds.

    `runtime.tensorflow.has_gpu` finds out whether TensorFlow can use a GPU, but takes seconds.
    """
    is_hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1")
    return not is_hidden and any(map(os.path.exists, _GPU_FILES))


def memory_bytes() -> int:
    """Returns the memory that this process may use: the machine's, or less if a container (its cgroup) limits it."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        own = Path("/proc/self/cgroup").read_text(encoding="ascii").strip().rpartition(":")[2].strip("/")
    except OSError:  # not Linux
        return machine
    group = _CGROUPS / own
    files = [*(place / "memory.max" for place in (group, *group.parents)), _CGROUPS / "memory/memory.limit_in_bytes"]
    limits = [file.read_text(encoding="ascii").strip() for file in files if file.is_file()]
    return min([machine, *(int(limit) for limit in limits if limit.isdigit())])
