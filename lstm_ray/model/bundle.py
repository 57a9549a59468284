"""The model bundle: a directory with everything that is needed to score texts.

    bundle.json          format version, library versions, settings, metrics, sha256 of every file
    vocabulary.parquet   word, id, count
    model.keras          the model, for Keras
    weights.npz          the same weights as plain arrays, for the native engine, which needs no TensorFlow; missing for
                         a user network, which only Keras can compute
    seen.parquet         hashes of the training texts (datasets/seen.py); missing in bundles of older versions

A bundle with weights.npz has format 1; one without has format 2, which older versions of lstm-ray refuse.

A bundle contains no pickle. A directory without `bundle.json` is not a bundle; on an object store that file is written
last. On a local disk a bundle is written beside the old one and replaces it in one step (storage/directories.py).
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lstm_ray import storage, user_code
from lstm_ray.config import TrainConfig
from lstm_ray.datasets.seen import SeenTexts
from lstm_ray.errors import BundleError, InputError, OutputError
from lstm_ray.model.description import (
    DESCRIPTION,
    FILES,
    FORMAT_VERSION,
    USER_NETWORK_VERSION,
    VOCABULARY,
    Description,
    describe,
    hash_of,
    interpret,
    parse,
    seal,
    sha256,
)
from lstm_ray.model.keras_file import import_modules, modules_needed, open_keras_file
from lstm_ray.model.profile import Profile, TrainingData
from lstm_ray.model.weights import Mix, NetworkWeights
from lstm_ray.runtime.devices import memory_bytes
from lstm_ray.text.vocabulary import Vocabulary
from lstm_ray.wording import command_line, either, reason

if TYPE_CHECKING:
    import keras

_MOST_DESCRIPTION_BYTES = 16 << 20
_MOST_NAMED = 5  # bundles in a message
_MOST_RUNS = 100  # in which bundles are looked for; on an object store each takes two requests
_SEEN = "seen.parquet"
_OWN = frozenset({DESCRIPTION, _SEEN}.union(*FILES.values()))


@dataclass(frozen=True)
class Bundle(Description):
    """A bundle whose files have been read and checked against their hashes.

    Attributes:
        path: The bundle's directory.
        files: Content of each file that scoring needs, by name.
    """

    path: str
    files: dict[str, bytes]

    def vocabulary(self) -> Vocabulary:
        """Returns the vocabulary.

        Raises:
            BundleError: The file is not a vocabulary, or has more ids than the network.
        """
        try:
            vocabulary = Vocabulary.read(pa.BufferReader(self.files[VOCABULARY]))
        except InputError as error:
            raise BundleError(f"{self.path}: vocabulary.parquet: {error}") from error
        if vocabulary.size > self.text.vocabulary_size:
            raise BundleError(
                f"{self.path}: vocabulary.parquet has {vocabulary.size:,} ids, but vocabulary_size in {DESCRIPTION} "
                f"is {self.text.vocabulary_size:,}"
            )
        return vocabulary

    def weights(self) -> NetworkWeights:
        """Returns the weights as plain arrays. Must not be called for a user network.

        Raises:
            BundleError: The file is damaged, or contains a network that bundle.json does not describe.
        """
        assert self.model.network is None
        try:
            weights = NetworkWeights.from_bytes(self.files["weights.npz"])
            weights.check_settings(self.text, self.model)
        except BundleError as error:
            raise BundleError(f"{self.path}: weights.npz: {error}") from error
        return weights

    def knows_its_texts(self) -> bool:
        """Returns whether the bundle contains the hashes of its training texts; a user may have deleted them."""
        return _SEEN in self.sha256 and storage.exists(storage.join(self.path, _SEEN))

    def lost_its_texts(self) -> bool:
        """Returns whether these hashes were written, and deleted since."""
        return _SEEN in self.sha256 and not self.knows_its_texts()

    def seen(self) -> SeenTexts | None:
        """Reads the hashes of the training texts; returns None if the bundle does not contain them.

        The file is not kept in `files`, because scoring does not need it and it grows with the training rows.

        Raises:
            BundleError: The file is missing or damaged, or the bundle has been replaced by another.
        """
        if not self.knows_its_texts():
            return None
        content = _read_file(self.path, _SEEN, self.sha256[_SEEN])
        try:
            return SeenTexts.read(pa.BufferReader(content))
        except (pa.ArrowException, OSError, KeyError) as error:
            raise BundleError(f"{self.path}: the bundle's {_SEEN} is damaged: {reason(error)}") from error

    def keras_model(self) -> keras.Model:
        """Returns the Keras model, uncompiled. Imports TensorFlow, and the user's modules if the model needs them.

        Raises:
            BundleError: The model needs a module that is missing, or cannot be opened with the module found here.
        """
        modules = self._user_modules
        import_modules(self.path, modules)
        try:
            return open_keras_file(self.files["model.keras"], modules)
        except Exception as error:  # user layers may raise anything, and so may Keras for a manipulated file
            found = f" with {', '.join(modules)} as found here: has that changed since?" if modules else ":"
            # Keras then says how to open unsafe files, which lstm-ray does not do.
            said = user_code.described(error).partition(" If you trust the source")[0][:300]
            raise BundleError(f"{self.path}: its network does not open{found} {said}") from error

    def sources(self) -> dict[str, bytes]:
        """Returns the source files of the user's modules that the Keras model needs, for `user_code.unpacked`.

        Raises:
            BundleError: The model needs a module that is missing, or cannot be opened with the module found here.
        """
        files: dict[str, bytes] = {}
        if self._user_modules:
            self.keras_model()  # opening the model may import further modules
        for module in self._user_modules:
            files |= user_code.sources(module)
        return files

    def note(self) -> str | None:
        """Returns a note if modules that the Keras model needs have changed since its training; otherwise None."""
        changed = [path for path, now in self._code_here().items() if now not in (None, self.code[path])]
        return f"note: {', '.join(changed)}: changed since {self.path} was trained" if changed else None

    def identity(self) -> str:
        """Returns a hash of everything that scores depend on: the files, and the user's modules found here."""
        here = self._code_here()
        return self.hash if not here else hashlib.sha256(json.dumps([self.hash, here]).encode()).hexdigest()

    def _code_here(self) -> dict[str, str | None]:
        """Returns the sha256 of the user's modules found here, None for missing ones; empty if none are needed."""
        if not self._user_modules:
            return {}
        found = {path: user_code.source_of(path.removesuffix(".py").removesuffix("/__init__")) for path in self.code}
        return {path: None if content is None else sha256(content) for path, content in sorted(found.items())}

    @cached_property
    def _user_modules(self) -> list[str]:
        """Returns the user's modules that register layers of the Keras model. Imports nothing."""
        if self.model.network is None:
            return []
        return modules_needed(self.path, self.files["model.keras"], self.model.network.partition(":")[0])


def write_bundle(
    path: str,
    *,
    model: keras.Model,
    weights: NetworkWeights | None,
    vocabulary: Vocabulary,
    config: TrainConfig,
    metrics: dict[str, Any],
    threshold: float = 0.5,
    seen: SeenTexts | None = None,
    chosen_on: Sequence[int] = (),
    profile: TrainingData | None = None,
    mix: Mix | None = None,
    ngram_bias: float | None = None,
) -> None:
    """Writes a bundle, replacing an existing one.

    Args:
        path: The bundle's directory.
        model: The Keras model.
        weights: The same weights as plain arrays; None for a user network.
        vocabulary: The vocabulary.
        config: Settings of the training run.
        metrics: Validation metrics.
        threshold: Probability above which a review counts as positive.
        seen: The texts it was trained on; None if that is not known.
        chosen_on: The sum of the hashes of its validation rows, if there are any.
        profile: What the model read of the rows it was trained and validated on; None if that is not known.
        mix: What is multiplied into the weights of a network with n-grams.
        ngram_bias: The bias of these n-grams alone.

    Raises:
        OutputError: The bundle cannot be written.
    """
    files = {VOCABULARY: _written(vocabulary.write), **network_files(model, weights)}
    if seen is not None:
        files[_SEEN] = _written(seen.write)
    version = FORMAT_VERSION if weights is not None else USER_NETWORK_VERSION
    description = describe(version, config, files, threshold=threshold, metrics=metrics, chosen_on=chosen_on)
    if profile is not None:
        description["profile"] = profile.to_json()
    if mix is not None:
        description |= {"mix": asdict(mix), "ngram_bias": ngram_bias}
    if config.network is not None:
        code = user_code.sources(config.network.partition(":")[0])
        description["code"] = {name: sha256(content) for name, content in sorted(code.items())}
    _store(path, files, description)


def network_files(model: keras.Model, weights: NetworkWeights | None) -> dict[str, bytes]:
    """Returns the files of a bundle that hold its network, by name; `weights` is None for a user network."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model.keras"  # Keras saves to a path only
        model.save(path)
        files = {path.name: path.read_bytes()}
    if weights is not None:
        files["weights.npz"] = weights.to_bytes()
    return files


def _written(write: Callable[[io.BytesIO], None]) -> bytes:
    stream = io.BytesIO()
    write(stream)
    return stream.getvalue()


def with_files(bundle: Bundle, files: dict[str, bytes]) -> Bundle:
    """Returns a bundle in which some files have new content; it is not written yet, and keeps its hash."""
    changed = {name: sha256(content) for name, content in files.items()}
    return replace(bundle, files={**bundle.files, **files}, sha256={**bundle.sha256, **changed})


def write_calibrated(
    path: str, bundle: Bundle, threshold: float, metrics: dict[str, Any], chosen_on: int, temperature: float
) -> None:
    """Writes a bundle that `with_files` returned, with the other files of the original bundle.

    Args:
        path: Directory to write.
        bundle: The bundle.
        threshold: Probability above which a review counts as positive.
        metrics: Of the rows that it was calibrated on.
        chosen_on: The sum of the hashes of these rows.
        temperature: What its logits were divided by.

    Raises:
        BundleError: The original bundle no longer exists, or was replaced.
        OutputError: The bundle cannot be written.
    """
    description = parse(bundle.path, _read_description(bundle.path))
    if hash_of(description) != bundle.hash:  # which is still that of the bundle that it was made of
        raise BundleError(f"{bundle.path}: changed since the calibration began: run it again")
    files = dict(bundle.files)
    if bundle.knows_its_texts():
        files[_SEEN] = _read_file(bundle.path, _SEEN, bundle.sha256[_SEEN])
    changes: dict[str, Any] = {
        "threshold": threshold,
        "metrics": metrics,
        "chosen_on": [*bundle.chosen_on, chosen_on],
        "temperature": temperature * description.get("temperature", 1.0),
        "sha256": bundle.sha256,
    }
    if bundle.mix is not None:  # the weights that it was multiplied into have been divided
        changes["mix"] = {name: value / temperature for name, value in asdict(bundle.mix).items()}
    if bundle.profile is not None:  # its scores were those before
        validation = replace(bundle.profile.validation, scores=Profile().scores)
        changes["profile"] = replace(bundle.profile, validation=validation).to_json()
    _store(path, files, {**description, **changes})


def _store(path: str, files: dict[str, bytes], description: dict[str, Any]) -> None:
    """Writes the files of a bundle and its bundle.json, in which their hashes are."""
    files = {**files, DESCRIPTION: seal(description)}
    if storage.is_local(path):
        storage.replace_directory(path, files, _OWN)
    else:
        storage.delete(storage.join(path, DESCRIPTION))
        for name, content in files.items():  # bundle.json comes last
            storage.write_bytes(storage.join(path, name), content)


def delete_bundle(path: str) -> None:
    """Deletes the files of a bundle, if there is one, and its directory unless it has others, such as notes.

    Raises:
        OutputError: The files cannot be deleted.
    """
    for name in (DESCRIPTION, *sorted(_OWN)):  # without the first one it is not a bundle
        storage.delete(storage.join(path, name))
    if not storage.list_names(path):
        storage.delete(path)


def read_bundle(path: str) -> Bundle:
    """Reads a bundle and checks every file against its hash. Starts over if the bundle is replaced meanwhile.

    Raises:
        BundleError: The directory is missing or not a bundle, a file is missing or damaged, or the format is unknown.
    """
    while True:
        if not storage.exists(path):
            raise BundleError(f"{path}: no such model bundle{_hint(path)}")
        described = _read_description(path)
        try:
            return _read_files(path, described)
        except BundleError:
            if _read_description(path) == described:
                raise


def _read_description(path: str) -> bytes:
    description = storage.join(path, DESCRIPTION)
    try:
        return storage.read_bytes(description, _MOST_DESCRIPTION_BYTES)
    except InputError as error:
        if storage.exists(description):
            raise BundleError(f"{path}: not a model bundle: {error}") from error
        why = f"it has no {DESCRIPTION}" if _is_directory(path) else "it is a file"
        raise BundleError(f"{path}: not a model bundle: {why}{_hint(path)}") from error


def _read_files(path: str, described: bytes) -> Bundle:
    """Reads the files that the content of a bundle.json lists."""
    content = parse(path, described)
    description = interpret(path, content)
    names = FILES[content["format_version"]]
    files = {name: _read_file(path, name, description.sha256[name]) for name in names}
    return Bundle(**vars(description), path=path, files=files)


def _read_file(path: str, name: str, expected: str) -> bytes:
    """Reads a file of a bundle and checks its hash."""
    try:
        content = storage.read_bytes(storage.join(path, name), memory_bytes())  # it is read whole
    except InputError as error:
        raise BundleError(f"{path}: the bundle is incomplete: {error}") from error
    if sha256(content) != expected:
        raise BundleError(f"{path}: the bundle's {name} is damaged: its sha256 is not the one in {DESCRIPTION}")
    return content


def _hint(path: str) -> str:
    """Returns a hint for a missing bundle: those in or around the path, or that the training run has not finished."""
    found: list[str] = []
    with contextlib.suppress(InputError, OutputError):  # what is near may not be readable, or not a directory
        found = _bundles_near(path)
    if found:
        more = f" ({len(found) - _MOST_NAMED:,} more were found)" if len(found) > _MOST_NAMED else ""
        return f"; did you mean {either(found[:_MOST_NAMED])}?{more}"
    directory = storage.absolute(path).rstrip("/")
    for run in (directory, directory.removesuffix("/model")):
        settings = storage.join(run, "config.yaml")
        if storage.exists(settings) and storage.read_bytes(settings).startswith(b"command: train\n"):
            again = command_line("train", "--config", settings) if storage.is_local(run) else "the same command"
            return f"; the training run in {run} has not finished, and writes it at its end: {again} resumes it"
    return ""


def _bundles_near(path: str) -> list[str]:
    """Returns the bundle that a local file is in, or those of the runs that a directory is, or has in it.

    Near a missing path is what is in the directory that it or a missing run would be in: what is named like it, if any.
    """
    parent = storage.absolute(path).rstrip("/").rpartition("/")[0] or "/"
    given = path
    if storage.is_local(path) and not storage.exists(path):
        around = next((one for one in (parent, os.path.dirname(parent)) if _is_directory(one)), None)
        path = path if around is None else around
    if _is_directory(path):
        inside = storage.join(path, "model")
        near = [inside]
        if not storage.exists(storage.join(inside, DESCRIPTION)):
            runs = [storage.join(path, name) for name in storage.list_names(path)[:_MOST_RUNS]]
            near = [one for run in runs for one in (run, storage.join(run, "model"))]
    else:
        near = [str(one) for one in Path(path).parents] if storage.is_local(path) and "://" not in path else []
    found = [one for one in near if storage.exists(storage.join(one, DESCRIPTION))]
    if path == given:
        return found
    bundles = {one.removeprefix(path): one for one in found}
    close = difflib.get_close_matches(storage.absolute(given).removeprefix(path), bundles, 1, 0.8)
    return [bundles[one] for one in close] or found


def _is_directory(path: str) -> bool:
    return not storage.is_local(path) or Path(storage.locate(path)[1]).is_dir()
