"""Examinations of this machine, of bundles and jobs."""

from __future__ import annotations

from pathlib import Path

import pytest

from lstm_ray.doctor import ray_nodes
from lstm_ray.doctor.examine import examine
from lstm_ray.doctor.facts import Facts, describe
from lstm_ray.errors import ConfigError


def test_this_machine(tmp_path: Path) -> None:
    facts = describe(str(tmp_path), None)
    assert None not in facts.versions.values()
    assert facts.storage_failure is None
    verdicts = examine(None, str(tmp_path), None, None)
    assert "this machine: cores" in [verdict.subject for verdict in verdicts]
    assert list(tmp_path.iterdir()) == []


def test_storage_that_cannot_be_written_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    verdicts = examine(None, str(tmp_path / "file"), None, None)
    assert "this machine: storage" in [verdict.subject for verdict in verdicts if verdict.level == "problem"]


def test_a_relative_directory_is_the_same_on_all_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str | None] = []

    def described(address: str, directory: str | None, probe: object) -> tuple[dict[str, Facts], dict[str, str], float]:
        asked.append(directory)
        return {}, {}, 0.0

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ray_nodes, "describe_nodes", described)
    examine("127.0.0.1:6379", "here", None, None)
    assert asked == [str(tmp_path / "here")]


def test_whether_cudnn_can_run_a_model(tmp_path: Path, tiny_bundle: Path) -> None:
    (tmp_path / "job.yaml").write_text("command: train\npreset: lstm\n")
    *_, of_bundle, of_job = examine(None, None, str(tiny_bundle), str(tmp_path / "job.yaml"))
    assert (of_bundle.state, of_bundle.level) == ("can run it", "OK")
    assert (of_job.state, of_job.level) == ("cannot run it: recurrent_dropout is 0.2", "warning")
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
    *_, verdict = examine(None, None, None, str(tmp_path / "job.yaml"))
    assert verdict.subject.endswith(f"{subject.replace('MODEL', str(tiny_bundle))}: cuDNN")


def test_a_job_without_a_model_cannot_be_judged(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("command: score")
    with pytest.raises(ConfigError, match=r"job\.yaml: model is missing"):
        examine(None, None, None, str(tmp_path / "job.yaml"))
