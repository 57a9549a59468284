"""bundle.json, the file that describes a bundle: written, read and checked; bundle.py stores it and the other files.

It names the format version, and holds the sha256 of the other files and of itself. Older versions of lstm-ray refuse
settings that they do not know. So that they can read the bundle, such a setting is left out while it has its default,
which means what they compute.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, Field, ValidationError

import lstm_ray
from lstm_ray.config import ModelSettings, Settings, TextSettings, TrainConfig, meaning_of
from lstm_ray.errors import BundleError
from lstm_ray.model.profile import TrainingData
from lstm_ray.model.weights import Mix
from lstm_ray.wording import reason, shortened

S = TypeVar("S", bound=Settings)

DESCRIPTION = "bundle.json"
VOCABULARY = "vocabulary.parquet"
FORMAT_VERSION = 1
USER_NETWORK_VERSION = 2
FILES = {
    FORMAT_VERSION: (VOCABULARY, "model.keras", "weights.npz"),
    USER_NETWORK_VERSION: (VOCABULARY, "model.keras"),
}
"""The files that scoring needs, by format version. Versions of lstm-ray that do not know a format refuse it."""

_BLANK_HASH = "0" * 64
_HASH = re.compile("[0-9a-f]{64}")


class _Rest(BaseModel):
    """The content of bundle.json besides settings and profile, as far as it is read; see `Description`."""

    threshold: float = Field(ge=0, le=1, strict=True)  # true is no threshold
    metrics: dict[str, Any]
    training: dict[str, Any]
    sha256: dict[str, str]
    chosen_on: list[int] = []
    code: dict[str, str] = {}
    mix: Mix | None = None
    ngram_bias: float | None = None


@dataclass(frozen=True)
class Description:
    """What bundle.json says about a bundle.

    Attributes:
        text: How texts become token ids.
        model: The network's settings.
        threshold: Probability above which a review counts as positive.
        metrics: Validation metrics of the saved epoch; empty if there was no validation.
        training: The training run's settings.
        profile: What the model read of the rows it was trained and validated on; None in bundles of older versions.
        hash: sha256 over the hashes of its files.
        chosen_on: The sum of the hashes (`datasets.seen.sum_of`) of each set of rows on which its epoch, mix or
            threshold was chosen; empty in bundles of older versions.
        code: sha256 of the user's modules at training time, by path; empty without a user network.
        mix: The mix, by which the weights of a network with n-grams have been multiplied; None without n-grams, and in
            older bundles.
        ngram_bias: The bias of the n-grams alone; None likewise.
        sha256: sha256 of each file, by name.
    """

    text: TextSettings
    model: ModelSettings
    threshold: float
    metrics: dict[str, Any]
    training: dict[str, Any]
    profile: TrainingData | None
    hash: str
    chosen_on: list[int]
    code: dict[str, str]
    mix: Mix | None
    ngram_bias: float | None
    sha256: dict[str, str]


def describe(
    version: int,
    config: TrainConfig,
    files: Mapping[str, bytes],
    *,
    threshold: float,
    metrics: dict[str, Any],
    chosen_on: Sequence[int],
) -> dict[str, Any]:
    """Returns what every bundle.json says: format and libraries, settings, metrics, the hashes of the other files."""
    import keras
    import tensorflow as tf

    fields = TrainConfig.model_fields
    left_out = {name for name in meaning_of(TrainConfig, "later") if getattr(config, name) == fields[name].default}
    return {
        "format_version": version,
        "text": config.model_dump(mode="json", include=set(TextSettings.model_fields) - left_out),
        "model": config.model_dump(mode="json", include=set(ModelSettings.model_fields) - left_out),
        "labels": ["negative", "positive"],
        "threshold": threshold,
        "metrics": metrics,
        "chosen_on": list(chosen_on),
        "training": config.model_dump(mode="json", exclude=left_out),
        "versions": {
            "lstm_ray": lstm_ray.__version__,
            "python": platform.python_version(),
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
            "pyarrow": pa.__version__,
            "numpy": np.__version__,
        },
        "sha256": {name: sha256(content) for name, content in files.items()},
    }


def parse(path: str, content: bytes) -> dict[str, Any]:
    """Returns the content of a bundle.json, after checking its format, its hash and that nothing is missing.

    Raises:
        BundleError: The file is damaged, or its format is unknown.
    """
    try:
        described = json.loads(content)
        version = described["format_version"]
        missing = {"text", "model", "threshold", "metrics", "training", "sha256"} - set(described)
        absent = set(FILES.get(version, ())) - set(described.get("sha256", {}))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BundleError(f"{path}: {DESCRIPTION} is damaged: {reason(error)}") from error
    if type(version) is not int or version not in FILES:  # true and 1.0 equal 1
        raise BundleError(
            f"{path}: {DESCRIPTION} has bundle format {shortened(str(version))}, but this is lstm-ray "
            f"{lstm_ray.__version__}, which reads formats {' and '.join(map(str, FILES))}: install a newer lstm-ray"
        )
    if not _is_sealed(content, str(described.get("self_sha256"))):
        raise BundleError(f"{path}: {DESCRIPTION} is damaged: its sha256 is not the one in it")
    if missing or absent:
        raise BundleError(f"{path}: {DESCRIPTION} is damaged: it lacks {', '.join(sorted(missing | absent))}")
    return dict(described)


def interpret(path: str, described: Mapping[str, Any]) -> Description:
    """Returns the content that `parse` returned as typed settings.

    Raises:
        BundleError: The bundle has settings that this version does not know, or invalid values.
    """
    text = _settings(path, TextSettings, described["text"])
    model = _settings(path, ModelSettings, described["model"])
    try:
        rest = _Rest.model_validate(described)
    except ValidationError as error:
        raise BundleError(f"{path}: {DESCRIPTION} is damaged: {_on_one_line(error)}") from error
    profile = _profile(path, described.get("profile"))
    return Description(text=text, model=model, profile=profile, hash=hash_of(described), **dict(rest))


def hash_of(described: Mapping[str, Any]) -> str:
    """Returns the hash of all that a bundle's scores depend on."""
    combined = hashlib.sha256(json.dumps(sorted(described["sha256"].items())).encode())
    for part in ("text", "model", "threshold"):
        combined.update(json.dumps(described[part], sort_keys=True).encode())
    return combined.hexdigest()


def sha256(content: bytes) -> str:
    """Returns the hash of a file."""
    return hashlib.sha256(content).hexdigest()


def seal(described: Mapping[str, Any]) -> bytes:
    """Returns bundle.json as text. `self_sha256` is the hash of this text with zeros in place of the hash."""
    blank = json.dumps({**described, "self_sha256": _BLANK_HASH}, indent=2) + "\n"
    return blank.replace(_BLANK_HASH, sha256(blank.encode())).encode()


def _is_sealed(content: bytes, claimed: str) -> bool:
    return bool(_HASH.fullmatch(claimed)) and sha256(content.replace(claimed.encode(), _BLANK_HASH.encode())) == claimed


def _settings(path: str, kind: type[S], described: Any) -> S:
    """Returns settings of a bundle.json; those that it leaves out have their defaults."""
    try:
        return kind.model_validate(described)
    except ValidationError as error:
        raise BundleError(
            f"{path}: {DESCRIPTION} has settings this version does not know: {_on_one_line(error)}"
        ) from error


def _profile(path: str, described: Any) -> TrainingData | None:
    """Returns the counts of a bundle.json; None if it has none."""
    if described is None:
        return None
    try:
        return TrainingData.from_json(described)
    except ValueError as error:
        raise BundleError(f"{path}: {DESCRIPTION} is damaged: profile: {error}") from error


def _on_one_line(error: ValidationError) -> str:
    """Returns a validation error as one line."""
    found = (
        (shortened(".".join(map(str, problem["loc"]))), shortened(repr(problem["input"])), problem["msg"])
        for problem in error.errors()
    )
    return "; ".join(f"{field} is {value}: {message[0].lower()}{message[1:]}" for field, value, message in found)
