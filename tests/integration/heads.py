"""A Ray that runs, with a token, and what watches over its secrets."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LIMIT_S = 300
PLANTED = "planted7f3c9"  # all secrets here begin with it


def free_port() -> int:
    """Returns a port that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True)
class Running:
    """A Ray of 3 cores with a token, and keys of an object store in its environment.

    Attributes:
        address: HOST:PORT.
        client: ray://HOST:PORT.
        dashboard: HOST:PORT, which takes jobs.
        environment: Of a process that knows the token, and keys.
        directory: Where Ray's files lie.
    """

    address: str
    client: str
    dashboard: str
    environment: dict[str, str]
    directory: Path

    def lstm_ray(
        self, *arguments: object, place: Path | None = None, **settings: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs `lstm-ray` to its end, in a directory that may be another than this one."""
        command = [sys.executable, "-m", "lstm_ray", *map(str, arguments)]
        environment = {**self.environment, **settings}
        return subprocess.run(
            command, cwd=place, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )


@contextlib.contextmanager
def ray_head(place: Path, port: int, *options: str, **settings: str) -> Iterator[Running]:
    """Starts a Ray for the while: its own head, with more options and variables."""
    (place / "token").write_text(PLANTED + secrets.token_hex(26), encoding="utf-8")
    known = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(place / "token"),
        "AWS_ACCESS_KEY_ID": f"{PLANTED}1",
        "AWS_SECRET_ACCESS_KEY": f"{PLANTED}2",
        "COLUMNS": "200",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # a job calls it python
    }
    environment = {**{name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}, **known}
    client_port, dashboard_port, agent_port = (free_port() for _ in range(3))
    directory = Path(f"/tmp/lr-{port}")  # /tmp: the paths of Ray's sockets have to be short
    arguments = ["start", "--head", "--block", f"--port={port}", f"--ray-client-server-port={client_port}"]
    arguments += ["--node-ip-address=127.0.0.1", "--num-gpus=0", "--include-dashboard=true", *options]
    arguments += [f"--dashboard-port={dashboard_port}", f"--dashboard-agent-listen-port={agent_port}"]
    with (place / "log").open("w", encoding="utf-8") as log:
        head = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", *arguments, f"--temp-dir={directory}"],
            env={**environment, **settings},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    begun = time.monotonic()
    while "Ray runtime started" not in (place / "log").read_text(encoding="utf-8"):
        assert head.poll() is None, (place / "log").read_text(encoding="utf-8")
        assert time.monotonic() < begun + LIMIT_S
        time.sleep(0.2)
    try:
        client, dashboard = f"ray://127.0.0.1:{client_port}", f"127.0.0.1:{dashboard_port}"
        yield Running(f"127.0.0.1:{port}", client, dashboard, environment, directory)
    finally:
        head.terminate()  # --block ends what it has started
        try:
            head.wait(timeout=5)
        except subprocess.TimeoutExpired:  # its raylet waits half a minute for an actor that Ray Train leaves behind
            os.killpg(head.pid, signal.SIGKILL)
            head.wait(timeout=LIMIT_S)
        shutil.rmtree(directory, ignore_errors=True)


class ProcessList:
    """Watches the command lines of all processes of the machine for secrets, as anybody on it may.

    Attributes:
        seen: Those that held one.
        looks: How many it has looked at.
    """

    def __init__(self) -> None:
        """Begins to watch."""
        self.seen: set[str] = set()
        self.looks = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._end.wait(0.1):
            for place in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    line = place.read_bytes()
                except OSError:
                    continue  # it has gone
                self.looks += 1
                if PLANTED.encode() in line:
                    self.seen.add(line.replace(b"\0", b" ").decode(errors="replace"))

    def end(self) -> set[str]:
        """Ends it and returns what it has seen."""
        self._end.set()
        self._thread.join()
        assert self.looks > 1000
        return self.seen


def found_at(code: Path) -> list[str]:
    """Lists the directories in which processes have found the module: the user's, or some that begin with its name."""
    places = [Path(note.read_text(encoding="utf-8")).parent for note in (code.parent / "seen").iterdir()]
    return sorted("code" if place == code else place.name.rpartition("-")[0] for place in places)
