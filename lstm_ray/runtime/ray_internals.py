"""Everything that relies on private parts of Ray, or on the wording of its messages.

Written for Ray 2.60; also valid for 2.55, the oldest supported version. If another version changes something,
tests/unit/runtime/test_ray_internals.py fails.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ray
import yaml
from ray._private import node, parameter, ray_constants

from lstm_ray.runtime.stderr import held_back
from lstm_ray.runtime.threads import shared

HEAD_RESOURCE = "node:__internal_head__"
"""A resource that only the head has."""
IDLE_DATA_THREAD = "Prefetcher"
"""Name of a Ray Data thread that never ends, even when it has no more work."""

_PRIVATE = {"lstm-ray": "private"}  # label of the node of a Ray that `private_head` started
_MONITOR, _AUTOSCALING_CONFIG = "/monitor.py", "--autoscaling-config="  # in ray/_private/services.py
_NEWEST = (2, 60)  # the newest Ray whose processes this module can leave out
_ANSWER_LIMIT_S = 20.0
_NODE_DIED = "its node has died"  # in the C++ of the GCS
_LOG_OF_JOB = "last available logs"  # in job_supervisor.py
_HANGING = re.compile(r"A worker health check has been hanging for (\d+)")  # in ray.train's worker_group.py


def data_parallel_trainer() -> Any:
    """Returns the DataParallelTrainer of Ray Train V2.

    The public module, `ray.train.data_parallel_trainer`, still contains that of V1.
    """
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    return DataParallelTrainer


def set_train_timeouts(health_check_s: float, group_start_s: float | None) -> None:
    """Sets how long Ray Train waits for a silent worker, and for workers to start. Call before creating the trainer.

    Args:
        health_check_s: Seconds after which a worker that does not answer is replaced.
        group_start_s: Seconds after which a group that could not be placed is tried in another size; None for Ray's
            default. The user's environment takes precedence.
    """
    os.environ["RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S"] = str(health_check_s)
    if group_start_s is not None:
        os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(group_start_s))


def stop_data_usage_poller() -> None:
    """Disables Ray Data's thread for usage statistics, which never ends, so that the end of a run would wait for it."""
    os.environ.setdefault("RAY_DATA_USAGE_DISABLED", "1")


@contextmanager
def on_loopback() -> Iterator[None]:
    """Makes a Ray that is started inside the block listen only on 127.0.0.1, as Ray does on Windows and macOS.

    With `ray.init(_node_ip_address="127.0.0.1")`, Ray would use the machine's network address instead.

    Only one thread at a time may be inside, as with `private_head` and `before_processes_end`.
    """
    with _replaced(ray_constants, "ENABLE_RAY_CLUSTER", False):
        yield


@contextmanager
def private_head() -> Iterator[dict[str, str]]:
    """Makes a Ray that is started inside the block leave out processes that only serve other users of a cluster.

    These are the dashboard's server, which Ray starts even for `include_dashboard=False`, the autoscaler, and the
    log monitor, which prints workers' output in the driver. They take 1.6 of the 5.6 CPU seconds of a start, and Ray
    starts and stops them one after the other.

    A Ray newer than `_NEWEST` starts them all, which only costs time.

    Yields:
        Labels for the node, by which `autoscaler_of_head` knows that there is no autoscaler, and `address_of_auto` that
        this Ray is not for others.
    """
    if not _is_known():
        yield {}
        return

    def no_api_server(head: Any, **options: Any) -> None:
        # The node's agent looks for this address every second, and logs an error if there is none.
        key, namespace = ray_constants.DASHBOARD_ADDRESS.encode(), ray_constants.KV_NAMESPACE_DASHBOARD
        head.get_gcs_client().internal_kv_put(key, b"127.0.0.1:0", True, namespace)

    lean = functools.partial(parameter.RayParams, no_monitor=True, include_log_monitor=False)
    with _replaced(parameter, "RayParams", lean), _replaced(node.Node, "start_api_server", no_api_server):
        yield _PRIVATE


class _NoActor:
    """An actor that ignores all calls.

    Ray Data asks its statistics actor for a dataset's ID. It gets None here, for which `ray.get` fails; so it creates
    an ID itself, with a warning that `_quiet_data` in score/ray_data.py hides.
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # such as pickle looks for
            raise AttributeError(name)
        return SimpleNamespace(remote=lambda *_, **__: None)


class _OneNode:
    """Ray Data's ClusterAutoscaler for a Ray that does not grow."""

    def __init__(self, *_: Any, **__: Any) -> None:
        from ray.data._internal.execution.interfaces import ExecutionResources

        self._total = ExecutionResources.from_resource_dict(ray.cluster_resources())

    def try_trigger_scaling(self) -> None:
        """Does nothing."""

    def on_executor_shutdown(self) -> None:
        """Does nothing."""

    def get_total_resources(self) -> Any:
        """Returns what the node has."""
        return self._total


@shared
@contextmanager
def data_on_one_node() -> Iterator[None]:
    """Makes Ray Data leave out actors that are of no use on a Ray with one node and no dashboard.

    One divides the cluster's resources among several datasets, one collects figures for the dashboard, and one records
    which node an actor is on. Each is a process that imports Ray Data: together 2.8 of the 9 CPU seconds of a short
    run. With a Ray newer than `_NEWEST` nothing is left out.
    """
    if not _is_known():
        yield
        return
    from ray.data._internal import stats
    from ray.data._internal.execution import streaming_executor
    from ray.data._internal.execution.operators import actor_pool_map_operator

    with (
        _replaced(streaming_executor, "create_cluster_autoscaler", _OneNode),
        _replaced(stats, "get_or_create_stats_actor", _NoActor),
        _replaced(actor_pool_map_operator, "get_or_create_actor_location_tracker", _NoActor),
        ExitStack() as stack,
    ):
        if hasattr(actor_pool_map_operator, "get_actor_locations"):  # new in Ray 2.60
            stack.enter_context(_replaced(actor_pool_map_operator, "get_actor_locations", lambda _: {}))
        yield


def _is_known() -> bool:
    """Returns whether this Ray is one that this module was written for."""
    return tuple(map(int, ray.__version__.split(".")[:2])) <= _NEWEST


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Replaces an attribute inside the block, which one thread at a time may be in."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def before_processes_end(call: Callable[[], None]) -> Iterator[None]:
    """Has `ray.shutdown` call a function between its two parts.

    The first part, in C++, resets signal handlers. The second one ends Ray's processes, in Python, which takes 1.6 s.
    """
    original = node.Node.kill_all_processes

    def kill_all_processes(one: Any, *args: Any, **options: Any) -> None:
        call()
        original(one, *args, **options)

    with _replaced(node.Node, "kill_all_processes", kill_all_processes):
        yield


def address_of_auto() -> str:
    """Returns the address that Ray takes for "auto": RAY_ADDRESS, or that of the Ray last started on this machine.

    A Ray that `private_head` started is left out, because it ends with its run.

    Raises:
        ConnectionError: There is none.
    """
    from ray._private import services

    shared_ones = services.find_gcs_addresses() - _private_addresses()
    with _replaced(services, "find_gcs_addresses", lambda: shared_ones):
        return str(services.get_ray_address_from_environment("auto", None))


def dashboard_of(address: str) -> str:
    """Returns HOST:PORT of the dashboard of a Ray, as its head reaches it; "" if it has none.

    Raises:
        ConnectionError: Ray does not answer.
        AuthenticationError: It refuses this machine's token.
    """
    import ray._raylet

    raylet: Any = ray._raylet
    key, namespace = ray_constants.DASHBOARD_ADDRESS.encode(), ray_constants.KV_NAMESPACE_DASHBOARD
    try:
        with held_back(shown_on_failure=False):
            return (raylet.GcsClient(address=address).internal_kv_get(key, namespace, _ANSWER_LIMIT_S) or b"").decode()
    except ray.exceptions.RpcError as error:
        raise ConnectionError(str(error)) from error


def ray_of_dashboard(url: str) -> str:
    """Returns HOST:PORT of the Ray that a dashboard belongs to, as its nodes reach it; "" if it cannot be found out.

    Its API does not tell this, but shows the options of each node's raylet.

    Raises:
        AuthenticationError: The dashboard refuses this machine's token.
    """
    from ray.dashboard.modules.dashboard_sdk import SubmissionClient

    try:
        answer = SubmissionClient(url)._do_request("GET", "/nodes?view=summary", timeout=_ANSWER_LIMIT_S)
        words = (word.partition("=") for one in answer.json()["data"]["summary"] for word in one.get("cmdline") or ())
        return next((value for name, _, value in words if name == "--gcs-address"), "")
    except (OSError, LookupError, TypeError, AttributeError, ValueError):  # it is not Ray's dashboard
        return ""


def _private_addresses() -> set[str]:
    """Returns the addresses of the Rays on this machine that `private_head` started, by their raylets' options."""
    label = json.dumps(_PRIVATE)[1:-1]
    options = (dict(word.partition("=")[::2] for word in words) for words in _command_lines())
    return {one["--gcs-address"] for one in options if label in one.get("--labels", "") and "--gcs-address" in one}


def _command_lines() -> Iterator[list[str]]:
    """Yields the command line of each process on this machine; none where there is no /proc."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            yield (process / "cmdline").read_text(errors="replace").split("\0")
        except OSError:
            continue  # the process has ended


def ask_for_token() -> None:
    """Makes a Ray that this process starts require a token, unless the user has set RAY_AUTH_MODE.

    If there is no token file yet, it is created here, because one that Ray creates is readable by every user of the
    machine.
    """
    import ray._raylet
    from ray._private.authentication.authentication_token_setup import ensure_token_if_auth_enabled

    raylet: Any = ray._raylet
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "token"
        raylet.Config.initialize("")  # reads the environment again
    before = os.umask(0o077)
    try:
        ensure_token_if_auth_enabled()
    finally:
        os.umask(before)


def authentication_mode() -> str:
    """Returns "token" if this process's Ray requires a token, otherwise "disabled"."""
    import ray._raylet

    raylet: Any = ray._raylet
    return "token" if raylet.get_authentication_mode() == raylet.AuthenticationMode.TOKEN else "disabled"


def without_log(message: str) -> str:
    """Returns Ray's message about a job without the end of the job's log, which Ray appends."""
    return message.partition(_LOG_OF_JOB)[0].rstrip(", ")


def quiet_tune() -> None:
    """Prevents Ray Tune from handling Ctrl-C, after which it would end normally, and from printing tables."""
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")


def node_died(error: BaseException) -> bool:
    """Returns whether an actor died because its node died."""
    return isinstance(error, ray.exceptions.RayActorError) and _NODE_DIED in str(error)


def seconds_hanging(error: BaseException) -> int | None:
    """Returns for how long a worker has not answered Ray Train's health check; None if the error has another cause."""
    found = _HANGING.match(str(error))
    return int(found[1]) if found else None


def worker_failures(error: BaseException) -> dict[int, BaseException]:
    """Returns the errors by rank inside an error that ended Ray Train; none if the workers were not its cause."""
    return dict(getattr(error, "worker_failures", {}))


def cause_of(error: BaseException) -> BaseException:
    """Returns the error inside Ray Train's wrappers: that of the controller, or of an actor that does not answer."""
    for name in ("controller_failure", "health_check_failure"):
        inner = getattr(error, name, None)
        if isinstance(inner, BaseException):
            return inner
    return error


def is_refused_token(error: BaseException | None) -> bool:
    """Returns whether Ray rejected the token. Ray wraps this error, sometimes only as text."""
    while error is not None:
        if isinstance(error, ray.exceptions.AuthenticationError) or "InvalidAuthToken" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def is_client_timeout(error: BaseException) -> bool:
    """Returns whether a Ray client (ray://) got no answer in time; Ray reports a wrong token in the same way."""
    return "timeout" in str(error)


def is_client_server_crash(error: BaseException) -> bool:
    """Returns whether the server process that Ray starts for a Ray client (ray://) crashed at startup.

    gRPC's fork handlers crash some of the processes that Ray's proxy forks (ray-project/ray#63202).
    """
    return "Starting Ray client server failed" in str(error)


def autoscaler_of_head() -> tuple[bool, dict[str, Any] | None]:
    """Returns whether an autoscaler adds nodes, and its definition if known. Runs on the head.

    There is no API for this: Ray's own autoscaler does not report what `get_max_resources_from_cluster_config` reads.
    But it is a process on the head, `monitor.py`, which runs even if it has no definition and does nothing. KubeRay
    runs it in a separate container, whose processes and files are not visible here.
    """
    context = ray.get_runtime_context()
    if _PRIVATE.items() <= context.get_node_labels().items():
        return False, None
    cluster = f"--gcs-address={context.gcs_address}"
    for words in _command_lines():
        if cluster in words and any(word.endswith(_MONITOR) for word in words):
            paths = [word.removeprefix(_AUTOSCALING_CONFIG) for word in words if word.startswith(_AUTOSCALING_CONFIG)]
            return bool(paths), _read_definition(paths[0]) if paths else None
    return True, None


def _read_definition(path: str) -> dict[str, Any] | None:
    try:
        content = yaml.safe_load(Path(path).expanduser().read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return None
    return content if isinstance(content, dict) else None
