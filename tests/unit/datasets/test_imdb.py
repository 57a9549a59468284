"""fetch_imdb against archives made here, read from disk or served over HTTP on this machine."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow.parquet as pq
import pytest

from lstm_ray.datasets import imdb
from lstm_ray.datasets.imdb import ImdbFiles, fetch_imdb
from lstm_ray.errors import ConfigError, InputError, OutputError
from lstm_ray.progress import Count

FOLDERS = {"train/neg": 3, "train/pos": 3, "test/neg": 2, "test/pos": 2, "train/unsup": 12}
THREE_FILES = {"train.parquet", "test.parquet", "unlabelled.parquet"}
PARTIAL = "aclImdb_v1.tar.gz.partial"


def review_members(text: str = "Café, numéro") -> dict[str, bytes]:
    """Returns the members of a small, complete archive, in an order that is not the sorted one."""
    members = {"aclImdb/README": b"about", "aclImdb/train/labeledBow.feat": b"9 0:1"}
    for folder, rows in FOLDERS.items():
        rating = {"neg": 2, "pos": 9, "unsup": 0}[folder.split("/")[1]]
        for number in reversed(range(rows)):
            members[f"aclImdb/{folder}/{number}_{rating}.txt"] = f"{text} {folder} {number}<br />".encode()
    return members


def make_archive(members: dict[str, bytes], format: int = tarfile.DEFAULT_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=format) as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture(scope="module")
def content() -> bytes:
    members = review_members()
    members["aclImdb/imdb.vocab"] = os.urandom(100_000)  # enough that half of the archive is more than one read
    return make_archive(members)


class Server(ThreadingHTTPServer):
    """Serves one file, with the faults that a test asks for, and records requests and answers."""

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.headers = {"ETag": '"v1"'}
        self.cut_after: list[int] = []  # bytes of the body after which each next connection is closed
        self.statuses: list[int] = []  # answers for the next requests, instead of the file
        self.knows_ranges = True
        self.requests: list[dict[str, str]] = []
        self.sent: list[int] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/aclImdb_v1.tar.gz"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        server.requests.append(dict(self.headers))
        if server.statuses:
            return self.answer(server.statuses.pop(0), b"", {})
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        unchanged = self.headers.get("If-Range") in (server.headers.get("ETag"), server.headers.get("Last-Modified"))
        total = len(server.content)
        if not (start and unchanged and server.knows_ranges):
            return self.answer(200, server.content, server.headers)
        if start >= total:
            return self.answer(416, b"", {"Content-Range": f"bytes */{total}"})
        content_range = {"Content-Range": f"bytes {start}-{total - 1}/{total}"}
        return self.answer(206, server.content[start:], server.headers | content_range)

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        sent = body[: self.server.cut_after.pop(0)] if body and self.server.cut_after else body
        self.server.sent.append(len(sent))  # before the client can have it, or a test could look too early
        self.wfile.write(sent)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(content: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server(content) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def small_and_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imdb, "_FOLDERS", FOLDERS)
    monkeypatch.setattr(imdb, "_RETRY_WAIT_S", 0.001)


def fetch(output: Path, url: str, *, retries: int = 5, timeout_s: float = 5.0, **options: object) -> ImdbFiles:
    with mock.patch.multiple(imdb, _RETRIES=retries, _TIMEOUT_S=timeout_s):
        return fetch_imdb(output, url=url, **options)


def fetch_in_part(output: Path, server: Server) -> None:
    """Writes to `output` the files of a download that was interrupted after 50,000 bytes."""
    server.cut_after = [50_000]
    with pytest.raises(InputError, match="50,000 bytes are kept"):
        fetch(output, server.url, retries=0)


def read_archive(output: Path, members: dict[str, bytes] | bytes, **options: object) -> ImdbFiles:
    archive = output.parent / "archive.tar.gz"
    archive.write_bytes(members if isinstance(members, bytes) else make_archive(members))
    return fetch_imdb(output, archive=archive, **options)


def names_in(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()} if directory.exists() else set()


# The tables


def test_a_local_archive_becomes_three_sorted_tables(tmp_path: Path) -> None:
    files = read_archive(tmp_path / "out", review_members())
    assert names_in(tmp_path / "out") == THREE_FILES
    assert (files.train_rows, files.test_rows, files.unlabelled_rows) == (6, 4, 12)
    train = pq.read_table(files.train)
    assert train.column_names == ["text", "label", "rating", "id"]
    assert [str(column) for column in train.schema.types] == ["string", "int8", "int8", "string"]
    assert train["id"].to_pylist() == [f"train/{kind}/{number}" for kind in ("neg", "pos") for number in range(3)]
    assert train["label"].to_pylist() == [0, 0, 0, 1, 1, 1]
    assert train["rating"].to_pylist() == [2, 2, 2, 9, 9, 9]
    assert train["text"][5].as_py() == "Café, numéro train/pos 2<br />"
    unlabelled = pq.read_table(files.unlabelled)
    assert unlabelled.column_names == ["id", "text"]
    assert unlabelled["id"].to_pylist() == [f"train/unsup/{number}" for number in range(12)]  # 2 before 10


def test_the_files_are_zstd_and_do_not_depend_on_the_order_in_the_archive(tmp_path: Path) -> None:
    one = read_archive(tmp_path / "one", review_members())
    other = read_archive(tmp_path / "other", dict(reversed(review_members().items())))
    assert one.train.read_bytes() == other.train.read_bytes()
    assert pq.ParquetFile(one.train).metadata.row_group(0).column(0).compression == "ZSTD"


def test_progress_of_reading_ends_at_the_size_of_the_archive(tmp_path: Path) -> None:
    events: list[Any] = []
    read_archive(tmp_path / "out", review_members(), progress=events.append)
    size = (tmp_path / "archive.tar.gz").stat().st_size
    assert events[-1] == Count(size, size, "bytes", "reading")


def test_members_that_are_not_reviews_are_never_read(tmp_path: Path) -> None:
    members = review_members()
    for name in ("../../evil.txt", "/etc/evil", "aclImdb/train/pos/../../../1_9.txt", "other/train/pos/7_9.txt"):
        members[name] = b"\xff evil"
    read_archive(tmp_path / "out", members)
    assert names_in(tmp_path / "out") == THREE_FILES
    assert names_in(tmp_path) == {"out", "archive.tar.gz"}


# Archives that cannot be used


def test_an_archive_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no archive .*missing\.tar\.gz"):
        fetch_imdb(tmp_path / "out", archive=tmp_path / "missing.tar.gz")


@pytest.mark.parametrize("share", [0.2, 0.5, 0.999])
def test_a_truncated_archive(tmp_path: Path, content: bytes, share: float) -> None:
    with pytest.raises(InputError, match=r"archive\.tar\.gz cannot be read as a \.tar\.gz"):
        read_archive(tmp_path / "out", content[: int(len(content) * share)])
    assert names_in(tmp_path / "out") == set()


@pytest.mark.parametrize("content", [b"", b"<html>Please log in</html>", bytes(2000)])
def test_a_file_that_is_no_archive(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InputError, match=r"archive\.tar\.gz cannot be read as a \.tar\.gz"):
        read_archive(tmp_path / "out", content)


def test_a_flipped_byte_at_the_end_is_found(tmp_path: Path, content: bytes) -> None:
    damaged = bytearray(content)
    damaged[-6] ^= 1  # in the CRC
    with pytest.raises(InputError, match="damaged"):
        read_archive(tmp_path / "out", bytes(damaged))


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"aclImdb/train/pos/1_9.txt": b"caf\xe9"}, r"archive\.tar\.gz: aclImdb/train/pos/1_9\.txt is not UTF-8"),
        ({"aclImdb/train/pos/1_9.txt": bytes(2_000_000)}, r"aclImdb/train/pos/1_9\.txt has 2,000,000 bytes"),
        ({"aclImdb/train/pos/1_8.txt": b"again"}, r"review 1 of train/pos twice: aclImdb/train/pos/1_8\.txt"),
        ({"aclImdb/test/pos/2_9.txt": b"more"}, r"aclImdb/test/pos/ has more than the 2 reviews"),
    ],
)
def test_a_review_that_cannot_be_is_named(tmp_path: Path, extra: dict[str, bytes], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_archive(tmp_path / "out", review_members() | extra)


def test_an_archive_without_the_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"aclImdb/train/neg/ should have 3 reviews and has 0"):
        read_archive(tmp_path / "out", {"README": b"hello"})


def test_a_local_archive_is_held_to_a_given_sha256(tmp_path: Path, content: bytes) -> None:
    read_archive(tmp_path / "out", content, sha256=hashlib.sha256(content).hexdigest().upper())
    with pytest.raises(InputError, match="its sha256 is"):
        read_archive(tmp_path / "out2", content, sha256="0" * 64)
    assert (tmp_path / "archive.tar.gz").exists()


# The output directory


def test_files_that_are_there_are_kept_unless_overwrite(tmp_path: Path) -> None:
    first = read_archive(tmp_path / "out", review_members())
    before = first.train.read_bytes()
    with pytest.raises(OutputError, match=r"train\.parquet.*: exists? already: .*--overwrite"):
        read_archive(tmp_path / "out", review_members("other"))
    assert first.train.read_bytes() == before
    read_archive(tmp_path / "out", review_members("other"), overwrite=True)
    assert "other" in pq.read_table(first.train)["text"][0].as_py()


def test_a_failed_overwrite_leaves_the_old_files(tmp_path: Path, content: bytes) -> None:
    first = read_archive(tmp_path / "out", review_members())
    before = first.train.read_bytes()
    with pytest.raises(InputError):
        read_archive(tmp_path / "out", content[:-500], overwrite=True)
    assert first.train.read_bytes() == before
    assert names_in(tmp_path / "out") == THREE_FILES


def test_an_output_that_is_a_file(tmp_path: Path, server: Server) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError, match=r"out/train\.parquet: cannot be written"):
        read_archive(tmp_path / "out", review_members())
    with pytest.raises(OutputError, match=r"partial cannot be written"):
        fetch(tmp_path / "out", server.url)
    assert len(server.requests) == 1  # and is not tried again


# Downloading


def test_a_download_leaves_only_the_tables(tmp_path: Path, server: Server) -> None:
    events: list[Any] = []
    files = fetch(tmp_path / "out", server.url, progress=events.append)
    total = len(server.content)
    assert files.train_rows == 6
    assert names_in(tmp_path / "out") == THREE_FILES
    with pytest.raises(OutputError, match="exist already"):
        fetch(tmp_path / "out", server.url)
    assert len(server.requests) == 1  # a refusal costs no download
    stages = [event.stage for event in events if isinstance(event, Count)]
    assert stages == sorted(stages), "the download, and then the reading"
    assert Count(total, total, "bytes", "downloading") in events
    assert stages[-1] == "reading"


def test_a_cut_connection_is_resumed_where_it_stopped(tmp_path: Path, server: Server) -> None:
    half = len(server.content) // 2
    server.cut_after = [half]
    fetch(tmp_path / "out", server.url, sha256=hashlib.sha256(server.content).hexdigest())
    assert server.sent == [half, len(server.content) - half]
    assert server.requests[1]["Range"] == f"bytes={half}-"
    assert server.requests[1]["If-Range"] == '"v1"'


def test_the_next_run_resumes_what_this_one_could_not_finish(tmp_path: Path, server: Server) -> None:
    server.cut_after = [40_000]
    with pytest.raises(InputError, match=r"40,000 bytes are kept in .*Run the same command again.*--archive FILE"):
        fetch(tmp_path / "out", server.url, retries=0)
    assert names_in(tmp_path / "out") == {PARTIAL, f"{PARTIAL}.json"}
    fetch(tmp_path / "out", server.url, retries=0)
    assert server.sent == [40_000, len(server.content) - 40_000]
    assert names_in(tmp_path / "out") == THREE_FILES


def test_a_connection_that_is_always_cut_fails_clearly(tmp_path: Path, server: Server) -> None:
    server.cut_after = [1000] * 10
    total = len(server.content)
    with pytest.raises(InputError, match=rf"\(attempts: 3\): the connection was cut after 3,000 of {total:,} bytes"):
        fetch(tmp_path / "out", server.url, retries=2)
    assert server.sent == [1000, 1000, 1000]
    assert not names_in(tmp_path / "out") & THREE_FILES


def test_a_silent_server_times_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as listening,  # takes connections, never answers
        pytest.raises(InputError, match=r"\(attempts: 2\): no connection \(.*timed out\)"),
    ):
        fetch(tmp_path / "out", f"http://127.0.0.1:{listening.server_port}/a", retries=1, timeout_s=0.1)


def test_server_errors_are_retried_a_few_times(tmp_path: Path, server: Server) -> None:
    server.statuses = [503, 500, 429]
    assert fetch(tmp_path / "out", server.url).train_rows == 6
    assert len(server.requests) == 4
    server.statuses = [503] * 10
    with pytest.raises(InputError, match=r"\(attempts: 2\): the server answered 503"):
        fetch(tmp_path / "other", server.url, retries=1)


def test_not_found_fails_at_once(tmp_path: Path, server: Server) -> None:
    server.statuses = [404]
    with pytest.raises(InputError, match=r"the server answered 404 Not Found.*--archive FILE"):
        fetch(tmp_path / "out", server.url)
    assert len(server.requests) == 1


def test_a_server_that_ignores_ranges_starts_the_file_again(tmp_path: Path, server: Server) -> None:
    server.knows_ranges = False
    server.cut_after = [50_000]
    fetch(tmp_path / "out", server.url, sha256=hashlib.sha256(server.content).hexdigest())
    assert server.sent == [50_000, len(server.content)]


def test_a_file_that_changed_in_between_is_not_spliced(tmp_path: Path, server: Server) -> None:
    fetch_in_part(tmp_path / "out", server)
    server.content = make_archive(review_members("new edition"))
    server.headers = {"ETag": '"v2"'}
    train = fetch(tmp_path / "out", server.url).train
    assert "new edition" in pq.read_table(train)["text"][0].as_py()


@pytest.mark.parametrize(
    ("headers", "resumes_with"),
    [
        ({"ETag": 'W/"weak"', "Last-Modified": "Mon, 06 Jun 2011 10:00:00 GMT"}, "Mon, 06 Jun 2011 10:00:00 GMT"),
        ({"ETag": 'W/"weak"'}, None),
        ({}, None),
    ],
)
def test_only_a_strong_validator_is_trusted(
    tmp_path: Path, server: Server, headers: dict[str, str], resumes_with: str | None
) -> None:
    server.headers = headers
    server.cut_after = [50_000]
    fetch(tmp_path / "out", server.url)
    assert server.requests[1].get("If-Range") == resumes_with
    assert ("Range" in server.requests[1]) == (resumes_with is not None)


def test_a_part_of_another_address_is_not_gone_on_with(tmp_path: Path, server: Server) -> None:
    fetch_in_part(tmp_path / "out", server)
    fetch(tmp_path / "out", server.url + "?mirror=2")
    assert "Range" not in server.requests[1]


def test_a_whole_file_that_was_not_yet_converted_is_not_sent_again(tmp_path: Path, server: Server) -> None:
    fetch_in_part(tmp_path / "out", server)
    (tmp_path / "out" / PARTIAL).write_bytes(server.content)  # as a run leaves it that is killed while converting
    assert fetch(tmp_path / "out", server.url).train_rows == 6
    assert server.sent == [50_000, 0]  # 416: nothing is missing


def test_a_part_that_is_longer_than_the_file_is_fetched_anew(tmp_path: Path, server: Server) -> None:
    fetch_in_part(tmp_path / "out", server)
    (tmp_path / "out" / PARTIAL).write_bytes(server.content + b"more")
    fetch(tmp_path / "out", server.url)
    assert server.sent == [50_000, 0, len(server.content)]


def test_a_wrong_checksum_leaves_nothing(tmp_path: Path, server: Server) -> None:
    with pytest.raises(InputError, match=r"its sha256 is .* downloaded from http://127.* has been deleted"):
        fetch(tmp_path / "out", server.url, sha256="0" * 64)
    assert names_in(tmp_path / "out") == set()


def test_a_download_that_is_no_archive_leaves_nothing(tmp_path: Path, server: Server) -> None:
    server.content = b"<html>Please log in</html>"
    with pytest.raises(InputError, match="cannot be read as a"):
        fetch(tmp_path / "out", server.url)
    assert names_in(tmp_path / "out") == set()


def test_an_address_with_a_password_is_refused_and_not_repeated(tmp_path: Path) -> None:
    said: list[object] = []
    with pytest.raises(ConfigError, match=r"https://127\.0\.0\.1:1: .*keys in it, .*--archive FILE") as raised:
        fetch_imdb(tmp_path / "out", url="https://user:hunter2@127.0.0.1:1/x.tar.gz", progress=said.append)
    assert "hunter2" not in f"{raised.value} {said}"
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_an_address_that_is_not_http(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="http"):
        fetch(tmp_path / "out", "file:///etc/hostname")


# Archives that somebody made to hang or fill the memory


LINK = tarfile.TarInfo("aclImdb/train/pos/7_9.txt")
LINK.type, LINK.linkname = tarfile.SYMTYPE, "/dev/zero"

HOSTILE_ARCHIVES: dict[str, tuple[bytes, str]] = {
    "more_reviews": (
        make_archive({f"aclImdb/train/pos/{number}_9.txt": b"x" for number in range(9)} | review_members()),
        "has more than the 3 reviews",
    ),
    "large_member": (make_archive({"aclImdb/README": b"\0" * 3_000_000}), "unpacks to more than 2 MiB"),
    "many_members": (make_archive({f"aclImdb/{number}": b"" for number in range(4_500)}), "unpacks to more than 2 MiB"),
    "long_name": (make_archive({"n" * 3_000_000: b""}, tarfile.GNU_FORMAT), "unpacks to more than 2 MiB"),
    "long_header": (make_archive({"é" * 1_600_000: b""}, tarfile.PAX_FORMAT), "unpacks to more than 2 MiB"),
    "behind_the_end": (
        make_archive(review_members()) + gzip.compress(b"\0" * 3_000_000),
        "unpacks to more than 2 MiB",
    ),
    "large_review": (make_archive({"aclImdb/train/pos/1_9.txt": b"x" * 1_100_000}), "too many for a review"),
    "not_utf8": (make_archive({"aclImdb/train/pos/1_9.txt": b"\xff"}), "is not UTF-8 text"),
    "other_path": (make_archive({"../../aclImdb/train/pos/1_9.txt": b"x"}), "should have 3 reviews and has 0"),
    "link": (gzip.compress(LINK.tobuf() + b"\0" * 1024), "should have 3 reviews and has 0"),
    "no_tar": (gzip.compress(b"x" * 10_000), "cannot be read as a .tar.gz"),
    "half": (make_archive(review_members())[:200], "cannot be read as a .tar.gz"),
    "no_gzip": (b"\x1f\x8b" + b"\xff" * 100, "cannot be read as a .tar.gz"),
}


@pytest.mark.parametrize("name", HOSTILE_ARCHIVES)
def test_an_archive_made_to_harm_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(imdb, "_MOST_UNPACKED", 2 << 20)
    content, message = HOSTILE_ARCHIVES[name]
    with pytest.raises(InputError, match=re.escape(message)):
        read_archive(tmp_path / "out", content)
    assert names_in(tmp_path / "out") == set()
