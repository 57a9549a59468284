"""Job files as a cluster gets them: without paths of this machine, and only with what can run there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from lstm_ray.config import EvaluateConfig, ScoreConfig, TrainConfig, resolve
from lstm_ray.errors import ConfigError
from lstm_ray.jobs.package import packed
from lstm_ray.jobs.prepare import load_job

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


@pytest.mark.parametrize(
    ("changes", "storage", "message"),
    [
        ({"inputs": "reviews"}, None, "inputs is 'reviews', a path on this machine, which the cluster does not see"),
        ({"inputs": "reviews"}, "here", "--storage is 'here': give an absolute path"),
        (TRAIN | {"mlflow": "runs/ml"}, None, "mlflow is 'runs/ml', a path on this machine"),
        ({"actors": 0}, None, "actors is 0, which does not use the cluster: set actors to 1 or more"),
        ({"command": None}, None, "does not say what to run: a job needs `command: train | score`"),
        ({"command": "predict"}, None, "command is 'predict': a job needs `command: train | score`"),
        ({"output": None}, None, "output is missing"),
        ({"outptu": "x"}, None, "unknown key 'outptu'; did you mean 'output'"),
        ({"output": "s3://KEY:PLANTED@bucket/x"}, None, "^s3://bucket: this URI was given with keys in it"),
        ({}, "s3://KEY:PLANTED@bucket/x", "^s3://bucket: this URI was given with keys in it"),
        (
            TRAIN | {"mlflow": "http://me:PLANTED@host"},
            None,
            "^http://host: this URI was given with keys in it, .*: instead set MLFLOW_TRACKING_USERNAME and ",
        ),
        ({"filesystem_option": ["secret_key=PLANTED"]}, None, r"^--filesystem-option secret_key=\.\.\. is a key"),
    ],
)
def test_what_a_cluster_cannot_run_is_told(
    tmp_path: Path, changes: dict[str, object], storage: str | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_job(write(tmp_path, **changes), storage)
    assert "PLANTED" not in str(caught.value)


@pytest.mark.parametrize("command", ["[train]", "7", "calibrate"])
def test_what_is_no_job_is_told(tmp_path: Path, command: str) -> None:
    (tmp_path / "job.yaml").write_text(f"command: {command}")
    with pytest.raises(ConfigError, match=r"a job needs `command: train \| tune \| score \| evaluate`"):
        load_job(str(tmp_path / "job.yaml"))


def test_an_evaluation_is_a_job_that_needs_no_output(tmp_path: Path) -> None:
    job = {"command": "evaluate", "actors": None, "output": None, "by": "shop", "predictions": "out/p.parquet"}
    config = load_job(write(tmp_path, **job), "/shared")
    assert isinstance(config, EvaluateConfig)
    assert (config.address, config.output, config.predictions) == ("auto", None, "/shared/out/p.parquet")


def test_an_own_preset_is_read_where_the_code_to_send_lies(write_module: Callable[..., Path], tmp_path: Path) -> None:
    write_module("sent", "small = {'units': 8, 'clip_norm': 1.0}", tmp_path / "code")
    job = {"command": "train", "preset": "sent:small", "train": "/shared/in", "output": "/shared/out", "workers": 2}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    with pytest.raises(ConfigError, match=f"no module 'sent' in {tmp_path}, and none is installed"):
        load_job(str(tmp_path / "job.yaml"))
    config = load_job(str(tmp_path / "job.yaml"), code=str(tmp_path / "code"))
    assert isinstance(config, TrainConfig)
    assert (config.preset, config.units, config.clip_norm) == ("sent:small", 8, 1.0)
    with packed(config) as place:  # what is sent is resolved: nothing of the preset is left to be looked up
        assert resolve(TrainConfig, {}, place / "lstm-ray-job.yaml") == config


@pytest.mark.parametrize(
    ("network", "code", "message"),
    [
        ("here:build", None, "network is 'here:build': the module is in this directory: --working-dir . sends it"),
        ("here:build", "code", "the module is in this directory: it is not in code, which --working-dir sends"),
        (
            "nowhere:build",
            None,
            "network is 'nowhere:build': no module 'nowhere' in PLACE, and none is installed: give",
        ),
        ("nowhere:build", "code", "no module 'nowhere' in code, and none is installed: give --working-dir with"),
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


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("runs", "/shared/runs"),
        ("yes", "yes"),
        ("databricks", "databricks"),
        ("databricks-uc", "databricks-uc"),
        ("http://mlflow:5000", "http://mlflow:5000"),
    ],
)
def test_mlflows_words_are_no_directories(tmp_path: Path, given: str, sent: str) -> None:
    config = load_job(write(tmp_path, **TRAIN, mlflow=given), "/shared")
    assert isinstance(config, TrainConfig)
    assert config.mlflow == sent


def test_a_job_file_with_a_mistake_is_refused_before_ray_is_loaded(tmp_path: Path) -> None:
    code = "import sys; from lstm_ray.jobs.prepare import load_job; load_job('job.yaml'); print('ray' in sys.modules)"
    write(tmp_path)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
