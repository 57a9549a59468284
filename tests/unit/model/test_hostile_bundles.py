"""Bundles made to hang, crash or fill the memory of a reader: each is a BundleError."""

from __future__ import annotations

import io
import json
import os
import resource
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstm_ray.config import ModelSettings, TextSettings
from lstm_ray.errors import BundleError, InputError
from lstm_ray.model import bundle as bundle_module
from lstm_ray.model.bundle import read_bundle
from lstm_ray.model.description import seal, sha256
from lstm_ray.model.weights import LstmWeights, NetworkWeights
from lstm_ray.text.vocabulary import Vocabulary

TEXT = TextSettings(vocabulary_size=8, max_tokens=5)
MODEL = ModelSettings(embedding_size=2, units=3)
ROOM = 512 << 20  # bytes that reading a bundle of some hundred may take

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(autouse=True)
def scarce_memory() -> Iterator[None]:
    """Gives this process little more memory than it has."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def ones(*shape: int) -> Any:
    return np.full(shape, 0.1, np.float32)


def arrays() -> dict[str, Any]:
    """Returns what a weights.npz of these settings holds."""
    network = NetworkWeights(
        embedding=ones(8, 2),
        layers=((LstmWeights(ones(2, 12), ones(3, 12), ones(12)),),),
        output_kernel=ones(3),
        output_bias=0.0,
        pooling="last",
        masked=False,
        padding="pre",
        max_tokens=5,
    )
    return dict(np.load(io.BytesIO(network.to_bytes())))


def npz(content: dict[str, Any], compressed: bool = False) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, **content)
    return file.getvalue()


def zipped(members: dict[str, bytes], kind: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", kind) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def npy(header: str, content: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    """Returns a .npy array with the given header."""
    return b"\x93NUMPY" + version + len(header).to_bytes(2, "little") + header.encode() + content


def with_array(content: bytes, name: str = "max_tokens.npy") -> bytes:
    """Returns a weights.npz in which one array has any content."""
    with zipfile.ZipFile(io.BytesIO(npz(arrays()))) as archive:
        return zipped({**{member: archive.read(member) for member in archive.namelist()}, name: content})


def vocabulary(words: Any = (), counts: Any = None, size: object = 8, **options: Any) -> bytes:
    words = words if isinstance(words, pa.Array) else pa.array(list(words), pa.string())
    counts = pa.array(np.arange(len(words))) if counts is None else counts
    metadata = {} if size is None else {"size": str(size)}
    stream = pa.BufferOutputStream()
    pq.write_table(pa.table({"word": words, "count": counts}).replace_schema_metadata(metadata), stream, **options)
    return bytes(stream.getvalue())


WHOLE = {
    "vocabulary.parquet": vocabulary(["a", "b"]),
    "model.keras": zipped({"config.json": b"{}"}),
    "weights.npz": npz(arrays()),
}


def write(directory: Path, files: dict[str, bytes] | None = None, description: dict[str, Any] | None = None) -> str:
    """Writes a bundle whose hashes are right."""
    directory.mkdir(exist_ok=True)
    content = {**WHOLE, **(files or {})}
    described = {
        "format_version": 1,
        "text": TEXT.model_dump(mode="json"),
        "model": MODEL.model_dump(mode="json"),
        "threshold": 0.5,
        "metrics": {},
        "training": {},
        "sha256": {name: sha256(file) for name, file in content.items()},
        **(description or {}),
    }
    for name, file in {**content, "bundle.json": seal(described)}.items():
        (directory / name).write_bytes(file)
    return str(directory)


def open_all(path: str) -> None:
    """Does what scoring does with a bundle, up to the network."""
    bundle = read_bundle(path)
    bundle.vocabulary()
    bundle.weights()


def refused(path: str, use: Callable[[str], object] = open_all) -> str:
    with pytest.raises(BundleError) as raised:
        use(path)
    message = str(raised.value)
    assert message.startswith(f"{path}: ")
    assert len(message) < len(path) + 800
    assert "\n" not in message
    return message


def test_the_bundle_that_these_are_made_of_is_read(tmp_path: Path) -> None:
    open_all(write(tmp_path / "model"))


# What bundle.json says

SAYS: dict[str, tuple[dict[str, Any], str]] = {
    "threshold_nan": ({"threshold": float("nan")}, "threshold is nan"),
    "threshold_inf": ({"threshold": float("inf")}, "threshold is inf"),
    "threshold_negative": ({"threshold": -0.1}, "threshold is -0.1"),
    "threshold_above_1": ({"threshold": 1.5}, "threshold is 1.5"),
    "threshold_text": ({"threshold": "half"}, "threshold is 'half'"),
    "threshold_true": ({"threshold": True}, "threshold is True"),
    "threshold_number_as_text": ({"threshold": "0.5"}, "threshold is '0.5'"),
    "threshold_list": ({"threshold": [0.5]}, "threshold is [0.5]"),
    "threshold_digits": ({"threshold": int("1" * 400)}, "threshold is 1"),
    "tokens_none": ({"text": {**TEXT.model_dump(), "max_tokens": 0}}, "max_tokens is 0"),
    "tokens_negative": ({"text": {**TEXT.model_dump(), "max_tokens": -80}}, "max_tokens is -80"),
    "tokens_many": ({"text": {**TEXT.model_dump(), "max_tokens": 2**40}}, "max_tokens is 1099511627776"),
    "tokens_nan": ({"text": {**TEXT.model_dump(), "max_tokens": float("nan")}}, "max_tokens is nan"),
    "vocabulary_negative": ({"text": {**TEXT.model_dump(), "vocabulary_size": -1}}, "vocabulary_size is -1"),
    "vocabulary_other": ({"text": {**TEXT.model_dump(), "vocabulary_size": 2**40}}, "vocabulary_size of the network"),
    "embedding_negative": ({"model": {**MODEL.model_dump(), "embedding_size": -2}}, "embedding_size is -2"),
    "embedding_other": ({"model": {**MODEL.model_dump(), "embedding_size": 2**50}}, "embedding_size of the network"),
    "units_other": ({"model": {**MODEL.model_dump(), "units": 10**9}}, "units of the network weights is [3]"),
    "layers_many": ({"model": {**MODEL.model_dump(), "layers": 10**9}}, "layers is 1000000000"),
    "layers_other": ({"model": {**MODEL.model_dump(), "layers": 2}}, "layers of the network weights is 1"),
    "both_directions": ({"model": {**MODEL.model_dump(), "bidirectional": True}}, "bidirectional of the network"),
    "other_pooling": ({"model": {**MODEL.model_dump(), "pooling": "max"}}, "pooling of the network weights is last"),
    "other_mask": ({"model": {**MODEL.model_dump(), "mask": True}}, "mask of the network weights is False"),
    "other_padding": ({"text": {**TEXT.model_dump(), "padding": "post"}}, "padding of the network weights is pre"),
    "ngrams": ({"model": {**MODEL.model_dump(), "ngrams": 2}}, "ngrams of the network weights is 0"),
    "text_list": ({"text": [1]}, "valid dictionary"),
    "model_null": ({"model": None}, "valid dictionary"),
    "metrics_list": ({"metrics": []}, "metrics is []"),
    "training_text": ({"training": "x" * 10_000}, "training is 'xxx"),
    "hashes_list": ({"sha256": list(WHOLE)}, "sha256 is ["),
    "hashes_numbers": ({"sha256": dict.fromkeys(WHOLE, 3)}, "sha256.vocabulary.parquet is 3"),
    "code_list": ({"code": ["a.py"]}, "code is ['a.py']"),
    "code_numbers": ({"code": {"a.py": 3}}, "code.a.py is 3"),
    "version_list": ({"format_version": [1]}, "damaged: unhashable"),
    "version_true": ({"format_version": True}, "has bundle format True"),
    "version_float": ({"format_version": 1.0}, "has bundle format 1.0"),
    "version_text": ({"format_version": "1"}, "has bundle format 1"),
    "version_digits": ({"format_version": int("1" * 4000)}, "has bundle format 1"),
    "network_path": ({"model": {**MODEL.model_dump(), "network": "../x:y"}}, "network is '../x:y'"),
    "unknown_setting": ({"text": {**TEXT.model_dump(), "x" * 10_000: 1}}, "settings this version does not know"),
}


@pytest.mark.parametrize("name", SAYS)
def test_a_description_of_what_cannot_be_is_refused(tmp_path: Path, name: str) -> None:
    description, message = SAYS[name]
    assert message in refused(write(tmp_path / "model", description=description))


IS: dict[str, tuple[bytes, str]] = {
    "deep": (b"[" * 100_000, "bundle.json is damaged: maximum recursion depth"),
    "digits": (b'{"format_version": ' + b"1" * 100_000 + b"}", "bundle.json is damaged"),
    "not_utf8": (b'{"format_version": "\xff\xfe"}', "bundle.json is damaged"),
    "nul": (b"\0" * 1000, "bundle.json is damaged"),
    "large": (b" " * ((16 << 20) + 1), "has 16,777,217 bytes"),
    "blank_seal": (
        b'{"format_version": 1, "self_sha256": "", "x": "' + b"y" * 10_000_000 + b'"}',
        "damaged: its sha256",
    ),
    "short_seal": (b'{"format_version": 1, "self_sha256": "y", "x": "' + b"y" * 10_000_000 + b'"}', "damaged: its sha"),
    "surrogate_seal": (b'{"format_version": 1, "self_sha256": "\\ud800"}', "damaged: its sha256"),
}


@pytest.mark.parametrize("name", IS)
def test_a_description_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    content, message = IS[name]
    path = write(tmp_path / "model")
    (tmp_path / "model" / "bundle.json").write_bytes(content)
    assert message in refused(path)


@pytest.mark.parametrize("name", ["bundle.json", *WHOLE])
@pytest.mark.parametrize("kind", ["pipe", "device", "directory", "dangling", "enormous"])
def test_what_is_no_file_or_too_large_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: str
) -> None:
    path = write(tmp_path / "model")
    monkeypatch.setattr(bundle_module, "memory_bytes", lambda: 32 << 20)
    file = tmp_path / "model" / name
    file.unlink()
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "directory":
        file.mkdir()
    elif kind == "enormous":
        with file.open("wb") as sparse:
            sparse.truncate(1 << 36)
    else:
        file.symlink_to("/dev/zero" if kind == "device" else "nowhere")
    expected = {"pipe": "not a regular file", "device": "not a regular file", "enormous": "bytes; at most"}
    message = refused(path)
    assert expected.get(kind, "cannot be read" if kind == "directory" or name != "bundle.json" else "has no") in message
    assert name in message


# What is in the other files

HEADER = "{'descr': '<i8', 'fortran_order': False, 'shape': %s}"
FILES: dict[str, tuple[str, bytes, str]] = {
    "tokens_many": (
        "weights.npz",
        npz({**arrays(), "max_tokens": np.array(2**40)}),
        "max_tokens of the network weights",
    ),
    "tokens_negative": ("weights.npz", npz({**arrays(), "max_tokens": np.array(-1)}), "must be at least 1"),
    "tokens_infinite": ("weights.npz", npz({**arrays(), "max_tokens": np.array(np.inf)}), "setting of the wrong shape"),
    "tokens_text": ("weights.npz", npz({**arrays(), "max_tokens": np.array("x")}), "setting of the wrong shape"),
    "tokens_several": ("weights.npz", npz({**arrays(), "max_tokens": np.ones(9)}), "setting of the wrong shape"),
    "words_fewer": (
        "weights.npz",
        npz({**arrays(), "embedding": ones(6, 2)}),
        "vocabulary_size of the network weights is 6",
    ),
    "words_more": (
        "weights.npz",
        npz({**arrays(), "embedding": ones(9, 2)}),
        "vocabulary_size of the network weights is 9",
    ),
    "bias_nan": ("weights.npz", npz({**arrays(), "output_bias": np.array(np.nan)}), "must be finite"),
    "weight_infinite": ("weights.npz", npz({**arrays(), "output_kernel": ones(3) * np.inf}), "not finite"),
    "pooling_list": (
        "weights.npz",
        npz({**arrays(), "pooling": np.array(["last", "max"])}),
        "setting of the wrong shape",
    ),
    "directions_many": ("weights.npz", npz({**arrays(), "directions": np.array([2**40])}), "lack an array"),
    "directions_negative": ("weights.npz", npz({**arrays(), "directions": np.array([-1])}), "0 directions"),
    "directions_nested": ("weights.npz", npz({**arrays(), "directions": np.ones((2, 2), int)}), "setting of the wrong"),
    "layers_many": ("weights.npz", npz({**arrays(), "directions": np.zeros(100_000, int)}), "0 directions"),
    "table_alone": (
        "weights.npz",
        npz({**arrays(), "ngram_table": ones(4)}),
        "ngrams of the network weights is 0, with a table",
    ),
    "pickle": ("weights.npz", npz({**arrays(), "x": np.array([{}], object)}), "not a readable .npz"),
    "packed": ("weights.npz", npz({**arrays(), "x": np.zeros(50_000_000, np.int8)}, True), "would unpack from"),
    "no_array": ("weights.npz", with_array(b"x" * 100), "not a readable .npz"),
    "empty_array": ("weights.npz", with_array(b""), "not a readable .npz"),
    "promise": ("weights.npz", with_array(npy(HEADER % "(1099511627776,)")), "its header says 8,796,093,022,208"),
    "promise_beyond": ("weights.npz", with_array(npy(HEADER % "(2**99, 0)")), "not a readable .npz"),
    "promise_of_nothing": ("weights.npz", with_array(npy(HEADER % f"({2**99}, 0)")), "not a readable .npz"),
    "promise_negative": ("weights.npz", with_array(npy(HEADER % "(-1,)", b"x" * 8)), "its header says -8"),
    "promise_twice_negative": ("weights.npz", with_array(npy(HEADER % "(-1, -1)", b"x" * 8)), "not a readable .npz"),
    "more_than_promised": (
        "weights.npz",
        with_array(npy(HEADER % "()", b"x" * 80)),
        "has 80 bytes, but its header says 8",
    ),
    "no_size": (
        "weights.npz",
        with_array(npy("{'descr': '<U0', 'fortran_order': False, 'shape': (9999999,)}")),
        "bytes",
    ),
    "fields": (
        "weights.npz",
        with_array(npy("{'descr': [('a', '<i8')], 'fortran_order': False, 'shape': ()}", b"x" * 8)),
        "setting of the wrong shape",
    ),
    "header_open": ("weights.npz", with_array(npy("{" * 5_000)), "not a readable .npz"),
    "header_minus": ("weights.npz", with_array(npy(HEADER % ("-" * 5_000 + "1"))), "not a readable .npz"),
    "header_long": ("weights.npz", with_array(npy(" " * 60_000)), "not a readable .npz"),
    "header_code": ("weights.npz", with_array(npy(HEADER % "__import__('os').getcwd()")), "not a readable .npz"),
    "other_version": ("weights.npz", with_array(npy(HEADER % "()", b"x" * 8, b"\x09\x00")), "not a readable .npz"),
    "nothing": ("weights.npz", b"", "not a readable .npz"),
    "no_zip": ("weights.npz", b"PK" * 1000, "not a readable .npz"),
    "word_repeated": (
        "vocabulary.parquet",
        vocabulary(pa.DictionaryArray.from_arrays(np.zeros(100_000, np.int32), pa.array(["x" * 100_000]))),
        "missing or duplicate",
    ),
    "word_and_count_repeated": (
        "vocabulary.parquet",
        vocabulary(pa.DictionaryArray.from_arrays(np.zeros(100_000, np.int32), pa.array(["x"])), pa.repeat(1, 100_000)),
        "would unpack to 100,000 words",
    ),
    "words_repeated": (
        "vocabulary.parquet",
        vocabulary(
            pa.DictionaryArray.from_arrays(np.tile(np.arange(2000, dtype=np.int32), 3), pa.array(map(str, range(2000))))
        ),
        "missing or duplicate",
    ),
    "long_words": (
        "vocabulary.parquet",
        vocabulary(["x" * 9_000_000, "y" * 9_000_000], compression="zstd"),
        "would unpack",
    ),
    "no_word": ("vocabulary.parquet", vocabulary(["a", None]), "a word is missing"),
    "not_utf8": (
        "vocabulary.parquet",
        vocabulary(pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff"]).buffers())),
        "not a vocabulary",
    ),
    "words_nested": ("vocabulary.parquet", vocabulary(pa.array([["a"]])), "not a vocabulary"),
    "no_counts": ("vocabulary.parquet", vocabulary(["a"], pa.array([None], pa.int64())), "a word is missing"),
    "counts_text": ("vocabulary.parquet", vocabulary(["a"], pa.array(["many"])), "not a vocabulary"),
    "ids_more": ("vocabulary.parquet", vocabulary(["a"], size=9), "has 9 ids, but vocabulary_size"),
    "ids_digits": ("vocabulary.parquet", vocabulary(["a"], size="9" * 5_000), "not a vocabulary"),
    "ids_unknown": ("vocabulary.parquet", vocabulary(["a"], size=None), "(the number of its ids is missing)"),
    "no_parquet": ("vocabulary.parquet", b"word,count\na,1\n", "not a vocabulary"),
    "half_a_parquet": ("vocabulary.parquet", vocabulary(["a"])[50:], "not a vocabulary"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_made_to_harm_is_refused_and_named(tmp_path: Path, name: str) -> None:
    file, content, message = FILES[name]
    found = refused(write(tmp_path / "model", {file: content}))
    assert message in found
    assert file in found


KERAS: dict[str, tuple[bytes, str]] = {
    "packed": (zipped({"config.json": b" " * 20_000_000}, zipfile.ZIP_DEFLATED), "it would unpack from"),
    "deep": (zipped({"config.json": b"[" * 100_000}), "maximum recursion depth"),
    "no_zip": (b"\x89HDF", "not a zip file"),
    "no_description": (zipped({"x": b""}), "config.json"),
    "no_json": (zipped({"config.json": b"\xff\xfe\0"}), "model.keras is not a Keras model"),
    "module_path": (
        zipped({"config.json": json.dumps({"module": "../../etc", "registered_name": "x>Y"}).encode()}),
        "not a module's name",
    ),
}


@pytest.mark.parametrize("name", KERAS)
def test_a_keras_file_made_to_harm_is_refused(tmp_path: Path, name: str) -> None:
    content, message = KERAS[name]
    description = {"format_version": 2, "model": {**MODEL.model_dump(mode="json"), "network": "mine:build"}}
    path = write(tmp_path / "model", {"model.keras": content}, description)
    assert message in refused(path, lambda path: read_bundle(path).keras_model())


def test_a_keras_file_of_our_own_networks_is_not_unpacked_either(tmp_path: Path) -> None:
    path = write(tmp_path / "model", {"model.keras": KERAS["packed"][0]})
    assert "it would unpack from" in refused(path, lambda path: read_bundle(path).keras_model())


# What hypothesis draws

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from([2**40, -1, 0, 1]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=60)
@given(st.data())
def test_any_change_of_the_description_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = Path(write(tmp_path_factory.getbasetemp() / "drawn_description"))
    description = json.loads((path / "bundle.json").read_text(encoding="utf-8"))
    del description["self_sha256"]
    inner = description
    if data.draw(st.booleans()):
        inner = description[data.draw(st.sampled_from(["text", "model", "sha256", "metrics", "training"]))]
    key = data.draw(st.sampled_from([*inner, "another"]))
    inner[key] = data.draw(json_values)
    (path / "bundle.json").write_bytes(seal(description))
    try:
        bundle = read_bundle(str(path))
        bundle.vocabulary()
        bundle.weights()
    except BundleError:
        return
    assert 0 <= bundle.threshold <= 1
    assert bundle.text.max_tokens == 5
    assert (bundle.text.vocabulary_size, bundle.model.embedding_size, bundle.model.units) == (8, 2, 3)


drawn_arrays = st.builds(
    lambda shape, kind, value: np.full(shape, value).astype(kind),
    st.lists(st.integers(0, 13), max_size=3).map(tuple),
    st.sampled_from(["float32", "float64", "int64", "bool", "complex64", "U3", "S2", ">f4", "int8"]),
    st.sampled_from([0, 1, 2, 5]),
)


@settings(max_examples=60)
@given(
    changes=st.dictionaries(st.sampled_from(sorted(arrays())), drawn_arrays, min_size=1, max_size=3),
    left_out=st.sets(st.sampled_from([*sorted(arrays()), "ngrams"]), max_size=1),
)
def test_weights_of_any_shapes_are_read_or_refused(changes: dict[str, Any], left_out: set[str]) -> None:
    content = {name: array for name, array in {**arrays(), **changes}.items() if name not in left_out}
    try:
        network = NetworkWeights.from_bytes(npz(content))
        network.check_settings(TEXT, MODEL)
    except BundleError:
        return
    assert network.embedding.shape == (8, 2)
    assert network.layers[0][0].kernel.shape == (2, 12)
    assert network.max_tokens == 5


@settings(max_examples=60)
@given(position=st.integers(0, len(WHOLE["weights.npz"]) - 1), byte=st.integers(0, 255), length=st.integers(1, 8))
def test_weights_with_any_bytes_changed_are_read_or_refused(position: int, byte: int, length: int) -> None:
    content = bytearray(WHOLE["weights.npz"])
    content[position : position + length] = bytes([byte]) * length
    try:
        NetworkWeights.from_bytes(bytes(content)).check_settings(TEXT, MODEL)
    except BundleError:
        return


@settings(max_examples=60)
@given(position=st.integers(0, len(WHOLE["vocabulary.parquet"]) - 1), byte=st.integers(0, 255))
def test_a_vocabulary_with_any_byte_changed_is_read_or_refused(position: int, byte: int) -> None:
    content = bytearray(WHOLE["vocabulary.parquet"])
    content[position] = byte
    try:
        words = Vocabulary.read(pa.BufferReader(bytes(content)))
    except InputError:
        return
    assert len(words.words) == len(words.counts) <= len(content)
