"""An error about columns or labels says with which ones the model was trained, if the file has these."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lstm_ray.cli.app import main
from lstm_ray.config import CalibrateConfig, EvaluateConfig, ScoreConfig
from lstm_ray.errors import InputError
from lstm_ray.evaluate.calibration import calibrate
from lstm_ray.evaluate.evaluation import evaluate
from lstm_ray.progress import ignore
from lstm_ray.score.run import score

TRAINED = {
    "text_column": "Was man sagt",
    "label_column": "Note",
    "positive_labels": ("gut", "sehr gut"),
    "negative_labels": ("schlecht",),
}
OPTIONS = "--label-column Note --positive-labels 'gut,sehr gut' --negative-labels schlecht"
RUNS = {
    "score": (ScoreConfig, score),
    "evaluate": (EvaluateConfig, evaluate),
    "calibrate": (CalibrateConfig, calibrate),
}


@pytest.fixture
def bundle(make_bundle: Any) -> str:
    return str(make_bundle(**TRAINED))


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "in.parquet"
    texts = ["a good film", "a bad film"]
    pq.write_table(pa.table({"Was man sagt": texts, "Note": ["gut", "schlecht"], "sagt": texts, "nr": [1, 4]}), path)
    return str(path)


def error_of(command: str, file: str, bundle: str, output: Path, **settings: Any) -> str:
    kind, run = RUNS[command]
    given = {"inputs": (file,), "model": bundle, "output": str(output), **settings}
    with pytest.raises(InputError) as raised:
        run(kind.model_validate(given), ignore)  # type: ignore[operator]
    return str(raised.value)


@pytest.mark.parametrize(
    ("command", "settings", "said"),
    [
        ("score", {}, "'nr'. The model was trained with --text-column 'Was man sagt'"),
        ("evaluate", {}, f"'nr'. The model was trained with --text-column 'Was man sagt' {OPTIONS}"),
        ("calibrate", {}, f"'nr'. The model was trained with --text-column 'Was man sagt' {OPTIONS}"),
        ("evaluate", {"text_column": "Was man sagt"}, f"'nr'. The model was trained with {OPTIONS}"),
        ("score", {"text_column": "sogt"}, "'nr'. The model was trained with --text-column 'Was man sagt'"),
        (
            "evaluate",
            {"text_column": "Was man sagt", "label_column": "Note"},
            ". The model was trained with --positive-labels 'gut,sehr gut' --negative-labels schlecht",
        ),
        ("calibrate", {"text_column": "sagt", "label_column": "nr"}, f"'Was man sagt' {OPTIONS}"),  # seen when read
    ],
)
def test_the_columns_of_the_training_are_named(
    tmp_path: Path, bundle: str, file: str, command: str, settings: dict[str, Any], said: str
) -> None:
    assert error_of(command, file, bundle, tmp_path / "out", **settings).endswith(said)


def test_columns_that_the_file_lacks_or_that_are_given_are_not_named(tmp_path: Path, bundle: str, file: str) -> None:
    other = tmp_path / "other.parquet"
    pq.write_table(pa.table({"sagt": ["good"]}), other)
    assert "trained" not in error_of("score", str(other), bundle, tmp_path / "out")
    pq.write_table(pq.read_table(file).slice(0, 0), other)
    assert "trained" not in error_of("evaluate", str(other), bundle, tmp_path / "out", **TRAINED)
    assert "trained" not in error_of("score", str(tmp_path / "missing.parquet"), bundle, tmp_path / "out")


def test_the_training_is_not_named_where_other_columns_are_meant(tmp_path: Path, bundle: str, file: str) -> None:
    meant = {"text_column": "sagt", "label_column": "nr", "positive_labels": ("4",), "negative_labels": ("1",)}
    assert "trained" not in error_of("evaluate", file, bundle, tmp_path / "out", by=("lost",), **meant)
    damaged = bytearray(Path(file).read_bytes())
    damaged[4:200] = bytes(196)
    Path(file).write_bytes(damaged)
    for command, settings in (("evaluate", meant), ("calibrate", meant), ("score", {"text_column": "sagt"})):
        assert "trained" not in error_of(command, file, bundle, tmp_path / "out", **settings)


def test_predict_names_the_column_in_the_command_that_scores_a_file(
    tmp_path: Path, bundle: str, file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["lstm-ray", "predict", "--model", bundle, "--file", file])
    with pytest.raises(SystemExit):
        main()
    error = capsys.readouterr().err
    line = error[error.index("lstm-ray score") : error.index(" scores its rows")]
    assert line.endswith(" --text-column 'Was man sagt'")
    monkeypatch.setattr("sys.argv", shlex.split(line))
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
