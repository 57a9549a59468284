"""Which of Ray's ports an address is, and which of the others is meant."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from lstm_ray.errors import LstmRayError
from lstm_ray.runtime import addresses, ray_internals
from lstm_ray.runtime.addresses import HostPort, find_dashboard, find_ray, is_ray

RAY, DASHBOARD = b"\x00\x00\x18\x04\x00\x00\x00\x00\x00", b"HTTP/1.0 400 Bad Request\r\n"
SSH = b"SSH-2.0-OpenSSH_9.2\r\n"
SILENT, HANGS_UP = None, b""


@contextmanager
def server(answer: bytes | None, host: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """Gives the port of a server that gives every client the same answer."""
    with socket.create_server((host, port)) as listener:
        ended = threading.Event()

        def serve() -> None:
            while True:
                connection, _ = listener.accept()
                with connection:
                    if ended.is_set():
                        return
                    if answer is None:
                        ended.wait(10)
                    elif answer:
                        connection.recv(100)
                        connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        port = listener.getsockname()[1]
        try:
            yield port
        finally:
            ended.set()
            socket.create_connection((host, port)).close()
            thread.join()


@pytest.fixture
def ports(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """Gives the ports of a fake Ray and dashboard on this machine, patched in as the usual ports."""
    with ExitStack() as stack:
        found = {name: stack.enter_context(server(answer)) for name, answer in (("ray", RAY), ("dashboard", DASHBOARD))}
        monkeypatch.setattr(addresses, "RAY_PORT", found["ray"])
        monkeypatch.setattr(addresses, "CLIENT_PORT", found["ray"])
        monkeypatch.setattr(addresses, "DASHBOARD_PORT", found["dashboard"])
        yield found


@pytest.mark.parametrize(
    ("answer", "is_refused"),
    [(RAY, False), (SILENT, True), (DASHBOARD, True), (SSH, True), (HANGS_UP, True)],
    ids=["http2", "silence", "http1", "ssh", "hangs up"],
)
def test_a_port_of_something_else_is_found_at_once(
    monkeypatch: pytest.MonkeyPatch, answer: bytes | None, is_refused: bool
) -> None:
    monkeypatch.setattr(addresses, "_ANSWER_TIMEOUT_S", 0.5)
    with server(answer) as port, server(SSH) as beside:
        monkeypatch.setattr(addresses, "RAY_PORT", beside)
        address = f"127.0.0.1:{port}"
        if is_refused:
            with pytest.raises(LstmRayError, match=f"^no connection to Ray at {address}: "):
                find_ray(address, pytest.fail)
        else:
            assert find_ray(address, pytest.fail) == address
            assert find_ray(f"http://{address}", pytest.fail) == address


@pytest.mark.parametrize(("answer", "is_one"), [(HANGS_UP, True), (DASHBOARD, False)])
def test_a_ray_with_tls_hangs_up(monkeypatch: pytest.MonkeyPatch, answer: bytes, is_one: bool) -> None:
    monkeypatch.setenv("RAY_USE_TLS", "1")
    with server(answer) as port:
        assert is_ray(HostPort("127.0.0.1", port)) == is_one


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_dashboard_that_does_not_tell_stands_for_the_ray_beside_it(
    monkeypatch: pytest.MonkeyPatch, ports: dict[str, int], scheme: str
) -> None:
    monkeypatch.setattr(ray_internals, "ray_of_dashboard", lambda url: "")
    said: list[str] = []
    ray, dashboard = (f"127.0.0.1:{ports[name]}" for name in ("ray", "dashboard"))
    assert find_ray(scheme + dashboard, said.append) == scheme + ray
    assert said == [f"{dashboard} is Ray's dashboard: Ray itself was found at {scheme}{ray}"]
    assert find_ray(scheme + ray, pytest.fail) == scheme + ray


@pytest.mark.parametrize("scheme", ["", "http://"])
def test_a_dashboard_at_any_port_tells_where_its_ray_is(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    said: list[str] = []
    asked: list[str] = []
    with server(RAY, "127.0.0.2") as port, server(DASHBOARD) as other:
        ray, dashboard = f"127.0.0.2:{port}", f"127.0.0.1:{other}"
        monkeypatch.setattr(ray_internals, "ray_of_dashboard", lambda url: asked.append(url) or ray)
        assert find_ray(scheme + dashboard, said.append) == ray
    assert asked == [f"http://{dashboard}"]
    assert said == [f"{dashboard} is Ray's dashboard: Ray itself was found at {ray}"]


def test_a_ray_that_is_not_found_is_not_guessed_silently(monkeypatch: pytest.MonkeyPatch) -> None:
    told = ""
    monkeypatch.setattr(ray_internals, "ray_of_dashboard", lambda url: told)
    with server(DASHBOARD) as port, server(SSH) as other:
        for name in ("RAY_PORT", "CLIENT_PORT"):
            monkeypatch.setattr(addresses, name, other)
        dashboard, beside = f"127.0.0.1:{port}", f"127.0.0.1:{other}"
        with pytest.raises(LstmRayError, match=f"not at its default port, {beside}: pass HOST:PORT of Ray itself"):
            find_ray(dashboard, pytest.fail)
        with pytest.raises(
            LstmRayError, match=f"not at its default port, {beside}: pass ray://HOST:PORT with the --ray-"
        ):
            find_ray(f"ray://{dashboard}", pytest.fail)
        told = beside
        with pytest.raises(LstmRayError, match=f"Ray itself, at {beside}, is not reached from this machine: run "):
            find_ray(dashboard, pytest.fail)


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_ray_stands_for_the_dashboard_beside_it(
    monkeypatch: pytest.MonkeyPatch, ports: dict[str, int], scheme: str
) -> None:
    said: list[str] = []
    ray, dashboard = (f"127.0.0.1:{ports[name]}" for name in ("ray", "dashboard"))
    monkeypatch.setattr(ray_internals, "dashboard_of", lambda address: f"10.0.0.1:{ports['dashboard']}")
    assert find_dashboard(scheme + ray, said.append) == dashboard
    assert said == [f"{scheme}{ray} is Ray itself: its dashboard was found at {dashboard}"]
    for address in (dashboard, f"http://{ray}", "auto", "head"):
        assert find_dashboard(address, pytest.fail) == address


def test_a_loopback_address_of_another_machine_is_not_taken_for_one_of_this(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "_is_here", lambda host: False)
    with server(RAY) as port, server(DASHBOARD, "127.0.0.2") as other:
        monkeypatch.setattr(ray_internals, "ray_of_dashboard", lambda url: f"127.0.0.1:{port}")
        with pytest.raises(LstmRayError, match=f"Ray itself, at 127.0.0.1:{port}, is not reached from this machine"):
            find_ray(f"127.0.0.2:{other}", pytest.fail)


def test_the_dashboard_that_ray_names_goes_before_one_at_the_same_port_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The given host may be the end of a tunnel."""
    monkeypatch.setattr(addresses.HostPort, "is_loopback", False)
    said: list[str] = []
    with server(RAY) as ray, server(DASHBOARD, "127.0.0.2") as port, server(DASHBOARD, port=port):
        monkeypatch.setattr(ray_internals, "dashboard_of", lambda address: f"127.0.0.2:{port}")
        assert find_dashboard(f"127.0.0.1:{ray}", said.append) == f"127.0.0.2:{port}"


@pytest.mark.parametrize("address", ["a..b:6379", "h:²"])
def test_an_address_that_cannot_be_is_no_crash(address: str) -> None:
    assert find_dashboard(address, pytest.fail) == address


def test_a_dashboard_on_loopback_is_that_of_a_ray_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    with server(RAY, "127.0.0.2") as ray, server(DASHBOARD) as port:
        monkeypatch.setattr(ray_internals, "dashboard_of", lambda address: f"127.0.0.1:{port}")
        assert find_dashboard(f"127.0.0.2:{ray}", said.append) == f"127.0.0.1:{port}"
        assert said == [f"127.0.0.2:{ray} is Ray itself: its dashboard was found at 127.0.0.1:{port}"]
        monkeypatch.setattr(addresses, "_is_here", lambda host: False)  # port may lead elsewhere, as of a tunnel
        tunnel = f"ssh -N -L {port}:127.0.0.1:{port} 127.0.0.2, and pass --address 127.0.0.1:{port}"
        with pytest.raises(LstmRayError, match=re.escape(tunnel)):
            find_dashboard(f"127.0.0.2:{ray}", pytest.fail)


@pytest.mark.parametrize("told", ["", "127.0.0.1:0"])
def test_a_ray_without_a_dashboard(monkeypatch: pytest.MonkeyPatch, told: str) -> None:
    monkeypatch.setattr(ray_internals, "dashboard_of", lambda address: told)
    with server(RAY) as port, pytest.raises(LstmRayError, match="is Ray itself, and has no dashboard"):
        find_dashboard(f"127.0.0.1:{port}", pytest.fail)


def test_a_client_server_far_from_the_default_dashboard(monkeypatch: pytest.MonkeyPatch) -> None:
    with server(RAY) as port, server(RAY) as other:
        monkeypatch.setattr(addresses, "DASHBOARD_PORT", other)
        with pytest.raises(
            LstmRayError, match=f"not at its default port, 127.0.0.1:{other}: pass HOST:PORT of the dash"
        ):
            find_dashboard(f"ray://127.0.0.1:{port}", pytest.fail)


@pytest.mark.parametrize(("host", "expected"), [("127.0.0.1", True), ("localhost", True), ("192.0.2.1", False)])
def test_this_machine_is_known(host: str, expected: bool) -> None:
    assert addresses._is_here(host) == expected
