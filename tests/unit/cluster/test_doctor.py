from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lstm_ray.cluster.doctor import Facts, describe, examine, judge

HEALTHY = Facts(
    versions=dict.fromkeys(("python", "lstm-ray", "ray", "tensorflow", "keras", "pyarrow"), "1.0"),
    cpus=4,
    gpus=("H100", "H100"),
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
        ({"shm_bytes": 2**26}, "b: object store", "4.0 GiB, /dev/shm has 0.1 GiB free", "warning"),
        ({"auth_mode": "disabled"}, "b: Ray lets in", "anybody", "warning"),
        ({"clock": -9.0}, "b: clock", "-9.0 s against this machine, to 0.5 s", "warning"),
        ({"clock": 900.0}, "b: clock", "+900.0 s against this machine, to 0.5 s", "problem"),
        ({"storage": "no permission"}, "b: storage", "no permission", "problem"),
    ],
)
def test_what_is_wrong_is_found(changes: dict[str, Any], subject: str, state: str, verdict: str) -> None:
    assert verdicts(replace(HEALTHY, **changes)) == {subject: (state, verdict)}


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
