"""What a run needs to go on where it stopped.

    OUTPUT/checkpoints/<name>/variables.npz   every variable of model and optimizer
                              best.npz        the model's variables after the best epoch
                              state.json      epochs done, history, and the sha256 of the other two

A checkpoint whose files do not match its hashes (the machine died while it was copied) is passed over for the one
before it.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_ray import storage
from lstm_ray.config import TrainConfig
from lstm_ray.errors import InputError

DIRECTORY = "checkpoints"
KEPT = 2  # one to go on from, and the one before it in case that one is damaged

_ARRAYS = ("variables.npz", "best.npz")

_log = logging.getLogger(__name__)


@dataclass
class State:
    """Where a run stands.

    Attributes:
        epoch: Epochs done.
        best_epoch: The one with the highest validation accuracy (without validation: the last).
        history: A row an epoch, as `history.parquet` holds them.
        metrics: Validation metrics of the best epoch.
        summary: What Keras prints of the model.
        data: `Prepared.fingerprint` of the rows it learned from.
    """

    epoch: int = 0
    best_epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    summary: str = ""
    data: str = ""

    def has_ended(self, config: TrainConfig) -> bool:
        """Says whether the run is at its last epoch, or stops early: too many without a better one."""
        return self.epoch >= config.epochs or self.stops_early(config)

    def stops_early(self, config: TrainConfig) -> bool:
        """Says whether the last `early_stopping` epochs were none better than the best."""
        return 0 < config.early_stopping <= self.epoch - self.best_epoch


@dataclass(frozen=True)
class Checkpoint:
    """A run's state and arrays.

    Attributes:
        state: Where the run stands.
        variables: Of model and optimizer, in the order of `Stepper.variables`.
        best: The model's variables after the best epoch.
    """

    state: State
    variables: list[npt.NDArray[Any]]
    best: list[npt.NDArray[Any]]


def save(directory: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint into an existing directory."""
    hashes = {}
    for name, arrays in zip(_ARRAYS, (checkpoint.variables, checkpoint.best), strict=True):
        np.savez(directory / name, *arrays)
        hashes[name] = hashlib.sha256((directory / name).read_bytes()).hexdigest()
    description = {"state": asdict(checkpoint.state), "sha256": hashes}
    (directory / "state.json").write_text(json.dumps(description), encoding="utf-8")


def latest(output: str) -> Checkpoint | None:
    """Returns the run's last whole checkpoint, or None if it has none."""
    for name, state, hashes in _newest_first(output):
        contents = {}
        for array in _ARRAYS:
            try:
                contents[array] = storage.read_bytes(storage.join(_directory(output, name), array))
            except InputError:
                break
            if hashlib.sha256(contents[array]).hexdigest() != hashes.get(array):
                break
        else:
            return Checkpoint(state, *(_load(contents[array]) for array in _ARRAYS))
        _log.warning("checkpoint %s is damaged: going on from the one before it", _directory(output, name))
    return None


def latest_state(output: str) -> State | None:
    """Returns where the run's last checkpoint stands, without reading its arrays."""
    return next((state for _, state, _ in _newest_first(output)), None)


def _newest_first(output: str) -> list[tuple[str, State, dict[str, str]]]:
    """Lists the checkpoints that have a readable state.json: name, state, hashes."""
    found = []
    for name in storage.list_names(storage.join(output, DIRECTORY)):
        path = storage.join(_directory(output, name), "state.json")
        if not storage.exists(path):
            continue
        try:
            description = json.loads(storage.read_bytes(path))
            found.append((name, State(**description["state"]), description["sha256"]))
        except (ValueError, KeyError, TypeError) as error:
            _log.warning("%s is damaged (%s): passed over", path, error)
    return sorted(found, key=lambda checkpoint: checkpoint[1].epoch, reverse=True)


def _directory(output: str, name: str) -> str:
    return storage.join(storage.join(output, DIRECTORY), name)


def _load(content: bytes) -> list[npt.NDArray[Any]]:
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        return [stored[f"arr_{number}"] for number in range(len(stored.files))]
