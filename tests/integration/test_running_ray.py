"""Commands that use a running Ray (status, doctor, score, evaluate), and that they reveal no secret."""

from __future__ import annotations

import json
import re
import secrets
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from heads import PLANTED, RayCluster, found_at, free_port


def status_of_idle(running: RayCluster, address: str) -> dict[str, Any]:
    """Returns the status once the CPUs of earlier commands are free, as they must be within a minute of their end."""
    deadline = time.monotonic() + 60
    while True:
        done = running.lstm_ray("cluster", "status", "--address", address, "--json")
        assert done.returncode == 0, done.stderr
        told: dict[str, Any] = json.loads(done.stdout)
        if told["free_cpus"] == 3:
            return told
        assert time.monotonic() < deadline, told


def test_status_tells_what_a_cluster_has(running: RayCluster) -> None:
    told = status_of_idle(running, running.address)
    (node,) = told["nodes"]
    assert (node["is_head"], node["cpus"], node["gpus"]) == (True, 3, 0)
    assert told["free_memory_gib"] == pytest.approx(node["memory_gib"])
    assert (told["train_workers"], told["score_actors"]) == (3, 3)
    shown = running.lstm_ray("cluster", "status", "--address", running.address)
    assert shown.returncode == 0, shown.stderr
    assert re.search(r"cores +3 of 3 free", shown.stdout)
    assert re.search(r"train +up to --workers 3\n", shown.stdout)
    assert "GPU" not in shown.stdout


def test_rays_port_and_the_dashboards_stand_for_each_other(running: RayCluster) -> None:
    done = running.lstm_ray("cluster", "status", "--address", running.dashboard)
    assert done.returncode == 0, done.stderr
    port = running.address.rpartition(":")[2]
    assert re.search(rf"{running.dashboard} is Ray's dashboard: Ray itself was found at [0-9.]+:{port}\n", done.stderr)
    done = running.lstm_ray("jobs", "list", "--address", running.address)
    assert done.returncode == 0, done.stderr
    assert f"{running.address} is Ray itself: its dashboard was found at {running.dashboard}\n" in done.stderr


@pytest.mark.second_tier
def test_a_token_that_is_not_there_is_told(running: RayCluster, tmp_path: Path) -> None:
    nowhere = {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "none")}
    done = running.lstm_ray("cluster", "status", "--address", running.address, **nowhere)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()[-1:]
    assert "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to a file with the cluster's" in line
    assert "unexpected" not in done.stderr


def test_a_ray_client_asks_too(running: RayCluster) -> None:
    assert len(status_of_idle(running, running.client)["nodes"]) == 1


def test_scoring_on_a_ray_that_runs_gives_what_one_process_gives_and_ends_at_once(
    running: RayCluster, reviews: Path, model: Path, tmp_path: Path
) -> None:
    outputs: dict[str, tuple[object, ...]] = {
        "here": (),
        "there": ("--actors", 1, "--address", running.address),
        "client": ("--actors", 1, "--address", running.client),
    }
    for name, options in outputs.items():
        done = running.lstm_ray("score", reviews, "--model", model, "--output", tmp_path / name, *options)
        assert done.returncode == 0, done.stderr
        last_part = max(path.stat().st_mtime for path in (tmp_path / name).glob("part-*"))
        ended_after_s = (tmp_path / name / "_SUCCESS").stat().st_mtime - last_part
        assert ended_after_s < 25, "Ray Data's poller, which never ends, would be waited for half a minute"
    parts = {name: {path.name: path.read_bytes() for path in (tmp_path / name).glob("part-*")} for name in outputs}
    assert len(parts["here"]) > 0
    assert parts["here"] == parts["there"] == parts["client"]
    wrong = ("score", reviews, "--model", model, "--output", tmp_path / "wrong", "--text-column", "nope")
    done = running.lstm_ray(*wrong, "--actors", 1, "--address", running.client)
    assert done.returncode == 1
    assert "no column 'nope'" in done.stderr


@pytest.mark.second_tier
def test_who_does_not_know_the_token_learns_nothing(running: RayCluster, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(secrets.token_hex(32), encoding="utf-8")
    stranger = {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}
    done = running.lstm_ray("cluster", "status", "--address", running.address, **stranger)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.second_tier
@pytest.mark.usefixtures("no_secret")
def test_training_an_own_network_on_a_ray_that_runs_leaves_no_secret(
    running: RayCluster, reviews: Path, code: Path, tmp_path: Path
) -> None:
    """Workers get the user's modules, and do not look for them where the command runs."""
    command = ("train", "--train", reviews, "--output", tmp_path / "run", "--workers", 2, "--address", running.address)
    done = running.lstm_ray(*command, "--preset", "mine:small", "--network", "mine:build", cwd=code)
    assert done.returncode == 0, done.stderr
    assert PLANTED not in done.stdout + done.stderr
    assert (tmp_path / "run" / "report.html").exists()
    assert found_at(code) == ["code", "lstm-ray-code", "lstm-ray-code"]
    score = ("score", reviews, "--model", tmp_path / "run" / "model", "--output", tmp_path / "scored")
    elsewhere = running.lstm_ray(*score)
    assert elsewhere.returncode == 1
    assert "its network has layers of the module 'near': no module 'near' in" in elsewhere.stderr
    assert running.lstm_ray(*score, cwd=code).returncode == 0
    assert (tmp_path / "scored" / "_SUCCESS").exists()


@pytest.mark.second_tier
def test_an_own_network_scores_on_ray_as_in_one_process(
    running: RayCluster, reviews: Path, code: Path, tmp_path: Path
) -> None:
    command = ("train", "--train", reviews, "--output", tmp_path / "run", "--network", "mine:build")
    assert running.lstm_ray(*command, "--preset", "mine:small", cwd=code).returncode == 0
    model = ("--model", tmp_path / "run" / "model")
    outputs = {"here": (), "there": ("--actors", 1, "--address", running.address)}
    for name, options in outputs.items():
        done = running.lstm_ray("score", reviews, *model, "--output", tmp_path / name, *options, cwd=code)
        assert done.returncode == 0, done.stderr
    here, there = (
        pa.concat_tables([pq.read_table(path) for path in sorted((tmp_path / name).glob("part-*"))]) for name in outputs
    )
    assert here.num_rows == 260
    assert here.equals(there)
    assert found_at(code) == ["code"] * 3 + ["lstm-ray-code"]
    seen = ("--allow-seen-files",)  # it was trained on them
    told = [
        json.loads(running.lstm_ray("evaluate", reviews, *model, "--json", *seen, *options, cwd=code).stdout)
        for options in ((), ("--address", running.address))
    ]
    assert told[0].pop("rows_per_s") > 0
    assert told[1].pop("rows_per_s") > 0
    assert told[0] == told[1]
    assert set(found_at(code)[5:]) == {"lstm-ray-code"}, "of the driver of each command, and then of its tasks"


@pytest.mark.second_tier
@pytest.mark.usefixtures("no_secret")
def test_evaluating_on_ray_gives_the_numbers_of_one_process(
    running: RayCluster, reviews: Path, model: Path, tmp_path: Path
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


@pytest.mark.second_tier
def test_evaluating_on_ray_tells_what_is_wrong_in_one_line(running: RayCluster, reviews: Path, model: Path) -> None:
    absent = running.lstm_ray("evaluate", reviews, "--model", model, "--address", f"127.0.0.1:{free_port()}")
    assert (absent.returncode, absent.stdout) == (1, "")
    assert "is the address right, and Ray running there?" in absent.stderr
    wrong = running.lstm_ray("evaluate", reviews, "--model", model, "--label-column", "stars", "--address", "auto")
    assert wrong.returncode == 1
    assert "no column 'stars'" in wrong.stderr


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


@pytest.mark.second_tier
def test_a_cluster_without_a_worker_grows(reviews: Path, model: Path, tmp_path: Path, ray_nodes: RayCluster) -> None:
    path, port = tmp_path / "definition.yaml", ray_nodes.address.partition(":")[2]
    path.write_text(DEFINITION.replace("PORT", port).replace("HEAD_ID", HEAD_ID), encoding="utf-8")
    settings = {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
    settings |= {"RAY_CLOUD_INSTANCE_ID": HEAD_ID, "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID}
    ray_nodes.start_node(f"--autoscaling-config={path}", cpus=0, **settings)
    command = ("score", reviews, "--model", model, "--output", tmp_path / "scored", "--address", ray_nodes.address)
    large = ray_nodes.lstm_ray(*command, "--actors", 1, "--cpus-per-actor", 3)
    assert large.returncode == 1
    assert "3 CPUs on one node are asked for" in large.stderr
    assert "grows to room for 0 of these (1 x 0 CPUs and 0 GPUs, 2 x 2 CPUs and 0 GPUs)" in large.stderr
    done = ray_nodes.lstm_ray(*command, "--actors", 1)
    assert done.returncode == 0, done.stderr
    assert "the cluster has 0 CPUs and 0 GPUs now: waiting for its autoscaler to add nodes" in done.stderr
