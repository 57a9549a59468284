"""Which of Ray's ports an address is, and which of the others is meant."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from lstm_ray.runtime import addresses
from lstm_ray.runtime.addresses import find_dashboard, find_ray

RAY, DASHBOARD = b"\x00\x00\x18\x04\x00\x00\x00\x00\x00", b"HTTP/1.0 400 Bad Request\r\n"
SSH = b"SSH-2.0-OpenSSH_9.2\r\n"
SILENT, HANGS_UP = None, b""


@contextmanager
def server(answer: bytes | None) -> Iterator[int]:
    """Gives the port of a server that gives every client the same answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
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
            socket.create_connection(("127.0.0.1", port)).close()
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
            with pytest.raises(ConnectionError):
                find_ray(address, pytest.fail)
        else:
            assert find_ray(address, pytest.fail) == address


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_dashboard_stands_for_the_ray_beside_it(ports: dict[str, int], scheme: str) -> None:
    said: list[str] = []
    ray, dashboard = (f"127.0.0.1:{ports[name]}" for name in ("ray", "dashboard"))
    assert find_ray(scheme + dashboard, said.append) == scheme + ray
    assert said == [f"{dashboard} is Ray's dashboard: Ray itself was found at {scheme}{ray}"]
    assert find_ray(scheme + ray, pytest.fail) == scheme + ray


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_ray_stands_for_the_dashboard_beside_it(ports: dict[str, int], scheme: str) -> None:
    said: list[str] = []
    ray, dashboard = (f"127.0.0.1:{ports[name]}" for name in ("ray", "dashboard"))
    assert find_dashboard(scheme + ray, said.append) == dashboard
    assert said == [f"{scheme}{ray} is Ray itself: its dashboard was found at {dashboard}"]
    for address in (dashboard, f"http://{ray}", "auto", "head"):
        assert find_dashboard(address, pytest.fail) == address
