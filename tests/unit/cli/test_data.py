"""What `lstm-ray data split` prints."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from lstm_ray.cli.app import app


@pytest.mark.parametrize("by", [[], ["--by", "film"]], ids=["text", "film"])
def test_a_split_counts_all_rows_and_names_the_next_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, by: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    pq.write_table(
        pa.table({"body": [f"text {row}" for row in range(90)], "film": [row // 3 for row in range(90)]}), "in"
    )
    done = CliRunner().invoke(app, ["data", "split", "in", "--output", "out", "--text-column", "body", *by])
    assert done.exit_code == 0, done.output
    rows = {name: pq.read_metadata(f"out/{name}.parquet").num_rows for name in ("train", "test")}
    assert rows["train"] + rows["test"] == 90
    shown = dict(line.split(maxsplit=1) for line in done.stdout.splitlines()[1:])
    for name, count in rows.items():
        groups = f" of {count // 3} groups" if by else ""
        assert shown[name] == f"out/{name}.parquet: {count} rows{groups}"
    train = "lstm-ray train --train out/train.parquet --output runs/first --validation out/test.parquet"
    assert shown["next"] == f"{train} --text-column body"
