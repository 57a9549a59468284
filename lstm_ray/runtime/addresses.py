"""Ray's addresses: Ray itself, its client's server (ray://) and its dashboard are three ports of a host."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass

from lstm_ray.errors import ConfigError
from lstm_ray.wording import reason

RAY_PORT, CLIENT_PORT, DASHBOARD_PORT = 6379, 10001, 8265  # if not set otherwise
_CONNECT_TIMEOUT_S, _ANSWER_TIMEOUT_S = 5.0, 20.0
_SETTINGS = 4  # the type of a frame of HTTP/2, its fourth byte


@dataclass(frozen=True)
class HostPort:
    """A host and one of its ports."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def host_port(address: str) -> HostPort | None:
    """Returns host and port of an address, with or without a scheme; None if it has none, such as "auto"."""
    host, _, port = address.rpartition("://")[2].rstrip("/").rpartition(":")
    return HostPort(host, int(port)) if host and port.isdigit() else None


def refuse_password(address: str, source: str = "--address") -> None:
    """Raises ConfigError, without showing it, if an address contains a password: http://USER:PASSWORD@HOST:8265."""
    if "@" in address or "?" in address:
        raise ConfigError(
            f"{source} contains a password, which would end up in files and process lists: for jobs, set "
            "RAY_API_SERVER_ADDRESS to that address instead; of Ray itself, RAY_AUTH_TOKEN_PATH names a file with the "
            "token"
        )


def find_ray(address: str, notify: Callable[[str], None]) -> str:
    """Returns the address of the Ray instance to join; if a dashboard's address is given, finds its Ray on that host.

    Args:
        address: HOST:PORT or ray://HOST:PORT.
        notify: Receives a message if another address was found.

    Raises:
        ConnectionError: What listens there is not Ray, or does not answer. (Ray itself would try for minutes.)
    """
    given = host_port(address)
    if given is None:
        return address
    try:
        if is_ray(given):
            return address
    except OSError as error:
        raise ConnectionError(f"{reason(error)}; is the address right, and Ray running there?") from error
    scheme, port = ("ray://", CLIENT_PORT) if address.startswith("ray://") else ("", RAY_PORT)
    beside = HostPort(given.host, port)
    if not _is_reached(beside, as_ray=True):
        raise ConnectionError(
            "the program that answers there is not Ray, but perhaps its dashboard; Ray's default port is "
            f"{RAY_PORT}, for ray:// {CLIENT_PORT}"
        )
    notify(f"{given} is Ray's dashboard: Ray itself was found at {scheme}{beside}")
    return f"{scheme}{beside}"


def find_dashboard(address: str, notify: Callable[[str], None]) -> str:
    """Returns the address of a dashboard; if the address of Ray itself is given, finds the dashboard on that host.

    Args:
        address: HOST, HOST:PORT, ray://HOST:PORT or a URL.
        notify: Receives a message if another address was found.
    """
    given = host_port(address)
    if given is None or given.port == DASHBOARD_PORT or address.startswith(("http://", "https://")):
        return address
    beside = HostPort(given.host, DASHBOARD_PORT)
    if not (address.startswith("ray://") or _is_reached(given, as_ray=True)) or not _is_reached(beside, as_ray=False):
        return address
    notify(f"{address} is Ray itself: its dashboard was found at {beside}")
    return str(beside)


def _is_reached(address: HostPort, *, as_ray: bool) -> bool:
    """Returns whether Ray itself, or something else such as the dashboard, listens at an address."""
    try:
        return is_ray(address) == as_ray
    except OSError:
        return False


def is_ray(address: HostPort) -> bool:
    """Returns whether Ray itself may listen at an address: it speaks HTTP/2, unlike the dashboard.

    A client begins with its preface and an empty SETTINGS frame, a server with its SETTINGS. Source: RFC 9113, 3.4.

    Raises:
        OSError: Nothing listens there, or what does is silent, like a Ray that was suspended.
    """
    with socket.create_connection((address.host.strip("[]"), address.port), _CONNECT_TIMEOUT_S) as connection:
        if os.environ.get("RAY_USE_TLS", "0") != "0":
            return True
        connection.settimeout(_ANSWER_TIMEOUT_S)
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, _SETTINGS, 0, 0, 0, 0, 0]))
        answer = connection.recv(9)
        return len(answer) > 3 and answer[3] == _SETTINGS
