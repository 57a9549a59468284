"""The commands of docs/tutorials/cluster.md, on hosts with OpenSSH's server."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pages
import pyarrow.dataset as ds
import pytest
from hosts import Host, Network

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("sshd", "ssh", "rsync"))),
    reason="sshd, ssh or rsync is missing (Debian: openssh-server, openssh-client, rsync)",
)
WaitUntil = Callable[..., None]

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
        self.key = self.home / ".ssh" / "id_ed25519"
        self.key.parent.mkdir(parents=True)
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
        """Starts a command there; only the token's file has the token."""
        unset = ("-u", "RAY_AUTH_TOKEN", "-u", "RAY_AUTH_TOKEN_PATH", "-u", "RAY_AUTH_MODE")
        return self.host.start("env", *unset, f"HOME={self.home}", *command, cwd=self.home)

    def start_shell(self, commands: str) -> subprocess.Popen[str]:
        """Starts commands in a shell there."""
        return self.start("bash", "-euo", "pipefail", "-c", commands)

    def run(self, commands: str, limit_s: float = 400) -> str:
        """Runs commands there, which must succeed; returns their output."""
        running = self.start_shell(commands)
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


def test_the_tutorial(desk: Desk, reviews: Path, tiny_bundle: Path, tmp_path: Path, wait_until: WaitUntil) -> None:
    shared = tmp_path / "shared"
    shutil.copytree(reviews, shared / "reviews")
    shutil.copytree(tiny_bundle, shared / "model")
    here = {
        "10.0.0.1,10.0.0.2,10.0.0.3": ",".join(node.address for node in desk.nodes),
        "--ssh-user me": f"--ssh-user root --no-install --venv {Path(sys.executable).parents[1]}",
        "/mnt/lstm-ray": str(shared),
    }
    blocks = pages.blocks("docs/tutorials/cluster.md")
    steps = [block.text for block in blocks if block.language == "sh"]
    for name, ours in here.items():
        steps = [step.replace(name, ours) for step in steps]
    define, up, reach, examine, submit, down = steps

    assert "onprem.yaml: valid\n" in desk.run(define)
    wait_until(lambda: all(node.runs("sshd") for node in desk.nodes), 20)
    assert "Cluster is up" in desk.run(up)
    wait_until(lambda: nodes_up(desk) == 3, 300)
    assert desk.run(examine).count("OK ") > 3
    tunnel = desk.start_shell(f"exec {reach}")
    (job,) = (block for block in blocks if block.file)
    (desk.home / "score.yaml").write_text(f"{job.text}rows_per_part: 250\n", encoding="utf-8")
    wait_until(lambda: desk.start(sys.executable, "-c", _KNOCK).wait(20) == 0, 60)
    assert "succeeded" in desk.run(submit)
    rows = ds.dataset(shared / "scored").to_table(columns=["row"])["row"].to_pylist()
    assert rows == list(range(4_000))
    desk.host.interrupt(tunnel)
    tunnel.communicate(timeout=60)
    assert "the cluster is down" in desk.run(down)
    with contextlib.suppress(AssertionError):  # told below, by what is left
        wait_until(lambda: not any(left_behind(node) for node in desk.nodes), 240)
    assert [left for node in desk.nodes for left in left_behind(node)] == []


def nodes_up(desk: Desk) -> int:
    """Returns how many nodes the cluster has."""
    asking = desk.start_shell("ray exec onprem.yaml 'lstm-ray cluster status --json'")
    return asking.communicate(timeout=120)[0].count('"address"')


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
