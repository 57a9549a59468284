from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from lstm_ray.config import ScoreConfig, TrainConfig, TuneConfig, resolve
from lstm_ray.errors import ConfigError
from lstm_ray.jobs import client
from lstm_ray.jobs.client import Job, exit_code, load_job
from lstm_ray.jobs.package import packed

JOBS = sorted((Path(__file__).parents[3] / "jobs").glob("*.yaml"))
GOOD = {"command": "score", "inputs": "/shared/in", "model": "s3://b/model", "output": "/shared/out", "actors": 2}

TRAIN = {"command": "train", "train": "/shared/in", "workers": 2, "inputs": None, "model": None, "actors": None}


def write(path: Path, **changes: object) -> str:
    """Writes a job file; a change to None leaves a setting out."""
    job = {name: value for name, value in {**GOOD, **changes}.items() if value is not None}
    (path / "job.yaml").write_text(yaml.safe_dump(job))
    return str(path / "job.yaml")


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_every_shipped_job_can_be_submitted(path: Path) -> None:
    config = load_job(str(path), "s3://bucket/reviews")
    assert isinstance(config, TrainConfig | ScoreConfig)
    assert config.address == "auto"
    assert config.output.startswith("s3://bucket/reviews/")
    inputs = config.train if isinstance(config, TrainConfig) else config.inputs
    assert all(given.startswith("s3://bucket/reviews/") for given in inputs)


def test_relative_paths_are_below_the_storage(tmp_path: Path) -> None:
    config = load_job(write(tmp_path, inputs=["a", "/b", "gs://c/d"], output="out"), "/shared")
    assert isinstance(config, ScoreConfig)
    assert config.inputs == ("/shared/a", "/b", "gs://c/d")
    assert (config.model, config.output) == ("s3://b/model", "/shared/out")


def test_a_search_is_sent_as_it_is(tmp_path: Path) -> None:
    search = {"units": {"choice": [8, 16]}, "dropout": {"uniform": [0, 0.5]}}
    changes = {
        "command": "tune",
        "train": "/shared/in",
        "search": search,
        "inputs": None,
        "model": None,
        "actors": None,
    }
    config = load_job(write(tmp_path, **changes))
    with packed(config) as place:
        assert resolve(TuneConfig, {}, place / "lstm-ray-job.yaml") == config


@pytest.mark.parametrize(
    ("changes", "storage", "message"),
    [
        ({"inputs": "reviews"}, None, "inputs is 'reviews', a path on this machine, which the cluster does not see"),
        ({"inputs": "reviews"}, "here", "--storage is 'here': give an absolute path"),
        (TRAIN | {"mlflow": "runs/ml"}, None, "mlflow is 'runs/ml', a path on this machine"),
        ({"actors": 0}, None, "actors is 0, which uses no cluster: set actors to 1 or more"),
        ({"command": None}, None, "does not say what to run: a job needs `command: train | score`"),
        ({"command": "predict"}, None, "command is 'predict': a job needs `command: train | score`"),
        ({"output": None}, None, "output is missing"),
        ({"outptu": "x"}, None, "unknown key 'outptu'; did you mean 'output'"),
        ({"output": "s3://KEY:PLANTED@bucket/x"}, None, "^s3://bucket: this URI was given with keys in it"),
        ({}, "s3://KEY:PLANTED@bucket/x", "^s3://bucket: this URI was given with keys in it"),
    ],
)
def test_what_a_cluster_cannot_run_is_told(
    tmp_path: Path, changes: dict[str, object], storage: str | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_job(write(tmp_path, **changes), storage)
    assert "PLANTED" not in str(caught.value)


def test_what_is_sent_along_runs_by_itself(tmp_path: Path) -> None:
    code = tmp_path / "code"
    (code / "__pycache__").mkdir(parents=True)
    (code / "own.py").write_text("VALUE = 7")
    (code / "job.yaml").write_text("what the user's is called")
    (code / "large.parquet").write_bytes(b"0")
    config = load_job(write(tmp_path))
    with packed(config, str(code)) as place:
        assert sorted(path.name for path in place.iterdir()) == ["job.yaml", "lstm-ray-job.yaml", "lstm_ray", "own.py"]
        assert list(place.rglob("__pycache__")) == []
        command = [sys.executable, "-m", "lstm_ray", "config", "show", "score", "--config", "lstm-ray-job.yaml"]
        shown = subprocess.run(command, cwd=place, env={}, capture_output=True, text=True, check=True).stdout
        assert yaml.safe_load(shown)["address"] == "auto"
        imported = "import lstm_ray, own; print(lstm_ray.__file__, own.VALUE)"
        told = subprocess.run([sys.executable, "-c", imported], cwd=place, env={}, capture_output=True, text=True)
        assert told.stdout.split() == [str(place / "lstm_ray" / "__init__.py"), "7"]
    assert not place.exists()


def test_of_the_users_directory_no_hidden_file_is_sent_nor_what_a_link_leads_out_to(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret.txt").write_text("PLANTED")
    code = tmp_path / "code"
    for name in (
        "own.py",
        "words.json",
        ".env",
        ".ssh/id",
        ".gitignore",
        ".aws/credentials",
        "env/pyvenv.cfg",
        "team/a.py",
    ):
        (code / name).parent.mkdir(parents=True, exist_ok=True)
        (code / name).write_text("lstm_ray/")
    for link, target in (("out", "../elsewhere"), ("out.txt", "../elsewhere/secret.txt"), (".#own.py", "nobody@1")):
        (code / link).symlink_to(target)
    (code / "gone.py").symlink_to("nothing")
    os.mkfifo(code / "pipe")
    (code / "inner.py").symlink_to("own.py")
    with packed(load_job(write(tmp_path)), str(code)) as place:
        sent = sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file())
        own = [name for name in sent if not name.startswith("lstm_ray/")]
    assert own == ["inner.py", "lstm-ray-job.yaml", "own.py", "team/a.py", "words.json"]
    assert "lstm_ray/cli/app.py" in sent


@pytest.mark.parametrize("command", ["[train]", "7", "evaluate"])
def test_what_is_no_job_is_told(tmp_path: Path, command: str) -> None:
    (tmp_path / "job.yaml").write_text(f"command: {command}")
    with pytest.raises(ConfigError, match=r"a job needs `command: train \| tune \| score`"):
        load_job(str(tmp_path / "job.yaml"))


def test_an_own_preset_is_read_where_the_code_to_send_lies(write_module: Callable[..., Path], tmp_path: Path) -> None:
    write_module("sent", "small = {'units': 8, 'clip_norm': 1.0}", tmp_path / "code")
    job = {"command": "train", "preset": "sent:small", "train": "/shared/in", "output": "/shared/out", "workers": 2}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    with pytest.raises(ConfigError, match=f"no module 'sent' in {tmp_path}, nor installed"):
        load_job(str(tmp_path / "job.yaml"))
    config = load_job(str(tmp_path / "job.yaml"), code=str(tmp_path / "code"))
    assert isinstance(config, TrainConfig)
    assert (config.preset, config.units, config.clip_norm) == ("sent:small", 8, 1.0)
    with packed(config) as place:  # what is sent is resolved: nothing of the preset is left to be looked up
        assert resolve(TrainConfig, {}, place / "lstm-ray-job.yaml") == config


@pytest.mark.parametrize(
    ("network", "code", "message"),
    [
        ("here:build", None, "network is 'here:build': the module lies in this directory: --working-dir . sends it"),
        ("here:build", "code", "the module lies in this directory: it is not in code, which --working-dir sends"),
        ("nowhere:build", None, "network is 'nowhere:build': no module 'nowhere' in PLACE, nor installed: give"),
        ("nowhere:build", "code", "no module 'nowhere' in code, nor installed: give --working-dir with"),
        ("sent:build", "code", None),
        ("here:build", ".", None),
        ("pydantic.fields:build", None, None),
    ],
)
def test_the_module_of_a_network_has_to_be_sent(
    write_module: Callable[..., Path], tmp_path: Path, network: str, code: str | None, message: str | None
) -> None:
    write_module("sent", "", tmp_path / "code")
    write_module("here", "")
    job = {"command": "train", "network": network, "train": "/shared/in", "output": "/shared/out", "workers": 2}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    if message is None:
        assert load_job("job.yaml", code=code).model_dump()["network"] == network
    else:
        with pytest.raises(ConfigError) as raised:
            load_job("job.yaml", code=code)
        assert message.replace("PLACE", str(tmp_path)) in str(raised.value)


def test_own_code_must_not_stand_in_for_the_package(tmp_path: Path) -> None:
    (tmp_path / "code" / "lstm_ray").mkdir(parents=True)
    config = load_job(write(tmp_path))
    with pytest.raises(ConfigError, match="holds lstm_ray"), packed(config, str(tmp_path / "code")):
        pass
    with pytest.raises(ConfigError, match="cannot be read"), packed(config, str(tmp_path / "missing")):
        pass


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("runs", "/shared/runs"),
        ("yes", "yes"),
        ("databricks", "databricks"),
        ("http://mlflow:5000", "http://mlflow:5000"),
    ],
)
def test_mlflows_words_are_no_directories(tmp_path: Path, given: str, sent: str) -> None:
    config = load_job(write(tmp_path, **TRAIN, mlflow=given), "/shared")
    assert isinstance(config, TrainConfig)
    assert config.mlflow == sent


@pytest.mark.parametrize(
    ("address", "variable", "expected"),
    [
        ("head", None, "http://head:8265"),
        ("head:80", None, "http://head:80"),
        ("[::1]", None, "http://[::1]:8265"),
        ("https://ray.example.com/", None, "https://ray.example.com"),
        ("auto", None, "http://127.0.0.1:8265"),
        ("auto", "", "http://127.0.0.1:8265"),
        ("auto", "http://head:1", "http://head:1"),
    ],
)
def test_where_the_dashboard_is(
    address: str, variable: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", variable or "")  # which is set, and so put back in the end
    if variable is None:
        monkeypatch.delenv("RAY_API_SERVER_ADDRESS")
    asked: list[str] = []
    monkeypatch.setattr(client, "_Client", asked.append)
    assert (client.Jobs(address).address, asked) == (expected, [expected])


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [("SUCCEEDED", 0, 0), ("FAILED", 3, 3), ("FAILED", -9, 137), ("FAILED", None, 1), ("STOPPED", None, 1)],
)
def test_the_exit_code_is_the_jobs(status: str, code: int | None, expected: int) -> None:
    assert exit_code(Job("x", status, "", "", "", 0.0, "", code)) == expected
