"""Exports a bundle's network for other runtimes: ONNX or TensorFlow's SavedModel, from token ids to probabilities.

    OUTPUT/model.onnx | saved_model/    the network
    OUTPUT/vocabulary.parquet           word, id, count
    OUTPUT/vocabulary.json              the words with their ids, for programs that cannot read Parquet
    OUTPUT/export.json                  input and output, the steps from a text to token ids, an example for checking

The network takes token ids, because no runtime tokenizes like lstm-ray: callers follow the steps in export.json.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lstm_ray import storage
from lstm_ray.config import TextSettings
from lstm_ray.errors import ConfigError
from lstm_ray.model.architectures import INPUT_NAME, OUTPUT_NAME
from lstm_ray.model.bundle import Bundle, read_bundle
from lstm_ray.runtime.stderr import held_back
from lstm_ray.score.scorer import Encoder, make_engine, pick_engine
from lstm_ray.text.sequences import PAD_ID, kept_ends, pad
from lstm_ray.text.tokenize import FILTERED, LINE_BREAK, PUNCTUATION
from lstm_ray.text.vocabulary import FIRST_WORD_ID, OOV_ID, START_ID

_EXAMPLE = "Not bad<br />at all: it's GOOD!"


@dataclass(frozen=True)
class Exported:
    """The result of an export.

    Attributes:
        output: The directory that was written.
        model: Name of the network's file or directory in it.
        description: Content of export.json.
        note: A message for the user about the bundle, or None.
    """

    output: str
    model: str
    description: dict[str, Any]
    note: str | None


def export(model: str, kind: str, output: str) -> Exported:
    """Writes a bundle's network in another format, with its vocabulary and export.json.

    Args:
        model: Directory of the bundle.
        kind: "onnx" or "savedmodel".
        output: A new or empty directory.

    Raises:
        ConfigError: The format is unknown, or the package that it needs is not installed.
        BundleError: The model cannot be used.
        OutputError: The directory is not empty, or cannot be written.
    """
    if kind not in _FORMATS:
        raise ConfigError(f"--format is {kind!r}: should be {' or '.join(_FORMATS)}")
    name, export_network, output_name = _FORMATS[kind]
    storage.check_empty(output)
    bundle = read_bundle(model)
    files = dict(export_network(bundle))
    description = {"format": kind, "model": name, **_describe(bundle, output_name)}
    files["vocabulary.parquet"] = bundle.files["vocabulary.parquet"]
    files["vocabulary.json"] = json.dumps(_ids(files["vocabulary.parquet"]), ensure_ascii=False).encode()
    files["export.json"] = (json.dumps(description, indent=2, ensure_ascii=False) + "\n").encode()
    for path, content in files.items():
        storage.write_bytes(storage.join(output, path), content)
    return Exported(output, name, description, bundle.note())


def _export_onnx(bundle: Bundle) -> Mapping[str, bytes]:
    if bundle.model.network is not None:
        raise ConfigError(
            f"--format onnx exports only lstm-ray's own networks, but {bundle.model.network} built this one: "
            "use --format savedmodel"
        )
    try:
        from lstm_ray.export.onnx_graph import onnx_model
    except ModuleNotFoundError as error:
        raise ConfigError("--format onnx needs ONNX: pip install 'lstm-ray[onnx]'") from error
    return {"model.onnx": onnx_model(bundle.weights()).SerializeToString()}


def _export_savedmodel(bundle: Bundle) -> Mapping[str, bytes]:
    from lstm_ray.runtime.tensorflow import start_tensorflow

    start_tensorflow()
    model = bundle.keras_model()
    with tempfile.TemporaryDirectory() as temporary, held_back():
        directory = Path(temporary)
        model.export(directory / "saved_model", format="tf_saved_model", verbose=False)
        files = sorted(path for path in directory.rglob("*") if path.is_file())
        return {str(path.relative_to(directory)): path.read_bytes() for path in files}


_Export = Callable[[Bundle], Mapping[str, bytes]]
_FORMATS: dict[str, tuple[str, _Export, str]] = {
    "onnx": ("model.onnx", _export_onnx, OUTPUT_NAME),
    "savedmodel": ("saved_model", _export_savedmodel, "output_0"),  # Keras's name for a single output
}


def _describe(bundle: Bundle, output_name: str) -> dict[str, Any]:
    """Returns the content of export.json, except the format and the name of the network's file."""
    text = bundle.text
    time: int | str = "time" if bundle.model.mask else text.max_tokens
    return {
        "input": {"name": _input_name(bundle), "type": "int32", "shape": ["batch", time]},
        "output": {"name": output_name, "type": "float32", "shape": ["batch", 1], "holds": "probability of positive"},
        "threshold": bundle.threshold,
        "ids": {"padding": PAD_ID, "start": START_ID, "unknown": OOV_ID, "first_word": FIRST_WORD_ID},
        "text": text.model_dump(mode="json"),
        "steps": _steps(text, bundle.model.mask),
        "example": _example(bundle),
        "bundle": {"hash": bundle.hash},
    }


def _ids(vocabulary: bytes) -> dict[str, int]:
    """Returns the ids of the words of a vocabulary, the content of its file."""
    listed = pq.read_table(pa.BufferReader(vocabulary), columns=["word", "id"]).to_pydict()
    return dict(zip(listed["word"], listed["id"], strict=True))


def _input_name(bundle: Bundle) -> str:
    return INPUT_NAME if bundle.model.network is None else str(bundle.keras_model().inputs[0].name)


def _steps(text: TextSettings, masked: bool) -> list[str]:
    """Returns instructions for converting a text into a row of the input, in order."""
    spaces = "white space" if text.split_on == "whitespace" else "spaces (U+0020) alone"
    unlisted = "left out" if text.unlisted_words == "drop" else f"id {OOV_ID}"
    kept = " and ".join(
        f"the {end} {count} ids"
        for end, count in zip(("first", "last"), kept_ends(text.max_tokens, text.truncating), strict=True)
        if count
    )
    spaced = {
        "drop": [f"replace each of these characters by a space: {FILTERED}"],
        "keep": [
            f"put a space before and after each of these characters: {PUNCTUATION}",
            "replace tabs and newlines by spaces",
        ],
    }
    side = "in front" if text.padding == "pre" else "at the end"
    length = "as long as the batch's longest" if masked else f"{text.max_tokens} ids long"
    return [
        *([f"replace matches of the regular expression {LINE_BREAK} by a space"] if text.strip_html else []),
        f"lower-case {'A to Z' if text.lowercase == 'ascii' else 'all letters, as Unicode does'}",
        *spaced[text.punctuation],
        f"split into words at {spaces}; a text without words has no score",
        f"look up each word's id in vocabulary.parquet or vocabulary.json; a word that is not in it is {unlisted}",
        f"an id of {text.vocabulary_size} or more becomes {OOV_ID}",
        f"put {START_ID} in front",
        f"of more than {text.max_tokens} ids keep {kept}",
        f"pad with {PAD_ID} {side} until the row is {length}",
    ]


def _example(bundle: Bundle) -> dict[str, Any]:
    """Returns an example text, its row of the input, and its probability."""
    sequences = Encoder(bundle).encode(pa.array([_EXAMPLE], pa.large_string())).sequences
    length = int(sequences.lengths[0]) if bundle.model.mask else bundle.text.max_tokens
    row = pad(sequences, length, bundle.text.padding)[0]
    engine = make_engine(bundle, pick_engine("auto", False, bundle.model.network), threads=1)
    probability = engine.probabilities(sequences)
    return {"text": _EXAMPLE, "ids": row.tolist(), "probability": float(probability[0])}
