"""Training in this process: shards come in order, few of them in memory; Ctrl-C and SIGTERM are noted."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from lstm_ray.config import TrainConfig
from lstm_ray.errors import InputError
from lstm_ray.runtime import in_flight
from lstm_ray.train import local


def test_shards_come_in_order_and_few_are_in_memory(monkeypatch: pytest.MonkeyPatch, watcher: Any) -> None:
    begun: list[int] = []

    def encode(shard: int, config: TrainConfig) -> int:
        begun.append(shard)
        time.sleep(0.01 * (shard % 3))
        return -shard

    monkeypatch.setattr(local, "encode_shard", encode)
    monkeypatch.setattr(in_flight, "available_cores", lambda: 2)
    encoded = local.LocalWorkers(watcher).encode_all(range(20), TrainConfig())  # type: ignore[arg-type]
    assert next(encoded) == 0
    time.sleep(0.2)
    assert len(begun) <= 5
    assert list(encoded) == [-shard for shard in range(1, 20)]


def test_an_error_ends_the_work_on_other_shards(monkeypatch: pytest.MonkeyPatch, watcher: Any) -> None:
    def encode(shard: int, config: TrainConfig) -> int:
        raise InputError(f"shard {shard} cannot be read")

    monkeypatch.setattr(local, "encode_shard", encode)
    before = set(threading.enumerate())
    with pytest.raises(InputError, match="shard 0 cannot be read"):
        list(local.LocalWorkers(watcher).encode_all(range(20), TrainConfig()))  # type: ignore[arg-type]
    assert set(threading.enumerate()) <= before, "no thread is left"


def test_the_first_ctrl_c_is_noted_and_the_second_interrupts() -> None:
    before = signal.getsignal(signal.SIGINT)
    with local.deferred_interrupts() as interrupted:
        signal.raise_signal(signal.SIGINT)
        assert interrupted.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.fixture
def handled() -> Iterator[list[str]]:
    """Gives what a handler of SIGTERM records: as the command line's, it interrupts, and then ends at once."""
    calls: list[str] = []

    def interrupt(number: int, _: object) -> None:
        calls.append("interrupt")
        signal.signal(number, lambda *_: calls.append("end"))
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    yield calls
    signal.signal(signal.SIGTERM, before)


def test_sigterm_is_noted_where_it_would_interrupt(handled: list[str]) -> None:
    with local.deferred_interrupts() as interrupted:
        signal.raise_signal(signal.SIGTERM)
        assert interrupted.is_set()
        signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
    assert handled == ["interrupt", "end", "end"]


@pytest.mark.parametrize("handler", [signal.SIG_DFL, signal.SIG_IGN])
def test_a_program_without_a_handler_of_sigterm_keeps_none(handler: signal.Handlers) -> None:
    before = signal.signal(signal.SIGTERM, handler)
    try:
        with local.deferred_interrupts():
            assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)
