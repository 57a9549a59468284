"""The summary of `lstm-ray score`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lstm_ray.cli import console
from lstm_ray.cli.score import show_manifest
from lstm_ray.config import ScoreConfig
from lstm_ray.progress import ignore
from lstm_ray.score.output import Manifest
from lstm_ray.score.run import score


def shown_at_the_end(
    monkeypatch: pytest.MonkeyPatch, manifest: Manifest, config: ScoreConfig | None = None
) -> dict[str, str]:
    """Returns the rows of the table on stdout."""
    shown: dict[str, str] = {}
    monkeypatch.setattr(console, "show_table", lambda _, rows: shown.update(rows))
    show_manifest(manifest, config or ScoreConfig())
    return shown


@pytest.mark.parametrize("has_python", [True, False])
def test_the_next_command_shows_the_first_scored_rows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_bundle: Path, has_python: bool
) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent if has_python else tmp_path))
    columns = {
        "text": ["a good film", None, "long " * 50],
        "product": ["a red chair with arms"] * 3,
        "shop": ["north"] * 3,
    }
    pq.write_table(pa.table(columns), tmp_path / "in.parquet")
    output = tmp_path / 'to "be" scored, it\'s ü'
    config = ScoreConfig(inputs=(str(tmp_path / "in.parquet"),), model=str(tiny_bundle), output=str(output))
    command = shown_at_the_end(monkeypatch, score(config, ignore), config)["next"]
    assert {path.name for path in output.iterdir()} >= {"_plan", "_report.html", "_manifest.json", "_SUCCESS"}
    assert command.startswith("python -c " if has_python else f"{sys.executable} -c ")
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=True, timeout=60)
    for part in ("sentiment_probability", "a good film", "null_text"):
        assert part in done.stdout


def test_the_next_command_leaves_out_texts_that_pandas_cannot_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_bundle: Path
) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    texts = pa.array([b"caf\xe9", b"a good film"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": texts}), tmp_path / "in.parquet")
    paths = {"inputs": (str(tmp_path / "in.parquet"),), "model": str(tiny_bundle), "output": str(tmp_path / "out")}
    config = ScoreConfig.model_validate({**paths, "prefix": "new_"})
    command = shown_at_the_end(monkeypatch, score(config, ignore), config)["next"]
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=True, timeout=60)
    assert "new_sentiment_probability" in done.stdout
    assert "invalid_utf8" in done.stdout


@pytest.mark.parametrize("settings", [{}, {"keep_columns": ("café", "when")}, {"explain": 1}])
def test_the_next_command_leaves_out_columns_that_pandas_cannot_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_bundle: Path, settings: dict[str, Any]
) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    columns = {
        "café": pa.array([b"caf\xe9"], pa.binary()).view(pa.string()),
        "when": pa.array([2**62], pa.timestamp("us")),
        "review": pa.array(["a good film"]),
    }
    pq.write_table(pa.table(columns), tmp_path / "in.parquet")
    paths = {"inputs": (str(tmp_path / "in.parquet"),), "model": str(tiny_bundle), "output": str(tmp_path / "out")}
    config = ScoreConfig.model_validate({**paths, "text_column": "review", **settings})
    command = shown_at_the_end(monkeypatch, score(config, ignore), config)["next"]
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=True, timeout=60)
    assert "sentiment_probability" in done.stdout
    assert ("a good film" in done.stdout) == ("keep_columns" not in settings)
    assert ("sentiment_words" in done.stdout) == ("explain" in settings)
    assert "sentiment_error" not in command, "no row has an error"


@pytest.mark.parametrize(
    ("output", "kept", "rows"),
    [("s3://bucket/scored", 0, 3), ("/scored", 0, 0), ("/scored", 0, 10**8), ("/scored", 1, 3)],
    ids=["object store", "no rows", "too many rows", "nothing to do"],
)
def test_nothing_is_proposed_where_it_would_not_work_or_help(
    monkeypatch: pytest.MonkeyPatch, output: str, kept: int, rows: int
) -> None:
    manifest = Manifest(output, 1, kept, rows, 0, {}, 0, 1.0, 3.0, "", "")
    assert "next" not in shown_at_the_end(monkeypatch, manifest)


def test_the_summary_tells_what_has_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = {"here": 0.6, "training": 0.03, "psi": 2.0}
    moved = {
        "scores": {**figures, "moved": "no"},
        "unknown_words": {**figures, "moved": "much"},
        "lengths": {**figures, "moved": "some"},
        "truncated": {**figures, "moved": None},
    }
    manifest = Manifest("/scored", 1, 0, 3, 0, {}, 0, 1.0, 3.0, "", "", moved=moved)
    shown = shown_at_the_end(monkeypatch, manifest)
    assert shown["unlike training data"] == "unknown words (much), lengths (somewhat)"
    assert shown["report"] == "/scored/_report.html"
    assert "unlike training data" not in shown_at_the_end(
        monkeypatch, Manifest("/scored", 1, 0, 3, 0, {}, 0, 1.0, 3.0, "", "")
    )


def test_shares_say_of_which_rows_they_are_and_kept_parts_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def shown(parts: int, kept: int, errors: dict[str, int]) -> dict[str, str]:
        manifest = Manifest("/scored", parts, kept, 10, 4, errors, 0, 1.0, 3.0, "", "", unsure=1)
        return shown_at_the_end(monkeypatch, manifest)

    assert (shown(3, 0, {})["positive"], shown(3, 0, {})["unsure"]) == ("4 (40.0%)", "1 (10.0%)")
    some = shown(3, 2, {"null_text": 2})
    assert some["positive"] == "4 (50.0%) of the rows with a score"
    assert some["unsure"] == "1 (12.5%) of the rows with a score"
    assert some["output"] == "/scored: 3 parts, 2 of them from an earlier run"
    assert shown(1, 1, {})["output"] == "/scored: 1 part, from an earlier run"
