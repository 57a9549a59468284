"""The temperature has the greatest likelihood, and every engine computes with it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import optimize, special

import lstm_ray
from lstm_ray.config import CalibrateConfig
from lstm_ray.datasets.seen import SeenTexts, describe_lost, hash_texts
from lstm_ray.errors import BundleError, InputError, OutputError
from lstm_ray.evaluate import calibration
from lstm_ray.evaluate.calibration import Calibration, fit_temperature
from lstm_ray.evaluate.counts import BinaryCounts
from lstm_ray.model.bundle import Bundle, read_bundle
from lstm_ray.progress import Event
from lstm_ray.score.scorer import Scorer

TEXTS = ["a good film", "not a bad film", "a fine one", "bad acting", "bad end", "a good end and a bad film"]


def test_a_printed_calibration_shows_what_the_bundle_has() -> None:
    counts = BinaryCounts.from_scores(np.array([1, 1, 0]), np.array([0.9, 0.1, 0.1], np.float32), threshold=0.25)
    assert str(Calibration("new", 1.23456, counts, counts)) == (
        "Calibration(output='new', temperature=1.2346, threshold=0.25, accuracy=0.6667)"
    )


@pytest.mark.parametrize(("temperature", "spread"), [(0.4, 1.0), (1.0, 3.0), (2.5, 4.0)])
def test_the_temperature_is_that_of_the_greatest_likelihood(temperature: float, spread: float) -> None:
    random = np.random.default_rng(2)
    probabilities = special.expit(random.normal(scale=spread, size=20_000)).astype(np.float32)
    logits = special.logit(probabilities.astype(np.float64))
    labels = (random.random(20_000) < special.expit(logits / temperature)).astype(np.int8)

    def loss(inverse: float) -> float:
        return float(-special.log_expit(np.where(labels == 1, logits, -logits) * inverse).sum())

    expected = 1 / optimize.minimize_scalar(loss, bounds=(0.01, 100), method="bounded", options={"xatol": 1e-9}).x
    found = fit_temperature(BinaryCounts.from_scores(labels, probabilities))
    assert found == pytest.approx(expected, rel=1e-3)
    assert found == pytest.approx(temperature, rel=0.05)


@pytest.mark.parametrize(
    ("labels", "probabilities"),
    [([1, 1], [0.2, 0.9]), ([0, 1], [0.2, 0.9]), ([1, 0], [0.2, 0.9])],
    ids=["one label", "separated", "worse than chance"],
)
def test_rows_without_a_temperature_are_refused(labels: list[int], probabilities: list[float]) -> None:
    with pytest.raises(InputError, match=r"^no temperature can be computed from 2 rows:"):
        fit_temperature(BinaryCounts.from_scores(np.array(labels), np.array(probabilities, np.float32)))


def labelled(directory: Path, bundle: Path) -> str:
    """Writes reviews, most of them labelled as the model predicts them, and returns their path."""
    scored = Scorer(read_bundle(str(bundle)), "native", 1).score(pa.array(TEXTS)).probability.to_pylist()
    middle = float(np.median(scored))
    rows = [
        (text, int((one > middle) != (number == 0)))
        for text, one in zip(TEXTS, scored, strict=True)
        for number in range(5)
    ]
    path = directory / "labelled.parquet"
    pq.write_table(pa.table({"text": [text for text, _ in rows], "label": [label for _, label in rows]}), path)
    return str(path)


def fixed(monkeypatch: pytest.MonkeyPatch, temperature: float = 2.0) -> None:
    """Makes the temperature a number that is exact in float32, so that all engines agree closely."""
    monkeypatch.setattr(calibration, "fit_temperature", lambda counts: temperature)


@pytest.mark.parametrize("settings", [{}, {"ngrams": 2, "ngram_buckets": 64, "mask": True, "bidirectional": True}])
def test_every_engine_computes_the_temperature(
    tmp_path: Path, make_bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    fixed(monkeypatch)
    old, new = make_bundle(**settings), tmp_path / "new"
    made = lstm_ray.calibrate(labelled(tmp_path, old), model=old, output=new)
    bundles = [read_bundle(str(path)) for path in (old, new)]
    before, after = (
        Scorer(bundle, "native", 1).score(pa.array(TEXTS)).probability.to_numpy().astype(np.float64)
        for bundle in bundles
    )
    expected = special.expit(special.logit(before) / 2)
    np.testing.assert_allclose(after, expected, atol=1e-6)
    assert np.abs(after - before).max() > 0.01
    with_keras = Scorer(bundles[1], "keras", 1).score(pa.array(TEXTS)).probability.to_numpy()
    np.testing.assert_allclose(with_keras, expected, atol=1e-6)
    lstm_ray.export(new, format="onnx", output=tmp_path / "onnx")
    example = json.loads((tmp_path / "onnx/export.json").read_text())["example"]
    session = onnxruntime.InferenceSession(str(tmp_path / "onnx/model.onnx"), providers=["CPUExecutionProvider"])
    (computed,) = session.run(None, {"token_ids": np.array([example["ids"]], np.int32)})
    assert computed[0, 0] == pytest.approx(example["probability"], abs=1e-6)
    assert (made.threshold, bundles[1].threshold) == (0.5, 0.5)
    assert bundles[1].hash != bundles[0].hash


def test_the_new_bundle_keeps_all_but_weights_threshold_and_metrics(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lstm_ray.datasets.seen import SeenTexts, hash_texts
    from lstm_ray.model.description import seal, sha256

    old = tmp_path / "old"
    shutil.copytree(tiny_bundle, old)
    SeenTexts([hash_texts(pa.array(["a text"], pa.large_string()))]).write(old / "seen.parquet")
    description = json.loads((old / "bundle.json").read_text())
    description["sha256"]["seen.parquet"] = sha256((old / "seen.parquet").read_bytes())
    description["threshold"] = 0.8
    description["later"] = "what a newer version adds"
    del description["self_sha256"]
    (old / "bundle.json").write_bytes(seal(description))
    content = {path.name: path.read_bytes() for path in old.iterdir()}

    fixed(monkeypatch)
    reviews = labelled(tmp_path, tiny_bundle)
    made = lstm_ray.calibrate(reviews, model=old, output=tmp_path / "new")
    assert {path.name: path.read_bytes() for path in old.iterdir()} == content
    written = json.loads((tmp_path / "new/bundle.json").read_text())
    changed = {name for name, value in written.items() if value != description.get(name)}
    assert changed == {"threshold", "metrics", "chosen_on", "temperature", "sha256", "self_sha256"}
    assert written["temperature"] == 2.0
    assert written["threshold"] == pytest.approx(special.expit(special.logit(0.8) / 2))
    assert written["metrics"] == made.metrics
    seen = read_bundle(str(tmp_path / "new")).seen()
    assert seen is not None
    assert len(seen) == 1
    before, after = (lstm_ray.load(path) for path in (old, tmp_path / "new"))
    assert [one.label for one in before.predict(TEXTS)] == [one.label for one in after.predict(TEXTS)]
    again = lstm_ray.calibrate(reviews, model=tmp_path / "new", output=tmp_path / "newest", threshold=0.7)
    assert (again.threshold, lstm_ray.load(tmp_path / "newest").threshold) == (0.7, 0.7)
    assert json.loads((tmp_path / "newest/bundle.json").read_text())["temperature"] == 4.0
    with pytest.raises(OutputError, match="not empty"):
        lstm_ray.calibrate(reviews, model=old, output=tmp_path / "new")


def test_a_target_that_cannot_be_reached_writes_nothing(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed(monkeypatch)
    with pytest.raises(InputError, match=r"target_precision=1: no threshold reaches it on 30 rows"):
        lstm_ray.calibrate(
            labelled(tmp_path, tiny_bundle), model=tiny_bundle, output=tmp_path / "new", target_precision=1.0
        )
    assert not (tmp_path / "new").exists()


def with_threshold(bundle: Path, to: Path, threshold: float) -> Path:
    """Copies a bundle as one with another threshold."""
    from lstm_ray.model.description import seal

    shutil.copytree(bundle, to, dirs_exist_ok=True)
    description = json.loads((to / "bundle.json").read_text())
    del description["self_sha256"]
    (to / "bundle.json").write_bytes(seal({**description, "threshold": threshold}))
    return to


def test_the_metrics_are_those_of_the_new_bundle_also_if_its_threshold_is_beside_a_row(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed(monkeypatch)
    reviews = labelled(tmp_path, tiny_bundle)
    lstm_ray.calibrate(reviews, model=tiny_bundle, output=tmp_path / "first")
    scored = Scorer(read_bundle(str(tmp_path / "first")), "native", 1).score(pa.array(TEXTS)).probability.to_numpy()
    just_below = float(np.nextafter(np.sort(scored)[2], np.float32(0)))
    made = lstm_ray.calibrate(reviews, model=tiny_bundle, output=tmp_path / "new", threshold=just_below)
    measured = lstm_ray.evaluate(reviews, model=tmp_path / "new").metrics
    assert made.metrics == {name: measured[name] for name in made.metrics}
    assert made.metrics["threshold"] == just_below


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_a_threshold_that_calls_all_texts_alike_stays(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, threshold: float
) -> None:
    fixed(monkeypatch)
    old = with_threshold(tiny_bundle, tmp_path / "old", threshold)
    made = lstm_ray.calibrate(labelled(tmp_path, tiny_bundle), model=old, output=tmp_path / "new")
    assert made.threshold == read_bundle(str(tmp_path / "new")).threshold == threshold
    assert made.metrics["true_positives"] + made.metrics["false_positives"] == (0 if threshold else 30)


@pytest.mark.parametrize("temperature", [0.01, 0.02, 1.0, 100.0])
@pytest.mark.parametrize("threshold", [1e-300, 1e-9, 0.3, 0.5, 0.9, 1 - 1e-16])
def test_a_threshold_moves_like_the_probabilities(threshold: float, temperature: float) -> None:
    expected = special.expit(special.logit(threshold) / temperature)
    assert calibration._scaled(threshold, temperature) == pytest.approx(expected, rel=1e-9, abs=1e-300)


def test_a_bundle_that_is_replaced_meanwhile_is_not_mixed_with_the_one_that_was_read(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = with_threshold(tiny_bundle, tmp_path / "old", 0.5)

    def replaced(counts: BinaryCounts) -> float:
        with_threshold(tiny_bundle, old, 0.4)
        return 2.0

    monkeypatch.setattr(calibration, "fit_temperature", replaced)
    with pytest.raises(BundleError, match=r"/old: changed since the calibration began: run it again$"):
        lstm_ray.calibrate(labelled(tmp_path, tiny_bundle), model=old, output=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_code_that_has_changed_since_training_is_told(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed(monkeypatch)
    monkeypatch.setattr(Bundle, "note", lambda bundle: "note: net.py: changed since it was trained")
    said: list[Event] = []
    config = CalibrateConfig(
        inputs=(labelled(tmp_path, tiny_bundle),), model=str(tiny_bundle), output=str(tmp_path / "new")
    )
    calibration.calibrate(config, said.append)
    assert "note: net.py: changed since it was trained" in said


def test_what_does_not_become_better_is_told(tmp_path: Path, tiny_bundle: Path) -> None:
    told: list[Event] = []
    reviews = labelled(tmp_path, tiny_bundle)
    lstm_ray.calibrate(reviews, model=tiny_bundle, output=tmp_path / "first", progress=told.append)
    assert not any("note: " in str(event) for event in told)
    lstm_ray.calibrate(reviews, model=tmp_path / "first", output=tmp_path / "second", progress=told.append)
    assert any("note: log loss hardly changes" in str(event) for event in told)
    loss, error = ({"log_loss": loss, "calibration_error": error} for loss, error in ((0.4, 0.1), (0.3, 0.2)))
    assert "hardly changes (0.3000 -> 0.4000)" in str(calibration.describe_gain(error, loss))
    assert "calibration error rises (0.1000 -> 0.2000), though" in str(calibration.describe_gain(loss, error))


def test_rows_that_the_model_has_learned_from_are_counted(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed(monkeypatch)
    rows, said = labelled(tmp_path, tiny_bundle), list[Any]()
    lstm_ray.calibrate(rows, model=tiny_bundle, output=tmp_path / "others", progress=said.append)
    assert not [one for one in said if "training data" in str(one)]
    known = SeenTexts([hash_texts(pa.array(TEXTS[:1], pa.large_string()))])
    monkeypatch.setattr(Bundle, "seen", lambda self: known)
    lstm_ray.calibrate(rows, model=tiny_bundle, output=tmp_path / "new", progress=said.append)
    (warning,) = [str(one) for one in said if "training data" in str(one)]
    assert warning.startswith(f"warning: {rows}: 5 of 30 evaluation rows (16.7%) also occur in the training data: ")
    monkeypatch.setattr(Bundle, "seen", lambda self: None)
    monkeypatch.setattr(Bundle, "lost_its_texts", lambda self: True)
    lstm_ray.calibrate(rows, model=tiny_bundle, output=tmp_path / "lost", progress=said.append)
    assert f"warning: {rows}: {describe_lost(str(tiny_bundle))}" in said


def test_labels_in_another_spelling_are_not_left_out_in_silence(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed(monkeypatch)
    rows, said = labelled(tmp_path, tiny_bundle), list[Any]()
    table = pq.read_table(rows)
    names = [("5,0" if row == 0 else "5" if label else "1") for row, label in enumerate(table["label"].to_pylist())]
    pq.write_table(table.set_column(1, "label", pa.array(names)), rows)
    sides = {"positive_labels": "5", "negative_labels": "1"}
    lstm_ray.calibrate(rows, model=tiny_bundle, output=tmp_path / "new", progress=said.append, **sides)
    (warning,) = [str(one) for one in said if "with other labels" in str(one)]
    assert warning.startswith(
        f"warning: {rows}: 1 row with other labels left out (there are '1', '5', '5,0'): did you "
    )


def test_rows_that_chose_the_threshold_are_recognised(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed(monkeypatch)
    rows = labelled(tmp_path, tiny_bundle)
    table = pq.read_table(rows)
    files = {
        "all": table,
        "sorted": table.sort_by("text"),
        "fewer": table.slice(1),
        "others": table.set_column(0, "text", pa.array([f"{text} again" for text in table["text"].to_pylist()])),
    }
    for name, content in files.items():
        pq.write_table(content, tmp_path / f"{name}.parquet", row_group_size=7)
    lstm_ray.calibrate(rows, model=tiny_bundle, output=tmp_path / "once")
    lstm_ray.calibrate(tmp_path / "fewer.parquet", model=tmp_path / "once", output=tmp_path / "twice")
    for model, known in ((tiny_bundle, []), (tmp_path / "once", ["all", "sorted"]), (tmp_path / "twice", [*files][:3])):
        found = []
        for name in files:
            said: list[Any] = []
            lstm_ray.evaluate(tmp_path / f"{name}.parquet", model=model, threshold=0.7, progress=said.append)
            note = "these are the rows on which the epoch or threshold of this model was chosen"
            found += [name] if any(note in str(one) for one in said) else []
        assert found == known
    compared: list[Any] = []
    lstm_ray.evaluate(rows, model=tiny_bundle, compare=tmp_path / "once", progress=compared.append)
    assert [str(one) for one in compared if f"threshold of {tmp_path / 'once'} was chosen" in str(one)]
