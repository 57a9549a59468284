"""Fixtures for several packages: bundles of untrained networks, user modules, a recorder of progress."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pyarrow as pa
import pytest
from xdist.scheduler import LoadFileScheduling

from lstm_ray.config import Precision, TokenSettings, TrainConfig
from lstm_ray.kernels.emitter import Target
from lstm_ray.kernels.precision.choice import FORMATS
from lstm_ray.progress import Epoch, Event
from lstm_ray.runtime.devices import may_have_gpu
from lstm_ray.runtime.tensorflow import has_gpu
from lstm_ray.text.tokenize import tokenize
from lstm_ray.text.vocabulary import Vocabulary, build_vocabulary, count_words

TEXTS = ("a good film and a fine one", "a bad film, not a good one", "fine acting", "bad acting and a bad end")
TINY = {"preset": "none", "vocabulary_size": 16, "max_tokens": 6, "embedding_size": 3, "units": 4}

MakeBundle = Callable[..., Path]

# The same examples in every run and no limit on their time, so that no test fails by chance;
# `pytest --hypothesis-profile others` draws others.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.register_profile("others", deadline=None)
hypothesis.settings.load_profile("repeatable")

# Ray gives its workers a low priority; they would wait for minutes beside the unit tests.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - Ray's name

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell starts background processes so
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(params=["bf16", "int8"])
def low_precision(request: pytest.FixtureRequest) -> Precision:
    """Gives each precision that is faster than float32; skips those that this processor lacks."""
    precision: Precision = request.param
    if not FORMATS[precision].is_on(Target.host()):
        pytest.skip(f"needs a processor with {FORMATS[precision].instructions}")
    return precision


_WITHOUT_RAY = ("test_score_faults.py", "test_score_wild_inputs.py")


class _Scheduling(LoadFileScheduling):
    """Gives one process all tests of a file, which build its models once, and all tests that share a Ray."""

    def _split_scope(self, nodeid: str) -> str:
        """Returns the name of the group that a test belongs to."""
        file = super()._split_scope(nodeid)
        return "ray" if file.startswith("tests/integration/") and not file.endswith(_WITHOUT_RAY) else file


@pytest.hookimpl(optionalhook=True)  # xdist may be off
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _Scheduling:
    """Takes our groups instead of those of xdist."""
    return _Scheduling(config, log)


@pytest.hookimpl(tryfirst=True)  # before fixtures, some of which start Ray
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips tests marked `gpu` where there is no GPU; TensorFlow is loaded only if there may be one."""
    if item.get_closest_marker("gpu"):
        if not may_have_gpu():
            pytest.skip("no GPU in this machine")
        if not has_gpu():
            pytest.skip("TensorFlow sees no GPU")


@pytest.fixture(scope="session")
def vocabulary() -> Vocabulary:
    """Gives a vocabulary of 12 words, ids 4 to 15: "a", "good", "bad", "film", ..."""
    return build_vocabulary(
        count_words(tokenize(pa.array(TEXTS, pa.large_string()), TokenSettings())), TINY["vocabulary_size"]
    )


@pytest.fixture(scope="session")
def make_bundle(tmp_path_factory: pytest.TempPathFactory, vocabulary: Vocabulary) -> MakeBundle:
    """Gives a function that writes the bundle of an untrained tiny network; the same settings give the same path."""
    made: dict[str, Path] = {}

    def make(**settings: Any) -> Path:
        config = TrainConfig.model_validate({**TINY, "dropout": 0.0, **settings})
        name = config.model_dump_json()
        if name not in made:
            made[name] = tmp_path_factory.mktemp("bundle") / "model"
            _write_untrained(made[name], config, vocabulary)
        return made[name]

    return make


@pytest.fixture(scope="session")
def tiny_bundle(make_bundle: MakeBundle) -> Path:
    """Gives the bundle of an unmasked LSTM of 4 units. Tests that change it copy it first."""
    return make_bundle()


def _write_untrained(path: Path, config: TrainConfig, vocabulary: Vocabulary) -> None:
    from lstm_ray.runtime.tensorflow import start_tensorflow

    start_tensorflow()
    from lstm_ray.model.architectures import build_model, network_weights, with_ngrams
    from lstm_ray.model.bundle import write_bundle
    from lstm_ray.model.weights import Mix

    model = build_model(config, config, config.seed)
    for variable in model.trainable_variables:
        variable.assign(variable * 4)  # so that scores differ visibly between texts
    if config.ngrams:
        table = np.random.default_rng(config.seed).normal(size=config.ngram_buckets).astype(np.float32)
        model = with_ngrams(model, config, table, Mix(lstm=0.8, ngrams=0.3, bias=-0.1))
    write_bundle(
        str(path),
        model=model,
        weights=network_weights(model, config, config),
        vocabulary=vocabulary,
        config=config,
        metrics={},
    )


WriteModule = Callable[..., Path]


@pytest.fixture
def write_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WriteModule]:
    """Gives a function that writes a module into a directory, by default the current one, and returns its path.

    The module is removed from `sys.modules` when it is written again, and when the test ends.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # a source written twice in a second looks the same
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", str(tmp_path))])
    known = set(sys.modules)

    def forget() -> None:
        for name in set(sys.modules) - known:
            file = getattr(sys.modules[name], "__file__", None)
            # Modules that were unpacked into a temporary directory have no file any more.
            if file is not None and (Path(file).is_relative_to(tmp_path) or not Path(file).exists()):
                del sys.modules[name]

    def write(name: str, source: str, directory: Path = tmp_path) -> Path:
        forget()
        path = directory / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
        return path

    yield write
    forget()


class Recorder:
    """Records the progress of a call.

    Attributes:
        said: Messages.
        epochs: Rows of the history, one per epoch.
    """

    def __init__(self) -> None:
        self.said: list[str] = []
        self.epochs: list[dict[str, Any]] = []

    def __call__(self, event: Event) -> None:
        """Records a message, or an epoch's row of the history."""
        if isinstance(event, str):
            self.said.append(event)
        elif isinstance(event, Epoch):
            self.epochs.append(event.row)


@pytest.fixture
def watcher() -> Recorder:
    """Gives a recorder of a call's progress."""
    return Recorder()


@pytest.fixture
def claim_rows() -> Callable[[Path, int, int], None]:
    """Gives a function that changes the number of rows in a Parquet file's footer."""

    def claim(path: Path, rows: int, claimed: int) -> None:
        content = path.read_bytes()
        start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
        footer = content[start:-8]
        assert _varint(rows) in footer
        assert len(_varint(rows)) == len(_varint(claimed)) > 1, "a byte too many or one that means something else"
        path.write_bytes(content[:start] + footer.replace(_varint(rows), _varint(claimed)) + content[-8:])

    return claim


def _varint(number: int) -> bytes:
    """Returns a positive integer as Thrift's compact protocol writes it: zigzag, seven bits a byte, lowest first."""
    zigzag, encoded = 2 * number, bytearray()
    while zigzag > 127:
        encoded.append(zigzag & 127 | 128)
        zigzag >>= 7
    return bytes([*encoded, zigzag])
