"""Bundles: written and read back; one changed byte is noticed; a new bundle replaces an old one atomically."""

import io
import json
import re
import shutil
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstm_ray import storage
from lstm_ray.config import ModelSettings, TextSettings, TrainConfig, to_yaml
from lstm_ray.datasets.seen import SeenTexts, hash_texts
from lstm_ray.errors import BundleError, OutputError
from lstm_ray.model.architectures import build_model, network_weights
from lstm_ray.model.bundle import Bundle, read_bundle, write_bundle
from lstm_ray.model.description import seal
from lstm_ray.model.profile import Profile, TrainingData
from lstm_ray.runtime.tensorflow import start_tensorflow
from lstm_ray.storage import directories
from lstm_ray.text.vocabulary import Vocabulary

FILES = ["bundle.json", "model.keras", "vocabulary.parquet", "weights.npz"]
CONFIG = TrainConfig(
    preset="none",
    vocabulary_size=50,
    max_tokens=7,
    embedding_size=3,
    units=4,
    padding="post",
    pooling="max",
    mask=True,
    train=("é",),
)
METRICS = {"accuracy": 0.75, "auc": None, "rows": 4}


def parts(seed: int = 0, config: TrainConfig = CONFIG) -> dict[str, Any]:
    """Arguments of `write_bundle`."""
    start_tensorflow()
    model = build_model(config, config, seed)
    words = pa.array([f"word{rank}" for rank in range(46)], pa.large_string())
    return {
        "model": model,
        "weights": network_weights(model, config, config),
        "vocabulary": Vocabulary(words, pa.array(range(46, 0, -1), pa.int64()), config.vocabulary_size),
        "config": config,
        "metrics": METRICS,
        "threshold": 0.4,
    }


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that nobody may change."""
    path = tmp_path_factory.mktemp("written") / "model"
    write_bundle(str(path), **parts())
    return path


@pytest.fixture
def copy(written: Path, tmp_path: Path) -> Path:
    shutil.copytree(written, tmp_path / "model")
    return tmp_path / "model"


# Round trip


def test_what_is_written_is_read(written: Path) -> None:
    read = read_bundle(str(written))
    expected = parts()
    assert sorted(content(written)) == FILES
    assert read.path == str(written)
    assert read.text == TextSettings(vocabulary_size=50, max_tokens=7, padding="post")
    assert read.model == ModelSettings(embedding_size=3, units=4, pooling="max", mask=True)
    assert (read.threshold, read.metrics) == (0.4, METRICS)
    assert TrainConfig.model_validate(read.training) == CONFIG
    vocabulary = read.vocabulary()
    assert vocabulary.words == expected["vocabulary"].words
    assert vocabulary.counts == expected["vocabulary"].counts
    assert vocabulary.size == 50
    np.testing.assert_array_equal(read.weights().embedding, expected["weights"].embedding)
    np.testing.assert_array_equal(read.weights().layers[0][0].kernel, expected["weights"].layers[0][0].kernel)
    token_ids = np.array([[1, 4, 49, 0], [1, 2, 3, 5]], np.int32)
    np.testing.assert_array_equal(read.keras_model()(token_ids), expected["model"](token_ids))


def test_without_ngrams_older_versions_read_it(written: Path) -> None:
    description = json.loads((written / "bundle.json").read_text(encoding="utf-8"))
    for part in ("model", "training"):
        assert not {"ngrams", "ngram_buckets"} & description[part].keys()
    with zipfile.ZipFile(written / "weights.npz") as archive:
        assert not [name for name in archive.namelist() if name.startswith("ngram")]
    assert read_bundle(str(written)).weights().ngram_table is None


def test_ngrams_are_read_as_they_were_written(make_bundle: Callable[..., Path]) -> None:
    read = read_bundle(str(make_bundle(ngrams=2, ngram_buckets=97)))
    assert (read.model.ngrams, read.model.ngram_buckets) == (2, 97)
    weights, model = read.weights(), read.keras_model()
    assert weights.ngrams == 2
    assert weights.ngram_table is not None
    np.testing.assert_array_equal(weights.ngram_table, model.get_layer("ngram_table").embeddings[:, 0])
    np.testing.assert_array_equal(weights.output_kernel, model.get_layer("lstm_logit").kernel[:, 0])


def test_the_description_is_for_people_too(written: Path) -> None:
    description = json.loads((written / "bundle.json").read_text(encoding="utf-8"))
    assert description["format_version"] == 1
    assert description["labels"] == ["negative", "positive"]
    assert set(description["versions"]) == {"lstm_ray", "python", "keras", "tensorflow", "pyarrow", "numpy"}
    assert sorted(description["sha256"]) == FILES[1:]


def test_the_hash_changes_if_a_score_could_and_only_then(tmp_path: Path, written: Path) -> None:
    unchanged = read_bundle(str(written)).hash
    for place, (change, same) in enumerate(
        [
            ({}, True),
            ({"metrics": {}}, True),
            ({"config": CONFIG.model_copy(update={"epochs": 9, "output": "elsewhere"})}, True),
            ({"threshold": 0.5}, False),
            ({"config": CONFIG.model_copy(update={"strip_html": False})}, False),
        ]
    ):
        # The same weights, but not written anew: a .keras file holds the time of its writing.
        path = tmp_path / str(place)
        write_bundle(str(path), **{**parts(), **change})
        rewritten = json.loads((path / "bundle.json").read_text(encoding="utf-8"))
        for name in FILES[1:]:
            shutil.copy(written / name, path / name)
        rewritten["sha256"] = json.loads((written / "bundle.json").read_text(encoding="utf-8"))["sha256"]
        reseal(path, rewritten)
        assert (read_bundle(str(path)).hash == unchanged) is same, change


def reseal(directory: Path, description: dict[str, Any]) -> None:
    """Writes a bundle.json with a valid hash and any content."""
    description.pop("self_sha256", None)
    (directory / "bundle.json").write_bytes(seal(description))


@pytest.mark.parametrize("place", ["file://{0}/model", "{0}/model/", "{0}/one/../model", "model", "~/model"])
def test_a_bundle_may_be_named_in_any_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "one").mkdir()
    path = place.format(tmp_path)
    write_bundle(path, **parts())
    assert sorted(name.name for name in tmp_path.iterdir()) == ["model", "one"]
    assert read_bundle(path).files == read_bundle(str(tmp_path / "model")).files


# Damage


def damage(path: Path, position: int, mask: int) -> None:
    flipped = bytearray(path.read_bytes())
    flipped[position % len(flipped)] ^= mask
    path.write_bytes(flipped)


def assert_damaged(path: Path, name: str) -> None:
    with pytest.raises(BundleError) as raised:
        read_bundle(str(path))
    assert str(raised.value).startswith(f"{path}: ")
    assert name in str(raised.value)


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=30)
@given(position=st.integers(0, 2**40), mask=st.integers(1, 255))
def test_a_changed_byte_is_noticed_and_its_file_named(
    tmp_path_factory: pytest.TempPathFactory, written: Path, name: str, position: int, mask: int
) -> None:
    copy = tmp_path_factory.mktemp("damaged") / "model"
    shutil.copytree(written, copy)
    damage(copy / name, position, mask)
    assert_damaged(copy, name)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_or_cut_file_is_named(copy: Path, name: str) -> None:
    whole = (copy / name).read_bytes()
    for part in (whole[:-1], b"", whole + b"\n"):
        (copy / name).write_bytes(part)
        assert_damaged(copy, name)
    (copy / name).unlink()
    assert_damaged(copy, name)


def test_a_directory_that_is_no_bundle_is_named(tmp_path: Path, copy: Path) -> None:
    for path, message in (
        (tmp_path / "missing", "no such model bundle"),
        (tmp_path, r"not a model bundle: it has no bundle\.json"),
        (copy / "model.keras", rf"not a model bundle: it is a file; did you mean {re.escape(str(copy))}\?$"),
        (Path(__file__), "not a model bundle: it is a file$"),
    ):
        with pytest.raises(BundleError, match=message) as raised:
            read_bundle(str(path))
        assert str(raised.value).startswith(f"{path}: ")


@pytest.mark.parametrize("inside", ["", "/model", "/model/"])
def test_a_run_that_has_not_finished_is_told_from_a_wrong_path(tmp_path: Path, inside: str) -> None:
    run = tmp_path / "a run"
    run.mkdir()
    (run / "config.yaml").write_text(to_yaml(CONFIG), encoding="utf-8")
    going_on = re.escape(
        f"not finished, and writes it at its end: lstm-ray train --config '{run}/config.yaml' resumes it"
    )
    with pytest.raises(BundleError, match=rf"{inside}: (no such model bundle|not a model bundle: .*); .*{going_on}"):
        read_bundle(f"{run}{inside}")
    (run / "config.yaml").write_text("command: score\n", encoding="utf-8")
    with pytest.raises(BundleError, match=r"no such model bundle$|it has no bundle\.json$"):
        read_bundle(f"{run}{inside}")


def test_a_run_in_place_of_its_model_is_told_where_that_is(copy: Path) -> None:
    with pytest.raises(BundleError, match=rf"it has no bundle\.json; did you mean {re.escape(str(copy))}\?$"):
        read_bundle(str(copy.parent))


def test_a_misspelt_path_is_told_which_bundle_is_there(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    shutil.move(copy, tmp_path / "runs/first/model")
    for path in ("runs/first/modle", "runs/frist", "runs/frist/", "runs/frist/model"):
        with pytest.raises(BundleError, match=rf"no such model bundle; did you mean {tmp_path}/runs/first/model\?$"):
            read_bundle(f"{tmp_path}/{path}")
    with pytest.raises(BundleError, match=r"no such model bundle$"):
        read_bundle(f"{tmp_path}/rums/first/model")


def test_of_many_runs_a_misspelt_path_is_told_the_one_with_a_similar_name(copy: Path, tmp_path: Path) -> None:
    for name in ("first", "other", "third"):
        shutil.copytree(copy, tmp_path / "runs" / name / "model")
    for path in ("runs/frist/model", "runs/first/modle"):
        with pytest.raises(BundleError, match=rf"did you mean {tmp_path}/runs/first/model\?$"):
            read_bundle(f"{tmp_path}/{path}")


def test_a_directory_of_runs_is_told_which_bundles_are_in_it(copy: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for name in "abcdefg":
        shutil.copytree(copy, runs / name if name == "b" else runs / name / "model")
    with pytest.raises(BundleError) as raised:
        read_bundle(str(runs))
    named = ", ".join(f"{runs}/{name}" for name in ("a/model", "b", "c/model", "d/model"))
    hint = f"it has no bundle.json; did you mean {named} or {runs}/e/model? (2 more were found)"
    assert str(raised.value) == f"{runs}: not a model bundle: {hint}"


# What is in it


def test_there_is_no_pickle_in_it(written: Path) -> None:
    files = read_bundle(str(written)).files
    with zipfile.ZipFile(io.BytesIO(files["model.keras"])) as archive:
        assert sorted(archive.namelist()) == ["config.json", "metadata.json", "model.weights.h5"]
        json.loads(archive.read("config.json"))
        assert archive.read("model.weights.h5").startswith(b"\x89HDF\r\n\x1a\n")
        assert b"Lambda" not in archive.read("config.json")
    with zipfile.ZipFile(io.BytesIO(files["weights.npz"])) as archive:
        assert all(name.endswith(".npy") for name in archive.namelist())
        for name in archive.namelist():
            np.lib.format.read_array(io.BytesIO(archive.read(name)), allow_pickle=False)
    assert files["vocabulary.parquet"].startswith(b"PAR1")


def test_a_model_is_opened_in_safe_mode_and_without_the_current_directory(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    opened = []

    def load_model(path: Path, **settings: Any) -> None:
        opened.append((settings, str(tmp_path) in sys.path))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(keras.models, "load_model", load_model)
    read_bundle(str(written)).keras_model()
    assert opened == [({"compile": False, "safe_mode": True}, False)]


def test_a_function_in_a_keras_file_is_refused_without_a_remedy_that_is_not_offered(written: Path) -> None:
    layer = {"class_name": "__lambda__", "config": {"code": "4wE="}}
    config = {"module": "keras.layers", "class_name": "Lambda", "config": {"function": layer}}
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("metadata.json", "{}")
        archive.writestr("model.weights.h5", b"")
    bundle = read_bundle(str(written))
    bundle.files["model.keras"] = content.getvalue()
    with pytest.raises(BundleError, match=r"does not open: ValueError: .* disallowed by default\.$"):
        bundle.keras_model()


# Replacing


def test_a_bundle_takes_an_old_one_s_place(copy: Path) -> None:
    (copy / "my notes").write_bytes(b"")
    write_bundle(str(copy), **parts(seed=1))
    assert sorted(content(copy)) == sorted([*FILES, "my notes"])
    np.testing.assert_array_equal(read_bundle(str(copy)).weights().embedding, parts(seed=1)["weights"].embedding)
    assert [path.name for path in copy.parent.iterdir()] == ["model"], "nothing is left behind"


def test_a_reader_finds_a_whole_bundle_while_it_is_replaced(copy: Path, tmp_path: Path) -> None:
    """A reader that gets files of both bundles starts again."""
    write_bundle(str(tmp_path / "other"), **parts(seed=1))
    hashes = {read_bundle(str(path)).hash for path in (copy, tmp_path / "other")}
    ended = threading.Event()
    versions = []  # each with another bundle.json: a reader that is slow must not meet the same one again
    for number in range(20):
        files = content((copy, tmp_path / "other")[number % 2])
        description = {**json.loads(files["bundle.json"]), "metrics": {"number": number}}
        versions.append({**files, "bundle.json": seal(description)})

    def replace() -> None:
        for files in versions:
            storage.replace_directory(str(copy), files)
        ended.set()

    writer = threading.Thread(target=replace)
    writer.start()
    found = []
    while not ended.is_set():
        found.append(read_bundle(str(copy)).hash)
    writer.join()
    assert set(found) == hashes


def test_a_write_that_fails_leaves_the_old_bundle(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content(copy)
    write_bytes = storage.write_bytes

    def fail_at_the_last(path: str, content: bytes) -> None:
        if path.endswith("bundle.json"):
            raise OutputError(f"{path}: cannot be written: no space left on device")
        write_bytes(path, content)

    monkeypatch.setattr(directories, "write_bytes", fail_at_the_last)
    with pytest.raises(OutputError, match="no space left"):
        write_bundle(str(copy), **parts(seed=1))
    assert content(copy) == before
    assert isinstance(read_bundle(str(copy)), Bundle)


def test_a_write_that_fails_leaves_no_temporary_directory(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: str, content: bytes) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        raise OutputError(f"{path}: cannot be written: no space left on device")

    monkeypatch.setattr(directories, "write_bytes", fail)
    with pytest.raises(OutputError, match="no space left"):
        write_bundle(str(copy), **parts(seed=1))
    assert [path.name for path in copy.parent.iterdir()] == ["model"]


def test_a_place_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot be written"):
        write_bundle(str(tmp_path / "file" / "model"), **parts())


def test_a_store_without_renames_gets_the_description_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, order = str(tmp_path / "model"), []
    write_bundle(path, **parts())
    write_bytes, delete = storage.write_bytes, storage.delete
    monkeypatch.setattr(storage, "is_local", lambda path: False)
    monkeypatch.setattr(storage, "delete", lambda path: (order.append(f"- {Path(path).name}"), delete(path)))
    monkeypatch.setattr(
        storage, "write_bytes", lambda path, content: (order.append(Path(path).name), write_bytes(path, content))
    )
    write_bundle(path, **parts(seed=1))
    assert order[0] == "- bundle.json", "from here on readers find no bundle rather than a mixture"
    assert order[-1] == "bundle.json"
    assert sorted(order[1:]) == FILES
    np.testing.assert_array_equal(read_bundle(path).weights().embedding, parts(seed=1)["weights"].embedding)


def test_the_texts_that_were_learned_from_are_written_and_read_again(tmp_path: Path) -> None:
    texts = hash_texts(pa.array(["a good film", "a bad film"], pa.large_string()))
    write_bundle(str(tmp_path / "model"), **parts(), seen=SeenTexts([texts]))
    seen = read_bundle(str(tmp_path / "model")).seen()
    assert seen is not None
    assert (len(seen), seen.count(texts[:1])) == (2, 1)


def test_a_bundle_holds_counts_of_its_training_data(written: Path, tmp_path: Path) -> None:
    assert read_bundle(str(written)).profile is None, "as bundles of older versions"
    profile = TrainingData(Profile(rows=9, words=70, unknown=3), Profile(rows=1))
    path = str(tmp_path / "model")
    write_bundle(path, **parts(), profile=profile)
    bundle = read_bundle(path)
    assert bundle.profile is not None
    assert bundle.profile.to_json() == profile.to_json()
    description = json.loads((tmp_path / "model" / "bundle.json").read_bytes())
    del description["profile"]
    (tmp_path / "model" / "bundle.json").write_bytes(seal(description))
    assert read_bundle(path).hash == bundle.hash, "scores do not depend on it"
