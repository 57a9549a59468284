"""The client of the Jobs API: which cluster it asks, what it reports."""

from __future__ import annotations

import pytest

from lstm_ray.errors import LstmRayError
from lstm_ray.jobs import client
from lstm_ray.jobs.client import Job, exit_code


@pytest.mark.parametrize(
    ("address", "variable", "expected"),
    [
        ("head", None, "http://head:8265"),
        ("head:80", None, "http://head:80"),
        ("[::1]", None, "http://[::1]:8265"),
        ("https://ray.example.com/", None, "https://ray.example.com"),
        ("auto", None, "http://127.0.0.1:8265"),
        ("auto", "", "http://127.0.0.1:8265"),
        ("auto", "http://head:1", "http://head:1"),
    ],
)
def test_where_the_dashboard_is(
    address: str, variable: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", variable or "")  # which is set, and so put back in the end
    if variable is None:
        monkeypatch.delenv("RAY_API_SERVER_ADDRESS")
    asked: list[str] = []
    monkeypatch.setattr(client, "_Client", asked.append)
    assert (client.Jobs(address).address, asked) == (expected, [expected])


def test_a_cluster_without_a_node_that_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoNode:
        def __init__(self, address: str) -> None: ...

        def list_jobs(self) -> None:
            raise RuntimeError("Request failed with status code 500: No available agent to submit job, please try ...")

    monkeypatch.setattr(client, "_Client", NoNode)
    with pytest.raises(LstmRayError, match=r"^http://head:8265: no node can start the job: ray start may have failed"):
        client.Jobs("head").list()


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [("SUCCEEDED", 0, 0), ("FAILED", 3, 3), ("FAILED", -9, 137), ("FAILED", None, 1), ("STOPPED", None, 1)],
)
def test_the_exit_code_is_the_jobs(status: str, code: int | None, expected: int) -> None:
    assert exit_code(Job("x", status, "", "", "", 0.0, "", code)) == expected


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("", []),
        ("Job failed with exit code 1, last available logs (...):\nError. Bad", ["Job failed with exit code 1"]),
        (
            "Job supervisor died: The actor died.\nIts node left.",
            ["Job supervisor died:", "The actor died.", "Its node left."],
        ),
        ("a\nb\n" + "c\n" * 20 + "d", ["a", "b", "...", *"ccccccc", "d"]),
    ],
)
def test_the_reason_for_a_failure_is_a_few_lines(message: str, expected: list[str]) -> None:
    assert Job("x", "FAILED", "", "", "", 0.0, message, None).reason == expected
