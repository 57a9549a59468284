from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lstm_ray import doctor
from lstm_ray.cli import console
from lstm_ray.cli.app import app
from lstm_ray.doctor import Diagnosis, Facts, Verdict, compare_clocks, describe, examine, judge
from lstm_ray.errors import ConfigError

HEALTHY = Facts(
    versions=dict.fromkeys(("python", "lstm-ray", "ray", "tensorflow", "keras", "pyarrow"), "1.0"),
    cpus=4,
    gpus=("H100", "H100"),
    driver_failure=None,
    cudnn=True,
    shm_bytes=8 * 2**30,
    object_store_bytes=4 * 2**30,
    auth_mode="token",
    clock=0.1,
    storage=None,
)


def verdicts(changed: Facts) -> dict[str, tuple[str, str]]:
    """Returns what is not OK with a healthy node and a changed one: state and verdict by subject."""
    findings = judge({"a": HEALTHY, "b": changed}, {}, 0.5)
    assert all(finding.remedy for finding in findings if finding.verdict != "OK")
    return {finding.subject: (finding.state, finding.verdict) for finding in findings if finding.verdict != "OK"}


def test_nothing_is_wrong_with_healthy_nodes() -> None:
    assert verdicts(HEALTHY) == {}
    states = {finding.subject: finding.state for finding in judge({"a": HEALTHY}, {}, 0.5)}
    assert states["a: GPUs"] == "2 x H100, with cuDNN"
    assert states["keras"] == "1.0"


@pytest.mark.parametrize(
    ("changes", "subject", "state", "verdict"),
    [
        ({"versions": {**HEALTHY.versions, "ray": "2.0"}}, "ray", "1.0 on a, 2.0 on b", "problem"),
        ({"versions": {**HEALTHY.versions, "keras": None}}, "keras", "1.0 on a, not installed on b", "problem"),
        ({"cudnn": False}, "b: GPUs", "2 x H100, without cuDNN", "problem"),
        ({"gpus": (), "driver_failure": "no driver"}, "b: GPUs", "the driver fails: no driver", "problem"),
        ({"shm_bytes": 2**26}, "b: object store", "4.0 GiB, /dev/shm has 0.1 GiB", "warning"),
        ({"auth_mode": "disabled"}, "b: Ray lets in", "anybody", "warning"),
        ({"clock": -9.0}, "b: clock", "-9.0 s against this machine, to 0.5 s", "warning"),
        ({"clock": 900.0}, "b: clock", "+900.0 s against this machine, to 0.5 s", "problem"),
        ({"storage": "no permission"}, "b: storage", "no permission", "problem"),
    ],
)
def test_what_is_wrong_is_found(changes: dict[str, Any], subject: str, state: str, verdict: str) -> None:
    assert verdicts(replace(HEALTHY, **changes)) == {subject: (state, verdict)}


def test_clocks_are_compared_to_half_of_what_asking_took(monkeypatch: pytest.MonkeyPatch) -> None:
    here = 1_000.0
    monkeypatch.setattr(doctor.time, "time", lambda: here)

    def ask(clock: Callable[[], float]) -> dict[str, Any]:
        nonlocal here
        here += 0.5
        told = {"right": clock(), "ahead": clock() + 90, "behind": clock() - 400, "silent": RuntimeError("it died")}
        here += 1.5
        return told

    ahead, error_s = compare_clocks(ask)
    assert error_s == 1.0
    assert ahead == {"right": -0.5, "ahead": 89.5, "behind": -400.5}
    facts = {node: replace(HEALTHY, clock=seconds) for node, seconds in ahead.items()}
    clocks = {one.subject: one.verdict for one in judge(facts, {}, error_s) if one.subject.endswith("clock")}
    assert clocks == {"right: clock": "OK", "ahead: clock": "warning", "behind: clock": "problem"}


def test_verdicts_can_be_read_on_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    remedy = "the place must be a shared filesystem or an object store, with permission from every node"
    findings = [Verdict("10.0.0.1: storage", "is another directory than here, " * 4, "problem", remedy)]
    monkeypatch.setattr(doctor, "examine", lambda *_: Diagnosis([*findings, Verdict("ray", "2.60.0")]))
    monkeypatch.setattr(console, "width", lambda: 80)
    told = CliRunner().invoke(app, ["doctor"])
    title, first, *more, last = told.stdout.splitlines()
    assert (title, told.exit_code) == ("Examined", 1)
    assert first.startswith("10.0.0.1: storage  problem is another directory")
    assert last == "ray                OK      2.60.0"
    assert [line for line in more if not line.startswith(" " * 27)] == []
    assert max(map(len, told.stdout.splitlines())) <= 80
    assert " ".join(" ".join(more).split()).endswith(f"-> {remedy}")


def test_a_node_that_cannot_be_asked_is_a_problem() -> None:
    missing, silent = judge({}, {"a": "No module named 'lstm_ray'", "b": "it died"}, 0.0)[:2]
    assert (missing.subject, missing.state, missing.verdict) == ("a: lstm-ray", "not installed", "problem")
    assert (silent.subject, silent.verdict) == ("b", "problem")


def test_this_machine(tmp_path: Path) -> None:
    facts = describe(str(tmp_path), None)
    assert None not in facts.versions.values()
    assert facts.storage is None
    report = examine(None, str(tmp_path), None, None)
    assert "this machine: cores" in [finding.subject for finding in report.findings]
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    report = examine(None, str(tmp_path / "file"), None, None)
    assert report.has_problem
    assert "this machine: storage" in [finding.subject for finding in report.findings if finding.verdict == "problem"]


@pytest.mark.parametrize(
    ("script", "gpus", "failure"),
    [
        ("echo H100; echo H100", ["H100", "H100"], None),
        ("echo NVIDIA-SMI has failed; exit 9", [], "NVIDIA-SMI has failed"),
        ("exit 3", [], "nvidia-smi ends with 3"),
        ("sleep 60", [], "timed out"),
    ],
)
def test_a_driver_that_fails_is_told(
    script: str, gpus: list[str], failure: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script.replace('sleep', 'exec sleep')}\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(doctor, "_DRIVER_LIMIT_S", 1)
    facts = describe(None, None)
    assert facts.gpus == gpus
    assert (facts.driver_failure is None) if failure is None else (failure in str(facts.driver_failure))


def test_a_place_is_the_same_in_every_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str | None] = []

    def examined(address: str, place: str | None, probe: object) -> list[Verdict]:
        asked.append(place)
        return []

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "_examine_cluster", examined)
    examine("127.0.0.1:6379", "here", None, None)
    assert asked == [str(tmp_path / "here")]


def test_a_place_that_is_another_one_is_found(tmp_path: Path) -> None:
    facts = describe(str(tmp_path), str(tmp_path / "probe-of-somebody-else"))
    assert facts.storage == f"{tmp_path}: is another directory than on the machine that asks"


def test_whether_cudnn_can_run_a_model(tmp_path: Path, tiny_bundle: Path) -> None:
    (tmp_path / "job.yaml").write_text("command: train\npreset: lstm\n")
    report = examine(None, None, str(tiny_bundle), str(tmp_path / "job.yaml"))
    of_bundle, of_job = report.findings[-2:]
    assert (of_bundle.state, of_bundle.verdict) == ("can run it", "OK")
    assert (of_job.state, of_job.verdict) == ("cannot run it: recurrent_dropout is 0.2", "warning")
    assert of_job.remedy.startswith("--recurrent-dropout 0 would let cuDNN run it")


@pytest.mark.parametrize(
    ("job", "subject"),
    [
        ("command: tune\nsearch: {units: {choice: [8, 16]}}", "job.yaml"),
        ("command: score\nmodel: MODEL", "MODEL"),
        ("command: evaluate\nmodel: MODEL", "MODEL"),
        ("epochs: 3", "job.yaml"),
    ],
)
def test_the_job_may_be_any(tmp_path: Path, tiny_bundle: Path, job: str, subject: str) -> None:
    (tmp_path / "job.yaml").write_text(job.replace("MODEL", str(tiny_bundle)))
    finding = examine(None, None, None, str(tmp_path / "job.yaml")).findings[-1]
    assert finding.subject.endswith(f"{subject.replace('MODEL', str(tiny_bundle))}: cuDNN")


def test_a_job_without_a_model_cannot_be_judged(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("command: score")
    with pytest.raises(ConfigError, match=r"job\.yaml: model is missing"):
        examine(None, None, None, str(tmp_path / "job.yaml"))
