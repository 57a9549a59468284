"""The parts of Ray that `ray_internals` relies on exist in the installed Ray, and are read correctly."""

from __future__ import annotations

import contextlib
import http.server
import inspect
import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import ray.train
import yaml
from ray._common.constants import HEAD_NODE_RESOURCE_NAME
from ray._private import node, parameter, ray_constants, services, worker
from ray.air import constants as air_constants
from ray.dashboard import utils as dashboard_utils
from ray.data._internal.block_batching import util as block_batching
from ray.train.v2._internal import constants as train_constants
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError, WorkerHealthCheckTimeoutError
from ray.train.v2._internal.execution.worker_group import worker_group
from ray.tune import constants as tune_constants

from lstm_ray.runtime import ray_internals

RAY = Path(ray.__file__).parent
DEFINITION = {"max_workers": 3, "available_node_types": {"cpu": {"resources": {"CPU": 8}}}}


def test_the_environment_variables_are_still_read(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {
        train_constants.WORKER_HEALTH_CHECK_TIMEOUT_S_ENV_VAR,
        train_constants.WORKER_GROUP_START_TIMEOUT_S_ENV_VAR,
        "TUNE_DISABLE_SIGINT_HANDLER",
        "RAY_AIR_NEW_OUTPUT",
    }
    assert "TUNE_DISABLE_SIGINT_HANDLER" in tune_constants.TUNE_ENV_VARS
    assert "RAY_AIR_NEW_OUTPUT" in air_constants.AIR_ENV_VARS
    environment: dict[str, str] = {}
    monkeypatch.setattr(ray_internals, "os", SimpleNamespace(environ=environment))
    ray_internals.set_train_timeouts(7.0, 15.0)
    ray_internals.quiet_tune()
    assert set(environment) == names


def test_ray_still_resets_signal_handlers_before_it_ends_its_processes() -> None:
    code = inspect.getsource(worker.shutdown)
    assert 0 < code.find(".shutdown_driver()") < code.find("_global_node.kill_all_processes(")


@pytest.mark.skipif(tuple(map(int, ray.__version__.split(".")[:2])) < (2, 60), reason="this Ray has no such poller")
def test_the_usage_poller_of_ray_data_is_still_stopped_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.data._internal.usage import collector

    monkeypatch.setattr(collector, "usage_stats_enabled", lambda: True)
    monkeypatch.setenv("RAY_DATA_USAGE_DISABLED", "")  # put back at the end
    monkeypatch.delenv("RAY_DATA_USAGE_DISABLED")
    assert not collector.usage_collection_disabled()
    ray_internals.stop_data_usage_poller()
    assert collector.usage_collection_disabled()


def test_a_start_timeout_that_the_user_has_set_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "99"}
    monkeypatch.setattr(ray_internals, "os", SimpleNamespace(environ=environment))
    ray_internals.set_train_timeouts(7.0, 15.0)
    assert environment["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] == "99"


def test_a_ray_started_here_takes_the_loopback_address() -> None:
    with ray_internals.on_loopback():
        assert services.get_node_ip_address() == "127.0.0.1"
        assert services.resolve_ip_for_localhost("127.0.0.1") == "127.0.0.1"
    assert ray_constants.ENABLE_RAY_CLUSTER


def test_a_ray_started_here_leaves_out_what_serves_others() -> None:
    start_api_server = node.Node.start_api_server
    with ray_internals.private_head():
        made = parameter.RayParams(include_dashboard=False)
        assert (made.no_monitor, made.include_log_monitor) == (True, False)
        assert node.Node.start_api_server is not start_api_server
    assert node.Node.start_api_server is start_api_server
    assert parameter.RayParams().no_monitor is False
    # Where Ray looks for them. An instance of RayParams is made by `ray.init` only.
    assert "ray._private.parameter.RayParams(" in inspect.getsource(inspect.unwrap(worker.init))
    assert "self.start_api_server(" in inspect.getsource(node.Node.start_head_processes)


_IMPORTS = """
import sys
from lstm_ray.runtime.ray_internals import on_loopback, private_head
known = set(sys.modules)
with on_loopback(), private_head():
    import ray.data
    ray.data.DataContext.get_current()
for name in set(sys.modules) - known:
    for attribute, value in list(vars(sys.modules[name]).items()):
        if str(getattr(value, "__module__", "")).startswith("lstm_ray."):
            print(name, attribute)
    if vars(sys.modules[name]).get("ENABLE_RAY_CLUSTER") is False:
        print(name, "ENABLE_RAY_CLUSTER")
"""


def test_modules_imported_while_a_ray_starts_keep_nothing_of_it() -> None:
    """Scoring imports Ray Data meanwhile, and `from ... import` would keep a replacement for ever."""
    assert subprocess.check_output([sys.executable, "-c", _IMPORTS], text=True) == ""


def test_the_agent_of_a_node_still_looks_for_the_dashboard_there() -> None:
    from ray.dashboard.modules.event import event_agent

    put: list[tuple[Any, ...]] = []
    head = SimpleNamespace(get_gcs_client=lambda: SimpleNamespace(internal_kv_put=lambda *given: put.append(given)))
    with ray_internals.private_head():
        node.Node.start_api_server(head, include_dashboard=False, raise_on_failure=False)
    assert put == [(b"dashboard", b"127.0.0.1:0", True, b"dashboard")]
    source = inspect.getsource(event_agent.EventAgent._get_dashboard_http_address)
    assert "ray_constants.DASHBOARD_ADDRESS.encode()" in source
    assert "namespace=ray_constants.KV_NAMESPACE_DASHBOARD" in source


def test_ray_data_on_one_node_leaves_out_its_actors(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.data._internal import stats
    from ray.data._internal.cluster_autoscaler import ClusterAutoscaler
    from ray.data._internal.execution import streaming_executor
    from ray.data._internal.execution.operators import actor_pool_map_operator

    assert "get_or_create_actor_location_tracker()" in inspect.getsource(actor_pool_map_operator)
    assert "self._cluster_autoscaler = create_cluster_autoscaler(" in inspect.getsource(streaming_executor)
    before = streaming_executor.create_cluster_autoscaler
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 3.0, "object_store_memory": 7.0})
    with ray_internals.data_on_one_node():
        autoscaler = streaming_executor.create_cluster_autoscaler({}, None, None, execution_id="")
        assert ClusterAutoscaler.__abstractmethods__ == {name for name in dir(autoscaler) if name[0] != "_"}
        total = autoscaler.get_total_resources()
        assert (total.cpu, total.gpu, total.object_store_memory) == (3.0, 0.0, 7.0)
        for actor in (
            stats.get_or_create_stats_actor(),
            actor_pool_map_operator.get_or_create_actor_location_tracker(),
        ):
            assert pickle.loads(pickle.dumps(actor)).anything.remote(1, two=2) is None
    assert streaming_executor.create_cluster_autoscaler is before


def test_ray_data_is_restored_by_the_last_of_several_calls() -> None:
    from ray.data._internal import stats

    before = stats.get_or_create_stats_actor
    first, second = ray_internals.data_on_one_node(), ray_internals.data_on_one_node()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert stats.get_or_create_stats_actor is not before
    second.__exit__(None, None, None)
    assert stats.get_or_create_stats_actor is before


def test_a_name_of_ray_data_that_is_gone_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.data._internal import stats
    from ray.data._internal.execution.operators import actor_pool_map_operator

    monkeypatch.delattr(actor_pool_map_operator, "get_actor_locations", raising=False)  # as before Ray 2.60
    with ray_internals.data_on_one_node():
        assert not hasattr(actor_pool_map_operator, "get_actor_locations")
    monkeypatch.delattr(stats, "get_or_create_stats_actor")
    with pytest.raises(AttributeError, match="get_or_create_stats_actor"), ray_internals.data_on_one_node():
        pass


def test_a_ray_newer_than_those_known_starts_all_its_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.data._internal import stats

    before = (parameter.RayParams, node.Node.start_api_server, stats.get_or_create_stats_actor)
    monkeypatch.setattr(ray, "__version__", "2.61.0")
    with ray_internals.private_head() as labels, ray_internals.data_on_one_node():
        assert labels == {}
        assert (parameter.RayParams, node.Node.start_api_server, stats.get_or_create_stats_actor) == before


_ASKS = """
import os
from lstm_ray.runtime import ray_internals
ray_internals.ask_for_token()
print(ray_internals.authentication_mode(), oct(os.umask(0)))
"""


@pytest.mark.parametrize(("given", "mode"), [(None, "token"), ("disabled", "disabled")])
def test_a_ray_started_here_asks_for_a_token_that_its_owner_alone_can_read(
    tmp_path: Path, given: str | None, mode: str
) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    environment |= {"HOME": str(tmp_path)} | ({} if given is None else {"RAY_AUTH_MODE": given})
    command = ["sh", "-c", 'umask 022 && exec "$0" -c "$1"', sys.executable, _ASKS]
    assert subprocess.check_output(command, text=True, env=environment) == f"{mode} 0o22\n"
    token = tmp_path / ".ray/auth_token"
    assert token.exists() == (mode == "token")
    assert not token.exists() or token.stat().st_mode & 0o777 == 0o600


def test_the_address_for_auto_is_that_of_the_environment_or_of_the_last_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert ray_internals.address_of_auto() == "head:6379"
    monkeypatch.delenv("RAY_ADDRESS")
    monkeypatch.setattr(services, "find_gcs_addresses", set)
    monkeypatch.setattr(services, "find_bootstrap_address", lambda directory: "10.0.0.1:6379")
    assert ray_internals.address_of_auto() == "10.0.0.1:6379"
    monkeypatch.setattr(services, "find_bootstrap_address", lambda directory: None)
    with pytest.raises(ConnectionError):
        ray_internals.address_of_auto()


def test_ray_is_asked_for_its_dashboard_as_by_its_own_client(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    class Gcs:
        def __init__(self, address: str) -> None:
            asked.append((address,))

        def internal_kv_get(self, *arguments: Any) -> bytes | None:
            asked.append(arguments)
            return answers.pop()

    answers = [None, b"127.0.0.1:8365"]
    monkeypatch.setattr(ray._raylet, "GcsClient", Gcs)
    assert ray_internals.dashboard_of("head:6479") == "127.0.0.1:8365"
    assert ray_internals.dashboard_of("head:6479") == ""
    assert asked[:2] == [("head:6479",), (b"dashboard", b"dashboard", 20.0)]
    source = inspect.getsource(dashboard_utils.ray_address_to_api_server_url)
    for part in ("GcsClient(address=", "ray_constants.DASHBOARD_ADDRESS", "ray_constants.KV_NAMESPACE_DASHBOARD"):
        assert part in source, part

    def refuse(**_: Any) -> None:
        raise ray.exceptions.RpcError("Timed out")

    monkeypatch.setattr(ray._raylet, "GcsClient", refuse)
    with pytest.raises(ConnectionError, match="Timed out"):
        ray_internals.dashboard_of("head:6479")


@contextlib.contextmanager
def dashboard(status: int, body: str) -> Iterator[tuple[str, list[str]]]:
    """Gives the URL of an HTTP server with one answer, and what it is asked."""
    asked: list[str] = []

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: Any) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


_NODES = {
    "data": {"summary": [{}, {"cmdline": ["raylet", "--worker=a --gcs-address=no:1", "--gcs-address=head:6479"]}]}
}


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, json.dumps(_NODES), "head:6479"),
        (200, json.dumps({"data": {"summary": [{"cmdline": None}]}}), ""),
        (200, "[]", ""),
        (404, "not found", ""),
    ],
)
def test_a_dashboard_shows_where_its_ray_is(status: int, body: str, expected: str) -> None:
    with dashboard(status, body) as (url, asked):
        assert ray_internals.ray_of_dashboard(url) == expected
    assert asked == ["/nodes?view=summary"]
    assert ray_internals.ray_of_dashboard(url) == ""  # nothing listens there any more


def test_the_log_in_a_message_about_a_job_is_left_out() -> None:
    said = "Job entrypoint command failed with exit code 1"
    log = "last available logs (truncated to 20,000 chars):\\n"
    assert ray_internals.without_log(f"{said}, {log}a\nb") == said == ray_internals.without_log(said)
    assert log in (RAY / "dashboard/modules/job/job_supervisor.py").read_text(encoding="utf-8")


def test_a_dashboard_that_refuses_the_token() -> None:
    with dashboard(401, "Unauthorized") as (url, _), pytest.raises(ray.exceptions.AuthenticationError):
        ray_internals.ray_of_dashboard(url)


@pytest.fixture
def raylet() -> Iterator[Callable[..., None]]:
    """Gives a function that starts a process with the options of a raylet."""
    with contextlib.ExitStack() as stack:

        def start(*options: str) -> None:
            command = [sys.executable, "-c", "print(flush=True); input()", *options]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            stack.callback(process.communicate, b"end\n")
            assert process.stdout is not None
            process.stdout.readline()

        yield start


def test_auto_leaves_out_a_ray_that_another_run_started(
    monkeypatch: pytest.MonkeyPatch, raylet: Callable[..., None]
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(services, "find_bootstrap_address", lambda directory: None)
    with ray_internals.private_head() as labels:
        pass
    raylet("--gcs-address=127.0.0.1:50001", f"--labels={json.dumps({'ray.io/node-id': '1', **labels})}")
    raylet("--gcs-address=127.0.0.1:6379", "--labels=")
    monkeypatch.setattr(services, "find_gcs_addresses", lambda: frozenset({"127.0.0.1:50001"}))
    with pytest.raises(ConnectionError, match="Could not find any running Ray"):
        ray_internals.address_of_auto()
    monkeypatch.setattr(services, "find_gcs_addresses", lambda: frozenset({"127.0.0.1:50001", "127.0.0.1:6379"}))
    assert ray_internals.address_of_auto() == "127.0.0.1:6379"
    source = inspect.getsource(services.start_raylet)
    for part in ("labels_json_str = json.dumps(labels)", 'f"--labels={labels_json_str}"', 'f"--gcs-address={'):
        assert part in source, part


def test_the_trainer_is_that_of_ray_trains_own_frameworks() -> None:
    from ray.train.v2.tensorflow.tensorflow_trainer import TensorflowTrainer

    assert issubclass(TensorflowTrainer, ray_internals.data_parallel_trainer())


def test_a_node_that_died_is_still_reported_in_these_words() -> None:
    assert ray_internals._NODE_DIED.encode() in (RAY / "core/src/ray/gcs/gcs_server").read_bytes()
    assert ray_internals.node_died(ray.exceptions.RayActorError(error_msg="It died because its node has died. Node Id"))
    assert not ray_internals.node_died(ray.exceptions.RayActorError(error_msg="its worker process has died"))
    assert not ray_internals.node_died(ValueError("its node has died"))


def test_a_hanging_worker_is_still_reported_in_these_words() -> None:
    words = ray_internals._HANGING.pattern.removesuffix(r"(\d+)")
    assert f'f"{words}{{elapsed_time_s' in inspect.getsource(worker_group)
    assert ray_internals.seconds_hanging(WorkerHealthCheckTimeoutError(f"{words}22.06 seconds. ...")) == 22
    assert ray_internals.seconds_hanging(ValueError("other")) is None


def test_errors_are_found_in_ray_trains_wrappers() -> None:
    inner = ray.exceptions.RayActorError()
    assert ray_internals.cause_of(WorkerHealthCheckFailedError("long", inner)) is inner
    assert ray_internals.cause_of(ray.train.ControllerError(inner)) is inner
    assert ray_internals.cause_of(inner) is inner
    assert ray_internals.worker_failures(ray.train.WorkerGroupError("long", {1: inner})) == {1: inner}
    assert ray_internals.worker_failures(inner) == {}


def test_a_refused_token_is_known_by_type_or_text() -> None:
    assert b"InvalidAuthToken" in (RAY / "_raylet.so").read_bytes()
    error = RuntimeError("no connection")
    assert not ray_internals.is_refused_token(error)
    error.__cause__ = ConnectionError("Unauthenticated: InvalidAuthToken")
    assert ray_internals.is_refused_token(error)
    assert ray_internals.is_refused_token(ray.exceptions.AuthenticationError("refused"))


def test_names_are_those_of_ray() -> None:
    assert ray_internals.HEAD_RESOURCE == HEAD_NODE_RESOURCE_NAME
    assert f'name="{ray_internals.IDLE_DATA_THREAD}"' in inspect.getsource(block_batching)


def test_the_autoscaler_is_still_a_process_of_this_name_and_options() -> None:
    source = inspect.getsource(services.start_monitor)
    for part in (ray_internals._MONITOR.removeprefix("/"), ray_internals._AUTOSCALING_CONFIG, "--gcs-address="):
        assert part in source, part


@pytest.fixture
def monitor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Gives a function that starts a process that looks like the autoscaler of 10.0.0.1:6379."""
    context = SimpleNamespace(gcs_address="10.0.0.1:6379", get_node_labels=dict)
    monkeypatch.setattr("ray.get_runtime_context", lambda: context)
    started: list[subprocess.Popen[bytes]] = []

    def start(*options: str) -> None:
        code = "import time; print(flush=True); time.sleep(60)"
        command = [sys.executable, "-c", code, "/ray/autoscaler/monitor.py", *options]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE))
        assert started[-1].stdout is not None
        started[-1].stdout.readline()

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_the_autoscaler_is_found_on_the_head(monitor: Callable[..., None], tmp_path: Path) -> None:
    path = tmp_path / "ray_bootstrap_config.yaml"
    path.write_text(yaml.safe_dump(DEFINITION), encoding="utf-8")
    monitor("--gcs-address=10.0.0.1:63790", f"--autoscaling-config={path}")
    assert ray_internals.autoscaler_of_head() == (True, None), (
        "another cluster's is not ours: KubeRay runs it in another container"
    )
    monitor("--gcs-address=10.0.0.1:6379", f"--autoscaling-config={path}")
    assert ray_internals.autoscaler_of_head() == (True, DEFINITION)
    path.unlink()
    assert ray_internals.autoscaler_of_head() == (True, None)


def test_an_autoscaler_without_a_definition_adds_nothing(monitor: Callable[..., None]) -> None:
    monitor("--gcs-address=10.0.0.1:6379")
    assert ray_internals.autoscaler_of_head() == (False, None)


def test_a_ray_started_here_has_no_autoscaler(monkeypatch: pytest.MonkeyPatch) -> None:
    with ray_internals.private_head() as labels:
        context = SimpleNamespace(
            gcs_address="10.0.0.1:6379", get_node_labels=lambda: {"ray.io/node-id": "1", **labels}
        )
    monkeypatch.setattr("ray.get_runtime_context", lambda: context)
    assert ray_internals.autoscaler_of_head() == (False, None)


@pytest.mark.parametrize("mode", ["token", "disabled"])
def test_the_authentication_mode_is_that_of_the_environment(mode: str) -> None:
    code = "from lstm_ray.runtime.ray_internals import authentication_mode; print(authentication_mode())"
    environment = {**os.environ, "RAY_AUTH_MODE": mode, "RAY_AUTH_TOKEN": "0" * 32}
    said = subprocess.check_output([sys.executable, "-c", code], text=True, timeout=120, env=environment)
    assert said.strip() == mode
