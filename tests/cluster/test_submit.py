"""Jobs on a cluster without the package: submitted, followed, left and stopped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hosts import Host, Network

MakeBundle = Callable[..., Path]


@pytest.fixture(scope="module")
def bare(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Host:
    """Gives a cluster of one host, on whose nodes `import lstm_ray` fails."""
    absent = tmp_path_factory.mktemp("absent")
    (absent / "lstm_ray").mkdir()
    (absent / "lstm_ray" / "__init__.py").write_text("raise ImportError('not on this cluster')")
    host = network.add_host("bare")
    host.start_ray(cpus=2, dashboard=True, PYTHONPATH=str(absent))
    return host


@pytest.fixture
def job_file(reviews: Path, tiny_bundle: Path, tmp_path: Path) -> Path:
    """Gives a job that scores 4,000 reviews and sets one file aside, with paths below the directory it is in."""
    (tmp_path / "model").symlink_to(tiny_bundle)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 is all that is right about it")
    job = {
        "command": "score",
        "inputs": [str(reviews), "bad.parquet"],
        "model": "model",
        "output": "scored",
        "rows_per_part": 500,
        "max_bad_files": 1,
        "actors": 1,
    }
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    return tmp_path / "job.yaml"


def test_a_job_is_left_and_followed_again_to_its_exit_code(
    bare: Host, job_file: Path, wait_until: Callable[..., None]
) -> None:
    submitting = bare.start_lstm_ray("submit", job_file, "--storage", job_file.parent)
    wait_until(lambda: bare.runs("lstm_ray score --config lstm-ray-job.yaml") or submitting.poll() is not None)
    bare.interrupt(submitting)
    _, err = submitting.communicate(timeout=60)
    assert submitting.returncode == 130, err
    job_id = err.split("submitted ")[1].split()[0]
    assert f"{job_id} is still running" in err
    assert f"lstm-ray jobs logs {job_id} --follow --address http://127.0.0.1:8265" in err

    followed = bare.lstm_ray("jobs", "logs", job_id, "--follow")
    assert followed.returncode == 3, followed.stderr
    assert "4,000 rows in 4 files" in followed.stdout
    assert "set aside: 1 input file" in followed.stdout
    assert "failed, exit code 3" in followed.stderr
    assert (job_file.parent / "scored" / "_SUCCESS").exists()
    assert job_id in bare.lstm_ray("jobs", "list").stdout
    status = bare.lstm_ray("jobs", "status", job_id)
    assert "exit code  3" in status.stdout
    assert bare.lstm_ray("jobs", "logs", job_id).stdout == followed.stdout


def test_a_job_is_stopped(bare: Host, job_file: Path, wait_until: Callable[..., None]) -> None:
    job_id = bare.lstm_ray("submit", job_file, "--storage", job_file.parent, "--no-follow").stdout.strip()
    wait_until(lambda: bare.runs("lstm_ray score --config lstm-ray-job.yaml"))
    stopped = bare.lstm_ray("jobs", "stop", job_id)
    assert stopped.returncode == 0, stopped.stderr
    assert "stopped" in stopped.stderr
    assert not bare.runs("lstm_ray score --config lstm-ray-job.yaml")
    assert bare.lstm_ray("jobs", "logs", job_id, "--follow").returncode == 1


def test_what_is_no_cluster_and_no_job_is_told(bare: Host, job_file: Path) -> None:
    refused = bare.lstm_ray("jobs", "list", RAY_AUTH_TOKEN="0" * 64)
    assert refused.returncode == 1
    assert "refuses this machine's token" in refused.stderr
    nobody = bare.lstm_ray("submit", job_file, "--storage", job_file.parent, "--address", "127.0.0.1:9")
    assert nobody.returncode == 1
    assert nobody.stderr.startswith("error: no answer from http://127.0.0.1:9: is that the cluster's dashboard")
    unknown = bare.lstm_ray("jobs", "logs", "no-such-job")
    assert unknown.returncode == 1
    assert unknown.stderr == "error: no job 'no-such-job' at http://127.0.0.1:8265: lstm-ray jobs list shows them\n"
