"""Local paths and s3:// gs:// abfs:// URIs, and the filesystem of each (pyarrow's)."""

from __future__ import annotations

import functools
import os
import re
import urllib.parse
from collections.abc import Callable, Iterable, Mapping, Sequence

import pyarrow as pa
from pyarrow import fs

from lstm_ray.errors import ConfigError, InputError
from lstm_ray.wording import reason

_OPTIONS = re.compile(r"\w+=[^&]*(&\w+=[^&]*)*")
_KEYS = re.compile(
    r"[?&][\w-]*("
    r"(?i:secret|token|passw|passphrase|pwd|credential|signature)"
    r"|[kK]ey(id)?(?![a-z])|KEY"  # of accessKeyId, not of keyword
    r"|(?i:(sig|sas)(?![a-z]))"  # not of design
    r")[\w-]*="
)
_ENVIRONMENT = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or your store's variables"
_S3_OPTIONS = ("region", "scheme", "endpoint_override")
_GS_RETRY_S = 60  # by default Arrow tries for a quarter of an hour, without a word
_S3_ATTEMPTS = 8  # with delays of 0.05 s, 0.1 s, 0.2 s, ... and jitter: a busy store has a few seconds to recover


def locate(path: str) -> tuple[fs.FileSystem, str]:
    """Returns the filesystem of a path or URI, and the path within it.

    Raises:
        ConfigError: The URI contains credentials.
        InputError: The URI's scheme is unknown, its store cannot be reached, or the name is not valid.
    """
    if "\0" in path or path != path.encode(errors="replace").decode():
        raise InputError(f"{path}: this name is not UTF-8 or contains NUL, and Arrow cannot open it: rename the file")
    if "://" not in path:
        return fs.LocalFileSystem(), absolute(path)
    refuse_keys(path)
    store, inner, options = _split_uri(path)
    try:
        filesystem, base = _connect(store, options)
    except (OSError, pa.ArrowInvalid, ImportError) as error:
        raise InputError(f"{path}: {reason(error)}{_right_scheme(path, error)}") from error
    return filesystem, (base.rstrip("/") + inner) if base else inner


def _right_scheme(uri: str, error: Exception) -> str:
    """Returns which scheme helps where a URI's is not known, as the end of a sentence; "" if it is."""
    scheme, _, rest = uri.partition("://")
    if scheme.lower() == "file":
        return "; give the path alone, or file:///PATH, with three slashes"
    if scheme != "s3" and scheme.lower() in ("s3", "s3a", "s3n"):
        return f"; write s3://{rest}"
    is_unknown = isinstance(error, ImportError) or "Unrecognized filesystem" in str(error)
    return "; known are s3://, gs://, abfs:// and hdfs://: fetch other files, and give their path" if is_unknown else ""


def path_of(given: str) -> Callable[[str], str]:
    """Returns a function that converts a path within the filesystem of `given` into a path or URI for `locate`."""
    if "://" not in given:
        return lambda inner: inner
    store, _, options = _split_uri(given)
    scheme = store[: store.index("://") + 3]
    base = _connect(store, options)[1]
    # A path within an object store begins with the bucket, which is the URI's authority.
    return lambda inner: _uri(store if base else scheme, inner[len(base.rstrip("/")) :] if base else inner, options)


def refuse_keys(path: str, remedy: str = _ENVIRONMENT) -> None:
    """Raises ConfigError, without showing them, if a URI contains keys: s3://KEY:SECRET@bucket or ?secret_key=..."""
    scheme, _, rest = path.partition("://")
    authority = rest.partition("/")[0]
    # A key may contain slashes, and a colon without a port before the first one begins a key.
    is_cut = "@" not in authority and re.search(r":(?!\d*$)", authority)
    user, at, store = (rest if is_cut else authority).rpartition("@")
    # abfs://CONTAINER@ACCOUNT and gs://anonymous@BUCKET contain no key; a colon before the @ means that there is one.
    if (at and (":" in user or scheme == "s3")) or _KEYS.search(rest):
        raise ConfigError(
            f"{scheme}://{store.partition('?')[0]}: this URI was given with keys in it, which would end up in files "
            f"and process lists: instead {remedy}"
        )


def check_options(options: Iterable[str]) -> None:
    """Raises ConfigError if a filesystem option is a key, which is not shown, or is not of the form KEY=VALUE."""
    for option in options:
        if found := _KEYS.search(f"?{option}"):
            raise ConfigError(
                f"--filesystem-option {found[0][1:]}... is a key, which would end up in files and process lists: "
                f"instead {_ENVIRONMENT}"
            )
        if not _OPTIONS.fullmatch(option):
            raise ConfigError(f"--filesystem-option {option!r} is not of the form KEY=VALUE")


def is_local(path: str) -> bool:
    """Returns whether a path is on a local filesystem, which supports renaming and locks."""
    return isinstance(locate(path)[0], fs.LocalFileSystem)


def join(base: str, name: str) -> str:
    """Returns the path of `name` in the directory `base`. A URI keeps its options."""
    return extend(base, "/" + name)


def extend(path: str, ending: str) -> str:
    """Returns the path with `ending` appended. A URI keeps its options."""
    store, inner, options = _split_uri(path) if "://" in path else (path.rstrip("/"), "", "")
    return _uri(store, inner.rstrip("/") + ending, options)


def absolute(path: str) -> str:
    """Returns the absolute form of a local path; URIs are unchanged.

    Raises:
        InputError: The path is relative, and the current directory has been deleted.
    """
    if "://" in path:
        return path
    try:
        return os.path.abspath(os.path.expanduser(path))
    except FileNotFoundError as error:
        raise InputError(
            f"{path}: is relative to the current directory, which has been deleted: change to another one"
        ) from error


def with_options(path: str, options: Sequence[str]) -> str:
    """Returns a URI with more options (KEY=VALUE); existing options take precedence. Local paths are unchanged.

    Raises:
        ConfigError: See `check_options`.
    """
    check_options(options)
    if "://" not in path:
        return path
    store, inner, own = _split_uri(path)
    return _uri(store, inner, "&".join([*options, own] if own else options))


def split_options(path: str) -> tuple[str, dict[str, str]]:
    """Returns a path or URI without its options, and the options."""
    if "://" not in path:
        return path, {}
    store, inner, options = _split_uri(path)
    return store + inner, dict(urllib.parse.parse_qsl(options))


def _uri(store: str, inner: str, options: str) -> str:
    return store + inner + ("?" + options if options else "")


def _split_uri(uri: str) -> tuple[str, str, str]:
    """Splits s3://bucket/a/b?region=x into s3://bucket, /a/b and region=x."""
    scheme, _, rest = uri.partition("://")
    inside, _, options = rest.rpartition("?")
    if _OPTIONS.fullmatch(options) and inside:
        rest = inside
    else:
        options = ""  # a question mark, if any, is a wildcard
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
    if store.startswith(("gs://", "gcs://")) and "retry_limit_seconds" not in options:
        options = "&".join([*([options] if options else []), f"retry_limit_seconds={_GS_RETRY_S}"])
    filesystem, base = fs.FileSystem.from_uri(_uri(store, "/", options))
    return filesystem, base


def _connect_s3(bucket: str, options: Mapping[str, str]) -> fs.S3FileSystem:
    """Connects to S3, with more retries than Arrow's default.

    A custom endpoint is taken from the options or from AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL, as in other AWS tools.
    Arrow itself reads these only after asking Amazon for the bucket's region.
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
    # allow_delayed_open: a file of a few MB is one put instead of a multipart upload of three requests.
    retry = fs.AwsStandardS3RetryStrategy(max_attempts=_S3_ATTEMPTS)
    return fs.S3FileSystem(allow_delayed_open=True, retry_strategy=retry, **{**settings, **options})
