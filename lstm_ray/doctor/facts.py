"""Collects facts about a machine: packages, cores, GPUs, memory for Ray's object store, access to storage."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import platform
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import lstm_ray
from lstm_ray import storage
from lstm_ray.errors import LstmRayError
from lstm_ray.kernels.emitter import Target
from lstm_ray.kernels.precision.choice import precisions_of
from lstm_ray.runtime.devices import available_cores
from lstm_ray.wording import reason

PACKAGES = ("ray", "tensorflow", "keras", "pyarrow")
_DRIVER_LIMIT_S = 30
_TENSORFLOW_LIMIT_S = 300
_CUDNN = "libcudnn.so.9"
_CONTENT = b"lstm-ray doctor"


@dataclass(frozen=True)
class Facts:
    """Facts about a node.

    Attributes:
        versions: Versions of Python, lstm-ray and `PACKAGES`; None for a missing package.
        cpus: Number of cores.
        native_engine: Its instruction set and precisions, such as "AVX-512, 16 lanes, float32, bf16, int8".
        native_engine_is_slow: True if the processor lacks the instructions that make it fast.
        gpus: Names of the GPUs.
        driver_failure: The error of the NVIDIA driver; None if it works or is not installed.
        cudnn: True if cuDNN can be loaded.
        tensorflow_gpus: Number of GPUs that TensorFlow sees; None if the driver lists none, or TensorFlow fails.
        shm_bytes: Size of /dev/shm; None where there is none.
        object_store_bytes: Size of Ray's object store; None without Ray.
        auth_mode: Ray's authentication mode, "token" or "disabled"; None without Ray.
        clock: For this machine, seconds since 1970; for a cluster's node, how many seconds it is ahead of this machine.
        storage_failure: Why the storage cannot be used from here; None if it can, or was not checked.
    """

    versions: Mapping[str, str | None]
    cpus: int
    native_engine: str
    native_engine_is_slow: bool
    gpus: Sequence[str]
    driver_failure: str | None
    cudnn: bool
    tensorflow_gpus: int | None
    shm_bytes: int | None
    object_store_bytes: int | None
    auth_mode: str | None
    clock: float
    storage_failure: str | None


@contextmanager
def probe_in(directory: str | None) -> Iterator[str | None]:
    """Yields the path of a new file in the storage that all nodes should see, and deletes it at the end.

    Yields None without a directory, or if the file cannot be written, which `describe` reports.
    """
    if directory is None:
        yield None
        return
    path = _new_file(directory)
    try:
        storage.write_bytes(path, _CONTENT)
    except LstmRayError:
        yield None
        return
    try:
        yield path
    finally:
        storage.delete(path)


def describe(directory: str | None, probe: str | None) -> Facts:
    """Returns the facts about the machine that this runs on.

    Args:
        directory: Directory or URI to write to and read back from; None to skip that.
        probe: A file there that another machine has written, if any.
    """
    versions: dict[str, str | None] = {"python": platform.python_version(), "lstm-ray": lstm_ray.__version__}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    gpus, driver_failure = _gpus()
    target = Target.host()
    return Facts(
        versions=versions,
        cpus=available_cores(),
        native_engine=f"{target.describe()}, {', '.join(precisions_of(target))}",
        native_engine_is_slow=not target.fused,
        gpus=gpus,
        driver_failure=driver_failure,
        cudnn=_has_cudnn(),
        tensorflow_gpus=_tensorflow_gpus() if gpus else None,
        shm_bytes=shutil.disk_usage("/dev/shm").total if os.path.isdir("/dev/shm") else None,
        object_store_bytes=None,
        auth_mode=None,
        clock=clock(),
        storage_failure=None if directory is None else _storage_failure(directory, probe),
    )


def clock() -> float:
    """Returns this machine's time in seconds since 1970. (Ray cannot run built-in functions such as `time.time`.)"""
    return time.time()


def compare_clocks(ask: Callable[[Callable[[], float]], Mapping[str, Any]]) -> tuple[dict[str, float], float]:
    """Compares the nodes' clocks with this machine's clock.

    Args:
        ask: Runs a function on every node and returns the results by node.

    Returns:
        How many seconds each node is ahead, for nodes that answer; and the maximum error of these values: a node is
        assumed to read its clock halfway between question and answer.
    """
    asked = time.time()
    answers = ask(clock)
    took = time.time() - asked
    return {node: at - (asked + took / 2) for node, at in answers.items() if isinstance(at, float)}, took / 2


def _gpus() -> tuple[list[str], str | None]:
    """Returns the names of the GPUs that the driver lists, and the driver's error if it does not work."""
    if shutil.which("nvidia-smi") is None:
        return [], None
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_DRIVER_LIMIT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return [], reason(error)
    if done.returncode:
        return [], " ".join((done.stdout + done.stderr).split()) or f"nvidia-smi ends with {done.returncode}"
    return done.stdout.splitlines(), None


def _has_cudnn() -> bool:
    """Returns whether TensorFlow would find cuDNN: on the system, or installed by tensorflow[and-cuda]."""
    try:
        importlib.metadata.version("nvidia-cudnn-cu12")
    except importlib.metadata.PackageNotFoundError:
        try:
            ctypes.CDLL(_CUDNN)
        except OSError:
            return False
    return True


def _tensorflow_gpus() -> int | None:
    """Returns how many of the machine's GPUs TensorFlow sees, asked in a process of its own; None if that fails."""
    code = "import tensorflow; print(len(tensorflow.config.list_physical_devices('GPU')))"
    # Ray hides all GPUs from a task that asked for none.
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, env=environment, text=True, timeout=_TENSORFLOW_LIMIT_S
        )
    except subprocess.TimeoutExpired:
        return None
    return None if done.returncode else int(done.stdout.split()[-1])


def _storage_failure(directory: str, probe: str | None) -> str | None:
    own = _new_file(directory)
    try:
        storage.write_bytes(own, _CONTENT)
        back = storage.read_bytes(own)
        storage.delete(own)
    except (LstmRayError, OSError) as error:
        return reason(error)
    if back != _CONTENT:
        return f"{directory}: content that was written there reads back differently"
    if probe is not None and not storage.exists(probe):
        return f"{directory}: is a different directory than on the machine that runs doctor"
    return None


def _new_file(directory: str) -> str:
    return storage.join(directory, f".lstm-ray-doctor-{secrets.token_hex(8)}")
