"""Facts of the machine that the tests run on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lstm_ray.doctor import facts
from lstm_ray.doctor.facts import describe


@pytest.mark.parametrize(
    ("script", "gpus", "failure"),
    [
        ("echo H100; echo H100", ["H100", "H100"], None),
        ("echo NVIDIA-SMI has failed; exit 9", [], "NVIDIA-SMI has failed"),
        ("exit 3", [], "nvidia-smi ends with 3"),
        ("sleep 60", [], "timed out"),
    ],
)
def test_a_driver_that_fails_is_reported(
    script: str, gpus: list[str], failure: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script.replace('sleep', 'exec sleep')}\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(facts, "_DRIVER_LIMIT_S", 1)
    found = describe(None, None)
    assert found.gpus == gpus
    # The script's GPUs are not there; where the driver fails, TensorFlow is not asked.
    assert found.tensorflow_gpus == (0 if gpus else None)
    assert (found.driver_failure is None) if failure is None else (failure in str(found.driver_failure))


def test_a_directory_that_is_another_one_is_found(tmp_path: Path) -> None:
    found = describe(str(tmp_path), str(tmp_path / "probe-of-somebody-else"))
    assert found.storage_failure == f"{tmp_path}: is a different directory than on the machine that runs doctor"
