"""`cluster up` and `down`: what is refused before Ray is asked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lstm_ray.cli.app import app
from lstm_ray.cluster import launch
from lstm_ray.cluster.definition.render import render
from lstm_ray.cluster.definition.settings import ClusterConfig
from lstm_ray.cluster.launch import down, up
from lstm_ray.errors import ConfigError, InputError, LstmRayError


@pytest.fixture
def definition(tmp_path: Path) -> Path:
    """Gives a definition of a cluster of machines that do not exist."""
    path = tmp_path / "onprem.yaml"
    path.write_text(
        render(ClusterConfig(provider="onprem", hosts="10.0.0.1,10.0.0.2", ssh_key="/no/key")), encoding="utf-8"
    )
    return path


def test_up_refuses_what_is_not_valid(definition: Path) -> None:
    text = (
        definition.read_text(encoding="utf-8")
        .replace("10.0.0.2", "10.0.0.333")
        .replace("min_workers: 1", "min_workers: 7")
    )
    definition.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as raised:
        up(str(definition), yes=True)
    first, *rest = str(raised.value).splitlines()
    assert first == f"{definition}: 2 mistakes:"
    assert rest[0].startswith("  line 5: max_workers: is 1, below min_workers 7")
    assert "provider.worker_ips[0]: '10.0.0.333' is neither an IPv4 address" in rest[1]


def test_up_refuses_what_is_not_ready(definition: Path) -> None:
    with pytest.raises(InputError, match=r"not ready:\n(.|\n)*auth.ssh_private_key: /no/key does not exist"):
        up(str(definition), yes=True)


def test_kubernetes_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "my ray.yaml"
    path.write_text(render(ClusterConfig(provider="kuberay")), encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"kubectl apply --filename '{path}'"):
        up(str(path), yes=True)
    with pytest.raises(ConfigError, match=rf"kubectl delete --filename '{path}'"):
        down(str(path), yes=True)


def test_down_refuses_what_is_no_definition(tmp_path: Path) -> None:
    path = tmp_path / "other.yaml"
    path.write_text("epochs: 3\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"provider\.type: is missing"):
        down(str(path), yes=True)
    path.write_text("- epochs\n", encoding="utf-8")
    with pytest.raises(InputError, match="not a cluster definition"):
        down(str(path), yes=True)


@pytest.mark.parametrize(("provider", "module"), [("gcp", "google-api-python-client"), ("azure", "azure-identity")])
def test_a_cloud_needs_its_packages(provider: str, module: str, tmp_path: Path) -> None:
    config = ClusterConfig(provider=provider)  # type: ignore[arg-type]
    path = tmp_path / "cloud.yaml"
    path.write_text(render(config), encoding="utf-8")
    name = {"gcp": "googleapiclient", "azure": "azure.identity"}[provider]
    try:
        __import__(name)
    except ImportError:
        with pytest.raises(LstmRayError, match=rf"Ray needs packages for {provider}: pip install .*{module}"):
            down(str(path), yes=True)
    else:
        pytest.skip(f"{name} is installed")


def test_a_failure_of_ray_is_reported(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text("cluster_name: odd\nprovider: {type: no_such_provider}\n", encoding="utf-8")
    with pytest.raises(LstmRayError, match="`ray down` failed with exit code 1"):
        down(str(path), yes=True)
    captured = capfd.readouterr()
    assert captured.out == "", "the output of Ray is on stderr"
    assert "no_such_provider" in captured.err


def test_ctrl_c_waits_for_ray_to_end(tmp_path: Path) -> None:
    script = tmp_path / "ray"  # instead of Python: notes that it was interrupted, and takes a second to end
    script.write_text(
        f"#!/bin/sh\ntrap 'sleep 1; echo ended > {tmp_path}/told; exit 1' INT\ntouch {tmp_path}/begun\n"
        "while :; do sleep 0.1; done\n",
        encoding="utf-8",
    )
    script.chmod(0o755)
    code = (
        f"import sys; from lstm_ray.cluster import launch; sys.executable = {str(script)!r}; launch._run_ray('up', 'x')"
    )
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "begun").exists():
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    assert "KeyboardInterrupt" in process.communicate(timeout=30)[1]
    assert (tmp_path / "told").read_text(encoding="utf-8") == "ended\n"


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("up", "what was started keeps running: stop it with lstm-ray cluster down PATH"),
        ("down", "parts of it may still be running: the same command stops them"),
    ],
)
def test_ctrl_c_reports_what_still_runs(
    command: str, told: str, definition: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, command, interrupted)
    result = CliRunner().invoke(app, ["cluster", command, str(definition), "--yes"])
    assert result.exit_code == 130
    assert f"interrupted: {told.replace('PATH', str(definition))}" in result.stderr


@pytest.fixture
def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Gives the log of fake `ray` and `ssh` commands; ssh reaches only 10.0.0.2."""
    told = tmp_path / "told"
    (tmp_path / "bin").mkdir()
    for name, end in (("ray", "true"), ("ssh", "case $* in *10.0.0.2*) true;; *) false;; esac")):
        program = tmp_path / "bin" / name
        program.write_text(f"#!/bin/sh\necho {name} $* >> {told}\n{end}\n", encoding="utf-8")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")

    def run(command: str, path: str, *more: str) -> int:
        if command != "exec":
            with told.open("a", encoding="utf-8") as file:
                file.write(f"ray {command} {' '.join(more)}\n")
            return 0
        return subprocess.run(["bash", "-c", *more], check=False).returncode

    monkeypatch.setattr(launch, "_run_ray", run)
    return told


def test_down_stops_ray_on_the_workers_too(definition: Path, machines: Path) -> None:
    questions: list[str] = []
    down(str(definition), yes=False, confirm=questions.append)
    assert questions == ["Stop Ray on 10.0.0.1, 10.0.0.2?"]
    first, second, last = machines.read_text(encoding="utf-8").splitlines()
    assert (first, last) == ("ray stop", "ray down --yes")
    assert second.startswith("ssh -o StrictHostKeyChecking=no")
    assert "-i " in second
    assert "ubuntu@10.0.0.2 bash --login -c 'export PATH=" in second
    assert second.endswith("RAY_AUTH_MODE=token; ray stop'")


def test_a_worker_that_cannot_be_reached_is_reported(tmp_path: Path, machines: Path) -> None:
    path = tmp_path / "onprem.yaml"
    config = ClusterConfig(provider="onprem", hosts="10.0.0.1,10.0.0.2,10.0.0.9", ssh_key="/no/key")
    path.write_text(render(config), encoding="utf-8")
    with pytest.raises(LstmRayError, match=r"Ray may still run on 10\.0\.0\.1 10\.0\.0\.2 10\.0\.0\.9"):
        down(str(path), yes=True)
    assert machines.read_text(encoding="utf-8").splitlines()[-1] == "ray down --yes"
