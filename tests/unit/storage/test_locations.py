"""Paths and URIs are distinguished, and keys in a URI are refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lstm_ray import storage
from lstm_ray.errors import ConfigError, InputError


@pytest.mark.parametrize(
    "call",
    [
        storage.locate,
        storage.is_local,
        storage.read_bytes,
        storage.exists,
        storage.list_names,
        storage.delete,
        lambda path: storage.write_bytes(path, b""),
    ],
)
def test_an_unknown_scheme_is_named(call: Callable[[str], Any]) -> None:
    with pytest.raises(InputError, match=r"^carrier-pigeon://coop/a\.parquet: "):
        call("carrier-pigeon://coop/a.parquet")


def test_join() -> None:
    assert storage.join("out", "a") == storage.join("out/", "a") == "out/a"
    assert storage.join("s3://bucket/", "a") == "s3://bucket/a"
    assert storage.join("/", "a") == "/a"


def test_a_local_path_becomes_absolute_and_a_uri_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    for path, expected in (("run", f"{tmp_path}/run"), ("~/run", "/home/me/run"), ("/run", "/run")):
        assert storage.absolute(path) == expected
    for uri in ("s3://bucket/run", "sqlite:///runs.db", "http://tracking:5000"):
        assert storage.absolute(uri) == uri


def test_an_ending_comes_before_a_uris_options() -> None:
    assert storage.extend("runs/0001/", ".json") == "runs/0001.json"
    uri = "s3://bucket/runs/0001?endpoint_override=localhost:9000&scheme=http"
    assert storage.extend(uri, ".json") == "s3://bucket/runs/0001.json?endpoint_override=localhost:9000&scheme=http"


@pytest.mark.parametrize(
    ("given", "limit"),
    [("gs://anonymous@b/x", 60), ("gs://b/x?scheme=http", 60), ("gs://b/x?retry_limit_seconds=9", 9)],
)
def test_google_s_store_is_not_tried_for_a_quarter_of_an_hour(given: str, limit: int) -> None:
    filesystem, path = storage.locate(given)
    _, (settings,) = filesystem.__reduce__()
    assert (settings["retry_time_limit"].total_seconds(), path) == (limit, "b/x")


def test_only_local_places_have_renames(tmp_path: Path) -> None:
    assert storage.is_local(str(tmp_path))
    assert storage.is_local(f"file://{tmp_path}")


@pytest.mark.parametrize(
    "uri",
    [
        "s3://KEY:PLANTED@bucket/x",
        "s3://PLANTED@bucket/x",
        "s3://b/x?secret_key=PLANTED",
        "gs://b/x?a=b&token=PLANTED",
        "abfs://:PLANTED@account.dfs.core.windows.net/x",
        "s3://b/*.parquet?Signature=PLANTED",
        "s3://KEY:PLAN/PLANTED@b/x",
        "abfs://c@a/x?sas=PLANTED",
        "gs://b/x?credentials=PLANTED",
        "s3://b/x?region=r&pwd=PLANTED",
        "https://b.s3.amazonaws.com/x.parquet?X-Amz-Date=1&X-Amz-Signature=PLANTED",
        "https://account.blob.core.windows.net/c/x?sv=1&sig=PLANTED",
        "https://b/x?AWSAccessKeyId=PLANTED",
        "https://b/x?accesskey=PLANTED",
        "https://b/x?API_KEY=PLANTED",
        "abfs://c@a/x?containersas=PLANTED",
    ],
)
def test_keys_in_a_uri_are_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(ConfigError, match="was given with keys in it") as caught:
        storage.locate(uri)
    assert "PLANTED" not in str(caught.value)


@pytest.mark.parametrize(
    "uri",
    [
        "s3://bucket/a@b",
        "hdfs://host:8020/a@b",
        "abfs://container@account.dfs.core.windows.net/x",
        "s3://b/x?region=eu-west-1",
        "s3://b/key=1/x",
        "https://host/x?design=1&assigned=2&keyword=3&sasl=4",
    ],
)
def test_uris_without_keys_are_let_through(uri: str) -> None:
    storage.refuse_keys(uri)


@pytest.mark.parametrize("option", ["secret_key=PLANTED", "region=r&session_token=PLANTED"])
def test_keys_in_an_option_are_refused_and_not_repeated(option: str) -> None:
    with pytest.raises(ConfigError, match=r"^--filesystem-option \w+=\.\.\. is a key, .*AWS_ACCESS_KEY_ID") as caught:
        storage.with_options("s3://bucket/x", [option])
    assert "PLANTED" not in str(caught.value)


def test_a_relative_path_in_a_deleted_directory_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for find in (storage.absolute, storage.locate):
        with pytest.raises(InputError, match=r"^a/b: is relative to the current directory, which has been deleted"):
            find("a/b")
        find("/a/b")
    monkeypatch.chdir(tmp_path)
