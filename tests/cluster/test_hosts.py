"""The hosts themselves: what the other tests here rely on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import hosts
from conftest import Cluster
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


def test_nothing_is_left_of_hosts_whose_maker_is_killed(network: Network, wait_until: Callable[..., None]) -> None:
    del network  # only its check that hosts can be made here
    script = (
        "import sys, time; sys.path.insert(0, sys.argv[1]); from hosts import Network; made = Network()\n"
        "sleeping = made.add_host('one').start('sleep', 1000)\n"
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


def test_a_node_without_the_token_is_refused(cluster: Cluster, add_host: Callable[[], Host]) -> None:
    stranger = add_host()
    starting = stranger.begin_ray(cluster.head, RAY_AUTH_TOKEN="0" * 64)
    out, err = starting.communicate(timeout=300)
    assert starting.returncode != 0
    assert "InvalidAuthToken" in out + err
    assert cluster.network.token not in out + err
    assert not stranger.runs("raylet")
