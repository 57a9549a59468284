"""A Ray cluster of nodes on this machine, with a token; and a watcher for secrets in command lines."""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import TracebackType

LIMIT_S = 300
PLANTED = "planted7f3c9"  # all secrets here begin with it

# Linux gives ports from 32768 on to whoever asks for any; Ray's workers take 10002 to 19999, its client servers 23000
# to 23999. Between these nobody takes a port from under a server that has yet to bind it.
_PORTS = range(24_000, 32_768)
_given: set[int] = set()


def free_port() -> int:
    """Returns a port that no process uses and that this function has not returned before."""
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port


class RayCluster:
    """Ray nodes on this machine: a head, and workers that join it. All of Ray's processes are killed at the end.

    Attributes:
        directory: Ray's files on the head.
        address: HOST:PORT of the head.
        client: ray://HOST:PORT of the head.
        dashboard: HOST:PORT that takes jobs, if the head has a dashboard.
        environment: Variables of a process that connects: the token's file, and keys of an object store.
    """

    def __init__(self) -> None:
        """Chooses ports and writes the token; starts nothing."""
        self._root = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # Ray's socket paths have to be short
        self.directory = self._root / "0"
        self.address, client, self.dashboard = (f"127.0.0.1:{free_port()}" for _ in range(3))
        self.client = f"ray://{client}"
        self._nodes = 0
        token = self._root / "token"
        token.write_text(PLANTED + secrets.token_hex(26), encoding="utf-8")
        self.environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "AWS_ACCESS_KEY_ID": f"{PLANTED}1",
            "AWS_SECRET_ACCESS_KEY": f"{PLANTED}2",
            "COLUMNS": "200",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # a job calls it python
        }

    def __enter__(self) -> RayCluster:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for process_id in processes_of(self._root):
            kill(process_id)
        shutil.rmtree(self._root, ignore_errors=True)

    def start_node(self, *options: str, cpus: int, gpus: int = 0, dashboard: bool = False, **environment: str) -> int:
        """Starts the head, or a worker if there is a head; returns the process id of its raylet.

        More attempts are made if the node was not up within the 30 s that Ray waits, as on a busy machine.
        """
        node = self._root / str(self._nodes)
        role = (f"--address={self.address}",) if self._nodes else self._head(dashboard)
        for _ in range(4):
            command = (
                *(sys.executable, "-m", "ray.scripts.scripts", "start", *role, "--node-ip-address=127.0.0.1"),
                *(f"--num-cpus={cpus}", f"--num-gpus={gpus}", "--object-store-memory=200000000"),
                *("--disable-usage-stats", f"--temp-dir={node}", f"--dashboard-agent-listen-port={free_port()}"),
                *options,
            )
            # gRPC's fork handlers crash many of the processes that Ray's client server forks, between fork and exec:
            # "Starting Ray client server failed". Source: https://github.com/ray-project/ray/issues/63202
            settings = {"GRPC_ENABLE_FORK_SUPPORT": "0", "RAY_TMPDIR": str(node), **environment}
            started = subprocess.run(
                command,
                env={**self.environment, **settings},
                capture_output=True,
                text=True,
                timeout=LIMIT_S,
                check=False,
            )
            if started.returncode == 0:
                self._nodes += 1
                return processes_of(node, "/raylet/raylet ")[0]
            for process_id in processes_of(node):
                kill(process_id)
            if "timed out during startup" not in started.stderr:
                break
        raise AssertionError(started.stdout + started.stderr)

    def _head(self, dashboard: bool) -> tuple[str, ...]:
        ports = {"": self.address, "ray-client-server-": self.client, "dashboard-": self.dashboard}
        given = (f"--{name}port={address.rpartition(':')[2]}" for name, address in ports.items())
        return "--head", f"--include-dashboard={str(dashboard).lower()}", *given

    def lstm_ray(
        self, *arguments: object, cwd: Path | None = None, **settings: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs `lstm-ray` to its end."""
        command = [sys.executable, "-m", "lstm_ray", *map(str, arguments)]
        environment = {**self.environment, **settings}
        return subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )


def processes_of(ray_directory: Path | str, name: str = "") -> list[int]:
    """Lists the processes of the nodes in a directory of Ray's whose command contains `name`."""
    marks = tuple(f"RAY_TMPDIR={ray_directory}{end}".encode() for end in "\0/")
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            environment = (process / "environ").read_bytes()
            if any(mark in environment for mark in marks) and name in _command(process):
                found.append(int(process.name))
    return found


def _command(process: Path) -> str:
    return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")


def kill(process_id: int) -> None:
    """Kills a process if it is still there."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process_id, signal.SIGKILL)


class ProcessList:
    """Watches the command lines of all processes of the machine for secrets, as any user of it may.

    Attributes:
        seen: Command lines that held a secret.
        looks: Number of command lines read.
    """

    def __init__(self) -> None:
        """Starts to watch."""
        self.seen: set[str] = set()
        self.looks = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._end.wait(0.1):
            for process in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):  # it has ended
                    command = _command(process)
                    self.looks += 1
                    if PLANTED in command:
                        self.seen.add(command)

    def end(self) -> set[str]:
        """Stops watching; returns the command lines that held a secret."""
        self._end.set()
        self._thread.join()
        assert self.looks > 1000
        return self.seen


def found_at(code: Path) -> list[str]:
    """Lists the directories from which processes imported the module: the user's, or the beginning of their names."""
    directories = [Path(note.read_text(encoding="utf-8")).parent for note in (code.parent / "seen").iterdir()]
    return sorted("code" if each == code else each.name.rpartition("-")[0] for each in directories)
