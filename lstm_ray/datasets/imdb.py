"""The Stanford Large Movie Review Dataset as Parquet: downloaded, or read from an archive that the user has.

Source: Maas, Daly, Pham, Huang, Ng and Potts, "Learning Word Vectors for Sentiment Analysis", ACL 2011;
https://ai.stanford.edu/~amaas/data/sentiment/. 50,000 labelled reviews (half train, half test; 1-4 stars of 10 are
negative, 7-10 positive) and 50,000 unlabelled ones, each a text file named `<number>_<stars>.txt`.

The archive is read as a stream, without unpacking it to disk; members that are not reviews are skipped.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import io
import json
import os
import re
import tarfile
import time
import urllib.error
import urllib.request
import zlib
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple, TypeAlias

import pyarrow as pa

from lstm_ray.datasets.files import refuse_existing, write_tables
from lstm_ray.errors import ConfigError, InputError, OutputError
from lstm_ray.progress import Count, Progress, ignore
from lstm_ray.storage import refuse_keys

IMDB_URL = "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
# Source: the checksum in TensorFlow Datasets for this file (84,125,825 bytes).
IMDB_SHA256 = "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe"
_FOLDERS = {"train/neg": 12_500, "train/pos": 12_500, "test/neg": 12_500, "test/pos": 12_500, "train/unsup": 50_000}
"""Reviews in each folder of the archive."""

_MEMBER = re.compile(r"(?:\./)?aclImdb/(?P<folder>\w+/\w+)/(?P<number>\d{1,9})_(?P<rating>\d{1,2})\.txt")
_LABELS = {"neg": 0, "pos": 1}
_BLOCK = 1 << 18  # bytes
_RETRIES = 5  # after a cut connection or a server error
_RETRY_WAIT_S = 1.0  # before the first retry; doubled for each further one
_TIMEOUT_S = 60.0  # without data, after which a connection counts as broken
_MOST_UNPACKED = 1 << 30  # bytes of the whole archive; the dataset has 0.3 GiB
_MAX_REVIEW = 1 << 20  # bytes; the longest review has 14 kB, so a larger member is not a review


@dataclass(frozen=True)
class ImdbFiles:
    """Paths of the dataset's files, and their numbers of rows."""

    train: Path
    test: Path
    unlabelled: Path
    train_rows: int
    test_rows: int
    unlabelled_rows: int


def fetch_imdb(
    output: Path,
    *,
    archive: Path | None = None,
    url: str = IMDB_URL,
    sha256: str | None = None,
    overwrite: bool = False,
    progress: Progress = ignore,
) -> ImdbFiles:
    """Writes train.parquet, test.parquet and unlabelled.parquet into `output`; returns their paths and rows.

    train and test: text (string), label (int8, 1 = positive), rating (int8, stars), id ("train/pos/123"), sorted by
    label and number. unlabelled: id, text, sorted by number.

    A download that breaks off is resumed where it stopped, in this call and by the next one; until the files are
    written it is kept in `output` as aclImdb_v1.tar.gz.partial.

    Args:
        output: The directory to write to; made if it is missing.
        archive: Read this aclImdb_v1.tar.gz instead of downloading it.
        url: The URL to download from.
        sha256: Expected hash of the archive. By default the published one for a download from `IMDB_URL`, and no check
            of an archive from elsewhere.
        overwrite: Replace existing files.
        progress: Receives the bytes downloaded, then the bytes of the archive read.

    Raises:
        InputError: The archive cannot be downloaded or read, or is not this dataset.
        OutputError: `output` already contains one of the files and `overwrite` is False, or it cannot be written.
        ConfigError: `url` is not an http(s) address.
    """
    train, test, unlabelled = (output / f"{name}.parquet" for name in ("train", "test", "unlabelled"))
    refuse_existing(train, test, unlabelled, overwrite=overwrite)
    if archive is not None:
        tables = _read_archive(archive, sha256, progress)
        write_tables(dict(zip((train, test, unlabelled), tables, strict=True)))
    else:
        if sha256 is None and url == IMDB_URL:
            sha256 = IMDB_SHA256
        partial = _Partial(output / "aclImdb_v1.tar.gz.partial")
        _download(url, partial, progress)
        try:
            tables = _read_archive(partial.path, sha256, progress)
        except InputError as error:
            partial.remove()  # it is complete and wrong: resuming would not help
            raise InputError(f"{error} It was downloaded from {url} and has been deleted.") from error
        write_tables(dict(zip((train, test, unlabelled), tables, strict=True)))
        partial.remove()
    return ImdbFiles(train, test, unlabelled, *(table.num_rows for table in tables))


class _Review(NamedTuple):
    rating: int
    text: str


_Reviews: TypeAlias = dict[str, dict[int, _Review]]  # folder -> number -> review


def _read_archive(archive: Path, sha256: str | None, progress: Progress) -> tuple[pa.Table, pa.Table, pa.Table]:
    """Returns the tables train, test and unlabelled of an archive that is complete and this dataset."""
    if not archive.is_file():
        raise InputError(f"There is no archive {archive}.")
    if sha256 is not None:
        _check_sha256(archive, sha256)
    try:
        reviews = _read_reviews(archive, progress)
    except (EOFError, zlib.error, tarfile.TarError, OSError) as error:
        raise InputError(
            f"{archive} cannot be read as a .tar.gz archive; it may be truncated or damaged ({error})."
        ) from error
    for folder, expected in _FOLDERS.items():
        if len(reviews[folder]) != expected:
            raise InputError(
                f"{archive} is not the complete dataset: aclImdb/{folder}/ should have {expected:,} reviews "
                f"and has {len(reviews[folder]):,}."
            )
    return _labelled_table(reviews, "train"), _labelled_table(reviews, "test"), _unlabelled_table(reviews)


def _check_sha256(archive: Path, expected: str) -> None:
    digest = hashlib.sha256()
    with archive.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    if digest.hexdigest() != expected.lower():
        raise InputError(
            f"{archive} is damaged or another file: its sha256 is {digest.hexdigest()}, expected {expected}."
        )


def _read_reviews(archive: Path, progress: Progress) -> _Reviews:
    reviews: _Reviews = {folder: {} for folder in _FOLDERS}
    size = archive.stat().st_size
    with archive.open("rb") as file, gzip.GzipFile(fileobj=file) as unzipped:
        unpacked = _Limited(archive, unzipped)
        with tarfile.open(fileobj=unpacked, mode="r|") as tar:
            for count, member in enumerate(tar):
                tar.members.clear()  # type: ignore[attr-defined]  # some KB each, which it keeps and never needs
                if count % 500 == 0:
                    progress(Count(file.tell(), size, "bytes", "reading"))
                name = _MEMBER.fullmatch(member.name)
                if name is None or name["folder"] not in reviews or not member.isfile():
                    continue
                of_folder = reviews[name["folder"]]
                number = int(name["number"])
                if number in of_folder:
                    raise InputError(f"{archive} has review {number} of {name['folder']} twice: {member.name}.")
                if len(of_folder) == _FOLDERS[name["folder"]]:
                    raise InputError(
                        f"{archive} is not the dataset: aclImdb/{name['folder']}/ has more than the {len(of_folder):,} "
                        "reviews that it should have."
                    )
                of_folder[number] = _Review(int(name["rating"]), _read_text(archive, tar, member))
        while unpacked.read(_BLOCK):  # gzip checks length and CRC only at its end
            pass
    progress(Count(size, size, "bytes", "reading"))
    return reviews


class _Limited(io.RawIOBase):
    """Reads an archive's decompressed bytes, up to a limit: a few bytes may decompress to millions.

    Members that are not reviews are read too, and so are names and headers, which tarfile keeps in memory.
    """

    def __init__(self, archive: Path, unzipped: gzip.GzipFile) -> None:
        super().__init__()
        self._archive, self._unzipped = archive, unzipped
        self._left = _MOST_UNPACKED

    def read(self, size: int = -1) -> bytes:
        """Returns the next bytes.

        Raises:
            InputError: There are too many bytes.
        """
        content = self._unzipped.read(size)
        self._left -= len(content)
        if self._left < 0:
            raise InputError(
                f"{self._archive} is not the dataset: it unpacks to more than {_MOST_UNPACKED >> 20:,} MiB."
            )
        return content


def _read_text(archive: Path, tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    if member.size > _MAX_REVIEW:
        raise InputError(f"{archive}: {member.name} has {member.size:,} bytes, too many for a review.")
    content = tar.extractfile(member)
    assert content is not None  # it is a regular file
    try:
        return content.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{archive}: {member.name} is not UTF-8 text: {error}.") from error


def _labelled_table(reviews: _Reviews, split: str) -> pa.Table:
    rows = [
        (review.text, label, review.rating, f"{split}/{kind}/{number}")
        for kind, label in _LABELS.items()
        for number, review in sorted(reviews[f"{split}/{kind}"].items())
    ]
    texts, labels, ratings, ids = zip(*rows, strict=True)
    columns = [pa.array(texts, pa.string()), pa.array(labels, pa.int8()), pa.array(ratings, pa.int8())]
    return pa.table([*columns, pa.array(ids, pa.string())], names=["text", "label", "rating", "id"])


def _unlabelled_table(reviews: _Reviews) -> pa.Table:
    by_number = sorted(reviews["train/unsup"].items())
    ids = pa.array([f"train/unsup/{number}" for number, _ in by_number], pa.string())
    return pa.table([ids, pa.array([review.text for _, review in by_number], pa.string())], names=["id", "text"])


# Downloading


class _TransferError(Exception):
    """The transfer failed for a reason that may be temporary."""


class _Partial:
    """The part of a file that has been downloaded, and beside it a file with its URL and version."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._note = path.with_name(f"{path.name}.json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if os.path.exists(self.path) else 0

    def validator(self, url: str) -> str | None:
        """Returns the If-Range value for resuming this file, or None if it must be downloaded from the start."""
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return note.get("validator") if self.size and note.get("url") == url else None

    def restart(self, url: str, validator: str | None) -> None:
        self.remove()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._note.write_text(json.dumps({"url": url, "validator": validator}), encoding="utf-8")

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)


def _download(url: str, partial: _Partial, progress: Progress) -> None:
    """Downloads `url` into `partial`, resuming a partial download."""
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"url must begin with http:// or https://, and is {url!r}.")
    refuse_keys(url, "fetch the file in another way, and pass it with --archive FILE")
    progress(f"downloading {url}")
    for attempt in range(_RETRIES + 1):
        if attempt:
            time.sleep(_RETRY_WAIT_S * 2 ** (attempt - 1))
        try:
            _transfer(url, partial, progress)
        except _TransferError as error:
            problem = str(error)
        except OSError as error:
            raise OutputError(f"{partial.path} cannot be written: {error}") from error
        else:
            return
    arrived = f"{partial.size:,} bytes are kept in {partial.path}" if partial.size else "Nothing has arrived"
    raise InputError(
        f"{url} could not be fetched (attempts: {_RETRIES + 1}): {problem}. {arrived}. Run the same command "
        f"again to resume, or fetch the file in another way and pass it with --archive FILE."
    )


def _transfer(url: str, partial: _Partial, progress: Progress) -> None:
    """Makes one request for what is missing, and appends it; raises _TransferError if that is not everything."""
    validator = partial.validator(url)
    headers = {"Range": f"bytes={partial.size}-", "If-Range": validator} if validator else {}
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        with error:
            _refused(url, error, partial, resuming=validator is not None)
        return
    except (OSError, http.client.HTTPException) as error:
        raise _TransferError(f"no connection ({getattr(error, 'reason', None) or error})") from error
    with response:
        done, total = _range_of(response, partial, resuming=validator is not None)
        if done == 0:  # a server without ranges, or whose file has changed, sends the whole file
            partial.restart(url, _strong_validator(response.headers))
        with partial.path.open("ab") as file:
            while block := _read_block(response):
                file.write(block)
                done += len(block)
                progress(Count(done, total or done, "bytes", "downloading"))
    if total is not None and done != total:
        raise _TransferError(f"the connection was cut after {done:,} of {total:,} bytes")


def _range_of(response: http.client.HTTPResponse, partial: _Partial, *, resuming: bool) -> tuple[int, int | None]:
    """Returns the offset at which the response begins, and the size of the whole file."""
    if response.status != HTTPStatus.PARTIAL_CONTENT:
        length = response.headers.get("Content-Length")
        return 0, int(length) if length is not None else None
    content_range = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
    if not resuming or content_range is None or int(content_range[1]) != partial.size:
        partial.remove()
        raise _TransferError("the server sent a range that was not requested")
    return partial.size, int(content_range[2])


def _refused(url: str, error: urllib.error.HTTPError, partial: _Partial, *, resuming: bool) -> None:
    """Raises the error of a rejected request. Returns if the request was rejected because the file is complete."""
    if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and resuming:
        if error.headers.get("Content-Range") == f"bytes */{partial.size}":
            return
        partial.remove()
        raise _TransferError("the part that had arrived does not fit the file on the server")
    if error.code >= 500 or error.code in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS):
        raise _TransferError(f"the server answered {error.code} {error.reason}")
    raise InputError(
        f"{url} cannot be fetched: the server answered {error.code} {error.reason}. Fetch the file in another way and "
        f"pass it with --archive FILE."
    ) from error


def _strong_validator(headers: http.client.HTTPMessage) -> str | None:
    """Returns the header that identifies the exact bytes of the file (a weak ETag does not; RFC 9110)."""
    etag = headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")


def _read_block(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read1(_BLOCK)
    except (OSError, http.client.HTTPException) as error:
        raise _TransferError(f"the connection broke ({error or type(error).__name__})") from error
