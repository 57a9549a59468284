"""Decides which rows are held out, for validation or as a test set.

    key of a row -> its keyed hash, 64 bits -> held out if among the lowest `fraction` of all hashes

The key is the row's text, or its group (a product, a film, an author). It alone decides: rows with equal keys are on
one side, and a row's side depends neither on the other rows nor on how rows are cut into files.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lstm_ray.text.tokenize import is_text_type

Hashes = npt.NDArray[np.uint64]


def group_keys(column: pa.ChunkedArray) -> pa.LargeBinaryArray:
    """Returns a column of any type as bytes to hash; null stays null.

    A number, time or boolean becomes its text, so that 7 in an integer column is the group that "7" is in another file.
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
        keys: Without nulls.
        seed: Another seed, other hashes.
        purpose: At most 16 bytes; another purpose, other hashes. With the same ones a run on what `data split` left
            for training would find no row to hold out for validation: those would be in the test set.
    """
    encoded = keys.dictionary_encode()  # of a group with many rows one hash is enough
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


def keys_of_rows(texts: pa.LargeStringArray, groups: pa.LargeBinaryArray | None) -> pa.LargeBinaryArray:
    """Returns each row's key: its group, or where that is null its text."""
    own = texts.cast(pa.large_binary())
    return own if groups is None else pc.coalesce(groups, own)
