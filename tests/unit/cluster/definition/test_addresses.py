"""Addresses of machines."""

from __future__ import annotations

import pytest

from lstm_ray.cluster.definition.addresses import is_host, is_ip, is_loopback


@pytest.mark.parametrize("host", ["10.0.0.3", "head", "head.example", "node-1", "3com.example"])
def test_addresses_and_names_are_hosts(host: str) -> None:
    assert is_host(host)


@pytest.mark.parametrize("host", ["10.0.0.333", "10.0.0", "7", "", "a b", "a;rm", "-a", "fe80::1", "me@host", "$HOST"])
def test_others_are_none(host: str) -> None:
    assert not is_host(host)


def test_loopback() -> None:
    assert [is_loopback(host) for host in ("localhost", "127.0.0.1", "::1", "10.0.0.1", "head")] == [True] * 3 + [
        False
    ] * 2
    assert [is_ip(host) for host in ("10.0.0.1", "::1", "head", "10.0.0.333")] == [True, True, False, False]
