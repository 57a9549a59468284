"""The steps of docs/tutorials/cluster.md on hosts with OpenSSH's server: `cluster up`, a job, `cluster down`."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.dataset as ds
import pytest
import yaml
from hosts import Host, Network

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("sshd", "ssh", "rsync"))),
    reason="sshd, ssh or rsync is missing (Debian: openssh-server, openssh-client, rsync)",
)
WaitUntil = Callable[..., None]
Copies = Callable[[int], list[Path]]

# What a login on a host finds, which no variable of the tests' own reaches.
_SSHD = """
ListenAddress 0.0.0.0
HostKey {key}
AuthorizedKeysFile {key}.pub
StrictModes no
UsePAM no
PidFile none
PermitRootLogin prohibit-password
PasswordAuthentication no
SetEnv RAY_TMPDIR={ray} PYTHONPATH={package} RAY_USAGE_STATS_ENABLED=0
"""


class Desk:
    """A machine that reaches three others by SSH, each with a home directory of its own.

    Attributes:
        host: The machine.
        home: Its home directory.
        nodes: The others.
    """

    def __init__(self, network: Network, directory: Path) -> None:
        """Makes the key, and starts the others' servers."""
        self.home = directory / "home"
        (self.home / ".ray").mkdir(parents=True)
        (self.home / ".ray" / "auth_token").write_text(network.token, encoding="utf-8")
        self.key = self.home / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key], check=True)
        self.host = network.add_host("desk")
        self.nodes = [network.add_host(f"node{number}") for number in range(3)]
        for node in self.nodes:
            self._start_sshd(node, directory / node.name)

    def _start_sshd(self, node: Host, home: Path) -> None:
        home.mkdir()
        passwd = home.parent / f"{node.name}.passwd"
        passwd.write_text(f"root:x:0:0:root:{home}:/bin/bash\nsshd:x:1:1::/run/sshd:/bin/false\n", encoding="utf-8")
        package = Path(__file__).parents[2]
        config = home.parent / f"{node.name}.sshd"
        ray = node.environment["RAY_TMPDIR"]
        config.write_text(_SSHD.format(key=self.key, ray=ray, package=package), encoding="utf-8")
        prepare = f"mount --bind {passwd} /etc/passwd && mount -t tmpfs run /run && mkdir /run/sshd && "
        node.start("sh", "-c", f"{prepare} exec {shutil.which('sshd')} -D -e -f {config}")

    def start(self, *command: object) -> subprocess.Popen[str]:
        """Starts a command there; only the token file has the token."""
        unset = ("-u", "RAY_AUTH_TOKEN", "-u", "RAY_AUTH_TOKEN_PATH")
        return self.host.start("env", *unset, f"HOME={self.home}", *command, cwd=self.home)

    def lstm_ray(self, *arguments: object, limit_s: float = 400) -> str:
        """Runs `lstm-ray` there, which must succeed; returns its output."""
        running = self.start(sys.executable, "-m", "lstm_ray", *arguments)
        out, err = running.communicate(timeout=limit_s)
        assert running.returncode == 0, out + err
        return out + err


@pytest.fixture
def desk(network: Network, tmp_path: Path) -> Iterator[Desk]:
    """Gives the machine. What runs on all of them at the end is killed."""
    made = Desk(network, tmp_path)
    yield made
    for host in (made.host, *made.nodes):
        host.kill_ray()


def test_up_a_job_and_down(
    desk: Desk, copies: Copies, tiny_bundle: Path, tmp_path: Path, wait_until: WaitUntil
) -> None:
    venv = Path(sys.executable).parents[1]
    addresses = ",".join(node.address for node in desk.nodes)
    shared = tmp_path / "shared"
    shared.mkdir()
    options = ("--ssh-user", "root", "--ssh-key", desk.key, "--no-install", "--venv", venv, "--storage", shared)
    definition = desk.home / "onprem.yaml"
    desk.lstm_ray("cluster", "render", "--provider", "onprem", "--hosts", addresses, *options, "--output", definition)
    assert desk.lstm_ray("cluster", "validate", definition) == f"{definition}: valid\n"
    wait_until(lambda: all(node.runs("sshd") for node in desk.nodes), 20)
    assert "Cluster is up" in desk.lstm_ray("cluster", "up", definition, "--yes")

    ask = f"{sys.executable} -m lstm_ray cluster status --json"
    ray = venv / "bin" / "ray"

    def nodes_up() -> int:
        asking = desk.start(ray, "exec", definition, ask)
        out, _ = asking.communicate(timeout=120)
        return out.count('"address"')

    wait_until(lambda: nodes_up() == 3, 300)

    tunnel = desk.start(ray, "dashboard", definition)
    job = {
        "command": "score",
        "inputs": list(map(str, copies(5))),
        "model": str(tiny_bundle),
        "output": "scored",
        "actors": 3,
    }
    (desk.home / "score.yaml").write_text(yaml.safe_dump({**job, "rows_per_part": 250}), encoding="utf-8")
    wait_until(lambda: desk.start(sys.executable, "-c", _KNOCK).wait(20) == 0, 60)
    said = desk.lstm_ray("submit", desk.home / "score.yaml", "--storage", shared)
    assert "succeeded" in said
    rows = ds.dataset(shared / "scored").to_table(columns=["row"])["row"].to_pylist()
    assert rows == list(range(4_000)) * 5
    desk.host.interrupt(tunnel)
    tunnel.communicate(timeout=60)

    assert "the cluster is down" in desk.lstm_ray("cluster", "down", definition, "--yes")
    with contextlib.suppress(AssertionError):  # told below, by what is left
        wait_until(lambda: not any(left_behind(node) for node in desk.nodes), 240)
    assert [left for node in desk.nodes for left in left_behind(node)] == []


_KNOCK = "import socket; socket.create_connection(('127.0.0.1', 8265), 2)"


def left_behind(node: Host) -> list[str]:
    """Lists the commands that run on a host, except those that ran before the cluster."""
    found = []
    for process_id in node.process_ids():
        try:
            command = Path(f"/proc/{process_id}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has gone
        ours = ("unshare --pid", "nsenter --target", "sh -c mount", "sleep 1 ", "sshd", str(shutil.which("sshd")))
        if command and not command.startswith(ours):
            found.append(command)
    return found
