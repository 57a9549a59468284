"""What is sent with a job: all that it needs, and none of the user's secrets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lstm_ray.config import COMMANDS, ScoreConfig, TuneConfig, resolve
from lstm_ray.errors import ConfigError
from lstm_ray.jobs.package import ENTRYPOINTS, packed

CONFIG = resolve(
    ScoreConfig,
    {"inputs": ("/shared/in",), "model": "s3://b/model", "output": "/shared/out", "actors": 2, "address": "auto"},
)


def test_every_command_that_runs_on_a_cluster_can_be_a_job() -> None:
    assert set(ENTRYPOINTS) == {name for name, kind in COMMANDS.items() if "address" in kind.model_fields}


def test_a_search_is_sent_as_it_is() -> None:
    search = {"units": {"choice": [8, 16]}, "dropout": {"uniform": [0, 0.5]}}
    config = resolve(TuneConfig, {"train": ("/shared/in",), "output": "/shared/out", "search": search})
    with packed(config) as directory:
        assert resolve(TuneConfig, {}, directory / "lstm-ray-job.yaml") == config


def test_what_is_sent_along_runs_by_itself(tmp_path: Path) -> None:
    code = tmp_path / "code"
    (code / "__pycache__").mkdir(parents=True)
    (code / "own.py").write_text("VALUE = 7")
    (code / "job.yaml").write_text("what the user's is called")
    (code / "large.parquet").write_bytes(b"0")
    with packed(CONFIG, str(code)) as directory:
        assert sorted(path.name for path in directory.iterdir()) == [
            "job.yaml",
            "lstm-ray-job.yaml",
            "lstm_ray",
            "own.py",
        ]
        assert list(directory.rglob("__pycache__")) == []
        command = [sys.executable, "-m", "lstm_ray", "config", "show", "score", "--config", "lstm-ray-job.yaml"]
        shown = subprocess.run(command, cwd=directory, env={}, capture_output=True, text=True, check=True).stdout
        assert yaml.safe_load(shown)["address"] == "auto"
        imported = "import lstm_ray, own; print(lstm_ray.__file__, own.VALUE)"
        told = subprocess.run([sys.executable, "-c", imported], cwd=directory, env={}, capture_output=True, text=True)
        assert told.stdout.split() == [str(directory / "lstm_ray" / "__init__.py"), "7"]
    assert not directory.exists()


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
    with packed(CONFIG, str(code)) as directory:
        sent = sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())
        own = [name for name in sent if not name.startswith("lstm_ray/")]
    assert own == ["inner.py", "lstm-ray-job.yaml", "own.py", "team/a.py", "words.json"]
    assert "lstm_ray/cli/app.py" in sent


def test_files_that_look_like_keys_are_not_sent_and_named(tmp_path: Path) -> None:
    code = tmp_path / "code"
    keys = ["certs/Server.PEM", "credentials", "gcp-credentials.json", "id_ed25519_sk", "id_rsa", "prod.env"]
    keys += ["credentials.toml", "kaggle.json", "kubeconfig.yaml", "netrc", "rsa_key.p8", "secrets.ini", "token.json"]
    keys += ["rootkey.csv", "sa-key.json", "secret.yaml", "terraform.tfstate"]
    keys += ["api_key.txt", "boto.cfg", "firebase-adminsdk-x1.json", "htpasswd", "passwords.csv", "private.asc"]
    keys += ["rclone.conf", "vault_token"]
    keys.sort()
    for name in (*keys, "own.py", "id_rsa.py", "id_rsa.pub", "keys/words.json", "tokens.txt"):
        (code / name).parent.mkdir(parents=True, exist_ok=True)
        (code / name).write_text("PLANTED")
    notes: list[str] = []
    with packed(CONFIG, str(code), notes.append) as directory:
        sent = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
    assert notes == [f"not sent, because files of this name contain keys or passwords: {', '.join(keys)}"]
    assert not sent & set(keys)
    assert {"own.py", "id_rsa.py", "keys/words.json", "tokens.txt"} <= sent


def test_nobody_else_can_read_what_is_about_to_be_sent(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir(mode=0o755)
    with packed(CONFIG, str(tmp_path / "code")) as directory:
        assert directory.parent.stat().st_mode & 0o077 == 0


def test_own_code_must_not_stand_in_for_the_package(tmp_path: Path) -> None:
    (tmp_path / "code" / "lstm_ray").mkdir(parents=True)
    with pytest.raises(ConfigError, match="contains lstm_ray"), packed(CONFIG, str(tmp_path / "code")):
        pass
    with pytest.raises(ConfigError, match="cannot be read"), packed(CONFIG, str(tmp_path / "missing")):
        pass
