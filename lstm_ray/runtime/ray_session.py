"""Connects to Ray: one started on this machine for the while, or one that runs already."""

from __future__ import annotations

import glob
import logging
import math
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import ray

from lstm_ray.errors import LstmRayError, WorkerLostError
from lstm_ray.runtime.capacity import check_room
from lstm_ray.runtime.devices import available_cores, may_have_gpu
from lstm_ray.runtime.room import Asked
from lstm_ray.runtime.stderr import held_back
from lstm_ray.wording import reason

_CONNECT_TIMEOUT_S = 5.0

_LAST_WORDS = (
    "error: this process was ended from outside: by Ray, if its raylet on this machine has died, or by the system, "
    "often for want of memory. The same command goes on with what is there"
)


class StillAtWorkError(KeyboardInterrupt):
    """Ctrl-C while a thread still waits for Ray, which would end the process if it were called after its end.

    `connect` leaves Ray as it is then; the process is to end without taking it down (`cli/process.py`).
    """


@contextmanager
def connect(
    address: str, asked: Asked | None = None, notify: Callable[[str], None] = lambda note: None
) -> Iterator[None]:
    """Holds a connection to Ray.

    Args:
        address: "local" starts Ray here and stops it at the end; "auto", HOST:PORT or ray://HOST:PORT joins one.
        asked: What the caller's workers ask for. A Ray started here claims to have cores for all of them, so that more
            workers than cores share them rather than wait forever.
        notify: Is told that Ray is being started or connected to, and if the cluster has to grow first.

    Raises:
        LstmRayError: There is no Ray at that address, it does not start here, or it has too few CPUs or GPUs.
    """
    gpus = asked.least * asked.gpus if asked else 0
    if address == "local" and gpus and not may_have_gpu():
        raise LstmRayError(f"{gpus:g} GPUs are asked for, but this machine has none that this process may use")
    notify("starting Ray" if address == "local" else f"connecting to Ray at {address}")
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    # Ray Data makes Ray warn of something it does itself (ray#53727), on our stderr.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        if address == "local":
            most_cpus = math.ceil(asked.most * asked.cpus) if asked else 0
            claimed = max(available_cores(), most_cpus) + 1  # one for tasks beside the workers
            with held_back():  # Ray announces the level that was just set
                ray.init(address="local", num_cpus=claimed, include_dashboard=False, **quiet)
        else:
            _check_listening(address)
            with held_back(shown_on_failure=False):  # the exception says it again
                ray.init(address=address, **quiet)
    except Exception as error:
        # A bare Exception is what Ray raises if the raylet that it has started does not come up.
        expected = OSError | ValueError | RuntimeError | ray.exceptions.AuthenticationError
        if type(error) is not Exception and not isinstance(error, expected):
            raise
        raise LstmRayError(_why_there_is_no_ray(address, error)) from error
    is_in_use = False
    with last_words():
        try:
            if address == "local":
                there = ray.cluster_resources().get("GPU", 0)
                if there < gpus:
                    raise LstmRayError(f"{gpus:g} GPUs are asked for, but Ray finds {there:g} on this machine")
            elif asked and (note := check_room(address, asked)):
                notify(note)
            yield
        except StillAtWorkError:
            is_in_use = True
            raise
        finally:
            if not is_in_use:
                ray.shutdown()  # in which Ray, without its raylet, ends the process


@contextmanager
def last_words() -> Iterator[None]:
    """Has it said on stderr if the process ends meanwhile without Python: Ray ends it so when its raylet dies."""
    words = ["sh", "-c", 'read -r ended || echo "$0" >&2', _LAST_WORDS]  # without a line to read, the pipe has broken
    with subprocess.Popen(words, stdin=subprocess.PIPE) as speaker:
        try:
            yield
        finally:
            speaker.communicate(b"as it should\n")


def _why_there_is_no_ray(address: str, error: Exception) -> str:
    if _is_refusal(error):
        return (
            f"the Ray at {address} refuses this machine's token: set RAY_AUTH_MODE=token, and "
            "RAY_AUTH_TOKEN_PATH to a file with the cluster's"
        )
    said = " ".join(str(error).split()).rstrip(".")
    if address.startswith("ray://") and "timeout" in said:  # which is all that Ray says of a wrong token here
        said += (
            "; is that the port of Ray's client, 10001 if not set, and is RAY_AUTH_MODE=token set here, with the "
            "cluster's token in RAY_AUTH_TOKEN_PATH, if it has one?"
        )
    elif address != "local" and not said.endswith("?") and "port is" not in said:
        said += "; is that HOST:PORT of Ray itself, 6379 if not set, or ray://HOST:PORT of its client?"
    if address != "local":
        return f"no connection to Ray at {address}: {said}"
    remedy = "set RAY_TMPDIR to a directory for its files, with a short name, that can be written"
    if isinstance(error, ConnectionError) or not isinstance(error, OSError):
        remedy = (
            f"Ray's logs lie in {_logs_here()}, and say more with RAY_BACKEND_LOG_LEVEL=info; is there enough memory, "
            "room on the disk and in /dev/shm, and no low limit (ulimit -a)?"
        )
    return f"Ray did not start on this machine: {said}: {remedy}"


def _logs_here() -> str:
    """Returns where a Ray keeps its logs that this process has tried to start last."""
    place = os.path.join(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp", "ray")
    tried = glob.glob(os.path.join(glob.escape(place), f"session_*_{os.getpid()}", "logs"))
    return max(tried, default=place)  # their names begin with the time


def _is_refusal(error: BaseException | None) -> bool:
    """Says whether the token was wrong; Ray wraps that up, sometimes as text only."""
    while error is not None:
        if isinstance(error, ray.exceptions.AuthenticationError) or "InvalidAuthToken" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def our_error(error: BaseException, otherwise: type[LstmRayError]) -> LstmRayError:
    """Returns the error of ours inside one of Ray's, or Ray's as an `otherwise`.

    Of several workers' errors, one that says what went wrong comes before those that only miss a worker.
    """
    failures = list(getattr(error, "worker_failures", {}).values()) or [error]
    found = [(failure, _ours_within(failure)) for failure in failures]
    causes = [(failure, ours) for failure, ours in found if not isinstance(ours, WorkerLostError)] or found
    for _, ours in causes:
        if ours is not None:
            return ours
    return otherwise(f"a worker failed: {' '.join(str(causes[0][0]).split())[-500:]}")


def _ours_within(failure: BaseException) -> LstmRayError | None:
    seen: BaseException | None = failure
    while seen is not None:
        # Ray makes its wrapper an instance of the wrapped error's class too, but with its own long message.
        if isinstance(seen, LstmRayError) and not isinstance(seen, ray.exceptions.RayTaskError):
            return seen
        seen = getattr(seen, "cause", None) or seen.__cause__
    return None


def _check_listening(address: str) -> None:
    """Raises ConnectionError if not Ray listens at HOST:PORT or ray://HOST:PORT; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return  # "auto": Ray looks for a cluster on this machine
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _CONNECT_TIMEOUT_S) as connection:
            speaks = os.environ.get("RAY_USE_TLS", "0") != "0" or _speaks_http2(connection)
    except OSError as error:
        raise ConnectionError(f"{reason(error)}; is the address right, and Ray running there?") from error
    if not speaks:
        raise ConnectionError("something else than Ray answers; Ray's port is 6379, or for ray:// 10001, if not set")


def _speaks_http2(connection: socket.socket) -> bool:
    """Says whether a server may be one of Ray's: HTTP/2, unlike the dashboard's; one that is silent may be, too.

    A client begins with its preface and an empty SETTINGS frame, a server with its SETTINGS. Source: RFC 9113, 3.4.
    """
    settings = 4  # type of the frame, which is its fourth byte
    try:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, settings, 0, 0, 0, 0, 0]))
        answer = connection.recv(9)
    except TimeoutError:
        return True
    return len(answer) > 3 and answer[3] == settings
