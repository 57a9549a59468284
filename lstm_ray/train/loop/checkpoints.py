"""Checkpoints of a run, in its directory:

    OUTPUT/checkpoints/epochs_0001_steps_00000340.5f0c9ae1b2d34c77.npz

A checkpoint is one file: all variables of model and optimizer, the model's variables after the best epoch, the n-gram
part if there is one, and the state as JSON. The name contains the epochs done, the steps done of the next epoch, and
the beginning of the content's sha256. If the content has another hash, the file is damaged and the previous one is
used. Because of the hash in the name, two writers (a lost worker that still runs, and its replacement) cannot overwrite
each other's files.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import re
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any, BinaryIO, TypeVar

import numpy as np
import numpy.typing as npt

from lstm_ray import storage
from lstm_ray.errors import InputError
from lstm_ray.train.loop.state import State
from lstm_ray.wording import reason

DIRECTORY = "checkpoints"
KEPT = 2  # the last one, and the previous one in case the last is damaged

_DIGITS = 16  # of the hash in a name
NAME = rf"epochs_(\d+)_steps_(\d+)\.([0-9a-f]{{{_DIGITS}}})\.npz"
_BUFFER_BYTES = 8 << 20  # on an object store, one request each

_log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Checkpoint:
    """The state and arrays of a run.

    Attributes:
        state: Position and history.
        variables: Variables of model and optimizer, in the order of `Stepper.state`.
        best: The model's variables after the best epoch.
        ngrams: Arrays of the n-gram part, see `NgramPart.arrays`; empty without n-grams.
    """

    state: State
    variables: list[npt.NDArray[Any]]
    best: list[npt.NDArray[Any]]
    ngrams: list[npt.NDArray[Any]] = field(default_factory=list)


def save(output: str, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint into the run's directory and deletes those that are no longer needed.

    Raises:
        OutputError: The directory cannot be written.
    """
    # The content is generated twice, for the name and for the file: that costs 0.3 s for 200 MB, where a copy in memory
    # would double the memory that a checkpoint takes.
    sha256 = hashlib.sha256()
    _dump(checkpoint, sha256.update)
    state = checkpoint.state
    name = f"epochs_{state.epoch:04d}_steps_{state.step:08d}.{sha256.hexdigest()[:_DIGITS]}.npz"
    storage.write_file(_path(output, name), lambda stream: _dump(checkpoint, stream.write))
    for old in _newest_first(output)[KEPT:]:
        storage.delete(_path(output, old))


def latest(output: str) -> Checkpoint | None:
    """Returns the run's last undamaged checkpoint, or None if it has none.

    Raises:
        InputError: A checkpoint exists but cannot be read now. It must not be skipped, because `discard_after` would
            then delete it.
    """
    return _load_latest(output, _checkpoint)


def latest_state(output: str) -> State | None:
    """Returns the state of the run's last undamaged checkpoint without reading its arrays into memory.

    Raises:
        InputError: A checkpoint exists but cannot be read now.
    """
    return _load_latest(output, _state)


def discard_after(output: str, state: State | None) -> None:
    """Deletes the checkpoints after the one that a run resumes from, and unfinished files.

    Later checkpoints are damaged. If they stayed, they would count as kept, and intact ones would be deleted instead.
    """
    reached = (-1, 0) if state is None else (state.epoch, state.step)
    for name in _newest_first(output):
        if _parts(name)[:2] > reached:
            storage.delete(_path(output, name))
    storage.delete_unfinished(storage.join(output, DIRECTORY))


class Writer:
    """Saves the checkpoints of a run in a background thread, and decides when the next one is due."""

    def __init__(self, output: str, interval_s: float, interval_steps: float) -> None:
        """Starts counting.

        Args:
            output: The run's directory.
            interval_s: Maximum seconds between two checkpoints.
            interval_steps: Maximum steps between two checkpoints.
        """
        self._output = output
        self._interval_s, self._interval_steps = interval_s, interval_steps
        self._saved_at, self._steps = time.monotonic(), 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self._saving: Future[None] | None = None

    def count_step(self) -> bool:
        """Counts a step and returns whether a checkpoint is due."""
        self._steps += 1
        return self._steps >= self._interval_steps or time.monotonic() - self._saved_at >= self._interval_s

    def save(self, checkpoint: Checkpoint) -> None:
        """Starts to save a checkpoint, after waiting for the previous one. Its arrays must not change any more.

        Raises:
            OutputError: The previous checkpoint could not be written.
        """
        self.wait()
        self._saving = self._thread.submit(save, self._output, checkpoint)
        self._saved_at, self._steps = time.monotonic(), 0

    def wait(self) -> None:
        """Waits until the checkpoint is saved.

        Raises:
            OutputError: The checkpoint could not be written.
        """
        if self._saving is not None:
            saving, self._saving = self._saving, None
            saving.result()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._thread.shutdown()


def _newest_first(output: str) -> list[str]:
    """Returns the names of the run's checkpoints."""
    names = storage.list_names(storage.join(output, DIRECTORY))
    return sorted((name for name in names if re.fullmatch(NAME, name)), key=_parts, reverse=True)


def _parts(name: str) -> tuple[int, int, str]:
    """Returns what a checkpoint's name contains: epochs and steps done, and the beginning of the hash."""
    match = re.fullmatch(NAME, name)
    assert match is not None
    return int(match[1]), int(match[2]), match[3]


def _path(output: str, name: str) -> str:
    return storage.join(storage.join(output, DIRECTORY), name)


def _dump(checkpoint: Checkpoint, write: Callable[[bytes], Any]) -> None:
    """Generates a checkpoint's content like `numpy.savez`, but without timestamps: equal states give equal bytes.

    Args:
        checkpoint: The checkpoint; its arrays are not copied as a whole.
        write: Called with the content, piece by piece.
    """
    arrays = {"state": np.frombuffer(json.dumps(asdict(checkpoint.state)).encode(), np.uint8)}
    arrays |= {f"variable_{number}": array for number, array in enumerate(checkpoint.variables)}
    arrays |= {f"best_{number}": array for number, array in enumerate(checkpoint.best)}
    arrays |= {f"ngrams_{number}": array for number, array in enumerate(checkpoint.ngrams)}
    with zipfile.ZipFile(_Sequential(write), "w") as archive:  # type: ignore[call-overload]  # it only writes to it
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


class _Sequential:
    """A stream without `seek`, so that zipfile does not go back to complete a header."""

    def __init__(self, write: Callable[[bytes], Any]) -> None:
        self._write = write

    def write(self, content: bytes) -> int:
        """Passes the bytes on and returns their number."""
        self._write(content)
        return len(content)

    def flush(self) -> None:
        """Does nothing: nothing is buffered here."""


def _load_latest(output: str, load: Callable[[Any], T]) -> T | None:
    """Calls `load` with the arrays, by name, of the run's last undamaged checkpoint."""
    for name in _newest_first(output):
        path = _path(output, name)
        filesystem, target = storage.locate(path)
        try:
            with filesystem.open_input_file(target) as file, io.BufferedReader(file, _BUFFER_BYTES) as stream:
                if _digest(stream) == _parts(name)[2]:
                    stream.seek(0)
                    with np.load(stream, allow_pickle=False) as stored:
                        return load(stored)
        except OSError as error:
            if storage.exists(path):
                raise InputError(f"{path}: cannot be read: {reason(error)}") from error
            continue  # deleted since the directory was listed
        _log.warning("checkpoint %s is damaged: using the one before it", path)
    return None


def _digest(stream: BinaryIO) -> str:
    sha256 = hashlib.sha256()
    while content := stream.read(_BUFFER_BYTES):
        sha256.update(content)
    return sha256.hexdigest()[:_DIGITS]


def _checkpoint(stored: Any) -> Checkpoint:
    def numbered(kind: str) -> list[npt.NDArray[Any]]:
        return [stored[f"{kind}_{number}"] for number in range(sum(n.startswith(kind) for n in stored.files))]

    return Checkpoint(_state(stored), numbered("variable"), numbered("best"), numbered("ngrams"))


def _state(stored: Any) -> State:
    return State(**json.loads(stored["state"].tobytes()))
