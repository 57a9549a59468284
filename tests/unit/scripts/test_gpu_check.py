"""What scripts/gpu_check makes of its parts, with small programs in place of those that need a GPU."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "gpu_check"


def load() -> Any:
    """Imports the script, whose name has no suffix."""
    loader = SourceFileLoader("gpu_check", str(SCRIPT))
    spec = importlib.util.spec_from_loader("gpu_check", loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_check"] = module  # where dataclasses look their module up
    loader.exec_module(module)
    return module


gpu_check = load()

SPEED = {"network": "lstm", "what": "lstm-ray", "step_ms": 1.5, "tokens_per_s": 1706666.7, "gpu_busy": 0.42}
WRONG = {"network": "bilstm", "what": "60 steps", "result": "differs by at most 1.0e+00", "failed": True}


def part(name: str, *lines: str, limit_s: float = 20) -> Any:
    """Returns a part that runs lines of Python."""
    return gpu_check.Part(name, ("-c", "\n".join(lines)), limit_s)


def printing(*rows: dict[str, Any]) -> str:
    """Returns a line of Python that prints rows as a part does."""
    return f"print({chr(10).join(map(json.dumps, rows))!r}, flush=True)"


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Gives a program that says what nvidia-smi says on a machine with one GPU; a test may write another."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'NVIDIA T4, 15360 MiB, 580.1'\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return program


@pytest.mark.usefixtures("nvidia_smi")
def test_the_table_has_what_ran_and_the_last_lines_what_did_not(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    parts = (
        part("speed", printing(SPEED)),
        part("torch", printing({"missing": "PyTorch sees no GPU"})),
        part("score", printing(SPEED)),
    )
    code = gpu_check.main(["--only", "speed", "torch", "--json", str(tmp_path / "figures.json")], parts)
    lines = capsys.readouterr().out.splitlines()
    assert code == 0
    assert lines[0] == "GPU: NVIDIA T4, 15360 MiB, 580.1"
    assert lines[3].split() == ["speed", "lstm", "lstm-ray", "1.50", "1,706,667", "42%"]
    assert lines[-3:] == ["Not run:", "  torch: PyTorch sees no GPU", "  score: left out by --only"]
    figures = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    assert figures["parts"][0]["rows"] == [SPEED]
    assert figures["parts"][1]["not_run"] == "PyTorch sees no GPU"


@pytest.mark.usefixtures("nvidia_smi")
def test_all_parts_were_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_check.main([], (part("speed", "print('a library talks')", "print('[1]')", printing(SPEED)),)) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "All parts were run."


@pytest.mark.usefixtures("nvidia_smi")
@pytest.mark.parametrize(
    ("lines", "failure"),
    [
        ((printing(WRONG),), "bilstm, 60 steps: differs by at most 1.0e+00"),
        ((printing(SPEED), "raise ValueError('no kernel image')"), "ValueError: no kernel image"),
        (("pass",), "it printed nothing"),
    ],
)
def test_what_is_wrong_is_said_and_is_the_exit_code(
    lines: tuple[str, ...], failure: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gpu_check.main([], (part("curves", *lines),)) == 1
    wrong = [line for line in capsys.readouterr().out.splitlines() if line.startswith("WRONG in curves: ")]
    assert len(wrong) == 1
    assert wrong[0].endswith(failure)


def test_a_part_is_stopped_at_its_limit_with_its_processes_and_keeps_its_rows(tmp_path: Path) -> None:
    child = tmp_path / "child"
    lines = (
        "import subprocess, sys, time",
        f"subprocess.Popen([sys.executable, '-c', \"import time; time.sleep(3); open({str(child)!r}, 'w')\"])",
        printing(SPEED),
        "time.sleep(60)",
    )
    begun = time.monotonic()
    outcome = gpu_check.run_part(part("speed", *lines, limit_s=1.5), 1.5)
    assert time.monotonic() - begun < 10
    assert outcome.rows == [SPEED]
    assert outcome.not_run == "stopped after 2 s; 1 rows were done"
    assert outcome.failure == ""
    time.sleep(1.5)
    assert not child.exists()


@pytest.mark.usefixtures("nvidia_smi")
def test_parts_for_which_no_time_is_left_do_not_start(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gpu_check, "LEAST_S", 1)
    started = tmp_path / "started"
    parts = (
        part("speed", "import time; time.sleep(60)"),
        part("score", f"open({str(started)!r}, 'w')"),
    )
    assert gpu_check.main(["--seconds", "1.5"], parts) == 2
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "  speed: stopped after 1 s",
        "  score: no time was left",
    ]
    assert not started.exists()


@pytest.mark.parametrize(
    ("script", "reason"),
    [(None, "nvidia-smi does not run"), ("echo 'No devices were found'; exit 6", "No devices were found")],
)
def test_without_a_gpu_nothing_is_run(
    script: str | None, reason: str, nvidia_smi: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    if script:
        nvidia_smi.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    else:
        nvidia_smi.unlink()
    started = tmp_path / "started"
    assert gpu_check.main([], (part("speed", f"open({str(started)!r}, 'w')"),)) == 2
    assert reason in capsys.readouterr().out.splitlines()[-1]
    assert not started.exists()


@pytest.mark.parametrize(
    ("code", "printed", "rows", "not_run", "failure"),
    [
        (0, ["6 passed, 300 deselected in 9.1s"], 1, "", ""),
        (0, ["SKIPPED [3] tests/conftest.py:40: no GPU", "3 skipped in 2s"], 0, "no GPU", ""),
        (0, ["SKIPPED [1] x.py:40: no", "2 passed, 1 skipped in 2s"], 1, "1 of the tests were skipped", ""),
        (5, ["300 deselected in 1s"], 0, "no test is marked gpu", ""),
        (1, ["FAILED x.py::test_y - assert 1", "1 failed, 2 passed in 3s"], 1, "", "1 failed, 2 passed in 3s; FAILED"),
    ],
)
def test_what_pytest_says(code: int, printed: list[str], rows: int, not_run: str, failure: str) -> None:
    outcome = gpu_check.Outcome("tests")
    gpu_check.judge_tests(outcome, code, printed, [])
    assert len(outcome.rows) == rows
    assert outcome.not_run == not_run
    assert outcome.failure.startswith(failure)
    assert bool(outcome.failure) == bool(failure)


def test_a_machine_without_pytest_runs_no_tests() -> None:
    outcome = gpu_check.Outcome("tests")
    gpu_check.judge_tests(outcome, 1, [], ["/usr/bin/python3: No module named pytest"])
    assert (outcome.not_run, outcome.failure) == ("pytest is not installed", "")


def test_the_parts_exist_and_take_eight_minutes_at_most() -> None:
    from benchmarks import gpu_parts

    assert sum(each.limit_s for each in gpu_check.PARTS) <= 480
    measuring = [each for each in gpu_check.PARTS if each.name != "tests"]
    assert [each.command for each in measuring] == [("-m", "benchmarks.gpu_parts", name) for name in gpu_parts.PARTS]
    tests = next(each for each in gpu_check.PARTS if each.name == "tests")
    marked = {
        str(path.relative_to(SCRIPT.parents[1]))
        for path in (SCRIPT.parents[1] / "tests").rglob("test_*.py")
        if "pytest.mark.gpu\n" in path.read_text(encoding="utf-8")
    }
    assert marked
    assert all(path.startswith(tuple(part for part in tests.command if part.startswith("tests/"))) for path in marked)
