"""Where data lies: local paths and s3:// gs:// abfs:// URIs, through pyarrow's filesystems.

A file is written under a temporary name and renamed, so a reader never sees half of one. (On an object store a put is
atomic already, and a rename would be a copy; there the file is put whole under its own name.)
"""

from __future__ import annotations

import functools
import os
import re
import secrets
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
from pyarrow import fs

from lstm_ray.errors import ConfigError, InputError, OutputError
from lstm_ray.wording import reason

_OPTIONS = re.compile(r"\w+=[^&]*(&\w+=[^&]*)*")
_KEYS = re.compile(r"[?&]\w*(key|secret|token|password|signature|sig)\w*=", re.IGNORECASE)
_S3_OPTIONS = ("region", "scheme", "endpoint_override")
_S3_ATTEMPTS = 8  # with 0.05 s, 0.1 s, 0.2 s, ... and chance between them: a busy store has some seconds to recover
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.tmp")


def locate(path: str) -> tuple[fs.FileSystem, str]:
    """Returns the filesystem of a path or URI, and the path within it.

    Raises:
        ConfigError: There are keys in the URI.
        InputError: The URI's scheme is unknown, or its store cannot be reached.
    """
    if "://" not in path:
        return fs.LocalFileSystem(), os.path.abspath(os.path.expanduser(path))
    refuse_keys(path)
    store, inner, options = _split_uri(path)
    try:
        filesystem, base = _connect(store, options)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path}: {reason(error)}") from error
    return filesystem, (base.rstrip("/") + inner) if base else inner


def path_of(given: str) -> Callable[[str], str]:
    """Returns what turns a path within the filesystem of `given` into one that `locate` understands."""
    if "://" not in given:
        return lambda inner: inner
    store, _, options = _split_uri(given)
    scheme = store[: store.index("://") + 3]
    base = _connect(store, options)[1]
    # A path within an object store begins with the bucket, which is the URI's authority.
    return lambda inner: _uri(store if base else scheme, inner[len(base.rstrip("/")) :] if base else inner, options)


def refuse_keys(path: str) -> None:
    """Raises ConfigError, without repeating them, if a URI holds keys: s3://KEY:SECRET@bucket or ?secret_key=..."""
    scheme, _, rest = path.partition("://")
    authority = rest.partition("/")[0]
    user, at, place = authority.rpartition("@")
    # abfs://CONTAINER@ACCOUNT and gs://anonymous@BUCKET are places; with a colon in front of the @ there is a key.
    if (at and (":" in user or scheme == "s3")) or _KEYS.search(rest):
        raise ConfigError(
            f"{scheme}://{place.partition('?')[0]}: this URI was given with keys in it, which would end up in files "
            "and process lists: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or what your store reads, instead"
        )


def is_local(path: str) -> bool:
    """Says whether a path is on a filesystem that has renames."""
    return isinstance(locate(path)[0], fs.LocalFileSystem)


def join(base: str, name: str) -> str:
    """Returns the path of `name` in the directory `base`; a URI keeps its options."""
    return extend(base, "/" + name)


def extend(path: str, ending: str) -> str:
    """Returns the path with an ending behind its name; a URI keeps its options."""
    store, inner, options = _split_uri(path) if "://" in path else (path.rstrip("/"), "", "")
    return _uri(store, inner.rstrip("/") + ending, options)


def absolute(path: str) -> str:
    """Returns a path that means the same in every process of this machine; a URI does already."""
    return path if "://" in path else os.path.abspath(os.path.expanduser(path))


def with_options(path: str, options: Sequence[str]) -> str:
    """Returns a URI with options (KEY=VALUE) beside its own, which win; a local path stays as it is.

    Raises:
        ConfigError: An option is not of the form KEY=VALUE.
    """
    if wrong := [option for option in options if not _OPTIONS.fullmatch(option)]:
        raise ConfigError(f"--filesystem-option {wrong[0]!r} is not of the form KEY=VALUE")
    if "://" not in path:
        return path
    store, inner, own = _split_uri(path)
    return _uri(store, inner, "&".join([*options, own] if own else options))


def _uri(store: str, inner: str, options: str) -> str:
    return store + inner + ("?" + options if options else "")


def _split_uri(uri: str) -> tuple[str, str, str]:
    """Splits s3://bucket/a/b?region=x into s3://bucket, /a/b and region=x."""
    scheme, _, rest = uri.partition("://")
    inside, _, options = rest.rpartition("?")
    if _OPTIONS.fullmatch(options) and inside:
        rest = inside
    else:
        options = ""  # the question mark, if there is one, is a wildcard
    authority, slash, inner = rest.partition("/")
    return f"{scheme}://{authority}", slash + inner, options


@functools.lru_cache(maxsize=64)  # connecting to a store takes a round trip or two
def _connect(store: str, options: str) -> tuple[fs.FileSystem, str]:
    """Returns the filesystem of a store and the path at its root."""
    if store == "file://":
        return fs.LocalFileSystem(), ""
    if store.startswith("s3://"):
        bucket = store.removeprefix("s3://")
        return _connect_s3(bucket, dict(urllib.parse.parse_qsl(options))), bucket
    filesystem, base = fs.FileSystem.from_uri(_uri(store, "/", options))
    return filesystem, base


def _connect_s3(bucket: str, options: Mapping[str, str]) -> fs.S3FileSystem:
    """Connects to S3, patiently: Arrow would give up after three attempts.

    An endpoint that is not Amazon's is taken from the options or from AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL, as
    other AWS tools do. Arrow itself looks at none of these before it has asked Amazon for the bucket's region.
    """
    if unknown := [name for name in options if name not in _S3_OPTIONS]:
        raise pa.ArrowInvalid(f"unknown option {unknown[0]!r}; S3 has {', '.join(_S3_OPTIONS)}")
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    settings = {}
    if endpoint or "endpoint_override" in options:
        scheme, _, address = (endpoint or "https://").rstrip("/").partition("://")
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
        settings = {"scheme": scheme, "endpoint_override": address, "region": region}
    elif "region" not in options:
        settings = {"region": fs.resolve_s3_region(bucket)}
    # allow_delayed_open: a file of a few MB is one put, not a multipart upload of three requests.
    retry = fs.AwsStandardS3RetryStrategy(max_attempts=_S3_ATTEMPTS)
    return fs.S3FileSystem(allow_delayed_open=True, retry_strategy=retry, **{**settings, **options})


def write_file(path: str, write: Callable[[Any], None]) -> None:
    """Writes a file that is either whole or not there.

    Args:
        path: Local path or URI. The directory is made if it is missing.
        write: Is called with the open binary stream.

    Raises:
        OutputError: The place cannot be written (no space, no permission, ...).
    """
    filesystem, target = locate(path)
    try:
        if isinstance(filesystem, fs.LocalFileSystem):
            _write_and_rename(filesystem, target, write)
        else:
            content = pa.BufferOutputStream()
            write(content)  # first: what is half written when an error comes up, the stream's end would make a file
            with filesystem.open_output_stream(target) as stream:
                stream.write(content.getvalue())
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {reason(error)}") from error


def _write_and_rename(filesystem: fs.LocalFileSystem, target: str, write: Callable[[Any], None]) -> None:
    # Not by process id: two machines that write the same file may have the same.
    temporary = f"{os.path.dirname(target)}/.{os.path.basename(target)}.{secrets.token_hex(8)}.tmp"
    filesystem.create_dir(os.path.dirname(target), recursive=True)
    try:
        with filesystem.open_output_stream(temporary) as stream:
            write(stream)
        os.replace(temporary, target)
    except BaseException:  # Ctrl-C too: nothing half-written stays; raised again
        if os.path.exists(temporary):
            os.remove(temporary)
        raise


def delete_unfinished(directory: str) -> None:
    """Deletes the temporary files that writers which were killed have left in a directory."""
    if is_local(directory):
        for name in list_names(directory):
            if _TEMPORARY.fullmatch(name):
                delete(join(directory, name))


def write_bytes(path: str, content: bytes) -> None:
    """Writes `content` as the whole of a file."""
    write_file(path, lambda stream: stream.write(content))


def read_bytes(path: str) -> bytes:
    """Returns the whole of a file.

    Raises:
        InputError: It is missing or may not be read.
    """
    filesystem, target = locate(path)
    try:
        with filesystem.open_input_file(target) as stream:
            return bytes(stream.read())
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {reason(error)}") from error


def exists(path: str) -> bool:
    """Says whether a file or directory is there."""
    filesystem, target = locate(path)
    try:
        return bool(filesystem.get_file_info(target).type != fs.FileType.NotFound)
    except OSError as error:
        raise InputError(f"{path}: cannot be reached: {reason(error)}") from error


def list_names(directory: str) -> list[str]:
    """Returns the names of files and directories directly in `directory`, sorted; none if it does not exist."""
    filesystem, target = locate(directory)
    try:
        if filesystem.get_file_info(target).type == fs.FileType.File:
            raise OutputError(f"{directory}: is a file, not a directory")
        return sorted(info.base_name for info in filesystem.get_file_info(fs.FileSelector(target)))
    except FileNotFoundError:  # and no allow_not_found: with it Arrow fails if the directory is made meanwhile
        return []
    except OSError as error:
        raise OutputError(f"{directory}: cannot be read: {reason(error)}") from error


def check_writable(directory: str) -> None:
    """Raises OutputError if a local directory could not be made or written to; changes nothing."""
    filesystem, target = locate(directory)
    if not isinstance(filesystem, fs.LocalFileSystem):
        return
    existing = target
    while not os.path.exists(existing):
        existing = os.path.dirname(existing)
    if not os.path.isdir(existing):
        raise OutputError(f"{directory}: cannot be written: {existing} is not a directory")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise OutputError(f"{directory}: cannot be written: no permission in {existing}")


@contextmanager
def locked(directory: str, name: str) -> Iterator[None]:
    """Keeps other processes that ask for the same lock out of a local directory; the lock dies with the process.

    An object store has no locks, so there it keeps nobody out.

    Args:
        directory: What is locked.
        name: The lock's file in it.

    Raises:
        OutputError: Another process holds it, or the directory cannot be written.
    """
    filesystem, target = locate(directory)
    if not isinstance(filesystem, fs.LocalFileSystem):
        yield
        return
    import fcntl  # not on Windows, where Ray's clusters do not run either

    try:
        lock = os.path.join(target, name)
        os.makedirs(os.path.dirname(lock), exist_ok=True)
        descriptor = os.open(lock, os.O_CREAT | os.O_RDWR)
    except OSError as error:
        raise OutputError(f"{directory}: cannot be written: {reason(error)}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(
                f"{directory}: another run is writing here: wait for it, or choose another --output"
            ) from error
        yield
    finally:
        os.close(descriptor)


def delete(path: str) -> None:
    """Deletes a file, or a directory with all that is in it, if it is there."""
    filesystem, target = locate(path)
    try:
        kind = filesystem.get_file_info(target).type
        if kind == fs.FileType.Directory:
            filesystem.delete_dir(target)
        elif kind == fs.FileType.File:
            filesystem.delete_file(target)
    except FileNotFoundError:
        return  # another process was faster
    except OSError as error:
        raise OutputError(f"{path}: cannot be deleted: {reason(error)}") from error
