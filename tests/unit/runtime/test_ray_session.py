"""What is refused before Ray starts, the message when it ends the process, which of several errors is reported."""

from __future__ import annotations

import contextlib
import ctypes
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray._private import parameter, ray_constants
from ray._private.node import Node

from lstm_ray.errors import ConfigError, InputError, LstmRayError, TrainingError, WorkerLostError
from lstm_ray.runtime import ray_session
from lstm_ray.runtime.ray_session import StillAtWorkError, connect, our_error
from lstm_ray.runtime.room import Asked


class GroupError(Exception):
    """As Ray Train's TrainingFailedError: it holds each worker's error."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__("Ray's own long message")
        self.worker_failures = dict(enumerate(errors))


LOST = WorkerLostError("worker 1 at 10.0.0.2:4000 is gone: it closed the connection")


@pytest.mark.parametrize(("crashes", "said"), [(0, ""), (2, ""), (3, "Starting Ray client server failed")])
def test_a_client_whose_server_crashed_connects_again(monkeypatch: pytest.MonkeyPatch, crashes: int, said: str) -> None:
    calls = []

    def start(address: str, **_: object) -> None:
        calls.append(address)
        if len(calls) <= crashes:
            raise ConnectionAbortedError("Initialization failure from server: Starting Ray client server failed. See")

    monkeypatch.setattr(ray_session, "find_ray", lambda address, notify: address)
    monkeypatch.setattr(ray_session.ray, "init", start)
    monkeypatch.setattr(ray_session.ray, "shutdown", lambda: None)
    with pytest.raises(LstmRayError, match=said) if said else contextlib.nullcontext(), connect("ray://head:10001"):
        pass
    assert calls == ["ray://head:10001"] * min(crashes + 1, 3)


def test_a_ray_that_has_vanished_is_named_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
    monkeypatch.setattr(ray_session.ray, "init", lambda **_: pytest.fail("Ray itself tries for minutes"))
    notes: list[str] = []
    with (
        pytest.raises(LstmRayError, match=rf"Ray at 127\.0\.0\.1:{port}: .*refused"),
        connect("auto", None, notes.append),
    ):
        pass
    assert notes == [f"connecting to Ray at 127.0.0.1:{port} (RAY_ADDRESS)"]


def test_the_environment_may_ask_for_a_ray_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """It needs a token like any Ray that is started here."""
    begun: list[str] = []
    monkeypatch.setenv("RAY_ADDRESS", "local")
    monkeypatch.setattr(ray_session, "ask_for_token", lambda: begun.append("token"))
    monkeypatch.setattr(ray_session.ray, "init", lambda address, **_: begun.append(address))
    assert ray_session._begin("auto", None, begun.append) == "local"
    assert begun == ["starting Ray", "token", "local"]


@pytest.mark.parametrize("address", ["local", "head:6379"])
def test_too_many_workers_for_this_machine_are_warned_of_before_its_ray_starts(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    events: list[str] = []
    monkeypatch.setattr(ray_session, "available_cores", lambda: 2)
    monkeypatch.setattr(ray_session, "ask_for_token", lambda: None)
    monkeypatch.setattr(ray_session, "find_ray", lambda address, notify: address)
    monkeypatch.setattr(ray_session.ray, "init", lambda **_: events.append("init"))
    ray_session._begin(address, Asked(9, 9, cpus=1, gpus=0), events.append)
    begin, *rest = events
    if address == "local":
        assert begin.startswith("warning: 9 workers on this machine's 2 cores take turns")
        assert rest == ["starting Ray", "init"]
    else:
        assert events == ["connecting to Ray at head:6379", "init"]


def exit_on_sigterm(*_: object) -> None:
    """What `ray.init` makes the handler of SIGTERM, source: ray/_private/worker.py."""
    sys.exit(signal.SIGTERM)


@pytest.mark.parametrize("while_it_starts", [True, False])
def test_sigterm_interrupts_also_once_ray_has_set_its_own_handler(
    monkeypatch: pytest.MonkeyPatch, while_it_starts: bool
) -> None:
    def start(address: str, **_: object) -> None:
        signal.signal(signal.SIGTERM, exit_on_sigterm)
        if while_it_starts:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(ray_session, "find_ray", lambda address, notify: address)
    monkeypatch.setattr(ray_session.ray, "init", start)
    monkeypatch.setattr(ray_session.ray, "shutdown", lambda: None)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), connect("ray://head:10001"):
            signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_sigterm_is_handled_while_ray_shuts_down_and_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's shutdown resets the signal beneath Python, as this does, whose `getsignal` does not see it."""

    def is_handled() -> bool:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return bool(int(status.partition("SigCgt:")[2].split()[0], 16) >> (signal.SIGTERM - 1) & 1)

    def shut_down() -> None:
        ctypes.CDLL(None).signal(signal.SIGTERM, None)
        Node.kill_all_processes(SimpleNamespace(), wait=False)

    while_processes_end: list[bool] = []
    monkeypatch.setattr(Node, "kill_all_processes", lambda node, wait: while_processes_end.append(is_handled()))
    monkeypatch.setattr(ray_session, "find_ray", lambda address, notify: address)
    monkeypatch.setattr(ray_session.ray, "init", lambda *_, **__: None)
    monkeypatch.setattr(ray_session.ray, "shutdown", shut_down)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with connect("ray://head:10001"):
            pass
        assert is_handled()
        assert while_processes_end == [True]
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Fakes a Ray session of the program; gives the calls on it."""
    calls: list[str] = []
    context = SimpleNamespace(gcs_address="10.0.0.1:6379")
    monkeypatch.setattr(ray_session.ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray_session.ray, "get_runtime_context", lambda: context)
    monkeypatch.setattr(ray_session, "is_ray_client", lambda: False)
    monkeypatch.setattr(ray_session, "check_room", lambda address, asked: f"room at {address}")
    for name in ("init", "shutdown"):
        monkeypatch.setattr(ray_session.ray, name, lambda *_, name=name, **__: calls.append(name))
    return calls


@pytest.mark.parametrize("address", ["local", "auto", "10.0.0.1:6379"])
def test_a_session_of_the_programs_own_is_used_and_left(session: list[str], address: str) -> None:
    notes: list[str] = []
    with connect(address, Asked(1, 1, cpus=1, gpus=0), notes.append) as is_ours:
        assert not is_ours
    assert notes == ["room at 10.0.0.1:6379"]
    assert session == []


def test_another_ray_than_that_of_the_session_is_refused(session: list[str]) -> None:
    with (
        pytest.raises(ConfigError, match=r"--address is 'head:6379', but .* Ray at 10\.0\.0\.1:6379"),
        connect("head:6379"),
    ):
        pass
    assert session == []


class FakeRay:
    """Stands in for Ray, which a process has once; its start and its end take a moment.

    Attributes:
        calls: Starts and ends, in order.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self._is_initialized = False
        context = SimpleNamespace(gcs_address="127.0.0.1:6379")
        for name in ("init", "shutdown", "is_initialized"):
            monkeypatch.setattr(ray_session.ray, name, getattr(self, name))
        monkeypatch.setattr(ray_session.ray, "get_runtime_context", lambda: context)
        monkeypatch.setattr(ray_session.ray, "cluster_resources", dict)
        monkeypatch.setattr(ray_session, "is_ray_client", lambda: False)
        monkeypatch.setattr(ray_session, "ask_for_token", lambda: None)
        monkeypatch.setattr(ray_session, "check_room", lambda address, asked: None)
        monkeypatch.setattr(ray_session, "_session", None)

    def init(self, **_: object) -> None:
        """Starts."""
        time.sleep(0.05)
        if self._is_initialized:
            raise RuntimeError("Maybe you called ray.init twice by accident?")
        self._is_initialized = True
        self.calls.append("init")

    def shutdown(self) -> None:
        """Ends."""
        time.sleep(0.05)
        self._is_initialized = False
        self.calls.append("shutdown")

    def is_initialized(self) -> bool:
        """Returns whether it is started."""
        return self._is_initialized


def test_calls_in_several_threads_share_a_ray_that_ends_with_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    before = parameter.RayParams, Node.start_api_server, Node.kill_all_processes, ray_constants.ENABLE_RAY_CLUSTER
    ray = FakeRay(monkeypatch)
    all_in, ends = threading.Barrier(4, timeout=20), [threading.Event() for _ in range(3)]

    def call(end: threading.Event) -> bool:
        with connect("local", Asked(1, 1, cpus=1, gpus=0)) as is_ours:
            all_in.wait()
            return end.wait(60) and ray.is_initialized() and is_ours

    with ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(call, end) for end in ends]
        all_in.wait()
        for done, end in zip(calls, ends, strict=True):
            assert ray.calls == ["init"]
            end.set()
            assert done.result(60)
    assert ray.calls == ["init", "shutdown"]
    after = parameter.RayParams, Node.start_api_server, Node.kill_all_processes, ray_constants.ENABLE_RAY_CLUSTER
    assert all(one is other for one, other in zip(before, after, strict=True))


def test_calls_that_begin_while_others_end_get_a_ray_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay(monkeypatch)

    def call(number: int) -> bool:
        with connect("local"):
            time.sleep(0.01 * (number % 4))
            return ray.is_initialized()

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(call, range(16)))
    assert ray.calls == ["init", "shutdown"] * (len(ray.calls) // 2)
    assert not ray.is_initialized()


def test_a_ray_that_a_thread_still_waits_for_is_left_to_all_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay(monkeypatch)
    with pytest.raises(StillAtWorkError), connect("local"):
        raise StillAtWorkError
    with connect("local") as is_ours:
        assert is_ours
    assert ray.calls == ["init"]


@pytest.mark.parametrize(
    ("failures", "said"),
    [
        ([LOST, InputError("the column is missing")], "the column is missing"),
        ([LOST, RuntimeError("out of\n  memory")], "a worker failed: out of memory"),
        ([LOST], str(LOST)),
        ([RuntimeError("first"), RuntimeError("second")], "a worker failed: first"),
    ],
    ids=["ours", "somebody else's", "lost", "several"],
)
def test_a_cause_comes_before_the_loss_of_a_peer(failures: list[Exception], said: str) -> None:
    found = our_error(GroupError(*failures), TrainingError)
    assert str(found) == said
    assert isinstance(found, LstmRayError)


def test_the_error_within_others_is_found() -> None:
    outer = RuntimeError("a task failed")
    outer.__cause__ = InputError("no such column")
    assert str(our_error(outer, TrainingError)) == "no such column"


def test_gpus_are_missed_before_ray_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(**_: object) -> None:
        raise ValueError("started")

    monkeypatch.setattr(ray_session.ray, "init", start)
    monkeypatch.setattr(ray_session, "may_have_gpu", lambda: True)
    with pytest.raises(LstmRayError, match="started"), connect("local", Asked(1, 1, cpus=1, gpus=1)):
        pass
    monkeypatch.setattr(ray_session, "may_have_gpu", lambda: False)
    for least, gpus, said in (
        (2, 1, r"^2 GPUs are asked for, but this machine has none"),
        (1, 1, "^1 GPU is asked"),
        (1, 0.5, r"^0\.5 GPUs are"),
    ):
        with (
            pytest.raises(LstmRayError, match=said),
            connect("local", Asked(least, least, cpus=1, gpus=gpus), pytest.fail),
        ):
            pass
    notes: list[str] = []
    with pytest.raises(LstmRayError, match="started"), connect("local", Asked(1, 1, cpus=1, gpus=0), notes.append):
        pass
    assert notes == ["starting Ray"]


@pytest.mark.parametrize(
    ("end", "is_said"),
    [
        ("os._exit(1)", True),  # as Ray's C++ does
        ("os.kill(os.getpid(), 9)", True),
        ("pass", False),
        ("raise KeyboardInterrupt", False),
        ("sys.exit(1)", False),
    ],
)
def test_a_process_that_ends_without_python_has_last_words(end: str, is_said: bool) -> None:
    code = (
        f"import os, sys\nfrom lstm_ray.runtime.ray_session import error_if_killed\nwith error_if_killed():\n    {end}"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert ("error: this process was ended from outside" in done.stderr) is is_said


def test_a_ray_that_cannot_write_its_files_is_reported_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "file"))
    with pytest.raises(LstmRayError) as raised, connect("local"):
        pass
    assert str(raised.value).startswith("Ray did not start on this machine: ")
    assert f"{tmp_path}/file" in str(raised.value)
    assert str(raised.value).endswith(
        ": set RAY_TMPDIR to a directory for its files, with a short name, that can be written to"
    )


def test_only_what_ray_may_raise_is_taken_for_rays(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(**_: object) -> None:
        raise TypeError("init() got an unexpected keyword argument")

    monkeypatch.setattr(ray_session.ray, "init", start)
    with pytest.raises(TypeError), connect("local"):
        pass


def test_a_ray_that_does_not_start_may_lack_memory_disk_limits_or_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(**_: object) -> None:
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray_session.ray, "init", start)
    causes = r"enough memory, .* /dev/shm, no low limit .*, and a CPU that is not busy\?"
    with pytest.raises(LstmRayError, match=causes), connect("local"):
        pass


DIES = """
import resource, sys
from lstm_ray.errors import LstmRayError
from lstm_ray.runtime.ray_session import connect
resource.setrlimit(resource.RLIMIT_FSIZE, (2**26, 2**26))  # the object store is larger: the raylet is ended for it
try:
    with connect("local"):
        print("it started")
except LstmRayError as error:
    print(error)
"""


@pytest.mark.second_tier  # Ray waits 30 s for a raylet that is dead
def test_a_raylet_that_dies_while_ray_starts_is_reported_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="ray") as place:  # names of sockets have to be short
        monkeypatch.setenv("RAY_TMPDIR", place)
        command = [sys.executable, "-c", DIES]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
        (line,) = done.stdout.splitlines()
        assert line.startswith("Ray did not start on this machine: The current node timed out during startup.")
        logs = re.search(r"Ray's logs are in (\S+/logs), and say more", line)
        assert logs is not None
        assert (Path(logs[1]) / "raylet.err").exists()
        assert Path(logs[1]).is_relative_to(place)
        assert done.stderr == ""
        assert done.returncode == 0
