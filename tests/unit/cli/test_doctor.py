"""The report of `lstm-ray doctor`."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from lstm_ray.cli import console
from lstm_ray.cli.app import app
from lstm_ray.doctor import examine
from lstm_ray.doctor.verdicts import Verdict


def test_verdicts_can_be_read_on_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    remedy = "the storage must be a shared filesystem or an object store, with permission from every node"
    verdicts = [Verdict("10.0.0.1: storage", "is another directory than here, " * 4, "problem", remedy)]
    monkeypatch.setattr(examine, "examine", lambda *_: [*verdicts, Verdict("ray", "2.60.0")])
    monkeypatch.setattr(console, "width", lambda: 80)
    result = CliRunner().invoke(app, ["doctor"])
    title, first, *more, last = result.stdout.splitlines()
    assert (title, result.exit_code) == ("Examined", 1)
    assert first.startswith("10.0.0.1: storage  problem is another directory")
    assert last == "ray                OK      2.60.0"
    assert [line for line in more if not line.startswith(" " * 27)] == []
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert " ".join(" ".join(more).split()).endswith(f"-> {remedy}")
