"""Cluster definitions before Ray's own eyes, and the status of a Ray that runs."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

READY = sorted((Path(__file__).parents[2] / "cluster").glob("*.yaml"))
_LIMIT_S = 300


@pytest.mark.parametrize("path", [path for path in READY if "kuberay" not in path.name], ids=lambda path: path.name)
def test_ray_takes_a_ready_definition(path: Path) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    prepared = prepare_config(content)  # what `ray up` does first: fills in its defaults
    validate_config(prepared)
    for name, value in content.items():
        if name not in (
            "setup_commands",
            "min_workers",
            "head_setup_commands",
            "available_node_types",
        ):  # joined, moved
            assert prepared[name] == value, name
    for name, node_type in content.get("available_node_types", {}).items():
        assert {**prepared["available_node_types"][name], **node_type} == prepared["available_node_types"][name]
    assert prepared["head_setup_commands"][: len(content["setup_commands"])] == content["setup_commands"]
    workers = next(kind for name, kind in prepared["available_node_types"].items() if name != "head")
    assert (workers["min_workers"], workers["max_workers"]) == ((2, 2) if path.stem == "onprem" else (0, 4))


def free_port() -> int:
    """Returns a port that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    """Gives the address of a Ray of 3 cores with a token, and the environment that knows the token."""
    place = Path(tmp_path_factory.mktemp("r"))
    (place / "token").write_text(secrets.token_hex(32), encoding="utf-8")
    known = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(place / "token")}
    environment = {**{name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}, **known}
    port, client_port = free_port(), free_port()
    arguments = ["start", "--head", "--block", f"--port={port}", f"--ray-client-server-port={client_port}"]
    arguments += ["--node-ip-address=127.0.0.1", "--num-cpus=3", "--num-gpus=0", "--include-dashboard=false"]
    with (place / "log").open("w", encoding="utf-8") as log:
        head = subprocess.Popen(
            # /tmp: the paths of Ray's sockets have to be short
            [sys.executable, "-m", "ray.scripts.scripts", *arguments, f"--temp-dir=/tmp/lr-{port}"],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    begun = time.monotonic()
    while "Ray runtime started" not in (place / "log").read_text(encoding="utf-8"):
        assert head.poll() is None, (place / "log").read_text(encoding="utf-8")
        assert time.monotonic() < begun + _LIMIT_S
        time.sleep(0.2)
    yield f"127.0.0.1:{port}", environment
    head.terminate()  # --block ends what it has started
    head.wait(timeout=_LIMIT_S)
    shutil.rmtree(f"/tmp/lr-{port}", ignore_errors=True)


def status(address: str, environment: dict[str, str], *more: str) -> subprocess.CompletedProcess[str]:
    """Runs `lstm-ray cluster status`."""
    code = "from lstm_ray.cli import main; main()"
    command = [sys.executable, "-c", code, "cluster", "status", "--address", address, *more]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_LIMIT_S, check=False)


def test_status_tells_what_a_cluster_has(running: tuple[str, dict[str, str]]) -> None:
    address, environment = running
    done = status(address, environment, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    (node,) = told["nodes"]
    assert (node["is_head"], node["cpus"], node["gpus"]) == (True, 3, 0)
    assert told["free_memory_gib"] == pytest.approx(node["memory_gib"])
    assert (told["free_cpus"], told["train_workers"], told["score_actors"]) == (3, 3, 2)
    shown = status(address, environment)
    assert shown.returncode == 0, shown.stderr
    assert re.search(r"cores +3 of 3 free", shown.stdout)
    assert re.search(r"train +up to --workers 3\n", shown.stdout)
    assert "GPU" not in shown.stdout


def test_who_does_not_know_the_token_learns_nothing(running: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    address, environment = running
    (tmp_path / "token").write_text(secrets.token_hex(32), encoding="utf-8")
    done = status(address, {**environment, "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")})
    assert done.returncode == 1
    assert done.stdout == ""
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr
