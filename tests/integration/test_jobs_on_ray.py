"""Jobs on a running Ray: what is sent with them, and how they are followed."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from heads import LIMIT_S, PLANTED, ProcessList, RayCluster

from lstm_ray.train.loop import checkpoints

pytestmark = pytest.mark.second_tier


@pytest.mark.usefixtures("no_secret")
def test_a_job_brings_its_preset_and_network(running: RayCluster, reviews: Path, code: Path, tmp_path: Path) -> None:
    job = {"command": "train", "preset": "mine:small", "network": "mine:build", "units": 3, "workers": 1}
    job |= {"train": str(reviews), "output": str(tmp_path / "run")}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job), encoding="utf-8")
    done = running.lstm_ray(
        "submit", tmp_path / "job.yaml", "--address", running.dashboard, "--working-dir", code, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    learned = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text(encoding="utf-8"))
    assert (learned["preset"], learned["units"], learned["clip_norm"]) == ("mine:small", 3, 1.0)
    description = json.loads((tmp_path / "run" / "model" / "bundle.json").read_text(encoding="utf-8"))
    assert (description["format_version"], description["model"]["network"]) == (2, "mine:build")


def begin(running: RayCluster, *arguments: object) -> subprocess.Popen[str]:
    """Starts `lstm-ray`, whose output can be read while it runs."""
    return subprocess.Popen(
        [sys.executable, "-m", "lstm_ray", *map(str, arguments)],
        env=running.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class Proxy:
    """Forwards TCP connections until it is cut or silenced; a silent proxy keeps the data that it receives.

    Attributes:
        address: HOST:PORT that it listens at.
        passed: How many connections it has passed on.
    """

    def __init__(self, target: str) -> None:
        """Starts to listen."""
        self._target = target
        self._port = 0
        self._open: list[socket.socket] = []
        self.passed = 0
        self._passes = threading.Event()
        self._passes.set()
        self.mend()
        self.address = f"127.0.0.1:{self._port}"

    def mend(self) -> None:
        """Listens again, at the same address as before a cut."""
        self._listener = socket.create_server(("127.0.0.1", self._port))
        self._port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def hush(self) -> None:
        """Stops forwarding, but still accepts connections."""
        self._passes.clear()

    def speak(self) -> None:
        """Forwards the data that it kept, and new data."""
        self._passes.set()

    def cut(self) -> None:
        """Closes all connections and accepts no more."""
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
                threading.Thread(target=_pump, args=(source, sink, self._passes), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket, passes: threading.Event) -> None:
    with contextlib.suppress(OSError):  # cut
        while content := source.recv(65536):
            passes.wait()
            sink.sendall(content)
    _shut(source)
    _shut(sink)


def _shut(one: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it is shut
        one.shutdown(socket.SHUT_RDWR)
    one.close()


@pytest.fixture
def proxy(running: RayCluster) -> Iterator[Proxy]:
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
    running: RayCluster, proxy: Proxy, job_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "own.py").write_text("VALUE = 7", encoding="utf-8")
    watching = ProcessList()
    options = ("--storage", job_file.parent, "--working-dir", tmp_path / "code", "--address", proxy.address)
    following = begin(running, "submit", job_file, *options)
    try:
        assert following.stdout is not None
        first = following.stdout.readline()
        proxy.cut()
        time.sleep(3)
        before = proxy.passed
        proxy.mend()
        rest = following.stdout.read()  # not communicate, which would pass over what readline has read too much
        _, err = following.communicate(timeout=LIMIT_S)
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
    assert sorted(path.name for path in sent.parent.iterdir()) == ["lstm-ray-job.yaml", "lstm_ray", "own.py"]
    assert seen == set()
    files = [path for place in (tmp_path, running.directory) for path in place.rglob("*") if path.is_file()]
    assert {"config.yaml", "plan.json", "_manifest.json", "lstm-ray-job.yaml"} <= {path.name for path in files}
    assert any(path.name.startswith("job-driver-") for path in files), "Ray's logs are among them"
    assert [path for path in files if PLANTED.encode() in path.read_bytes()] == []
    assert PLANTED not in first + rest + err


def test_a_job_is_followed_over_a_link_that_falls_silent(running: RayCluster, proxy: Proxy, job_file: Path) -> None:
    options = ("--storage", job_file.parent, "--address", proxy.address)
    following = begin(running, "submit", job_file, *options)
    try:
        assert following.stdout is not None
        following.stdout.readline()
        proxy.hush()  # nobody closes a connection, so nobody learns that it ended
        time.sleep(35)
        begun = time.monotonic()
        proxy.cut()
        proxy.speak()
        proxy.mend()
        _, err = following.communicate(timeout=LIMIT_S)
    finally:
        following.kill()
    assert following.returncode == 3, err
    assert f"no connection to http://{proxy.address}: trying again for 120 s" in err
    assert time.monotonic() < begun + 60


def test_who_reads_only_the_beginning_of_a_log_is_not_kept(running: RayCluster, job_file: Path) -> None:
    submitted = running.lstm_ray("submit", job_file, "--storage", job_file.parent, "--address", running.dashboard)
    job_id = submitted.stderr.split("submitted ")[1].split()[0]
    begun = time.monotonic()
    with begin(running, "jobs", "logs", job_id, "--follow", "--address", running.dashboard) as following:
        assert following.stdout is not None
        assert following.stderr is not None
        following.stdout.close()
        err = following.stderr.read()
    assert time.monotonic() < begun + 60
    assert "lost the cluster" not in err


def test_a_job_that_there_is_not_is_told_at_once(running: RayCluster) -> None:
    begun = time.monotonic()
    done = running.lstm_ray("jobs", "logs", "nosuch", "--follow", "--address", running.dashboard)
    assert done.returncode == 1
    assert "no job 'nosuch' at" in done.stderr
    assert time.monotonic() < begun + 60


def test_a_job_that_is_stopped_has_saved_and_the_same_job_resumes(
    running: RayCluster, reviews: Path, tmp_path: Path
) -> None:
    small = {"preset": "none", "vocabulary_size": 200, "max_tokens": 24, "embedding_size": 4, "units": 4}
    job = {"command": "train", **small, "global_batch_size": 1, "epochs": 10_000, "checkpoint_every": "50steps"}
    job |= {"train": str(reviews), "output": str(tmp_path / "run"), "workers": 1, "cpus_per_worker": 0.5}
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(job), encoding="utf-8")
    submitted = running.lstm_ray("submit", path, "--address", running.dashboard, "--no-follow", cwd=tmp_path)
    assert submitted.returncode == 0, submitted.stderr
    job_id = submitted.stdout.strip()
    deadline = time.monotonic() + LIMIT_S
    while not any(tmp_path.glob("run/checkpoints/*.npz")):
        assert time.monotonic() < deadline, running.lstm_ray("jobs", "logs", job_id, "--address", running.dashboard)
        time.sleep(0.2)
    stopped = running.lstm_ray("jobs", "stop", job_id, "--address", running.dashboard)
    assert stopped.returncode == 0, stopped.stderr
    log = running.lstm_ray("jobs", "logs", job_id, "--address", running.dashboard).stdout
    state = checkpoints.latest_state(str(tmp_path / "run"))
    assert state is not None
    assert f"interrupted: saved at {state.position()}; the same command resumes there" in log
    path.write_text(yaml.safe_dump({**job, "epochs": state.epoch + 1}), encoding="utf-8")
    again = running.lstm_ray("submit", path, "--address", running.dashboard, cwd=tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert f"resuming from {state.position()}" in again.stdout
    assert (tmp_path / "run/model/bundle.json").exists()
