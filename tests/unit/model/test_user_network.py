"""User networks: what is built, what is refused before training, and their bundles."""

from __future__ import annotations

import io
import json
import re
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from lstm_ray import user_code
from lstm_ray.cli.app import app as program
from lstm_ray.config import ModelSettings, TextSettings, TrainConfig, resolve
from lstm_ray.doctor.examine import examine
from lstm_ray.errors import BundleError, ConfigError
from lstm_ray.export.export import export
from lstm_ray.model.architectures import build_model, with_ngrams
from lstm_ray.model.bundle import read_bundle, write_bundle
from lstm_ray.model.keras_file import import_modules
from lstm_ray.model.user_network import check_network, sources_of
from lstm_ray.model.weights import Mix
from lstm_ray.runtime.tensorflow import start_tensorflow
from lstm_ray.score.scorer import Scorer, make_engine, pick_engine
from lstm_ray.text.ngrams import bags
from lstm_ray.text.sequences import Sequences, pad
from lstm_ray.text.vocabulary import Vocabulary
from lstm_ray.train.step.choice import choose_engine

WriteModule = Callable[..., Path]
TINY = {"preset": "none", "vocabulary_size": 16, "max_tokens": 6, "embedding_size": 3, "units": 4, "dropout": 0.0}
TEXTS = pa.array(["a good film", "a bad film and a bad end", "fine", "not a good one"])

GRU = """
import keras
from keras import layers

def build(text, model):
    ids = keras.Input((None if model.mask else text.max_tokens,), dtype="int32")
    words = layers.Embedding(text.vocabulary_size, model.embedding_size, mask_zero=model.mask)(ids)
    return keras.Model(ids, OUTPUT)
"""
SIGMOID = 'layers.Dense(1, activation="sigmoid", dtype="float32")'
DEFAULT = f"{SIGMOID}(layers.GRU(model.units, dropout=model.dropout)(words))"
LAYER = """
import keras

@keras.saving.register_keras_serializable(package="mine")
class Total(keras.layers.Layer):
    def call(self, words):
        return keras.ops.sum(words, axis=1)
"""


def source(output: str = DEFAULT) -> str:
    return GRU.replace("OUTPUT", output)


TOTAL = source(f"{SIGMOID}(Total()(words))")


def settings(**changes: Any) -> TrainConfig:
    return TrainConfig.model_validate({**TINY, "network": "mine:build", **changes})


def write_user_bundle(path: Path, vocabulary: Vocabulary, **changes: Any) -> Path:
    """Writes the bundle of an untrained network."""
    start_tensorflow()
    config = settings(**changes)
    model = build_model(config, config, 0)
    for variable in model.trainable_variables:
        variable.assign(variable * 4)  # so that scores differ visibly between texts
    write_bundle(str(path), model=model, weights=None, vocabulary=vocabulary, config=config, metrics={})
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "mine"}, "--network is 'mine': should be MODULE:FUNCTION, such as mine:build"),
        (
            {"engine": "native"},
            "--engine native computes only lstm-ray's own networks: --network needs --engine keras",
        ),
        ({"adversarial": 0.3}, "--adversarial is for lstm-ray's own networks: with --network it must be 0"),
        ({"embeddings": "glove.txt"}, "--embeddings are for lstm-ray's own networks: with --network the function"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        resolve(TrainConfig, {"network": "mine:build", **changes})
    assert str(raised.value).startswith(message)


def test_keras_computes_it() -> None:
    assert choose_engine(settings(), on_gpu=False) == "keras"
    assert pick_engine("auto", False, "mine:build") == pick_engine("keras", False, "mine:build") == "keras"
    assert pick_engine("auto", False, None) == "native"
    assert pick_engine("auto", True, None, "bf16") == "native", "even if there is a GPU"
    for wanted, network in (("auto", "mine:build"), ("keras", None)):
        with pytest.raises(ConfigError, match="--precision bf16 is a choice of the native engine"):
            pick_engine(wanted, False, network, "bf16")


# Building and checking


def test_the_function_gets_the_settings_and_keras_s_seed(write_module: WriteModule) -> None:
    remembers = "given = []\ndef build(*both):\n    given.append(both)\n    text, model = both"
    write_module("mine", source().replace("def build(text, model):", remembers))
    config = settings(units=5, mask=True)
    start_tensorflow()
    one, same, other = (build_model(config, config, seed) for seed in (1, 1, 2))
    text, model = sys.modules["mine"].given[0]
    assert (type(text), type(model)) == (TextSettings, ModelSettings)
    assert (text.max_tokens, model.units, model.network) == (6, 5, "mine:build")
    for first, second in zip(one.trainable_variables, same.trainable_variables, strict=True):
        np.testing.assert_array_equal(first.numpy(), second.numpy())
    assert not np.array_equal(one.trainable_variables[0].numpy(), other.trainable_variables[0].numpy())


@pytest.mark.parametrize(
    "changes", [{}, {"mask": True}, {"mask": True, "padding": "post", "max_tokens": 40}, {"workers": 2}]
)
def test_a_sound_network_passes(write_module: WriteModule, changes: dict[str, Any]) -> None:
    write_module("mine", source())
    start_tensorflow()
    check_network(settings(**changes))


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("built = 3", {}, "mine (PLACE/mine.py) has no 'build'; it has no function"),
    ("def biuld(text, model): ...", {}, "mine (PLACE/mine.py) has no 'build'; did you mean 'biuld'?"),
    ("def build(text, model):\n    raise OSError('no licence')", {}, "fails: OSError: no licence (mine.py, line 2)"),
    ("def build(text): ...", {}, "fails: TypeError: build() takes 1 positional argument but 2 were given"),
    ("def build(text, model): ...", {}, "returns NoneType, not a keras.Model"),
    (
        source().replace('dtype="int32"', 'dtype="float32"'),
        {},
        "takes float32[batch, 6], not int32[batch, 6]: begin with keras.Input((6,), dtype='int32')",
    ),
    (
        source().replace("None if model.mask else text.max_tokens", "9"),
        {},
        "takes int32[batch, 9], not int32[batch, 6]: begin",
    ),
    (
        source().replace("None if model.mask else", ""),
        {"mask": True},
        "takes int32[batch, 6], not int32[batch, time]: begin with keras.Input((None,), dtype='int32')",
    ),
    (
        source(f"{SIGMOID}(words)"),
        {},
        "returns float32[batch, 6, 1], not float32[batch, 1]: end with keras.layers.Dense",
    ),
    (source("layers.Dense(1)(layers.GRU(4)(words))"), {}, "ends without an activation: end with keras.layers.Dense(1"),
    (
        source("layers.Dense(1, activation='tanh')(layers.GRU(4)(words))"),
        {},
        "not probabilities: end with keras.layers.Dense(1, activation='sigmoid')",
    ),
    (source("[words, words]"), {}, "has 1 input and 2 outputs"),
    (
        source(f"{SIGMOID}(keras.ops.mean(layers.LSTM(4, return_sequences=True)(words), axis=1))"),
        {"mask": True, "padding": "post"},
        "depends on the padding (id 0), which --mask excludes",
    ),
    (
        source(f"{SIGMOID}(layers.Lambda(lambda x: x[:, 0], output_shape=(3,))(words))"),
        {},
        "cannot be saved and read back: ",
    ),
    (
        source(f"{SIGMOID}(layers.BatchNormalization()(layers.GRU(4)(words)))"),
        {"workers": 2},
        "which every worker and every part of a batch would update separately: train with --workers 0 or 1",
    ),
    (
        source(f"{SIGMOID}(layers.BatchNormalization()(layers.GRU(4)(words)))"),
        {"accumulate": 2},
        "which every worker and every part of a batch would update separately",
    ),
    ("import sys\ndef build(text, model):\n    sys.exit(0)", {}, "fails: SystemExit: 0 (mine.py, line 3)"),
    (
        source(DEFAULT.replace(', dtype="float32"', "")),
        {"precision": "bf16"},
        "returns bfloat16[batch, 1], not float32[batch, 1]: end with keras.layers.Dense(1, activation='sigmoid', dtype",
    ),
    (source(f"keras.ops.round({SIGMOID}(layers.GRU(4)(words)))"), {}, "cannot learn: no weight has a gradient"),
    (
        source().replace("return keras.Model", "made = keras.Model") + "    made.trainable = False\n    return made",
        {},
        "has no weights to train",
    ),
    (
        LAYER.replace("words):", "words, training=False):\n        assert not training") + TOTAL,
        {},
        "fails in training: AssertionError: ",
    ),
]


@pytest.mark.parametrize(("module", "changes", "message"), WRONG, ids=[message[:40] for _, _, message in WRONG])
def test_a_network_that_will_not_do_is_refused_in_one_line(
    write_module: WriteModule, tmp_path: Path, module: str, changes: dict[str, Any], message: str
) -> None:
    write_module("mine", module)
    start_tensorflow()
    with pytest.raises(ConfigError) as raised:
        check_network(settings(**changes))
    assert str(raised.value).startswith("network mine:build: ")
    assert message.replace("PLACE", str(tmp_path)) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_layer_that_keras_will_not_find_again_is_refused(write_module: WriteModule) -> None:
    write_module("mine", LAYER.replace("@keras", "# @keras") + source(f"{SIGMOID}(Total()(words))"))
    start_tensorflow()
    with pytest.raises(ConfigError, match=r"^network mine:build: .*@keras.saving.register_keras_serializable\(\)"):
        check_network(settings())


def test_what_learns_beside_weights_is_left_to_a_worker_alone(write_module: WriteModule) -> None:
    write_module("mine", source(f"{SIGMOID}(layers.BatchNormalization()(layers.GRU(4)(words)))"))
    start_tensorflow()
    check_network(settings())


def test_workers_elsewhere_get_what_the_function_imports_by_the_names_it_uses(
    write_module: WriteModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_module("helper", "SIZE = 3", tmp_path / "src")
    write_module("bigpkg", "", tmp_path / "lib" / "site-packages")
    for place in (tmp_path / "src", tmp_path / "lib" / "site-packages"):
        monkeypatch.syspath_prepend(place)
    write_module("mine", "import bigpkg\n" + source().replace("    ids =", "    import helper\n    ids =", 1))
    start_tensorflow()
    assert set(sources_of(settings())) == {"mine.py", "helper.py"}


def test_workers_elsewhere_get_the_module_and_its_neighbours(write_module: WriteModule, tmp_path: Path) -> None:
    write_module("team.near", "SIZE = 3")
    write_module("unused", "")
    write_module("mine", "from team import near\n" + source())
    start_tensorflow()
    config = settings()
    build_model(config, config, 0)
    sent = sources_of(config)
    assert set(sent) == {"mine.py", "team/near.py"}
    write_module("unused", "")  # Python forgets the modules
    for name in sent:
        (tmp_path / name).unlink()
    with pytest.raises(ConfigError, match="no module 'mine'"):
        build_model(config, config, 0)
    with user_code.unpacked(sent):
        build_model(config, config, 0)
    assert sources_of(TrainConfig()) == {}


# Bundles


def test_a_bundle_of_a_network_of_ours_is_as_ever(make_bundle: Callable[..., Path]) -> None:
    description = json.loads((make_bundle() / "bundle.json").read_text(encoding="utf-8"))
    assert description["format_version"] == 1
    assert "network" not in description["model"]
    assert "network" not in description["training"]
    assert set(description["sha256"]) == {"vocabulary.parquet", "model.keras", "weights.npz"}


def test_a_model_of_keras_s_layers_needs_no_module(
    write_module: WriteModule, tmp_path: Path, vocabulary: Vocabulary
) -> None:
    module = write_module("mine", source())
    path = write_user_bundle(tmp_path / "model", vocabulary)
    write_module("other", "")
    module.unlink()
    assert sorted(file.name for file in path.iterdir()) == ["bundle.json", "model.keras", "vocabulary.parquet"]
    description = json.loads((path / "bundle.json").read_text(encoding="utf-8"))
    assert (description["format_version"], description["model"]["network"]) == (2, "mine:build")
    bundle = read_bundle(str(path))
    assert bundle.model.network == "mine:build"
    assert bundle.sources() == {}
    probabilities = Scorer(bundle).score(TEXTS).probability.to_numpy()
    assert np.ptp(probabilities) > 0.01
    with pytest.raises(
        ConfigError, match="--engine native computes only lstm-ray's own networks: mine:build needs keras"
    ):
        Scorer(bundle, "native")


@pytest.mark.parametrize("padding", ["pre", "post"])
def test_a_masked_model_scores_a_row_alike_in_any_company(
    write_module: WriteModule, tmp_path: Path, vocabulary: Vocabulary, padding: str
) -> None:
    write_module("mine", source())
    path = write_user_bundle(tmp_path / "model", vocabulary, mask=True, padding=padding, max_tokens=40)
    scorer = Scorer(read_bundle(str(path)))
    together = scorer.score(TEXTS).probability.to_numpy()
    alone = [scorer.score(TEXTS[row : row + 1]).probability[0].as_py() for row in range(len(TEXTS))]
    np.testing.assert_allclose(alone, together, atol=1e-6)


@pytest.mark.parametrize("home", ["mine", "layers_of_mine"])
def test_user_layers_need_their_module(
    write_module: WriteModule, tmp_path: Path, vocabulary: Vocabulary, home: str
) -> None:
    write_module("layers_of_mine", LAYER)
    total = f"{SIGMOID}(Total()(words))"
    if home == "mine":
        write_module("mine", LAYER + source(total))
    else:
        write_module("mine", source(total).replace("    ids", "    from layers_of_mine import Total\n    ids", 1))
    path = write_user_bundle(tmp_path / "model", vocabulary)
    expected = Scorer(read_bundle(str(path))).score(TEXTS).probability
    (tmp_path / f"{home}.py").rename(tmp_path / "away.py")
    write_module("other", "")  # Python forgets the modules
    with pytest.raises(BundleError) as raised:
        Scorer(read_bundle(str(path)))
    assert str(raised.value).startswith(
        f"{path}: its network has layers of the module {home!r}: no module {home!r} in {tmp_path}, and none is "
        "installed"
    )
    (tmp_path / "away.py").rename(tmp_path / f"{home}.py")
    bundle = read_bundle(str(path))
    assert f"{home}.py" in bundle.sources()
    assert Scorer(bundle).score(TEXTS).probability.equals(expected)


def test_ngrams_are_added_to_it(write_module: WriteModule, tmp_path: Path, vocabulary: Vocabulary) -> None:
    write_module("mine", LAYER + TOTAL)
    start_tensorflow()
    config = settings(ngrams=2, ngram_buckets=97)
    model = build_model(config, config, 0)
    table = np.random.default_rng(0).normal(size=97).astype(np.float32)
    folded = with_ngrams(model, config, table, Mix(lstm=0.7, ngrams=1.3, bias=-0.2))
    path = str(tmp_path / "model")
    write_bundle(path, model=folded, weights=None, vocabulary=vocabulary, config=config, metrics={})
    rows = Sequences(np.array([1, 5, 1, 5, 7, 1, 5], np.int32), np.array([0, 1, 3, 7]))
    alone = np.asarray(model(pad(rows, 6, "pre")))[:, 0].astype(np.float64)
    logits = 0.7 * np.log(alone / (1 - alone)) + 1.3 * bags(rows, 2, 97).sums(table) - 0.2
    given = make_engine(read_bundle(path), "keras", threads=1).probabilities(rows)
    np.testing.assert_allclose(given, 1 / (1 + np.exp(-logits)), rtol=0, atol=1e-5)


def test_a_bundle_imports_no_module_that_is_not_made_for_it(
    write_module: WriteModule, tmp_path: Path, vocabulary: Vocabulary
) -> None:
    write_module("layers_of_mine", LAYER)
    write_module("mine", TOTAL.replace("    ids", "    from layers_of_mine import Total\n    ids", 1))
    path = write_user_bundle(tmp_path / "model", vocabulary)
    write_module("layers_of_mine", "open('it-ran', 'w')")
    with pytest.raises(BundleError, match=r"which is not imported: it does not use register_keras_serializable\(\)"):
        Scorer(read_bundle(str(path)))
    assert not (tmp_path / "it-ran").exists()


RUNS = "open('it-ran', 'w')\n"
REGISTERS = "import keras\nkeras.saving.register_keras_serializable\n"


@pytest.mark.parametrize(
    ("module", "files", "says"),
    [
        ("setup.x", {"setup": RUNS}, "would run .*setup.py, which has code but does not use register_keras"),
        ("pack.layers", {"pack.__init__": RUNS, "pack.layers": REGISTERS}, "would run .*__init__.py, which has code"),
        ("pack.layers", {"pack": RUNS}, "would run .*pack.py, which has code"),
        ("pack.__main__", {"pack.__init__": "", "pack.__main__": RUNS + REGISTERS}, "__main__ is a program"),
        ("__main__", {}, "__main__ is a program"),
        ("pack", {"pack.__init__": RUNS}, "does not use register_keras_serializable"),
        ("pytest.__main__", {"app": RUNS}, "__main__ is a program"),
        ("_pytest.config", {}, "does not use register_keras_serializable"),
    ],
)
def test_no_module_is_imported_that_does_not_register_layers_nor_one_on_the_way_to_it(
    write_module: WriteModule, tmp_path: Path, module: str, files: dict[str, str], says: str
) -> None:
    for name, source in files.items():
        write_module(name, source)
    with pytest.raises(BundleError, match=f"which is not imported: .*{says}"):
        import_modules("a bundle", [module])
    assert not (tmp_path / "it-ran").exists()


def test_a_package_whose_init_has_no_code_is_imported(write_module: WriteModule) -> None:
    write_module("pack.__init__", '"""My layers."""\n# and a comment\n')
    write_module("pack.layers", REGISTERS)
    import_modules("a bundle", ["pack.layers"])


@pytest.mark.parametrize(
    ("module", "says"),
    [
        ("antigravity", "has the name of a module of Python's"),
        ("os.path", "has the name of a module of Python's"),
        (["a"], "not a module"),
        ("../x", "not a module"),
    ],
)
def test_a_forged_bundle_imports_nothing(
    write_module: WriteModule, tmp_path: Path, vocabulary: Vocabulary, module: Any, says: str
) -> None:
    write_module("mine", LAYER + TOTAL)
    bundle = read_bundle(str(write_user_bundle(tmp_path / "model", vocabulary)))
    forged = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(bundle.files["model.keras"])) as honest,
        zipfile.ZipFile(forged, "w") as archive,
    ):
        for name in honest.namelist():
            content = honest.read(name).replace(b'"module": "mine"', f'"module": {json.dumps(module)}'.encode())
            archive.writestr(name, content)
    bundle.files["model.keras"] = forged.getvalue()
    with pytest.raises(BundleError, match=says):
        bundle.keras_model()


def test_code_that_has_changed_since_training_is_told_and_makes_other_scores(
    write_module: WriteModule, tmp_path: Path, vocabulary: Vocabulary
) -> None:
    write_module("mine", LAYER + TOTAL)
    path = write_user_bundle(tmp_path / "model", vocabulary)
    trained = read_bundle(str(path))
    assert trained.note() is None
    before = trained.identity()
    write_module("mine", LAYER.replace("axis=1)", "axis=1) * 2") + TOTAL)
    changed = read_bundle(str(path))
    assert changed.note() == f"note: mine.py: changed since {path} was trained"
    assert changed.hash == trained.hash
    assert changed.identity() != before


def test_code_that_a_model_does_not_need_may_change(
    write_module: WriteModule, tmp_path: Path, vocabulary: Vocabulary
) -> None:
    write_module("mine", source())
    bundle = read_bundle(str(write_user_bundle(tmp_path / "model", vocabulary)))
    write_module("mine", "# of Keras's layers alone\n" + source())
    assert (bundle.note(), bundle.identity()) == (None, bundle.hash)


def test_a_network_that_fails_when_it_scores_is_told(
    write_module: WriteModule, tmp_path: Path, vocabulary: Vocabulary
) -> None:
    write_module("mine", LAYER + TOTAL)
    path = write_user_bundle(tmp_path / "model", vocabulary)
    write_module(
        "mine", LAYER.replace("        return", "        assert words.shape[0] is None\n        return") + TOTAL
    )
    scorer = Scorer(read_bundle(str(path)))
    with pytest.raises(BundleError, match="its network fails: AssertionError"):
        scorer.score(TEXTS)


def test_an_older_version_refuses_such_a_bundle(
    write_module: WriteModule, tmp_path: Path, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_module("mine", source())
    path = write_user_bundle(tmp_path / "model", vocabulary)
    monkeypatch.setattr("lstm_ray.model.description.FILES", {1: ("vocabulary.parquet", "model.keras", "weights.npz")})
    with pytest.raises(
        BundleError, match=r"has bundle format 2, but this is .* which reads formats 1: install a newer"
    ):
        read_bundle(str(path))


def test_predict_and_doctor_know_such_a_bundle(
    write_module: WriteModule, tmp_path: Path, vocabulary: Vocabulary
) -> None:
    write_module("mine", source())
    path = write_user_bundle(tmp_path / "model", vocabulary)
    done = CliRunner().invoke(program, ["predict", "--model", str(path), "a good film"])
    assert done.exit_code == 0, done.output
    assert re.match(r"[01]\.\d{4}  (posi|nega)tive  a good film\n", done.stdout)
    (tmp_path / "job.yaml").write_text("network: mine:build\nrecurrent_dropout: 0.2\n", encoding="utf-8")
    for finding in examine(None, None, str(path), str(tmp_path / "job.yaml"))[-2:]:
        assert finding.state == "unknown: mine:build builds the network, and Keras decides"
        assert finding.level == "OK"


def test_what_can_be_exported_is(write_module: WriteModule, tmp_path: Path, vocabulary: Vocabulary) -> None:
    write_module("mine", source())
    path = write_user_bundle(tmp_path / "model", vocabulary)
    with pytest.raises(ConfigError, match="--format onnx exports only lstm-ray's own networks, but mine:build built"):
        export(str(path), "onnx", str(tmp_path / "onnx"))
    made = export(str(path), "savedmodel", str(tmp_path / "out"))
    import tensorflow as tf

    served = tf.saved_model.load(str(tmp_path / "out" / made.model)).signatures["serving_default"]
    example = made.description["example"]
    row = np.zeros((1, 6), np.int32)
    row[0, -len(example["ids"]) :] = example["ids"]
    given = served(**{made.description["input"]["name"]: tf.constant(row)})[made.description["output"]["name"]]
    np.testing.assert_allclose(given.numpy()[0, 0], example["probability"], atol=1e-6)


def test_the_network_in_the_documentation_is_sound(write_module: WriteModule) -> None:
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "own-network.md").read_text(encoding="utf-8")
    (module,) = re.findall(r"```python\n# nets.py\n(.*?)```", page, re.DOTALL)
    write_module("nets", module)
    start_tensorflow()
    check_network(settings(network="nets:gru", workers=2))
