"""The hosts themselves: what the other tests here rely on."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import hosts
import pytest
from conftest import Cluster
from cores import ROOT, CoreLimit
from hosts import Host, Network


def test_hosts_reach_each_other_and_nothing_else(add_host: Callable[[], Host]) -> None:
    one, other = add_host(), add_host()
    listen = (
        "import socket; s = socket.create_server(('', 7000)); print(flush=True); c = s.accept()[0]; c.sendall(b'hello')"
    )
    listening = one.start(sys.executable, "-c", listen)
    assert listening.stdout is not None
    listening.stdout.readline()
    connect = "import socket, sys; print(socket.create_connection((sys.argv[1], 7000), 5).recv(5).decode())"
    one.link_down()
    assert other.run(sys.executable, "-c", connect, one.address).returncode == 1
    one.link_up()
    assert other.run(sys.executable, "-c", connect, one.address).stdout == "hello\n"
    assert "No route to host" in other.run(sys.executable, "-c", connect, "192.0.2.1").stderr
    assert listening.wait(10) == 0
    listening.communicate()


@pytest.fixture(scope="module")
def cores() -> float | None:
    """Gives how many cores a host may be limited to; None where hosts cannot be limited."""
    limit = None
    try:
        limit = CoreLimit(f"lr{secrets.token_hex(3)}-try", 0.5)
    except OSError:
        return None
    finally:
        for directory in set(limit.directories if limit else ()):
            directory.rmdir()
    return 0.5


def test_a_host_of_half_a_core_gets_no_more(network: Network, cores: float | None, tmp_path: Path) -> None:
    if cores is None:
        pytest.skip("this machine does not allow control groups")
    host = network.add_host("half", cores)
    assert host.limit is not None
    code = "import time; end = time.monotonic() + 2\nwhile time.monotonic() < end: pass\nprint(time.process_time())"
    done = host.run("sh", "-c", f'touch {tmp_path}/written && exec "$0" -c "$1"', sys.executable, code)
    assert 0.1 < float(done.stdout) < 1.3  # of 2 s; Python's start comes on top, and a period of 0.1 s
    assert float(done.stdout) <= host.limit.cpu_s() + 0.02
    assert (tmp_path / "written").stat().st_gid == host.group


def test_nothing_is_left_of_hosts_whose_maker_is_killed(
    network: Network, cores: float | None, wait_until: Callable[..., None]
) -> None:
    del network  # only its check that hosts can be made here
    script = (
        "import sys, time; sys.path.insert(0, sys.argv[1]); from hosts import Network; made = Network()\n"
        f"sleeping = made.add_host('one', {cores}).start('sleep', 1000)\n"
        "print(made.prefix, made.directory, sleeping.pid, flush=True); time.sleep(1000)"
    )
    command = [sys.executable, "-c", script, str(Path(hosts.__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as maker:
        assert maker.stdout is not None
        prefix, directory, sleeping = maker.stdout.readline().split()
        assert Path(directory).exists()
        assert Path(f"/proc/{sleeping}").exists()
        maker.kill()
    wait_until(lambda: not Path(directory).exists(), 30)
    assert prefix not in subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    wait_until(lambda: not Path(f"/proc/{sleeping}/exe").exists(), 30)
    assert not list(ROOT.glob(f"**/{prefix}-*"))


def test_a_node_without_the_token_is_refused(cluster: Cluster, add_host: Callable[[], Host]) -> None:
    stranger = add_host()
    starting = stranger.begin_ray(cluster.head, RAY_AUTH_TOKEN="0" * 64)
    out, err = starting.communicate(timeout=300)
    assert starting.returncode != 0
    assert "InvalidAuthToken" in out + err
    assert cluster.network.token not in out + err
    assert not stranger.runs("raylet")
