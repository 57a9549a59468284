"""Addresses of machines: IPv4 addresses and host names."""

from __future__ import annotations

import ipaddress
import re

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")


def is_ip(host: str) -> bool:
    """Returns whether a string is an IP address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_host(host: str) -> bool:
    """Returns whether a string is an IPv4 address or a host name; 10.0.0.333 is neither."""
    return _HOST.fullmatch(host) is not None and (is_ip(host) or not host.replace(".", "").isdigit())


def is_loopback(host: str) -> bool:
    """Returns whether a host is a loopback address, which means a different machine on each node."""
    return host == "localhost" or (is_ip(host) and ipaddress.ip_address(host).is_loopback)
