"""Verdicts about facts of nodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from lstm_ray.doctor import facts
from lstm_ray.doctor.facts import Facts, compare_clocks
from lstm_ray.doctor.verdicts import judge

HEALTHY = Facts(
    versions=dict.fromkeys(("python", "lstm-ray", "ray", "tensorflow", "keras", "pyarrow"), "1.0"),
    cpus=4,
    native_engine="AVX-512, 16 lanes",
    native_engine_is_slow=False,
    gpus=("H100", "H100"),
    driver_failure=None,
    cudnn=True,
    tensorflow_gpus=2,
    shm_bytes=8 * 2**30,
    object_store_bytes=4 * 2**30,
    auth_mode="token",
    clock=0.1,
    storage_failure=None,
)


def verdicts(changed: Facts) -> dict[str, tuple[str, str]]:
    """Returns what is not OK with a healthy node and a changed one: state and verdict by subject."""
    findings = judge({"a": HEALTHY, "b": changed}, {}, 0.5)
    assert all(finding.remedy for finding in findings if finding.level != "OK")
    return {finding.subject: (finding.state, finding.level) for finding in findings if finding.level != "OK"}


def test_nothing_is_wrong_with_healthy_nodes() -> None:
    assert verdicts(HEALTHY) == {}
    states = {finding.subject: finding.state for finding in judge({"a": HEALTHY}, {}, 0.5)}
    assert states["a: GPUs"] == "2 x H100, with cuDNN; TensorFlow sees 2"
    assert states["a: native engine"] == "AVX-512, 16 lanes"
    assert states["keras"] == "1.0"


@pytest.mark.parametrize(
    ("changes", "subject", "state", "verdict"),
    [
        ({"versions": {**HEALTHY.versions, "ray": "2.0"}}, "ray", "1.0 on a, 2.0 on b", "problem"),
        ({"versions": {**HEALTHY.versions, "keras": None}}, "keras", "1.0 on a, not installed on b", "problem"),
        ({"native_engine": "no AVX2", "native_engine_is_slow": True}, "b: native engine", "no AVX2", "warning"),
        ({"cudnn": False}, "b: GPUs", "2 x H100, without cuDNN", "problem"),
        ({"tensorflow_gpus": 0}, "b: GPUs", "2 x H100, but TensorFlow sees none", "problem"),
        ({"tensorflow_gpus": None}, "b: GPUs", "2 x H100, but TensorFlow fails", "problem"),
        ({"gpus": (), "driver_failure": "no driver"}, "b: GPUs", "the driver fails: no driver", "problem"),
        ({"shm_bytes": 2**26}, "b: object store", "4.0 GiB, /dev/shm has 0.1 GiB", "warning"),
        ({"auth_mode": "disabled"}, "b: authentication", "none", "warning"),
        ({"clock": -9.0}, "b: clock", "-9.0 s relative to this machine (± 0.5 s)", "warning"),
        ({"clock": 900.0}, "b: clock", "+900.0 s relative to this machine (± 0.5 s)", "problem"),
        ({"storage_failure": "no permission"}, "b: storage", "no permission", "problem"),
    ],
)
def test_what_is_wrong_is_found(changes: dict[str, Any], subject: str, state: str, verdict: str) -> None:
    assert verdicts(replace(HEALTHY, **changes)) == {subject: (state, verdict)}


def test_clocks_are_compared_to_half_of_what_asking_took(monkeypatch: pytest.MonkeyPatch) -> None:
    here = 1_000.0
    monkeypatch.setattr(facts.time, "time", lambda: here)

    def ask(clock: Callable[[], float]) -> dict[str, Any]:
        nonlocal here
        here += 0.5
        answers = {"right": clock(), "ahead": clock() + 90, "behind": clock() - 400, "silent": RuntimeError("it died")}
        here += 1.5
        return answers

    ahead, error_s = compare_clocks(ask)
    assert error_s == 1.0
    assert ahead == {"right": -0.5, "ahead": 89.5, "behind": -400.5}
    of_nodes = {node: replace(HEALTHY, clock=seconds) for node, seconds in ahead.items()}
    clocks = {one.subject: one.level for one in judge(of_nodes, {}, error_s) if one.subject.endswith("clock")}
    assert clocks == {"right: clock": "OK", "ahead: clock": "warning", "behind: clock": "problem"}


def test_a_node_that_cannot_be_asked_is_a_problem() -> None:
    missing, silent = judge({}, {"a": "No module named 'lstm_ray'", "b": "it died"}, 0.0)[:2]
    assert (missing.subject, missing.state, missing.level) == ("a: lstm-ray", "not installed", "problem")
    assert (silent.subject, silent.level) == ("b", "problem")
