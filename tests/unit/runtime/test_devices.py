"""The cores and GPUs of this process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lstm_ray.runtime import devices


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where a GPU's device files may be made; there are none elsewhere."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    files = tuple(str(tmp_path / maker) for maker in ("nvidia", "windows", "amd"))
    monkeypatch.setattr(devices, "_GPU_FILES", files)
    return tmp_path


@pytest.mark.parametrize(("name", "may"), [("none", False), ("nvidia", True), ("amd", True), ("windows", True)])
def test_gpus_are_known_by_their_device_files(device: Path, name: str, may: bool) -> None:
    (device / name).touch()
    assert devices.may_have_gpu() == may


@pytest.mark.parametrize(("visible", "found"), [("", False), ("-1", False), ("0", True), ("1,2", True)])
def test_hidden_gpus_are_not_there(monkeypatch: pytest.MonkeyPatch, device: Path, visible: str, found: bool) -> None:
    (device / "nvidia").touch()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert devices.may_have_gpu() == found


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes cannot be tied to cores here")
def test_cores_are_those_that_the_process_may_use() -> None:
    code = "import os; from lstm_ray.runtime.devices import available_cores; "
    code += "os.sched_setaffinity(0, {CORE}); print(available_cores())"
    code = code.replace("CORE", str(min(os.sched_getaffinity(0))))
    assert subprocess.check_output([sys.executable, "-c", code], text=True, timeout=60).strip() == "1"
    assert devices.available_cores() == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"memory.max": "max"}, None),
        ({"memory.max": "4096"}, 4096),
        ({"memory/memory.limit_in_bytes": "8192"}, 8192),
        ({"memory.max": "4096", "memory/memory.limit_in_bytes": "9223372036854771712"}, 4096),
    ],
)
def test_memory_is_that_of_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], expected: int | None
) -> None:
    monkeypatch.setattr(devices, "_CGROUPS", tmp_path)
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name, limit in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{limit}\n", encoding="ascii")
    assert devices.memory_bytes() == (expected or machine)
