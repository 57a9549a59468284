"""An exported network gives the bundle's probabilities, and export.json explains how to make its token ids."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lstm_ray.cli.app import main
from lstm_ray.errors import ConfigError, OutputError
from lstm_ray.export.export import export
from lstm_ray.model.bundle import read_bundle
from lstm_ray.score.scorer import Scorer

SETTINGS: list[dict[str, Any]] = [
    {},
    {"mask": True, "padding": "post", "pooling": "max", "bidirectional": True, "layers": 2, "truncating": "post"},
    {"mask": True, "pooling": "mean_max", "max_tokens": 7, "truncating": "middle", "punctuation": "keep"},
    {"mask": True, "ngrams": 3, "ngram_buckets": 997},
]
TEXTS = ["a good film", "not a bad<br>film and a fine one", "Fine?!", "bad acting, bad end"]


@pytest.fixture(params=SETTINGS, ids=["unmasked", "masked", "middle-punctuation", "ngrams"])
def bundle(request: pytest.FixtureRequest, make_bundle: Callable[..., Path]) -> Path:
    """Returns a bundle."""
    return make_bundle(**request.param)


def token_ids(output: Path, texts: list[str]) -> np.ndarray:
    """Makes token ids as export.json describes, without lstm-ray."""
    description = json.loads((output / "export.json").read_text(encoding="utf-8"))
    ids, text = description["ids"], description["text"]
    listed = pq.read_table(output / "vocabulary.parquet").to_pydict()
    id_of = dict(zip(listed["word"], listed["id"], strict=True))
    assert json.loads((output / "vocabulary.json").read_text(encoding="utf-8")) == id_of
    rows = []
    for given in texts:
        words = re.sub(r"(?i)<br\s*/?>", " ", given).lower()
        rule, _, marks = next(step for step in description["steps"] if "of these characters" in step).partition(": ")
        spaced = " " if rule.startswith("replace") else r" \g<0> "
        words = re.sub(f"[{re.escape(marks)}]", spaced, words)
        row = [ids["start"], *(id_of.get(word, ids["unknown"]) for word in words.split())]
        row = [ids["unknown"] if one >= text["vocabulary_size"] else one for one in row]
        if len(row) > text["max_tokens"]:
            step = next(step for step in description["steps"] if "ids keep" in step)
            ends = {end: int(count) for end, count in re.findall(r"the (first|last) (\d+) ids", step)}
            row = row[: ends.get("first", 0)] + row[len(row) - ends.get("last", 0) :]
        rows.append(row)
    time = description["input"]["shape"][1]
    time = max(map(len, rows)) if time == "time" else time
    fill = [[ids["padding"]] * (time - len(row)) for row in rows]
    made = [more + row if text["padding"] == "pre" else row + more for more, row in zip(fill, rows, strict=True)]
    return np.array(made, np.int32)


def expected(bundle: Path, texts: list[str]) -> list[float]:
    scored = Scorer(read_bundle(str(bundle)), engine="native").score(pa.array(texts))
    return [float(probability) for probability in scored.probability.to_pylist()]


def test_a_saved_model_gives_the_bundles_probabilities(bundle: Path, tmp_path: Path) -> None:
    made = export(str(bundle), "savedmodel", str(tmp_path / "out"))
    import tensorflow as tf

    served = tf.saved_model.load(str(tmp_path / "out" / made.model)).signatures["serving_default"]
    description = made.description
    batch = token_ids(tmp_path / "out", [*TEXTS, description["example"]["text"]])
    given = served(**{description["input"]["name"]: tf.constant(batch)})[description["output"]["name"]].numpy()
    np.testing.assert_allclose(given[:-1, 0], expected(bundle, TEXTS), rtol=0, atol=1e-6)
    np.testing.assert_allclose(given[-1, 0], description["example"]["probability"], rtol=0, atol=1e-6)
    (row,) = token_ids(tmp_path / "out", [description["example"]["text"]])
    assert row.tolist() == description["example"]["ids"]


def test_onnx_gives_the_bundles_probabilities(bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="needs lstm-ray[test]")
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs lstm-ray[test]")
    made = export(str(bundle), "onnx", str(tmp_path / "out"))
    session = onnxruntime.InferenceSession(tmp_path / "out" / made.model, providers=["CPUExecutionProvider"])
    names = made.description["output"]["name"], made.description["input"]["name"]
    (given,) = session.run([names[0]], {names[1]: token_ids(tmp_path / "out", TEXTS)})
    np.testing.assert_allclose(given[:, 0], expected(bundle, TEXTS), rtol=0, atol=1e-6)


def test_what_onnx_is_missing_is_said_with_the_remedy(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "lstm_ray.export.onnx_graph", raising=False)
    arguments = ["export", "--model", str(bundle), "--format", "onnx", "--output", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", ["lstm-ray", *arguments])
    with pytest.raises(SystemExit) as exit:
        main()
    assert exit.value.code == 2
    assert "error: --format onnx needs ONNX: pip install 'lstm-ray[onnx]'\n" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_exported_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--format is 'h5': should be onnx or savedmodel"):
        export(str(tiny_bundle), "h5", str(tmp_path / "out"))
    (tmp_path / "kept").write_text("", encoding="utf-8")
    with pytest.raises(OutputError, match="not empty: choose another --output"):
        export(str(tiny_bundle), "savedmodel", str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
