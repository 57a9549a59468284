"""Secrets stay where the user put them: no file and no message of a run contains them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

PLANTED = "planted7f3c9"
ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": PLANTED + "0" * 52,
    "AWS_ACCESS_KEY_ID": PLANTED + "1",
    "AWS_SECRET_ACCESS_KEY": PLANTED + "2",
}
TINY = (
    "--preset",
    "none",
    "--vocabulary-size",
    20,
    "--max-tokens",
    5,
    "--embedding-size",
    2,
    "--units",
    2,
    "--epochs",
    1,
    "--validation-fraction",
    0,
)


def lstm_ray(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs the command with secrets in its environment."""
    command = [sys.executable, "-m", "lstm_ray", *map(str, arguments)]
    return subprocess.run(command, env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True)


def test_no_secret_is_in_what_runs_write_and_say(tmp_path: Path) -> None:
    reviews, others = tmp_path / "reviews.parquet", tmp_path / "others.parquet"
    for path in (reviews, others):
        pq.write_table(pa.table({"text": ["good film", "bad film"] * 20, "label": [1, 0] * 20}), path)
    run, scored = tmp_path / "run", tmp_path / "scored"
    said = [lstm_ray("train", "--train", reviews, "--output", run, *TINY)]
    said.append(lstm_ray("score", reviews, "--model", run / "model", "--output", scored))
    said.append(lstm_ray("evaluate", others, "--model", run / "model", "--output", tmp_path / "evaluated"))
    said.append(lstm_ray("doctor", "--storage", tmp_path, "--model", run / "model"))
    for done in said:
        assert done.returncode == 0, done.stderr
        assert PLANTED not in done.stdout + done.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"config.yaml", "report.html", "bundle.json", "_manifest.json", "plan.json"} <= {path.name for path in files}
    assert [path for path in files if PLANTED.encode() in path.read_bytes()] == []


def test_keys_in_a_uri_reach_nothing(tmp_path: Path) -> None:
    with_keys = f"s3://KEY:{PLANTED}@bucket/reviews"
    for arguments in (
        ("train", "--train", with_keys, "--output", tmp_path / "run"),
        ("train", "--train", tmp_path, "--output", with_keys),
        ("score", tmp_path / "reviews", "--model", with_keys, "--output", tmp_path / "run"),
        ("evaluate", with_keys, "--model", with_keys),
        ("doctor", "--storage", with_keys),
    ):
        done = lstm_ray(*arguments)
        assert done.returncode == 2, done.stderr
        assert "was given with keys in it" in done.stderr
        assert PLANTED not in done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == []
