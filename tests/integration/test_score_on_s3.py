"""Scoring from S3 to S3, against a fake server; then through a network on which one request in five fails."""

from __future__ import annotations

import http.client
import random
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs
from stores import BUCKET, S3

from lstm_ray import storage
from lstm_ray.config import ScoreConfig
from lstm_ray.errors import ConfigError, InputError, OutputError
from lstm_ray.score.output import Manifest
from lstm_ray.score.run import score
from lstm_ray.storage import locations

FAULT_RATE = 0.2


pytestmark = [pytest.mark.second_tier, pytest.mark.usefixtures("aws_environment")]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gives 3 files of 700 rows."""
    generator = np.random.default_rng(0)
    directory = tmp_path_factory.mktemp("corpus")
    for file in range(3):
        words = generator.choice(["good", "bad", "a film", "fine", ""], (700, 5))
        table = pa.table({"row": np.arange(700) + 700 * file, "text": [" ".join(row) for row in words]})
        pq.write_table(table, directory / f"{file} + %41é.parquet", row_group_size=250)
    return directory


@pytest.fixture(scope="module")
def stored(s3: S3, corpus: Path, tiny_bundle: Path) -> None:
    """Puts the corpus and the bundle into the bucket."""
    for base, name in ((corpus, "in/lang=en"), (tiny_bundle, "model")):
        for path in base.rglob("*"):
            if path.is_file():
                with s3[1].open_output_stream(f"{BUCKET}/{name}/{path.relative_to(base)}") as stream:
                    stream.write(path.read_bytes())


@pytest.fixture(scope="module")
def expected(corpus: Path, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Gives the parts of the same files on a disk, which differ only in the fingerprint in their footers."""
    place = tmp_path_factory.mktemp("local")
    (place / "in").mkdir()
    (place / "in" / "lang=en").symlink_to(corpus)
    score_it(f"{place}/in", f"{place}/out", str(tiny_bundle))
    return {path.name: path.read_bytes() for path in (place / "out").glob("part-*")}


def nothing(*_: Any) -> None:
    """Ignores progress."""


def score_it(given: str, output: str, model: str, notify: Callable[[str], None] = nothing, **changes: Any) -> Manifest:
    """Scores in this process."""
    settings = {"inputs": (given,), "model": model, "output": output, "rows_per_part": 250, **changes}
    return score(ScoreConfig.model_validate(settings), notify)


def stored_parts(s3: S3, output: str) -> dict[str, bytes]:
    """Returns the parts in the bucket by name."""
    found = s3[1].get_file_info(fs.FileSelector(f"{BUCKET}/{output}"))
    parts = {}
    for info in found:
        if info.base_name.startswith("part-"):
            with s3[1].open_input_file(info.path) as file:
                parts[info.base_name] = file.read()
    return parts


def assert_same_rows(parts: dict[str, bytes], expected: dict[str, bytes]) -> None:
    """Compares parts of runs whose inputs have different paths: everything except the fingerprint."""
    assert parts.keys() == expected.keys()
    for name, content in parts.items():
        ours, theirs = (pq.read_table(pa.BufferReader(part)) for part in (content, expected[name]))
        assert ours.equals(theirs)


@pytest.mark.usefixtures("stored")
def test_from_s3_to_s3_with_the_endpoint_in_the_environment(
    s3: S3, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{s3[0]}")
    places = (f"s3://{BUCKET}/in", f"s3://{BUCKET}/out", f"s3://{BUCKET}/model")
    manifest = score_it(*places)
    assert (manifest.rows, manifest.parts) == (2_100, 9)
    parts = stored_parts(s3, "out")
    assert_same_rows(parts, expected)
    rows = pa.concat_tables(pq.read_table(pa.BufferReader(parts[name])) for name in sorted(parts))
    assert rows["row"].to_pylist() == list(range(2_100))
    assert set(rows["lang"].to_pylist()) == {"en"}
    assert storage.exists(f"s3://{BUCKET}/out/_SUCCESS")
    assert score_it(*places).parts_kept == manifest.parts
    name = sorted(parts)[4]
    s3[1].delete_file(f"{BUCKET}/out/{name}")
    assert score_it(*places).parts_kept == manifest.parts - 1
    assert stored_parts(s3, "out") == parts
    with pytest.raises(OutputError, match="--overwrite"):
        score_it(*places, keep_columns="row")
    score_it(*places, keep_columns="row", overwrite=True)
    assert stored_parts(s3, "out").keys() == parts.keys()


@pytest.mark.usefixtures("stored")
def test_the_endpoint_in_the_uris(s3: S3, expected: dict[str, bytes]) -> None:
    options = f"?endpoint_override={s3[0]}&scheme=http"
    score_it(f"s3://{BUCKET}/in/**/*.parquet{options}", f"s3://{BUCKET}/out2{options}", f"s3://{BUCKET}/model{options}")
    assert_same_rows(stored_parts(s3, "out2"), expected)


@pytest.mark.usefixtures("stored")
def test_the_endpoint_as_an_option_of_all_uris(s3: S3, expected: dict[str, bytes], tiny_bundle: Path) -> None:
    options = (f"endpoint_override={s3[0]}", "scheme=http")
    score_it(f"s3://{BUCKET}/in", f"s3://{BUCKET}/out-options", str(tiny_bundle), filesystem_option=options)
    assert_same_rows(stored_parts(s3, "out-options"), expected)
    own = f"?endpoint_override={s3[0]}"  # wins over the option, which leads nowhere
    places = (f"s3://{BUCKET}/in{own}", f"s3://{BUCKET}/out-options{own}", str(tiny_bundle))
    score_it(*places, filesystem_option=("endpoint_override=127.0.0.1:1", "scheme=http"), overwrite=True)


def test_an_option_without_a_store_is_refused(tmp_path: Path, tiny_bundle: Path) -> None:
    with pytest.raises(ConfigError, match="all paths here are local"):
        score_it(str(tmp_path), str(tmp_path / "out"), str(tiny_bundle), filesystem_option=("region=x",))
    with pytest.raises(ConfigError, match="'region' is not of the form KEY=VALUE"):
        score_it("s3://bucket/in", str(tmp_path / "out"), str(tiny_bundle), filesystem_option=("region",))


@pytest.mark.usefixtures("stored")
def test_what_is_not_there_is_named(s3: S3, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{s3[0]}")
    for given, message in (
        (f"s3://{BUCKET}/missing", "no such file or directory"),
        (f"s3://{BUCKET}/in?colour=red", "unknown option 'colour'; S3 has region, scheme, endpoint_override"),
    ):
        with pytest.raises(InputError) as raised:
            score_it(given, f"s3://{BUCKET}/out3", str(tiny_bundle))
        assert str(raised.value).startswith(given)
        assert message in str(raised.value)
    with pytest.raises(OutputError, match=r"s3://no-such-bucket/out.* cannot be "):
        score_it(f"s3://{BUCKET}/in", "s3://no-such-bucket/out", str(tiny_bundle))


@pytest.mark.usefixtures("stored")
def test_an_error_while_a_part_is_written_leaves_no_half_of_it(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{s3[0]}")

    def write(stream: Any) -> None:
        stream.write(b"half of it")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        storage.write_file(f"s3://{BUCKET}/half", write)
    assert not storage.exists(f"s3://{BUCKET}/half")


@pytest.mark.usefixtures("stored")
def test_an_object_that_is_replaced_between_plan_and_read_is_not_scored(
    s3: S3, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{s3[0]}")
    for rows in (3, 4):
        storage.write_file(
            f"s3://{BUCKET}/replaced/{rows}.parquet",
            lambda stream, rows=rows: pq.write_table(
                pa.table({"text": ["good", "bad", "film", "fine"][:rows]}), stream
            ),
        )

    def replace(event: object) -> None:
        if "2 parts to write" in str(event):
            s3[1].copy_file(f"{BUCKET}/replaced/4.parquet", f"{BUCKET}/replaced/3.parquet")

    with pytest.raises(InputError, match=r"3\.parquet: has changed since the run was planned"):
        score_it(f"s3://{BUCKET}/replaced", f"s3://{BUCKET}/out4", str(tiny_bundle), replace)


class FaultyProxy(ThreadingHTTPServer):
    """Forwards requests to a server; one in five gets a 503, or is cut off before or after it was forwarded.

    Attributes:
        faults: How often it has done each.
    """

    daemon_threads = True

    def __init__(self, target: str) -> None:
        """Listens on a free port."""
        super().__init__(("127.0.0.1", 0), _FaultyHandler)
        self.target = target
        self.faults = {"503": 0, "hang up": 0, "hang up after": 0}
        self._chance = random.Random(3)
        self._lock = threading.Lock()

    def choose_fault(self) -> str | None:
        """Returns the fault for a request; mostly none."""
        with self._lock:
            if self._chance.random() >= FAULT_RATE:
                return None
            fault = self._chance.choice(list(self.faults))
            self.faults[fault] += 1
            return fault

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Does not log errors of clients that hung up."""


class _FaultyHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyProxy

    def _pass_on(self) -> None:
        body = self._read_body()
        fault = self.server.choose_fault()
        if fault == "503":
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if fault != "hang up":
            connection = http.client.HTTPConnection(self.server.target, timeout=30)
            connection.request(self.command, self.path, body, dict(self.headers))
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
        if fault:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "server", "date", "content-length"):
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        self.wfile.write(content)

    def _read_body(self) -> bytes:
        """Returns the body as it came, with the lengths of its chunks if it has any."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body, length = b"", 1
        while length:
            line = self.rfile.readline()
            length = int(line.split(b";")[0], 16)
            body += line + self.rfile.read(length + len(b"\r\n"))
        return body

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on  # noqa: N815  names that http.server looks for

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def proxy(s3: S3) -> Iterator[FaultyProxy]:
    """Starts the proxy in a thread."""
    with FaultyProxy(s3[0]) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.usefixtures("stored")
def test_a_network_that_fails_one_request_in_five(s3: S3, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    def places(output: str) -> tuple[str, str, str]:
        return f"s3://{BUCKET}/in", f"s3://{BUCKET}/{output}", f"s3://{BUCKET}/model"

    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{s3[0]}")
    score_it(*places("smooth"))
    locations._connect.cache_clear()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{proxy.server_port}")
    manifest = score_it(*places("rough"))
    assert all(proxy.faults.values()), proxy.faults
    assert (manifest.rows, manifest.bad_files) == (2_100, 0)
    assert stored_parts(s3, "rough") == stored_parts(s3, "smooth")
