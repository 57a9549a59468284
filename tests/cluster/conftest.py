"""One Ray cluster of three hosts for all tests here, more hosts for those that break one, and reviews."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hosts import Host, Network, obstacle, start_cluster

from lstm_ray.datasets.demo import write_demo


@pytest.hookimpl(tryfirst=True)  # before pytest selects by markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts all tests here into the second tier."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.second_tier)


@dataclass(frozen=True)
class Cluster:
    """Ray on three hosts, one core each, with a token.

    Attributes:
        network: The network of the hosts.
        head: Takes jobs at 127.0.0.1:8265 of its own.
        workers: The two others.
    """

    network: Network
    head: Host
    workers: tuple[Host, Host]

    @property
    def hosts(self) -> tuple[Host, ...]:
        """All three."""
        return (self.head, *self.workers)


@pytest.fixture(scope="session")
def network() -> Iterator[Network]:
    """Gives a network to add hosts to."""
    if reason := obstacle():
        pytest.skip(reason)
    with Network() as made:
        yield made


@pytest.fixture(scope="session")
def cluster(network: Network) -> Cluster:
    """Gives the cluster. Tests leave it as it was; they use `add_host` for a host to break."""
    head, first, second = (network.add_host(name) for name in ("head", "first", "second"))
    start_cluster(head, first, second)
    return Cluster(network, head, (first, second))


@pytest.fixture
def add_host(network: Network) -> Iterator[Callable[[], Host]]:
    """Gives a function that adds a host without Ray. All its processes are killed when the test ends."""
    added: list[Host] = []

    def add() -> Host:
        added.append(network.add_host(f"more{len(network.hosts)}"))
        return added[-1]

    yield add
    for host in added:
        host.kill_ray()


@pytest.fixture(scope="session")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gives a directory of 4 Parquet files, 4,000 labelled demo reviews with the numbers of their rows."""
    directory = tmp_path_factory.mktemp("reviews")
    table = pq.read_table(write_demo(tmp_path_factory.mktemp("demo"), rows=4_000).train)
    table = table.append_column("row", pa.array(range(len(table))))
    for number in range(4):
        pq.write_table(table.slice(number * 1_000, 1_000), directory / f"{number}.parquet", row_group_size=250)
    return directory


Copies = Callable[[int], list[Path]]


@pytest.fixture
def copies(reviews: Path, tmp_path: Path) -> Copies:
    """Gives a function that copies the directory several times: a file that is named twice is scored once."""
    return lambda times: [Path(shutil.copytree(reviews, tmp_path / f"copy-{number:03}")) for number in range(times)]


WaitUntil = Callable[..., None]


@pytest.fixture
def wait_until() -> WaitUntil:
    """Gives a function that waits until a condition holds, by default for two minutes at most."""

    def wait(condition: Callable[[], bool], limit_s: float = 120) -> None:
        deadline = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.1)

    return wait
