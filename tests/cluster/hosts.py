"""Several hosts on one machine: network namespaces on a bridge, each with an address and a Ray node of its own.

    namespace PREFIX-switch           PREFIX-a             PREFIX-b             PREFIX-c
      bridge 10.77.0.254 ── port a ──── eth0 10.77.0.1       eth0 10.77.0.2       eth0 10.77.0.3
                         ── port b ─────────────────────────────┘                    │
                         ── port c ──────────────────────────────────────────────────┘

The bridge has its own namespace too, so the machine's network does not change, and several networks can exist at once.
An address outside the bridge is unreachable immediately, not after a timeout.

All hosts share the machine's filesystem, but each sees its own directory where Ray keeps its files, and only its own
processes in /proc: a Ray driver looks there for the node it is on. Process 1 of a host is a shell that holds these
namespaces; when it is dead, the host is off. The group of a file is that of the host that wrote it.

A host that is given a number of cores gets no more CPU time than these have, by a control group (`cores.py`).

A guard, a separate process, kills what runs on the hosts and removes them when `Network.close` is called or when this
process ends, however it ends.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType

from cores import ROOT, CoreLimit

RAY_PORT = 6379
_OBJECT_STORE = 150 * 2**20  # bytes; Ray wants 75 MiB at least
_RESTARTS = 3
_START_LIMIT_S = 240.0

_FIRST_GROUP = 77_000
_RAY = "tmp"
_INIT = 'mount --bind "$0" "$1" && echo up && while :; do sleep 1; done'  # a shell that waits also reaps orphans
_GUARD = """
cat > /dev/null
for namespace in $(ip netns list | cut -d ' ' -f 1 | grep "^$1-"); do
    while pids=$(ip netns pids "$namespace") && [ -n "$pids" ]; do
        kill -9 $pids 2> /dev/null
        sleep 0.1
    done
    ip netns delete "$namespace"
done
cd "$3"
for group in "$1"-* cpu/"$1"-* cpuacct/"$1"-*; do
    for try in $(seq 50); do
        [ ! -d "$group" ] || rmdir "$group" 2> /dev/null || sleep 0.2
    done
done
rm -rf "$2"
"""
"""Waits for the end of its input. $1 is the network's prefix, $2 its directory, $3 where control groups are mounted."""


def obstacle() -> str | None:
    """Returns why hosts cannot be made on this machine; None if they can."""
    if os.geteuid() != 0:
        return "only root may make network namespaces"
    if shutil.which("ip") is None or shutil.which("nsenter") is None:
        return "the command `ip` or `nsenter` (Debian: iproute2, util-linux) is missing"
    name = f"lr{secrets.token_hex(3)}-try"
    tries = (("netns", "add", name), ("-n", name, "link", "add", "name", "br0", "type", "bridge"))
    for arguments in tries:
        done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
        if done.returncode:
            break
    subprocess.run(["ip", "netns", "delete", name], capture_output=True)
    return f"network namespaces cannot be made here: {done.stderr.strip()}" if done.returncode else None


class Network:
    """A bridge, and the hosts on it.

    Attributes:
        directory: A short path; holds the hosts' directories.
        hosts: The hosts, by name.
        token: The Ray cluster's token.
        started: Processes started on the hosts.
    """

    def __init__(self) -> None:
        """Makes the bridge."""
        self.prefix = f"lr{secrets.token_hex(3)}"
        self.directory = Path(tempfile.mkdtemp(prefix="lr-", dir="/tmp"))  # short, for Ray's Unix sockets
        (self.directory / _RAY).mkdir()
        self.hosts: dict[str, Host] = {}
        self.token = secrets.token_hex(32)
        self.started: list[subprocess.Popen[str]] = []
        self._guard = subprocess.Popen(
            ["sh", "-c", _GUARD, "guard", self.prefix, str(self.directory), str(ROOT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C must not end the guard
        )
        self.switch = f"{self.prefix}-switch"
        try:
            _ip("netns", "add", self.switch)
            _ip("-n", self.switch, "link", "set", "lo", "up")
            _ip("-n", self.switch, "link", "add", "name", "br0", "type", "bridge")
            _ip("-n", self.switch, "address", "add", "10.77.0.254/24", "dev", "br0")
            _ip("-n", self.switch, "link", "set", "br0", "up")
            _ip("-n", self.switch, "route", "add", "unreachable", "default")
            _ip("netns", "exec", self.switch, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Network:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def add_host(self, name: str, cores: float | None = None) -> Host:
        """Adds a host.

        Args:
            name: Its name, of 9 characters at most; must be new.
            cores: Cores whose CPU time its processes get at most; None for no limit.
        """
        assert name not in self.hosts
        assert len(name) <= 9
        self.hosts[name] = Host(self, name, len(self.hosts) + 1, cores)
        return self.hosts[name]

    def close(self) -> None:
        """Kills what runs on the hosts, removes hosts and bridge, and deletes the directory."""
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait(60)
        for process in self.started:
            process.communicate()  # reaps it, and closes its pipes


class Host:
    """A host.

    Attributes:
        name: Its name.
        address: Its IPv4 address.
        directory: Ray's files on this host; the host's commands see it as `$RAY_TMPDIR`.
        environment: Variables of each command on the host, in addition to those of this process.
        group: Id of the group of the files that the host writes.
        limit: What limits its CPU time, if anything does.
    """

    def __init__(self, network: Network, name: str, number: int, cores: float | None) -> None:
        """Makes the host and connects it to the bridge."""
        self.name, self.address, self.group = name, f"10.77.0.{number}", _FIRST_GROUP + number
        self.directory = network.directory / name
        self.directory.mkdir()
        self.namespace = f"{network.prefix}-{name}"
        self.limit = None if cores is None else CoreLimit(self.namespace, cores)
        self.environment = {
            "RAY_TMPDIR": str(network.directory / _RAY),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": network.token,
            "RAY_USAGE_STATS_ENABLED": "0",
            "COLUMNS": "200",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # a job calls it python
        }
        self._switch, self._started = network.switch, network.started
        self._machine: subprocess.Popen[str] | None = None
        _ip("netns", "add", self.namespace)
        _ip("-n", self.namespace, "link", "set", "lo", "up")
        peer = ("type", "veth", "peer", "name", "eth0", "netns", self.namespace)
        _ip("-n", self._switch, "link", "add", "name", name, *peer)
        _ip("-n", self._switch, "link", "set", "dev", name, "master", "br0", "up")
        _ip("-n", self.namespace, "address", "add", f"{self.address}/24", "dev", "eth0")
        _ip("-n", self.namespace, "link", "set", "eth0", "up")
        # Ray finds its own address by asking for a route to the internet.
        _ip("-n", self.namespace, "route", "add", "default", "via", "10.77.0.254")

    def _boot(self) -> int:
        """Returns the id of the host's process 1; starts it if it does not run."""
        if self._machine is None or self._machine.poll() is not None:
            unshare = ("unshare", "--pid", "--mount-proc", "--fork", "--kill-child")
            init = ("sh", "-c", _INIT, str(self.directory), self.environment["RAY_TMPDIR"])
            self._machine = subprocess.Popen(
                ["ip", "netns", "exec", self.namespace, *unshare, *init],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            self._started.append(self._machine)
            assert self._machine.stdout is not None
            assert self._machine.stdout.readline() == "up\n"
        return child_of(self._machine)

    def start(self, *command: object, cwd: Path | None = None, **environment: str) -> subprocess.Popen[str]:
        """Starts a command on the host; its standard output and error are pipes."""
        enter = ("nsenter", "--target", self._boot(), "--setgid", self.group, "--net", "--mount", "--pid", "--")
        # nsenter starts it in /. Under a shell without job control, Ctrl-C would be ignored.
        line = [*enter, "env", "--default-signal=INT", "--chdir", cwd or Path.cwd(), *command]
        process = subprocess.Popen(
            self.limit.command(*line) if self.limit else list(map(str, line)),
            env={**os.environ, **self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._started.append(process)
        return process

    def interrupt(self, process: subprocess.Popen[str]) -> None:
        """Sends Ctrl-C to a process that `start` returned."""
        os.kill(child_of(process), signal.SIGINT)

    def run(
        self, *command: object, limit_s: float = 300, cwd: Path | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command on the host to its end."""
        process = self.start(*command, cwd=cwd, **environment)
        try:
            out, err = process.communicate(timeout=limit_s)
        except BaseException:
            os.kill(child_of(process), signal.SIGKILL)
            process.communicate()
            raise
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def start_lstm_ray(self, *arguments: object, cwd: Path | None = None, **environment: str) -> subprocess.Popen[str]:
        """Starts `lstm-ray` on the host."""
        return self.start(sys.executable, "-m", "lstm_ray", *arguments, cwd=cwd, **environment)

    def lstm_ray(
        self, *arguments: object, limit_s: float = 300, cwd: Path | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs `lstm-ray` on the host to its end."""
        return self.run(sys.executable, "-m", "lstm_ray", *arguments, limit_s=limit_s, cwd=cwd, **environment)

    def begin_ray(
        self, head: Host | None = None, cpus: int = 1, dashboard: bool = False, **environment: str
    ) -> subprocess.Popen[str]:
        """Begins to start a Ray node.

        Args:
            head: The cluster's head that it joins; None if it is the head itself.
            cpus: CPUs that the node reports.
            dashboard: Whether the head takes jobs, at 127.0.0.1:8265 of this host.
            environment: More variables of the node, and of all that runs on it.

        Returns:
            `ray start`, which ends when the node is up.
        """
        role = ("--head", "--port", RAY_PORT) if head is None else ("--address", f"{head.address}:{RAY_PORT}")
        if head is None:
            role += ("--include-dashboard", str(dashboard).lower())
        return self.start(
            *(sys.executable, "-m", "ray.scripts.scripts", "start", *role),
            *(
                "--node-ip-address",
                self.address,
                "--temp-dir",
                f"{self.environment['RAY_TMPDIR']}/ray",
                "--num-cpus",
                cpus,
            ),
            *("--object-store-memory", _OBJECT_STORE, "--disable-usage-stats"),
            cwd=self.directory,
            **environment,
        )

    def start_ray(self, head: Host | None = None, cpus: int = 1, dashboard: bool = False, **environment: str) -> None:
        """Starts a Ray node, as `begin_ray`, and waits until it is up."""
        self.finish_ray(self.begin_ray(head, cpus, dashboard, **environment), head, cpus, dashboard, **environment)

    def finish_ray(
        self,
        starting: subprocess.Popen[str],
        head: Host | None = None,
        cpus: int = 1,
        dashboard: bool = False,
        **environment: str,
    ) -> None:
        """Waits until the node of `begin_ray` is up; starts it again if Ray gave up after its 30 s (busy machine)."""
        out, err = starting.communicate(timeout=_START_LIMIT_S)
        for _ in range(_RESTARTS):
            if not starting.returncode or "timed out during startup" not in err:
                break
            self.kill_ray()
            starting = self.begin_ray(head, cpus, dashboard, **environment)
            out, err = starting.communicate(timeout=_START_LIMIT_S)
        assert starting.returncode == 0, out + err

    def process_ids(self) -> list[int]:
        """Lists the processes that run on the host."""
        done = subprocess.run(["ip", "netns", "pids", self.namespace], capture_output=True, text=True, check=True)
        return [int(line) for line in done.stdout.split()]

    def runs(self, name: str) -> bool:
        """Returns whether a process whose command contains `name` runs on the host. Ray renames its workers."""
        for process_id in self.process_ids():
            try:
                if name.encode() in Path(f"/proc/{process_id}/cmdline").read_bytes().replace(b"\0", b" "):
                    return True
            except OSError:
                continue  # it has gone
        return False

    def kill_ray(self) -> None:
        """Kills all that runs on the host, Ray and commands, as if its power had failed."""
        deadline = time.monotonic() + 30
        while found := self.process_ids():
            assert time.monotonic() < deadline, f"{self.name}: {found} cannot be killed"
            for process_id in found:
                try:
                    os.kill(process_id, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.05)

    def link_down(self) -> None:
        """Cuts the host's connection."""
        _ip("-n", self._switch, "link", "set", "dev", self.name, "down")

    def link_up(self) -> None:
        """Restores the host's connection."""
        _ip("-n", self._switch, "link", "set", "dev", self.name, "up")


def child_of(process: subprocess.Popen[str]) -> int:
    """Returns the id of a process's only child: what `nsenter` runs, which alone can be sent a signal."""
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(child)


def start_cluster(head: Host, *workers: Host, **settings: str) -> None:
    """Starts Ray on the head, which takes jobs, then on all workers at once."""
    head.start_ray(dashboard=True, **settings)
    begun = [(worker, worker.begin_ray(head, **settings)) for worker in workers]
    for worker, starting in begun:
        worker.finish_ray(starting, head, **settings)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr.strip()}"
