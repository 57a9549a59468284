"""The model bundle: everything that scoring a text needs, in one directory.

    bundle.json          format version, library versions, settings, metrics, sha256 of every file
    vocabulary.parquet   word, id, count
    model.keras          the model, for Keras
    weights.npz          the same weights as plain arrays, for the CPU scorer, which starts without TensorFlow; not of
                         a network that a user's function has built: only Keras can apply that

A bundle with weights.npz has format 1, one without it format 2, which older versions of lstm-ray refuse.

Nothing in it is a pickle. `bundle.json` is written last: a directory without it is no bundle. Locally the whole
directory is made under a temporary name and renamed.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import shlex
import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pydantic import ValidationError

import lstm_ray
from lstm_ray import storage, user_code
from lstm_ray.config import ModelSettings, TextSettings, TrainConfig
from lstm_ray.errors import BundleError, ConfigError, InputError
from lstm_ray.model.weights import NetworkWeights
from lstm_ray.runtime.tensorflow import start_tensorflow
from lstm_ray.text.vocabulary import Vocabulary
from lstm_ray.wording import reason

if TYPE_CHECKING:
    import keras

FORMAT_VERSION = 1
OWN_NETWORK_VERSION = 2
_DESCRIPTION = "bundle.json"
_BLANK_HASH = "0" * 64
_REGISTERS = b"register_keras_serializable"
_FILES = {
    FORMAT_VERSION: ("vocabulary.parquet", "model.keras", "weights.npz"),
    OWN_NETWORK_VERSION: ("vocabulary.parquet", "model.keras"),
}


@dataclass(frozen=True)
class Bundle:
    """A bundle that has been read and found whole.

    Attributes:
        path: Where it was read from.
        text: How texts become token ids.
        model: The network's settings.
        threshold: Probability above which a review counts as positive.
        metrics: Validation metrics of the saved epoch; empty if there was no validation.
        training: The training run's settings.
        hash: sha256 over the hashes of its files.
        code: sha256 of the user's modules that it was trained with, by path; none if the network is ours.
        files: Content of each file.
    """

    path: str
    text: TextSettings
    model: ModelSettings
    threshold: float
    metrics: dict[str, Any]
    training: dict[str, Any]
    hash: str
    code: dict[str, str]
    files: dict[str, bytes]

    def vocabulary(self) -> Vocabulary:
        """Returns the words and their ids."""
        return Vocabulary.read(pa.BufferReader(self.files["vocabulary.parquet"]))

    def weights(self) -> NetworkWeights:
        """Returns the weights as plain arrays; not of a network that a user's function has built."""
        assert self.model.network is None
        return NetworkWeights.load(io.BytesIO(self.files["weights.npz"]))

    def keras_model(self) -> keras.Model:
        """Returns the Keras model, uncompiled. Imports TensorFlow, and the user's module if the model needs it.

        Raises:
            BundleError: The model needs a module that is not there, or does not open with the one that is.
        """
        import keras

        modules = self._import_own()
        with tempfile.TemporaryDirectory() as directory:  # Keras reads .keras files by name only
            path = Path(directory) / "model.keras"
            path.write_bytes(self.files["model.keras"])
            try:
                with user_code.importable_from():
                    return keras.models.load_model(path, compile=False)
            except Exception as error:  # whatever a user's layer raises
                if self.model.network is None:
                    raise
                found = f" with {', '.join(modules)} as found here: has that changed since?" if modules else ":"
                said = user_code.described(error)[:300]
                raise BundleError(f"{self.path}: its network does not open{found} {said}") from error

    def sources(self) -> dict[str, bytes]:
        """Returns the user's modules that the Keras model needs, by path: what `user_code.unpacked` takes elsewhere.

        Raises:
            BundleError: The model needs a module that is not there, or does not open with the one that is.
        """
        files: dict[str, bytes] = {}
        if self._own_modules:
            self.keras_model()  # some modules may be imported only now
        for module in self._own_modules:
            files |= user_code.sources(module)
        return files

    def note(self) -> str | None:
        """Says which modules of those that the Keras model needs are not as they were when it was trained, if any."""
        changed = [path for path, now in self._code_here().items() if now not in (None, self.code[path])]
        return f"note: {', '.join(changed)}: not as when {self.path} was trained" if changed else None

    def identity(self) -> str:
        """Returns a hash that changes if a score could: of the files, and of the user's modules as they are here."""
        here = self._code_here()
        return self.hash if not here else hashlib.sha256(json.dumps([self.hash, here]).encode()).hexdigest()

    def _code_here(self) -> dict[str, str | None]:
        """Returns the sha256 of the modules the Keras model needs as they are here, None for one that is not."""
        if not self._own_modules:
            return {}
        found = {path: user_code.source_of(path.removesuffix(".py").removesuffix("/__init__")) for path in self.code}
        return {path: None if content is None else _sha256(content) for path, content in sorted(found.items())}

    @cached_property
    def _own_modules(self) -> list[str]:
        """Lists the user's modules that the Keras model needs, because they register layers; imports nothing."""
        if self.model.network is None:
            return []
        builder = self.model.network.partition(":")[0]
        try:
            with zipfile.ZipFile(io.BytesIO(self.files["model.keras"])) as archive:
                named = _registering(json.loads(archive.read("config.json")))
        except (zipfile.BadZipFile, KeyError, ValueError, RecursionError) as error:
            raise BundleError(f"{self.path}: model.keras is no model of Keras's: {reason(error)}") from error
        modules = sorted({builder if module in (None, "builtins") else str(module) for module in named})
        for module in modules:
            if not user_code.is_named(f"{module}:layer"):
                raise BundleError(f"{self.path}: its network has layers of {module!r}, which is no module")
        return modules

    def _import_own(self) -> list[str]:
        """Imports the user's modules that the Keras model needs; returns their names.

        A bundle may come from anybody: of the modules that lie here it imports only those that are made for it.
        """
        modules = self._own_modules
        if modules:
            start_tensorflow()  # which they import
        for module in modules:
            layers = f"{self.path}: its network has layers of the module {module!r}"
            source = user_code.source_of(module)
            if source is not None and _REGISTERS not in source:
                raise BundleError(f"{layers}, which is not imported: it has no {_REGISTERS.decode()} in it")
            try:
                user_code.import_module(module)
            except ConfigError as error:
                raise BundleError(f"{layers}: {error}") from error
        return modules


def write_bundle(
    path: str,
    *,
    model: keras.Model,
    weights: NetworkWeights | None,
    vocabulary: Vocabulary,
    config: TrainConfig,
    metrics: dict[str, Any],
    threshold: float = 0.5,
) -> None:
    """Writes a bundle, in place of one that may be there.

    Args:
        path: Where to.
        model: The Keras model.
        weights: The same weights as plain arrays; None if a user's function built the model.
        vocabulary: The words and their ids.
        config: The settings of the run that trained it.
        metrics: Of the validation rows.
        threshold: Probability above which a review counts as positive.

    Raises:
        OutputError: The place cannot be written.
    """
    import keras
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as directory:
        made = Path(directory)
        model.save(made / "model.keras")
        if weights is not None:
            weights.save(made / "weights.npz")
        vocabulary.write(made / "vocabulary.parquet")
        version = FORMAT_VERSION if weights is not None else OWN_NETWORK_VERSION
        files = {name: (made / name).read_bytes() for name in _FILES[version]}
    # Older versions know no `network`, and format 1 is theirs: there it is left out.
    left_out = {"network"} if config.network is None else set()
    description = {
        "format_version": version,
        "text": config.model_dump(mode="json", include=set(TextSettings.model_fields)),
        "model": config.model_dump(mode="json", include=set(ModelSettings.model_fields) - left_out),
        "labels": ["negative", "positive"],
        "threshold": threshold,
        "metrics": metrics,
        "training": config.model_dump(mode="json", exclude=left_out),
        "versions": {
            "lstm_ray": lstm_ray.__version__,
            "python": platform.python_version(),
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
            "pyarrow": pa.__version__,
            "numpy": np.__version__,
        },
        "sha256": {name: _sha256(content) for name, content in files.items()},
    }
    if config.network is not None:
        code = user_code.sources(config.network.partition(":")[0])
        description["code"] = {name: _sha256(content) for name, content in sorted(code.items())}
    files[_DESCRIPTION] = _seal(description)
    if storage.is_local(path):
        _replace_directory(Path(storage.locate(path)[1]), files)
    else:
        storage.delete(storage.join(path, _DESCRIPTION))
        for name, content in files.items():  # bundle.json is the last of them
            storage.write_bytes(storage.join(path, name), content)


def read_bundle(path: str) -> Bundle:
    """Reads a bundle and checks every file in it against its hash.

    Raises:
        BundleError: The directory is missing or no bundle, a file is missing or damaged, the format is unknown.
    """
    if not storage.exists(path):
        raise BundleError(f"{path}: no such model bundle{_hint(path)}")
    description = _read_description(path)
    files = {}
    for name in _FILES[description["format_version"]]:
        expected = description["sha256"][name]
        try:
            files[name] = storage.read_bytes(storage.join(path, name))
        except InputError as error:
            raise BundleError(f"{path}: the bundle is incomplete: {error}") from error
        if _sha256(files[name]) != expected:
            raise BundleError(f"{path}: the bundle's {name} is damaged: its sha256 is not the one in {_DESCRIPTION}")
    combined = hashlib.sha256(json.dumps(sorted(description["sha256"].items())).encode())
    for part in ("text", "model", "threshold"):
        combined.update(json.dumps(description[part], sort_keys=True).encode())
    try:
        text = TextSettings.model_validate(description["text"])
        model = ModelSettings.model_validate(description["model"])
    except ValidationError as error:
        raise BundleError(f"{path}: {_DESCRIPTION} holds settings this version does not know: {error}") from error
    return Bundle(
        path=path,
        text=text,
        model=model,
        threshold=float(description["threshold"]),
        metrics=description["metrics"],
        training=description["training"],
        hash=combined.hexdigest(),
        code=description.get("code", {}),
        files=files,
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _seal(description: dict[str, Any]) -> bytes:
    """Returns the text of bundle.json; its `self_sha256` is the hash of that text with zeros in the hash's place."""
    blank = json.dumps({**description, "self_sha256": _BLANK_HASH}, indent=2) + "\n"
    return blank.replace(_BLANK_HASH, hashlib.sha256(blank.encode()).hexdigest()).encode()


def _is_sealed(content: bytes, claimed: str) -> bool:
    blank = content.replace(claimed.encode(), _BLANK_HASH.encode())
    return hashlib.sha256(blank).hexdigest() == claimed


def _read_description(path: str) -> dict[str, Any]:
    try:
        content = storage.read_bytes(storage.join(path, _DESCRIPTION))
        description = json.loads(content)
        version = description["format_version"]
        missing = {"text", "model", "threshold", "metrics", "training", "sha256"} - set(description)
        absent = set(_FILES.get(version, ())) - set(description.get("sha256", {}))
    except InputError as error:
        raise BundleError(f"{path}: not a model bundle: it has no {_DESCRIPTION}{_hint(path)}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{path}: {_DESCRIPTION} is damaged: {error}") from error
    if version not in _FILES:
        raise BundleError(
            f"{path}: {_DESCRIPTION} says bundle format {version}, but this is lstm-ray {lstm_ray.__version__}, which "
            f"reads formats {' and '.join(map(str, _FILES))}: install a newer lstm-ray"
        )
    if not _is_sealed(content, str(description.get("self_sha256"))):
        raise BundleError(f"{path}: {_DESCRIPTION} is damaged: its sha256 is not the one it names")
    if missing or absent:
        raise BundleError(f"{path}: {_DESCRIPTION} is damaged: it lacks {', '.join(sorted(missing | absent))}")
    return dict(description)


def _hint(path: str) -> str:
    """Returns what to do where there is no bundle, if it is the directory of a training run, or `model` in one."""
    inside = storage.join(path, "model")
    if storage.exists(storage.join(inside, _DESCRIPTION)):
        return f"; did you mean {inside}?"
    place = storage.absolute(path).rstrip("/")
    for run in (place, place.removesuffix("/model")):
        settings = storage.join(run, "config.yaml")
        if storage.exists(settings) and storage.read_bytes(settings).startswith(b"command: train\n"):
            again = f"lstm-ray train --config {shlex.quote(settings)}" if storage.is_local(run) else "the same command"
            return f"; the training run in {run} has not finished, and writes it at its end: {again} goes on with it"
    return ""


def _registering(described: Any) -> list[Any]:
    """Lists the modules that register what a model's description by Keras needs, such as mine>Attention."""
    if isinstance(described, list):
        return [module for part in described for module in _registering(part)]
    if not isinstance(described, dict):
        return []
    here = [described.get("module")] if ">" in str(described.get("registered_name")) else []
    return [*here, *_registering(list(described.values()))]


def _replace_directory(path: Path, files: dict[str, bytes]) -> None:
    """Makes a directory of `files` under a temporary name and puts it in the place of `path`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        for name, content in files.items():
            storage.write_bytes(str(temporary / name), content)
    except BaseException:  # Ctrl-C too: nothing half-written stays; raised again
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    previous = path.with_name(f".{path.name}.{os.getpid()}.old")
    if path.exists():
        path.rename(previous)
    temporary.rename(path)
    shutil.rmtree(previous, ignore_errors=True)
