"""The commands that ask or use a Ray that runs: status, doctor, evaluate, jobs; and what they keep to themselves."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

_LIMIT_S = 300
PLANTED = "planted7f3c9"  # all secrets here begin with it
MakeBundle = Callable[..., Path]


def free_port() -> int:
    """Returns a port that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True)
class Running:
    """A Ray of 3 cores with a token, and keys of an object store in its environment.

    Attributes:
        address: HOST:PORT.
        dashboard: HOST:PORT, which takes jobs.
        environment: Of a process that knows the token, and keys.
        directory: Where Ray's files lie.
    """

    address: str
    dashboard: str
    environment: dict[str, str]
    directory: Path

    def lstm_ray(
        self, *arguments: object, place: Path | None = None, **settings: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs `lstm-ray` to its end, in a directory that may be another than this one."""
        command = [sys.executable, "-m", "lstm_ray", *map(str, arguments)]
        environment = {**self.environment, **settings}
        return subprocess.run(
            command, cwd=place, env=environment, capture_output=True, text=True, timeout=_LIMIT_S, check=False
        )


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Gives the Ray."""
    with ray_head(Path(tmp_path_factory.mktemp("r")), free_port(), "--num-cpus=3") as made:
        yield made


@contextlib.contextmanager
def ray_head(place: Path, port: int, *options: str, **settings: str) -> Iterator[Running]:
    """Starts a Ray for the while: its own head, with more options and variables."""
    (place / "token").write_text(PLANTED + secrets.token_hex(26), encoding="utf-8")
    known = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(place / "token"),
        "AWS_ACCESS_KEY_ID": f"{PLANTED}1",
        "AWS_SECRET_ACCESS_KEY": f"{PLANTED}2",
        "COLUMNS": "200",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # a job calls it python
    }
    environment = {**{name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}, **known}
    client_port, dashboard_port, agent_port = (free_port() for _ in range(3))
    directory = Path(f"/tmp/lr-{port}")  # /tmp: the paths of Ray's sockets have to be short
    arguments = ["start", "--head", "--block", f"--port={port}", f"--ray-client-server-port={client_port}"]
    arguments += ["--node-ip-address=127.0.0.1", "--num-gpus=0", "--include-dashboard=true", *options]
    arguments += [f"--dashboard-port={dashboard_port}", f"--dashboard-agent-listen-port={agent_port}"]
    with (place / "log").open("w", encoding="utf-8") as log:
        head = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", *arguments, f"--temp-dir={directory}"],
            env={**environment, **settings},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    begun = time.monotonic()
    while "Ray runtime started" not in (place / "log").read_text(encoding="utf-8"):
        assert head.poll() is None, (place / "log").read_text(encoding="utf-8")
        assert time.monotonic() < begun + _LIMIT_S
        time.sleep(0.2)
    try:
        yield Running(f"127.0.0.1:{port}", f"127.0.0.1:{dashboard_port}", environment, directory)
    finally:
        head.terminate()  # --block ends what it has started
        try:
            head.wait(timeout=5)
        except subprocess.TimeoutExpired:  # its raylet waits half a minute for an actor that Ray Train leaves behind
            os.killpg(head.pid, signal.SIGKILL)
            head.wait(timeout=_LIMIT_S)
        shutil.rmtree(directory, ignore_errors=True)


def test_status_tells_what_a_cluster_has(running: Running) -> None:
    done = running.lstm_ray("cluster", "status", "--address", running.address, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    (node,) = told["nodes"]
    assert (node["is_head"], node["cpus"], node["gpus"]) == (True, 3, 0)
    assert told["free_memory_gib"] == pytest.approx(node["memory_gib"])
    assert (told["free_cpus"], told["train_workers"], told["score_actors"]) == (3, 3, 2)
    shown = running.lstm_ray("cluster", "status", "--address", running.address)
    assert shown.returncode == 0, shown.stderr
    assert re.search(r"cores +3 of 3 free", shown.stdout)
    assert re.search(r"train +up to --workers 3\n", shown.stdout)
    assert "GPU" not in shown.stdout


def test_who_does_not_know_the_token_learns_nothing(running: Running, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(secrets.token_hex(32), encoding="utf-8")
    stranger = {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}
    done = running.lstm_ray("cluster", "status", "--address", running.address, **stranger)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr


class ProcessList:
    """Watches the command lines of all processes of the machine for secrets, as anybody on it may.

    Attributes:
        seen: Those that held one.
        looks: How many it has looked at.
    """

    def __init__(self) -> None:
        """Begins to watch."""
        self.seen: set[str] = set()
        self.looks = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._end.wait(0.1):
            for place in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    line = place.read_bytes()
                except OSError:
                    continue  # it has gone
                self.looks += 1
                if PLANTED.encode() in line:
                    self.seen.add(line.replace(b"\0", b" ").decode(errors="replace"))

    def end(self) -> set[str]:
        """Ends it and returns what it has seen."""
        self._end.set()
        self._thread.join()
        assert self.looks > 1000
        return self.seen


@pytest.fixture
def no_secret(running: Running, tmp_path: Path) -> Iterator[None]:
    """Finds secrets that a test leaves in command lines, in Ray's files, its logs among them, or in its own."""
    watching = ProcessList()
    try:
        yield
    finally:
        seen = watching.end()
    assert seen == set()
    files = [path for place in (tmp_path, running.directory) for path in place.rglob("*") if path.is_file()]
    assert any(path.name.startswith("worker-") for path in files), "Ray's logs are among them"
    assert [path for path in files if PLANTED.encode() in path.read_bytes()] == []


OWN = """
import keras
from keras import layers
from near import Total

small = {"units": 4, "embedding_size": 4, "vocabulary_size": 50, "max_tokens": 12, "epochs": 1, "clip_norm": 1.0}

def build(text, model):
    ids = keras.Input((text.max_tokens,), dtype="int32")
    words = layers.Embedding(text.vocabulary_size, model.embedding_size)(ids)
    return keras.Model(ids, layers.Dense(1, activation="sigmoid")(Total()(layers.GRU(4, return_sequences=True)(words))))
"""
NEAR = """
import os
from pathlib import Path

import keras

Path("PLACE", str(os.getpid())).write_text(__file__)

@keras.saving.register_keras_serializable(package="mine")
class Total(keras.layers.Layer):
    def call(self, states):
        return keras.ops.sum(states, axis=1)
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """Gives a directory with a preset, a function that builds a network, and a layer.

    Every process that imports the layer's module notes in a file beside it where it found that. On one machine Ray lets
    workers import from the directory of whoever started the run; on others there is nothing to import from there.
    """
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "mine.py").write_text(OWN, encoding="utf-8")
    (tmp_path / "code" / "near.py").write_text(NEAR.replace("PLACE", str(tmp_path / "seen")), encoding="utf-8")
    (tmp_path / "seen").mkdir()
    return tmp_path / "code"


def found_at(code: Path) -> list[str]:
    """Lists the directories in which processes have found the module: the user's, or some that begin with its name."""
    places = [Path(note.read_text(encoding="utf-8")).parent for note in (code.parent / "seen").iterdir()]
    return sorted("code" if place == code else place.name.rpartition("-")[0] for place in places)


@pytest.mark.usefixtures("no_secret")
def test_training_an_own_network_on_a_ray_that_runs_leaves_no_secret(
    running: Running, reviews: Path, code: Path, tmp_path: Path
) -> None:
    """Workers get the user's modules, and do not look for them where the command runs."""
    command = ("train", "--train", reviews, "--output", tmp_path / "run", "--workers", 2, "--address", running.address)
    done = running.lstm_ray(*command, "--preset", "mine:small", "--network", "mine:build", place=code)
    assert done.returncode == 0, done.stderr
    assert PLANTED not in done.stdout + done.stderr
    assert (tmp_path / "run" / "report.html").exists()
    assert found_at(code) == ["code", "lstm-ray-code", "lstm-ray-code"]
    score = ("score", reviews, "--model", tmp_path / "run" / "model", "--output", tmp_path / "scored")
    elsewhere = running.lstm_ray(*score)
    assert elsewhere.returncode == 1
    assert "its network has layers of the module 'near': no module 'near' in" in elsewhere.stderr
    assert running.lstm_ray(*score, place=code).returncode == 0
    assert (tmp_path / "scored" / "_SUCCESS").exists()


@pytest.mark.usefixtures("no_secret")
def test_a_job_brings_its_preset_and_network(running: Running, reviews: Path, code: Path, tmp_path: Path) -> None:
    job = {"command": "train", "preset": "mine:small", "network": "mine:build", "units": 3, "workers": 1}
    job |= {"train": str(reviews), "output": str(tmp_path / "run")}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job), encoding="utf-8")
    done = running.lstm_ray(
        "submit", tmp_path / "job.yaml", "--address", running.dashboard, "--working-dir", code, place=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    learned = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text(encoding="utf-8"))
    assert (learned["preset"], learned["units"], learned["clip_norm"]) == ("mine:small", 3, 1.0)
    description = json.loads((tmp_path / "run" / "model" / "bundle.json").read_text(encoding="utf-8"))
    assert (description["format_version"], description["model"]["network"]) == (2, "mine:build")


@pytest.mark.long
def test_an_own_network_scores_on_ray_as_in_one_process(
    running: Running, reviews: Path, code: Path, tmp_path: Path
) -> None:
    command = ("train", "--train", reviews, "--output", tmp_path / "run", "--network", "mine:build")
    assert running.lstm_ray(*command, "--preset", "mine:small", place=code).returncode == 0
    model = ("--model", tmp_path / "run" / "model")
    outputs = {"here": (), "there": ("--actors", 1, "--address", running.address)}
    for name, options in outputs.items():
        done = running.lstm_ray("score", reviews, *model, "--output", tmp_path / name, *options, place=code)
        assert done.returncode == 0, done.stderr
    here, there = (
        pa.concat_tables([pq.read_table(path) for path in sorted((tmp_path / name).glob("part-*"))]) for name in outputs
    )
    assert here.num_rows == 260
    assert here.equals(there)
    assert found_at(code) == ["code"] * 3 + ["lstm-ray-code"]
    told = [
        json.loads(running.lstm_ray("evaluate", reviews, *model, "--json", *options, place=code).stdout)
        for options in ((), ("--address", running.address))
    ]
    assert told[0].pop("rows_per_s") > 0
    assert told[1].pop("rows_per_s") > 0
    assert told[0] == told[1]
    assert set(found_at(code)[5:]) == {"lstm-ray-code"}, "of the driver of each command, and then of its tasks"


@pytest.fixture
def model(make_bundle: MakeBundle) -> Path:
    """Gives a model."""
    return make_bundle()


@pytest.mark.usefixtures("no_secret")
def test_evaluating_on_ray_gives_the_numbers_of_one_process(
    running: Running, reviews: Path, model: Path, tmp_path: Path
) -> None:
    command = ("evaluate", reviews, "--model", model, "--json")
    here = running.lstm_ray(*command, "--output", tmp_path / "here")
    there = running.lstm_ray(*command, "--output", tmp_path / "there", "--address", running.address)
    assert here.returncode == there.returncode == 0, here.stderr + there.stderr
    assert f"connecting to Ray at {running.address}" in there.stderr
    of_here, of_there = json.loads(here.stdout), json.loads(there.stdout)
    assert of_here.pop("rows_per_s") > 0
    assert of_there.pop("rows_per_s") > 0
    assert of_there == of_here
    assert of_here["rows"] == 260
    pages = [(tmp_path / place / "report.html").read_text(encoding="utf-8") for place in ("here", "there")]
    examples = [re.findall(r"word\d+ [^<]*", page) for page in pages]
    assert examples[0] == examples[1] != []


def test_evaluating_on_ray_tells_what_is_wrong_in_one_line(running: Running, reviews: Path, model: Path) -> None:
    absent = running.lstm_ray("evaluate", reviews, "--model", model, "--address", f"127.0.0.1:{free_port()}")
    assert (absent.returncode, absent.stdout) == (1, "")
    assert "is the address right, and Ray running there?" in absent.stderr
    wrong = running.lstm_ray("evaluate", reviews, "--model", model, "--label-column", "stars", "--address", "auto")
    assert wrong.returncode == 1
    assert "no column 'stars'" in wrong.stderr


class Proxy:
    """Passes TCP connections on, until it is cut.

    Attributes:
        address: HOST:PORT that it listens at.
        passed: How many connections it has passed on.
    """

    def __init__(self, target: str) -> None:
        """Begins to listen."""
        self._target = target
        self._port = 0
        self._open: list[socket.socket] = []
        self.passed = 0
        self.mend()
        self.address = f"127.0.0.1:{self._port}"

    def mend(self) -> None:
        """Listens, after a cut at the same address as before."""
        self._listener = socket.create_server(("127.0.0.1", self._port))
        self._port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """Breaks all connections and takes no more."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._open:
            _shut(one)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near = listener.accept()[0]
            except OSError:
                return
            host, port = self._target.split(":")
            far = socket.create_connection((host, int(port)))
            self._open += [near, far]
            self.passed += 1
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=_pump, args=(source, sink), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):  # cut
        while content := source.recv(65536):
            sink.sendall(content)
    _shut(source)
    _shut(sink)


def _shut(one: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it is shut
        one.shutdown(socket.SHUT_RDWR)
    one.close()


@pytest.fixture
def proxy(running: Running) -> Iterator[Proxy]:
    """Gives a proxy in front of the dashboard."""
    made = Proxy(running.dashboard)
    yield made
    made.cut()


@pytest.fixture
def job_file(reviews: Path, model: Path, tmp_path: Path) -> Path:
    """Gives a job that scores 260 reviews and sets a file aside, with paths below the directory it is in."""
    (tmp_path / "storage").mkdir()
    (tmp_path / "storage" / "bad.parquet").write_bytes(b"PAR1 is all that is right about it")
    job = {"command": "score", "inputs": [str(reviews), "bad.parquet"], "model": str(model), "output": "scored"}
    path = tmp_path / "storage" / "job.yaml"
    path.write_text(yaml.safe_dump({**job, "max_bad_files": 1, "actors": 1}), encoding="utf-8")
    return path


def test_a_job_is_followed_over_a_broken_connection_and_no_secret_is_left(
    running: Running, proxy: Proxy, job_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "own.py").write_text("VALUE = 7", encoding="utf-8")
    watching = ProcessList()
    options = ("--storage", job_file.parent, "--working-dir", tmp_path / "code", "--address", proxy.address)
    following = subprocess.Popen(
        [sys.executable, "-m", "lstm_ray", "submit", job_file, *options],
        env=running.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert following.stdout is not None
        first = following.stdout.readline()
        proxy.cut()
        time.sleep(3)
        before = proxy.passed
        proxy.mend()
        rest = following.stdout.read()  # not communicate, which would pass over what readline has read too much
        _, err = following.communicate(timeout=_LIMIT_S)
    finally:
        following.kill()
        seen = watching.end()
    assert following.returncode == 3, err
    assert "failed, exit code 3" in err
    assert proxy.passed > before, "it came back"
    job_id = err.split("submitted ")[1].split()[0]
    assert running.lstm_ray("jobs", "logs", job_id, "--address", running.dashboard).stdout == first + rest
    assert "set aside: 1 input file" in rest
    assert (job_file.parent / "scored" / "_SUCCESS").exists()

    (sent,) = running.directory.glob("session_2*/runtime_resources/working_dir_files/*/own.py")
    assert sorted(path.name for path in sent.parent.iterdir()) == ["job.yaml", "lstm_ray", "own.py"]
    assert seen == set()
    files = [path for place in (tmp_path, running.directory) for path in place.rglob("*") if path.is_file()]
    assert {"config.yaml", "plan.json", "_manifest.json", "job.yaml"} <= {path.name for path in files}
    assert any(path.name.startswith("job-driver-") for path in files), "Ray's logs are among them"
    assert [path for path in files if PLANTED.encode() in path.read_bytes()] == []
    assert PLANTED not in first + rest + err


# A cluster of Ray's own autoscaler whose nodes are processes of this machine: a head without cores, workers of two.
HEAD_ID = "f" * 51 + "00000"  # the name that this provider has for the head
DEFINITION = """
cluster_name: grows
max_workers: 2
idle_timeout_minutes: 5
upscaling_speed: 1.0
provider:
  type: fake_multinode
  gcs_address: 127.0.0.1:PORT
  head_node_id: HEAD_ID
  use_node_id_as_ip: true
  disable_node_updaters: true
  disable_launch_config_check: true
head_node_type: ray.head.default
available_node_types:
  ray.head.default: {resources: {CPU: 0}, node_config: {}, max_workers: 0}
  worker: {resources: {CPU: 2}, node_config: {}, min_workers: 0, max_workers: 2}
auth: {}
docker: {}
file_mounts: {}
cluster_synced_files: []
file_mounts_sync_continuously: false
rsync_exclude: []
rsync_filter: []
initialization_commands: []
setup_commands: []
head_setup_commands: []
worker_setup_commands: []
head_start_ray_commands: []
worker_start_ray_commands: []
"""


@pytest.mark.long
def test_a_cluster_without_a_worker_grows(reviews: Path, model: Path, tmp_path: Path, ray_directory: str) -> None:
    port = free_port()
    path = tmp_path / "definition.yaml"
    path.write_text(DEFINITION.replace("PORT", str(port)).replace("HEAD_ID", HEAD_ID), encoding="utf-8")
    settings = {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_TMPDIR": ray_directory}
    settings |= {"RAY_CLOUD_INSTANCE_ID": HEAD_ID, "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID}
    with ray_head(tmp_path, port, f"--autoscaling-config={path}", "--num-cpus=0", **settings) as growing:
        command = ("score", reviews, "--model", model, "--output", tmp_path / "scored", "--address", growing.address)
        large = growing.lstm_ray(*command, "--actors", 1, "--cpus-per-actor", 3)
        assert large.returncode == 1
        assert "3 CPUs on one node are asked for" in large.stderr
        assert "grows to room for 0 of these (1 x 0 CPUs and 0 GPUs, 2 x 2 CPUs and 0 GPUs)" in large.stderr
        done = growing.lstm_ray(*command, "--actors", 1)
        assert done.returncode == 0, done.stderr
        assert "the cluster has 0 CPUs and 0 GPUs now: waiting for its autoscaler to add nodes" in done.stderr
