"""What `lstm-ray jobs` prints."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from typer.testing import CliRunner

from lstm_ray.cli.app import app
from lstm_ray.errors import LstmRayError
from lstm_ray.jobs import client
from lstm_ray.jobs.client import Job

WHY = "runtime_env setup failed: No space left.\nFree some."
JOBS = [
    Job("a", "SUCCEEDED", "python -m lstm_ray train", "s3://b/run", "2026-01-02 03:04:05", 7.0, "", 0),
    Job("b", "RUNNING", "python -m lstm_ray score", "", "2026-01-02 03:05:05", 1.5, "", None),
]


class Cluster:
    """A cluster with two jobs."""

    def __init__(self, address: str, notify: Any) -> None:
        notify(f"{address} is Ray itself")

    def list(self) -> list[Job]:
        """Returns the jobs."""
        return JOBS

    def job(self, name: str) -> Job:
        """Returns a job that did not start."""
        return Job(name, "FAILED", "python -m lstm_ray score", "", "", 0.0, WHY, None)

    def follow(self, name: str, show: Any, notify: Any) -> Job:
        """Returns the same job."""
        return self.job(name)

    def address_option(self) -> list[str]:
        """Returns the option for a command to copy."""
        return ["--address", "http://head:8265"]

    def stop(self, name: str) -> Job:
        """Returns a job that had ended, or ends now."""
        (job,) = (job for job in JOBS if job.id == name)
        return job if job.has_ended else replace(job, status="STOPPED")


def test_a_list_for_programs_has_a_json_object_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "Jobs", Cluster)
    done = CliRunner().invoke(app, ["jobs", "list", "--json", "--address", "head:6379"])
    assert done.exit_code == 0, done.output
    assert [json.loads(line) for line in done.stdout.splitlines()] == [asdict(job) for job in JOBS]
    assert done.stderr == "head:6379 is Ray itself\n"
    shown = CliRunner().invoke(app, ["jobs", "list", "--quiet"])
    assert shown.stdout.splitlines()[0] == "Jobs"
    assert shown.stderr == ""


@pytest.mark.parametrize(
    ("name", "shown"), [("a", "a: succeeded"), ("b", "b: stopped; submitting the same job file again resumes it")]
)
def test_a_job_that_has_succeeded_is_not_to_be_resumed(monkeypatch: pytest.MonkeyPatch, name: str, shown: str) -> None:
    monkeypatch.setattr(client, "Jobs", Cluster)
    done = CliRunner().invoke(app, ["jobs", "stop", name, "--address", "head:6379"])
    assert done.output.splitlines()[1:] == [shown]


@pytest.mark.parametrize(("host", "is_here"), [("127.0.0.1", True), ("192.0.2.1", False)])
def test_a_machine_without_ray_is_told_how_to_start_it(
    monkeypatch: pytest.MonkeyPatch, host: str, is_here: bool
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ConnectionError("refused")

    monkeypatch.setattr(client, "_Client", refuse)
    monkeypatch.setattr(client, "find_dashboard", lambda address, notify: address)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "")
    with pytest.raises(LstmRayError, match="no answer from http://") as error:
        client.Jobs(f"{host}:9")
    assert ("ray start --head" in str(error.value)) == is_here


def test_the_reason_for_a_failure_and_what_to_do_are_lines_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "Jobs", Cluster)
    monkeypatch.setenv("COLUMNS", "200")
    done = CliRunner().invoke(app, ["jobs", "status", "c", "--quiet"])
    rows = [(line[:8].strip(), line[8:].strip()) for line in done.stdout.splitlines()]
    assert rows[-4:-1] == [("message", "runtime_env setup failed:"), ("", "No space left."), ("", "Free some.")]
    assert rows[-1] == ("log", "lstm-ray jobs logs c --address http://head:8265")
    done = CliRunner().invoke(app, ["jobs", "logs", "c", "--follow", "--quiet"])
    assert done.exit_code == 1
    assert done.stderr.splitlines() == [
        "error: runtime_env setup failed:",
        "  No space left.",
        "  Free some.",
        "on the cluster, `lstm-ray doctor --address auto` finds what its nodes lack",
        "the same job file, submitted again, resumes",
    ]
