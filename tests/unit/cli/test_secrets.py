"""Secrets stay where the user put them: no file and no message of a run contains them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lstm_ray.cli.app import main

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


Run = Callable[..., tuple[int, str]]


@pytest.fixture
def lstm_ray(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Gives a function that runs a command in this process, with secrets in its environment.

    It returns the exit code, and all that was written to stdout and stderr.
    """
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)

    def run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["lstm-ray", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), "".join(capfd.readouterr())

    return run


def test_no_secret_is_in_what_runs_write_and_say(tmp_path: Path, lstm_ray: Run) -> None:
    reviews, others = tmp_path / "reviews.parquet", tmp_path / "others.parquet"
    for path in (reviews, others):
        pq.write_table(pa.table({"text": ["good film", "bad film"] * 20, "label": [1, 0] * 20}), path)
    run, scored = tmp_path / "run", tmp_path / "scored"
    said = [lstm_ray("train", "--train", reviews, "--output", run, *TINY)]
    said.append(lstm_ray("score", reviews, "--model", run / "model", "--output", scored))
    said.append(lstm_ray("evaluate", others, "--model", run / "model", "--output", tmp_path / "evaluated"))
    said.append(lstm_ray("doctor", "--storage", tmp_path, "--model", run / "model"))
    for code, output in said:
        assert code == 0, output
        assert PLANTED not in output
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"config.yaml", "report.html", "bundle.json", "_manifest.json", "plan.json"} <= {path.name for path in files}
    assert [path for path in files if PLANTED.encode() in path.read_bytes()] == []


def test_keys_in_a_uri_reach_nothing(tmp_path: Path, lstm_ray: Run) -> None:
    with_keys = f"s3://KEY:{PLANTED}@bucket/reviews"
    for arguments in (
        ("train", "--train", with_keys, "--output", tmp_path / "run"),
        ("train", "--train", tmp_path, "--output", with_keys),
        ("score", tmp_path / "reviews", "--model", with_keys, "--output", tmp_path / "run"),
        ("evaluate", with_keys, "--model", with_keys),
        ("doctor", "--storage", with_keys),
    ):
        code, output = lstm_ray(*arguments)
        assert code == 2, output
        assert "was given with keys in it" in output
        assert PLANTED not in output
    assert list(tmp_path.iterdir()) == []


def test_a_password_in_an_address_reaches_nothing(
    tmp_path: Path, lstm_ray: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = tmp_path / "job.yaml"
    job.write_text("{command: train, train: s3://b/x, output: s3://b/y, workers: 1}", encoding="utf-8")
    for address in (
        f"http://user:{PLANTED}@127.0.0.1:1",
        f"ray://user:{PLANTED}@127.0.0.1:1",
        f"{PLANTED}@127.0.0.1:1",
    ):
        for arguments in (
            ("submit", job),
            ("jobs", "list"),
            ("cluster", "status"),
            ("doctor",),
            ("train", "--train", tmp_path, "--output", tmp_path / "run", "--workers", 1),
            ("evaluate", tmp_path, "--model", tmp_path),
        ):
            code, output = lstm_ray(*arguments, "--address", address)
            assert code == 2, output
            assert "--address contains a password" in output
            assert PLANTED not in output
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", f"http://user:{PLANTED}@127.0.0.1:1")
    code, output = lstm_ray("jobs", "list")
    assert code == 1
    assert "no answer from http://...@127.0.0.1:1:" in output
    assert PLANTED not in output
    assert list(tmp_path.iterdir()) == [job]
