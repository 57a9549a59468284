"""Connects to Ray: starts one on this machine and stops it at the end, or connects to a running one."""

from __future__ import annotations

import glob
import logging
import math
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import ray

from lstm_ray.errors import ConfigError, LstmRayError, WorkerLostError
from lstm_ray.runtime.addresses import find_ray, refuse_password
from lstm_ray.runtime.capacity import check_room
from lstm_ray.runtime.devices import available_cores, may_have_gpu
from lstm_ray.runtime.ray_internals import (
    address_of_auto,
    ask_for_token,
    before_processes_end,
    is_client_server_crash,
    is_client_timeout,
    is_refused_token,
    on_loopback,
    private_head,
    worker_failures,
)
from lstm_ray.runtime.room import Asked
from lstm_ray.runtime.stderr import held_back
from lstm_ray.wording import are, counted

_CLIENT_ATTEMPTS = 3

_KILLED = (
    "error: this process was ended from outside: by Ray, if its raylet on this machine died, or by the system, often "
    "because memory ran out. The same command resumes"
)


class StillAtWorkError(KeyboardInterrupt):
    """Ctrl-C while a thread is still waiting for Ray.

    Ray ends the whole process if it is called after `ray.shutdown`. So `connect` does not shut Ray down in this case;
    `cli/process.py` ends the process at once, and Ray with it.
    """


@dataclass
class _Session:
    """A session with Ray that `connect` made.

    Attributes:
        is_local: Whether Ray was started here for it.
        users: Number of calls, in several threads, that use it.
    """

    is_local: bool
    users: int = 0


_session: _Session | None = None
_changes = threading.RLock()  # held while a session begins or ends


@contextmanager
def connect(
    address: str, asked: Asked | None = None, notify: Callable[[str], None] = lambda note: None
) -> Iterator[bool]:
    """Connects to Ray, and disconnects at the end. Yields whether this process started the Ray instance.

    If this process already has a session of its own, as in a notebook, it is used and left running. Calls in several
    threads share one session: the first one begins it, the last one ends it.

    Args:
        address: "local" starts Ray here and stops it at the end; "auto", HOST:PORT or ray://HOST:PORT connects to a
            running one.
        asked: What the caller's workers need. A Ray started here declares enough cores for all of them, so that workers
            share cores instead of waiting for ever if there are more workers than cores.
        notify: Receives a message that Ray is being started or connected to, and one if the cluster has to grow first
            or this machine has too few cores.

    Raises:
        LstmRayError: There is no Ray at the address, it does not start, or it has too few CPUs or GPUs.
    """
    global _session
    with _changes:
        if is_new := not ray.is_initialized():
            address = _begin(address, asked, notify)
            _session = _Session(is_local=address == "local")
        else:
            check_session(address)
            address = _address_in_use()
        session = _session
        if session:
            session.users += 1
    is_in_use = False
    with error_if_killed() if session else nullcontext():
        try:
            if is_new and address == "local":
                _check_gpus(asked)
            elif asked and (note := check_room(address, asked)):
                notify(note)
            yield session is not None and session.is_local
        except StillAtWorkError:
            is_in_use = True
            raise
        finally:
            if session and not is_in_use:
                _leave(session)


def _begin(address: str, asked: Asked | None, notify: Callable[[str], None]) -> str:
    """Starts Ray or connects to a running one, and returns its address."""
    gpus = _gpus(asked)
    if address == "local" and gpus and not may_have_gpu():
        raise LstmRayError(
            f"{counted(gpus, 'GPU')} {are(gpus)} asked for, but this machine has none that this process may use"
        )
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    # Prevents a warning on stderr about Ray Data's own behaviour (ray#53727).
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    origin = ""
    try:
        if address == "auto":
            address = address_of_auto()
            origin = f" ({'RAY_ADDRESS' if os.environ.get('RAY_ADDRESS') else 'found on this machine'})"
        refuse_password(address, "RAY_ADDRESS" if origin else "--address")
        if address == "local":  # RAY_ADDRESS may be, too
            if asked and (crowding := asked.crowding(available_cores())):
                notify(f"warning: {crowding}")
            notify("starting Ray")
            most_cpus = math.ceil(asked.most * asked.cpus) if asked else 0
            claimed = max(available_cores(), most_cpus) + 1  # one for tasks beside the workers
            # Ray prints the log level that was just set.
            with _sigterm_kept(), on_loopback(), private_head() as labels, held_back():
                ask_for_token()
                ray.init(address="local", num_cpus=claimed, include_dashboard=False, labels=labels, **quiet)
        else:
            notify(f"connecting to Ray at {address}{origin}")
            address = find_ray(address, notify)
            with _sigterm_kept(), held_back(shown_on_failure=False):  # the exception has the same message
                _join(address, **quiet)
    except Exception as error:
        # Ray raises a bare Exception if the raylet does not start.
        expected = OSError | ValueError | RuntimeError | ray.exceptions.AuthenticationError
        if type(error) is not Exception and not isinstance(error, expected):
            raise
        raise LstmRayError(_describe_failure(address, error)) from error
    return address


def _gpus(asked: Asked | None) -> float:
    return asked.least * asked.gpus if asked else 0


def _check_gpus(asked: Asked | None) -> None:
    """Raises LstmRayError if the Ray started here has fewer GPUs than asked for."""
    if (found := ray.cluster_resources().get("GPU", 0)) < (gpus := _gpus(asked)):
        raise LstmRayError(f"{counted(gpus, 'GPU')} {are(gpus)} asked for, but Ray finds {found:g} on this machine")


def _leave(session: _Session) -> None:
    """Ends a session, unless other calls use it or another one has replaced it."""
    global _session
    with _changes:
        session.users -= 1
        if not session.users and session is _session:
            _session = None
            with _sigterm_kept() as restore, before_processes_end(restore):
                ray.shutdown()  # if its raylet has died, Ray ends the process here


@contextmanager
def _sigterm_kept() -> Iterator[Callable[[], None]]:
    """Restores the SIGTERM handler: `ray.init` sets one that calls `sys.exit`, `ray.shutdown` none.

    Python then still names the old handler, but the signal ends the process. Yields a function that restores it now.
    """
    handler = signal.getsignal(signal.SIGTERM)

    def restore() -> None:
        # Ray, too, sets it in the main thread only. None is a handler that is not Python's.
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)

    try:
        yield restore
    except SystemExit as ended:  # SIGTERM came meanwhile: to Ray's handler
        if ended.code == signal.SIGTERM and callable(handler):
            handler(signal.SIGTERM, None)
        raise
    finally:
        restore()


def check_session(address: str) -> None:
    """Raises ConfigError if this process already has a session with a different Ray instance."""
    if address in ("local", "auto", here := _address_in_use()) or (is_ray_client() and address.startswith("ray://")):
        return
    raise ConfigError(
        f"--address is {address!r}, but this process is connected to the Ray at {here}: leave --address out to run "
        "there, or call ray.shutdown() first"
    )


def is_ray_client() -> bool:
    """Returns whether this process is connected to Ray as a client (ray://)."""
    from ray.util.client import ray as client

    return bool(client.is_connected())


def _address_in_use() -> str:
    return "ray://" if is_ray_client() else str(ray.get_runtime_context().gcs_address)


def _join(address: str, **options: Any) -> None:
    """Connects to a running Ray; tries again if the server process for this client crashed at startup."""
    for _ in range(_CLIENT_ATTEMPTS - 1):
        try:
            ray.init(address=address, **options)
        except ConnectionError as error:
            if not is_client_server_crash(error):
                raise
        else:
            return
    ray.init(address=address, **options)


@contextmanager
def error_if_killed() -> Iterator[None]:
    """Prints an error on stderr if the process is killed inside the block, as Ray does if its raylet dies.

    A shell prints it: it waits for a line on a pipe, and prints the error if the pipe breaks instead.
    """
    command = ["sh", "-c", 'read -r ended || echo "$0" >&2', _KILLED]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as shell:
        try:
            yield
        finally:
            shell.communicate(b"ended\n")


def _describe_failure(address: str, error: Exception) -> str:
    if is_refused_token(error):
        return (
            f"the Ray at {address} refuses this machine's token: set RAY_AUTH_MODE=token, and "
            "RAY_AUTH_TOKEN_PATH to a file with the cluster's token"
        )
    said = " ".join(str(error).split()).rstrip(".")
    if address.startswith("ray://") and is_client_timeout(error):
        said += (
            "; is that the port of Ray's client, 10001 if not set, and is RAY_AUTH_MODE=token set here, with the "
            "cluster's token in RAY_AUTH_TOKEN_PATH, if it has one?"
        )
    elif address != "local" and not said.endswith("?"):
        said += "; is that HOST:PORT of Ray itself, 6379 if not set, or ray://HOST:PORT of its client?"
    if address != "local":
        return f"no connection to Ray at {address}: {said}"
    remedy = "set RAY_TMPDIR to a directory for its files, with a short name, that can be written to"
    if isinstance(error, ConnectionError) or not isinstance(error, OSError):
        remedy = (
            f"Ray's logs are in {_logs_here()}, and say more with RAY_BACKEND_LOG_LEVEL=info; is there enough memory, "
            "space on the disk and in /dev/shm, no low limit (ulimit -a), and a CPU that is not busy?"
        )
    return f"Ray did not start on this machine: {said}: {remedy}"


def _logs_here() -> str:
    """Returns the directory with the logs of the Ray that this process last tried to start."""
    parent = os.path.join(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp", "ray")
    tried = glob.glob(os.path.join(glob.escape(parent), f"session_*_{os.getpid()}", "logs"))
    return max(tried, default=parent)  # their names begin with the time


def our_error(error: BaseException, otherwise: type[LstmRayError]) -> LstmRayError:
    """Returns the LstmRayError inside one of Ray's errors; if there is none, an `otherwise` with Ray's message.

    If several workers failed, errors of workers that only lost a peer come last.
    """
    failures = list(worker_failures(error).values()) or [error]
    found = [(failure, _ours_within(failure)) for failure in failures]
    causes = [(failure, ours) for failure, ours in found if not isinstance(ours, WorkerLostError)] or found
    for _, ours in causes:
        if ours is not None:
            return ours
    return otherwise(f"a worker failed: {' '.join(str(causes[0][0]).split())[-500:]}")


def _ours_within(failure: BaseException) -> LstmRayError | None:
    seen: BaseException | None = failure
    while seen is not None:
        # Ray's wrapper is also an instance of the wrapped error's class, but has its own long message.
        if isinstance(seen, LstmRayError) and not isinstance(seen, ray.exceptions.RayTaskError):
            return seen
        seen = getattr(seen, "cause", None) or seen.__cause__
    return None
