"""Shared by the tests of definitions: a machine without Kubernetes, with the definitions' Ray and a token."""

from __future__ import annotations

from pathlib import Path

import pytest
from definitions import RAY

from lstm_ray.cluster.check.kubernetes import ENVIRONMENT


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hides the CRDs, the kubectl, the home and the version of Ray that this machine may have."""
    monkeypatch.setattr("lstm_ray.cluster.check.validate.version", lambda _: RAY)
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").touch()
