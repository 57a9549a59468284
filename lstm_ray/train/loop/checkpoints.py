"""What a run needs to go on where it stopped, in the middle of an epoch too.

    OUTPUT/checkpoints/epochs_0001_steps_00000340.5f0c9ae1b2d34c77.npz

One file a checkpoint: every variable of model and optimizer, the model's variables after the best epoch, and the state
as JSON. Its name says how many epochs and steps of the next one are done, and ends with the beginning of the content's
sha256. So a file is whole or it is passed over for the one before it, whatever died while it was written; and two
writers (a worker that was given up and wakes again, beside the one that took its place) cannot spoil each other's.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import re
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_ray import storage
from lstm_ray.errors import InputError
from lstm_ray.train.loop.state import State

DIRECTORY = "checkpoints"
KEPT = 2  # one to go on from, and the one before it in case that one is damaged

_NAME = re.compile(r"epochs_(\d+)_steps_(\d+)\.([0-9a-f]{16})\.npz")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """A run's state and arrays.

    Attributes:
        state: Where the run stands.
        variables: Of model and optimizer, in the order of `Stepper.state`.
        best: The model's variables after the best epoch.
    """

    state: State
    variables: list[npt.NDArray[Any]]
    best: list[npt.NDArray[Any]]


def save(output: str, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint into the run's directory and deletes those that are no longer needed.

    Raises:
        OutputError: The directory cannot be written.
    """
    content = _dump(checkpoint)
    state = checkpoint.state
    name = f"epochs_{state.epoch:04d}_steps_{state.step:08d}.{_digest(content)}.npz"
    storage.write_bytes(_path(output, name), content)
    for old in _newest_first(output)[KEPT:]:
        storage.delete(_path(output, old))


def latest(output: str) -> Checkpoint | None:
    """Returns the run's last whole checkpoint, or None if it has none.

    Raises:
        InputError: A checkpoint is there but cannot be read, now. To pass it over would be to delete it, see
            `discard_after`.
    """
    for name in _newest_first(output):
        try:
            content = storage.read_bytes(_path(output, name))
        except InputError:
            if storage.exists(_path(output, name)):
                raise
            continue  # it was deleted since the directory was listed
        if _digest(content) == _parts(name)[2]:
            return _load(content)
        _log.warning("checkpoint %s is damaged: going on from the one before it", _path(output, name))
    return None


def latest_state(output: str) -> State | None:
    """Returns where the run's last whole checkpoint stands."""
    checkpoint = latest(output)
    return None if checkpoint is None else checkpoint.state


def discard_after(output: str, state: State | None) -> None:
    """Deletes what lies after the checkpoint that a run goes on from, and files that nobody finished.

    These are the damaged ones. Left there, they would count among those kept, and whole ones be deleted in their place.
    """
    reached = (-1, 0) if state is None else (state.epoch, state.step)
    for name in _newest_first(output):
        if _parts(name)[:2] > reached:
            storage.delete(_path(output, name))
    storage.delete_unfinished(storage.join(output, DIRECTORY))


class Writer:
    """Saves checkpoints in a thread of its own, one after the other, while training goes on."""

    def __init__(self, output: str) -> None:
        self._output = output
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self._saving: Future[None] | None = None

    def save(self, checkpoint: Checkpoint) -> None:
        """Begins to save a checkpoint, whose arrays nobody may change; waits for the one before it.

        Raises:
            OutputError: The one before it could not be written.
        """
        self.wait()
        self._saving = self._thread.submit(save, self._output, checkpoint)

    def wait(self) -> None:
        """Waits until all is saved.

        Raises:
            OutputError: It could not be written.
        """
        if self._saving is not None:
            saving, self._saving = self._saving, None
            saving.result()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._thread.shutdown()


def _newest_first(output: str) -> list[str]:
    """Lists the names of checkpoints."""
    names = storage.list_names(storage.join(output, DIRECTORY))
    return sorted(filter(_NAME.fullmatch, names), key=_parts, reverse=True)


def _parts(name: str) -> tuple[int, int, str]:
    """Returns what a checkpoint's name says: epochs and steps done, and the beginning of the hash."""
    match = _NAME.fullmatch(name)
    assert match is not None
    return int(match[1]), int(match[2]), match[3]


def _path(output: str, name: str) -> str:
    return storage.join(storage.join(output, DIRECTORY), name)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _dump(checkpoint: Checkpoint) -> bytes:
    arrays = {f"variable_{number}": array for number, array in enumerate(checkpoint.variables)}
    arrays |= {f"best_{number}": array for number, array in enumerate(checkpoint.best)}
    arrays["state"] = np.frombuffer(json.dumps(asdict(checkpoint.state)).encode(), np.uint8)
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]  # mypy takes the names for those of savez's own arguments
    return content.getvalue()


def _load(content: bytes) -> Checkpoint:
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        state = State(**json.loads(stored["state"].tobytes()))

        def numbered(kind: str) -> list[npt.NDArray[Any]]:
            return [stored[f"{kind}_{number}"] for number in range(sum(n.startswith(kind) for n in stored.files))]

        return Checkpoint(state, numbered("variable"), numbered("best"))
