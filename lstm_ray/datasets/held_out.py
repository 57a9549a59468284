"""Decides which rows are held out, for validation or as a test set.

    key of a row -> keyed hash, 64 bits -> held out if the hash is in the lowest `fraction` of all hashes

The key is the row's text without white space around it, or its group (a product, a film, an author). Only the key
decides: rows with equal keys are on the same side, and a row's side does not depend on other rows or on its file.
(`data split` with --stratify or --before has rules of its own: split.py.)
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lstm_ray.text.tokenize import is_text_type

Hashes = npt.NDArray[np.uint64]


def trim(texts: pa.LargeStringArray) -> pa.LargeStringArray:
    """Returns texts without surrounding white space, which does not make texts different (as in seen.py)."""
    return pc.utf8_trim_whitespace(texts)


def group_keys(column: pa.ChunkedArray) -> pa.LargeBinaryArray:
    """Returns a column of any type as bytes for hashing; null stays null.

    Numbers, times and booleans become text, so that 7 in an integer column is the same group as "7" in another file.
    """
    chunks = [_group_keys(chunk) for chunk in column.chunks]
    return pa.concat_arrays(chunks) if chunks else pa.array([], pa.large_binary())


def _group_keys(values: pa.Array) -> pa.LargeBinaryArray:
    if isinstance(values.type, pa.BaseExtensionType):
        return _group_keys(values.storage)
    if pa.types.is_dictionary(values.type):
        return _group_keys(values.dictionary).take(values.indices)
    if pa.types.is_nested(values.type):
        return pa.array([None if one is None else repr(one).encode() for one in values.to_pylist()], pa.large_binary())
    if not (is_text_type(values.type) or pa.types.is_fixed_size_binary(values.type)):
        values = values.cast(pa.large_string())
    return values.cast(pa.large_binary())


def hash_keys(keys: pa.LargeBinaryArray, seed: int, purpose: bytes = b"") -> Hashes:
    """Returns the hash of each key.

    Args:
        keys: The keys, without nulls.
        seed: Different seeds give different hashes.
        purpose: At most 16 bytes; different purposes give different hashes. Otherwise a run on the training file of
            `data split` would find no rows to hold out for validation, because all of them would be in the test file.
    """
    encoded = keys.dictionary_encode()  # one hash per distinct key
    secret = seed.to_bytes(8, "little", signed=False)
    digests = [
        hashlib.blake2b(key, digest_size=8, key=secret, person=purpose).digest()
        for key in encoded.dictionary.to_pylist()
    ]
    hashes: Hashes = np.frombuffer(b"".join(digests), "<u8").astype(np.uint64).take(encoded.indices.to_numpy())
    return hashes


def held_out(hashes: Hashes, fraction: float) -> npt.NDArray[np.bool_]:
    """Returns which of the hashed keys are held out, bool[n]."""
    return hashes < np.uint64(int(fraction * 2**64))


def share_that_divides(hashes: Hashes, share: float) -> float | None:
    """Returns the share, in hundredths, nearest to `share` that holds out some keys but not all; None if none does.

    Few groups may all fall on one side: with six groups and a share of 0.2, none is held out in one of four cases.
    """
    distinct = np.unique(hashes)
    shares = sorted((hundredths / 100 for hundredths in range(1, 100)), key=lambda other: abs(other - share))
    return next((one for one in shares if 0 < held_out(distinct, one).sum() < len(distinct)), None)


def keys_of_rows(texts: pa.LargeStringArray, groups: pa.LargeBinaryArray | None) -> pa.LargeBinaryArray:
    """Returns each row's key: its group, or its text (`trim`) if the group is null."""
    of_texts = trim(texts).cast(pa.large_binary())
    return of_texts if groups is None else pc.coalesce(groups, of_texts)
