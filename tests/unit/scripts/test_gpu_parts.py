"""The measurements of scripts/gpu_check: networks, rows, verdicts, and their first steps on a CPU."""

from __future__ import annotations

import importlib
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lstm_ray.config import TrainConfig, resolve
from lstm_ray.train.best import DataFacts, choices


@pytest.fixture(scope="module")
def parts() -> Any:
    return importlib.import_module("benchmarks.gpu_parts")


def small(parts: Any, **changes: Any) -> Any:
    """Returns a network that takes a moment."""
    sizes = {"vocabulary_size": 200, "max_tokens": 12, "embedding_size": 8, "units": 8}
    return parts.Network(**{**sizes, "global_batch_size": 16, "learning_rate": 0.01, **changes})


@pytest.mark.parametrize(("name", "preset"), [("lstm", "lstm"), ("bilstm", "bilstm"), ("default", "best")])
def test_the_networks_are_those_of_the_presets(parts: Any, name: str, preset: str) -> None:
    network = asdict(parts.NETWORKS[name])
    config = dict(resolve(TrainConfig, {"preset": preset, "train": ("-",), "output": "-"}))
    if preset == "best":
        imdb = DataFacts(25_000, 940, words=120_000, ngrams=10**7, row_ngrams=600)
        config |= {name: value for name, (value, _) in choices(imdb).items()}
        config["units"], _ = choices(replace(imdb, unlabelled=50_000))["units"]
    for field in network:
        assert network[field] == config[field], field


def test_rows_are_padded_as_the_network_reads_them(parts: Any) -> None:
    for padding in ("pre", "post"):
        network = small(parts, padding=padding, max_tokens=300)
        rows = parts.draw_rows(network, 40)
        ids = rows.padded(network)
        assert ids.shape == (40, 300)
        assert ids.max() < 200
        assert ((ids != 0).sum(1) == rows.lengths).all()
        assert (ids[:, 0 if padding == "post" else -1] != 0).all()
        assert len(set(rows.lengths)) > 10


def test_the_arithmetic_of_a_step(parts: Any) -> None:
    """Forward 2 x inputs x outputs for each token, twice that backward; both directions."""
    assert parts.Network(9, 9, 3, 5).flops(7) == 3 * 7 * 2 * (3 + 5) * 20
    assert parts.Network(9, 9, 3, 5, bidirectional=True).flops(7) == 2 * 3 * 7 * 2 * (3 + 5) * 20


@pytest.mark.parametrize(
    ("gpu", "failed"),
    [
        ([0.69, 0.6, 0.5, 0.4], False),
        ([0.69, 0.6, 0.5, 0.402], True),
        ([0.69, 0.6, 0.5, float("nan")], True),
    ],
)
def test_a_curve_is_wrong_if_it_differs(parts: Any, gpu: list[float], failed: bool) -> None:
    assert parts.compare_curves("lstm", gpu, [0.69, 0.6, 0.5, 0.4005])["failed"] == failed


def test_a_curve_is_wrong_if_nothing_is_learned(parts: Any) -> None:
    flat = [0.69, 0.7, 0.69, 0.7]
    assert parts.compare_curves("lstm", flat, flat)["failed"]


def test_the_steps_of_a_curve_learn_and_repeat(parts: Any) -> None:
    network = small(parts, max_tokens=20, dropout=0.2, learning_rate=0.05)
    first = parts.losses(network, 16)
    assert parts.losses(network, 16) == pytest.approx(first, abs=1e-6)
    assert not parts.compare_curves("small", first, first)["failed"]


def test_the_keras_network_of_other_backends_is_ours(parts: Any) -> None:
    """With the same weights it gives the same probabilities."""
    network = small(parts, mask=True, padding="post", bidirectional=True, pooling="mean_max")
    from lstm_ray.runtime.tensorflow import start_tensorflow

    start_tensorflow()
    from lstm_ray.model.architectures import build_model

    config = parts.config_of(network)
    ours, theirs = build_model(config, config, 0), parts.keras_model(network)
    theirs.set_weights(ours.get_weights())
    ids = parts.draw_rows(network, 20).padded(network)
    np.testing.assert_allclose(np.asarray(theirs(ids)), np.asarray(ours(ids)), atol=1e-6)


def test_a_gpu_is_watched_while_steps_run(parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nwhile :; do echo 75; echo '[N/A]'; sleep 0.05; done\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(parts, "TIMED_S", 0.3)
    steps: list[int] = []
    figures = parts.timed(steps.append, lambda _: time.sleep(0.01), tokens=100)
    assert figures["gpu_busy"] == 0.75
    assert steps == list(range(1, len(steps) + 1))
    assert 10 <= figures["step_ms"] < 300
    assert figures["tokens_per_s"] == pytest.approx(100 / (figures["step_ms"] / 1e3))


@pytest.mark.parametrize(
    ("rows", "shift", "failed"), [(200_000, 1e-3, False), (200_000, 1e-2, True), (199_999, 0, True)]
)
def test_scores_are_wrong_if_they_differ_or_rows_are_missing(
    parts: Any, tmp_path: Path, rows: int, shift: float, failed: bool
) -> None:
    for name, values in (("gpu", [0.1, 0.2, 0.3]), ("cpu", [0.1 + shift, 0.2])):
        (tmp_path / name).mkdir()
        pq.write_table(pa.table({"sentiment_probability": values}), tmp_path / name / "part-0.parquet")
    manifest = SimpleNamespace(rows=rows, rows_per_s=1e4)
    assert parts.compare_scores(tmp_path / "gpu", tmp_path / "cpu", manifest, manifest)["failed"] == failed


def test_what_is_missing_is_said(parts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: [])
    with pytest.raises(parts.MissingError, match=r"^TensorFlow .* sees no GPU"):
        parts.need_tensorflow()
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(parts.MissingError, match=r"^torch is not installed$"):
        parts.need_device("torch")
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: False)))
    with pytest.raises(parts.MissingError, match=r"^PyTorch sees no GPU$"):
        parts.need_device("torch")


def test_a_larger_batch_is_the_same_network(parts: Any) -> None:
    assert parts.SPEEDS[parts.LARGE] == replace(parts.NETWORKS["default"], global_batch_size=512)
