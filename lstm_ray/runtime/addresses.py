"""Ray's addresses: Ray itself, its client's server (ray://) and its dashboard are three ports of a host."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from lstm_ray.errors import ConfigError, LstmRayError
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

    @property
    def is_loopback(self) -> bool:
        """Returns whether only the host itself reaches it."""
        return self.host.startswith("127.")


def host_port(address: str) -> HostPort | None:
    """Returns host and port of an address, with or without a scheme; None if it has none, such as "auto"."""
    host, _, port = address.rpartition("://")[2].rstrip("/").rpartition(":")
    return HostPort(host, int(port)) if host and port.isascii() and port.isdecimal() else None


def refuse_password(address: str, source: str = "--address") -> None:
    """Raises ConfigError, without showing it, if an address contains a password: http://USER:PASSWORD@HOST:8265."""
    if "@" in address or "?" in address:
        raise ConfigError(
            f"{source} contains a password, which would end up in files and process lists: for jobs, set "
            "RAY_API_SERVER_ADDRESS to that address instead; of Ray itself, RAY_AUTH_TOKEN_PATH names a file with the "
            "token"
        )


def find_ray(address: str, notify: Callable[[str], None]) -> str:
    """Returns the address of the Ray instance to join: the given one, or that of the Ray of a given dashboard.

    Args:
        address: HOST:PORT or ray://HOST:PORT, or the dashboard's URL.
        notify: Receives a message if another address was found.

    Raises:
        LstmRayError: What listens there is not Ray, or does not answer. (Ray itself would try for minutes.)
        AuthenticationError: The dashboard refuses this machine's token.
    """
    given = host_port(address)
    if given is None:
        return address
    scheme = "ray://" if address.startswith("ray://") else ""
    try:
        if is_ray(given):
            return f"{scheme}{given}"
    except OSError as error:
        raise LstmRayError(
            f"no connection to Ray at {address}: {reason(error)}; is the address right, and Ray running there?"
        ) from error
    named = None if scheme else _ray_of_dashboard(address, given)
    found = named or HostPort(given.host, CLIENT_PORT if scheme else RAY_PORT)
    is_elsewhere = named is not None and named.is_loopback and not _is_here(given.host)
    if is_elsewhere or not _is_reached(found, as_ray=True):
        raise LstmRayError(f"no connection to Ray at {address}: {_why_not(scheme, found, is_named=named is not None)}")
    notify(f"{given} is Ray's dashboard: Ray itself was found at {scheme}{found}")
    return f"{scheme}{found}"


def _ray_of_dashboard(address: str, given: HostPort) -> HostPort | None:
    from lstm_ray.runtime import ray_internals

    is_url = address.startswith(("http://", "https://"))  # Ray would import the module that another scheme names
    return host_port(ray_internals.ray_of_dashboard(address if is_url else f"http://{given}"))


def _why_not(scheme: str, tried: HostPort, *, is_named: bool) -> str:
    """Returns why there is no Ray to join, and what to do."""
    if is_named:
        return (
            f"that is Ray's dashboard; Ray itself, at {tried}, is not reached from this machine: run the command on a "
            "machine of the cluster, or send it there as a job (lstm-ray submit)"
        )
    port_of, remedy = "Ray itself", "HOST:PORT of Ray itself: `ray start` prints it after --address="
    if scheme:
        port_of, remedy = "Ray's client server", "ray://HOST:PORT with the --ray-client-server-port of `ray start`"
    return (
        f"what answers there is Ray's dashboard or another program, and {port_of} is not at its default port, {tried}: "
        f"pass {remedy}"
    )


def find_dashboard(address: str, notify: Callable[[str], None]) -> str:
    """Returns the address of a dashboard: the given one, or if that is Ray itself, that of its dashboard.

    Args:
        address: HOST, HOST:PORT, ray://HOST:PORT or a URL.
        notify: Receives a message if another address was found.

    Raises:
        LstmRayError: The address is Ray itself, whose dashboard is not reached.
        AuthenticationError: Ray refuses this machine's token.
    """
    given = host_port(address)
    if given is None or given.port == DASHBOARD_PORT or address.startswith(("http://", "https://")):
        return address
    if is_client := address.startswith("ray://"):  # asking it would start a driver on the head: up to half a minute
        named = HostPort(given.host, DASHBOARD_PORT)
    elif _is_reached(given, as_ray=True):
        named = _dashboard_of(given)
    else:
        return address
    if named.is_loopback:  # of the head
        hosts = [given.host, named.host] if _is_here(given.host) else [given.host]
    else:
        hosts = [named.host, given.host]
    for found in (HostPort(host, named.port) for host in hosts):
        if _is_reached(found, as_ray=False):
            notify(f"{address} is Ray itself: its dashboard was found at {found}")
            return str(found)
    if is_client:
        raise LstmRayError(
            f"{address} is Ray's client server, and the dashboard is not at its default port, {named}: pass HOST:PORT "
            "of the dashboard or of Ray itself; `ray start` prints both"
        )
    raise LstmRayError(
        f"{address} is Ray itself, and its dashboard, on its head at {named}, is not reached from this machine: open a "
        f"tunnel, ssh -N -L {named.port}:{named} {given.host}, and pass --address 127.0.0.1:{named.port}"
    )


def _dashboard_of(ray: HostPort) -> HostPort:
    """Returns where the dashboard of a Ray is, as its head reaches it."""
    from lstm_ray.runtime import ray_internals

    named = host_port(ray_internals.dashboard_of(str(ray)))
    if named is None or named.port == 0:
        raise LstmRayError(f"{ray} is Ray itself, and has no dashboard, to which jobs are sent")
    return named


def _is_here(host: str) -> bool:
    """Returns whether a host is this machine: only a machine's own addresses can be listened on."""
    host = host.strip("[]")
    try:
        socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except (OSError, UnicodeError):
        return False
    return True


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
    try:
        connection = socket.create_connection((address.host.strip("[]"), address.port), _CONNECT_TIMEOUT_S)
    except UnicodeError as error:
        raise OSError(f"{address.host} is not the name of a host") from error
    with connection:
        connection.settimeout(_ANSWER_TIMEOUT_S)
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, _SETTINGS, 0, 0, 0, 0, 0]))
        answer = b""
        with suppress(ConnectionResetError):
            answer = connection.recv(9)
    if os.environ.get("RAY_USE_TLS", "0") != "0":  # Ray closes a connection without TLS; the dashboard answers
        return not answer.startswith(b"HTTP/")
    return len(answer) > 3 and answer[3] == _SETTINGS
