"""The vocabulary: the words that a model knows, and their ids.

Ids are those of keras.datasets.imdb: 0 padding, 1 start of text, 2 out of vocabulary, 3 unused, words from 4 by
descending frequency. Equally frequent words are ordered by code point, so that the vocabulary depends only on the
corpus, not on the number of files or workers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lstm_ray.config import Unlisted
from lstm_ray.errors import InputError
from lstm_ray.text.sequences import Sequences
from lstm_ray.wording import reason

START_ID = 1
OOV_ID = 2
FIRST_WORD_ID = 4

_MOST_UNPACKED = 100  # maximum compression ratio; 300,000 words that differ only in a number have a ratio of 6

_COUNTS = pa.schema([("word", pa.large_string()), ("count", pa.int64())])


class Vocabulary:
    """Words by id.

    Attributes:
        words: large_string[n]; words[i] has the id `FIRST_WORD_ID + i`.
        counts: int64[n], occurrences in the corpus in which the words were counted; 0 if unknown.
        size: The number of ids that a model uses. Words with higher ids are out of vocabulary.
    """

    def __init__(self, words: pa.LargeStringArray, counts: pa.Int64Array, size: int) -> None:
        self.words = words
        self.counts = counts
        self.size = size

    @property
    def end(self) -> int:
        """Returns the id after the last word's."""
        return max(FIRST_WORD_ID, min(FIRST_WORD_ID + len(self.words), self.size))

    def look_up(self, tokens: pa.LargeListArray, unlisted: Unlisted = "oov") -> Sequences:
        """Returns the token ids of each row, starting with the start id.

        Args:
            tokens: large_list<large_string>[rows], no nulls.
            unlisted: What happens to words that are not in the vocabulary: "oov" gives them `OOV_ID`, "drop" leaves
                them out, as in keras.datasets.imdb.
        """
        positions = pc.index_in(tokens.flatten(), value_set=self.words)
        ids = pc.fill_null(positions, -1).to_numpy(zero_copy_only=False) + np.int32(FIRST_WORD_ID)
        rows = Sequences(ids, _offsets(tokens))
        if unlisted == "drop":
            rows = rows.only(ids >= FIRST_WORD_ID)
        ids = rows.token_ids
        ids[(ids < FIRST_WORD_ID) | (ids >= self.size)] = OOV_ID
        return rows.prepended(START_ID)

    def resized(self, size: int) -> Vocabulary:
        """Returns the same words for a model that uses `size` ids."""
        return Vocabulary(self.words, self.counts, size)

    def extended(self, counts: pa.Table, most: int) -> Vocabulary:
        """Returns these words with the same ids, followed by new words, for a model with `most` more ids.

        Args:
            counts: Words and their occurrences.
            most: Maximum number of new words to add; the most frequent ones are added.
        """
        known = self.end - FIRST_WORD_ID
        words, occurrences = self.words.slice(0, known), self.counts.slice(0, known)
        new = counts.filter(pc.invert(pc.is_in(counts["word"], value_set=words)))
        added = build_vocabulary(new, FIRST_WORD_ID + most)
        return Vocabulary(
            pa.concat_arrays([words, added.words]), pa.concat_arrays([occurrences, added.counts]), self.size + most
        )

    def write(self, where: str | Path | IO[bytes]) -> None:
        """Writes the vocabulary as Parquet: word, id, count; to a path or stream."""
        ids = pa.array(np.arange(len(self.words), dtype=np.int32) + np.int32(FIRST_WORD_ID))
        table = pa.table({"word": self.words, "id": ids, "count": self.counts})
        pq.write_table(table.replace_schema_metadata({"size": str(self.size)}), where, compression="zstd")

    @classmethod
    def read(cls, path: str | Path | pa.NativeFile) -> Vocabulary:
        """Reads a file that `write` wrote.

        Raises:
            InputError: The file is not a vocabulary.
        """
        try:
            # A tiny file may repeat a long word a billion times; as a dictionary, the word is read once.
            source = pa.OSFile(str(path)) if isinstance(path, str | Path) else path
            with source, pq.ParquetFile(source, read_dictionary=["word"]) as parquet:
                _check_size(parquet.metadata, source.size())
                table = parquet.read(["word", "count"]).unify_dictionaries()
            words, counts = table["word"].combine_chunks(), table["count"].combine_chunks()
            if words.null_count or counts.null_count or len(words.unique()) < len(words):
                raise ValueError("a word is missing or duplicate")
            words, counts = words.cast(pa.large_string()), counts.cast(pa.int64())
            words.validate(full=True)
            metadata = table.schema.metadata or {}
            if b"size" not in metadata:
                raise ValueError("the number of its ids is missing")
            size = int(metadata[b"size"])
        except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
            where = f"{path}: " if isinstance(path, str | Path) else ""
            raise InputError(f"{where}not a vocabulary written by lstm-ray ({reason(error)})") from error
        return cls(words, counts, size)

    @classmethod
    def read_word_index(cls, path: str | Path, size: int) -> Vocabulary:
        """Reads a JSON object of word -> rank (from 1), as `keras.datasets.imdb.get_word_index()` returns it.

        Raises:
            InputError: The file is not a JSON object of words and ranks, or the ranks are not 1, 2, 3, ...
        """
        try:
            ranks: dict[str, int] = json.loads(Path(path).read_text(encoding="utf-8"))
            words = sorted(ranks, key=lambda word: ranks[word])
            if [ranks[word] for word in words] != list(range(1, len(words) + 1)):
                raise ValueError("the ranks are not 1, 2, 3, ... each once")
            column = pa.array(words, pa.large_string())
        except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
            raise InputError(f"{path}: not a word index (a JSON object of word to rank): {error}") from error
        return cls(column, pa.array(np.zeros(len(words), np.int64)), size)


def _check_size(metadata: pq.FileMetaData, packed: int) -> None:
    """Raises ValueError if a file's size suggests a decompression bomb."""
    # Only row groups are checked: if a footer is damaged, asking Arrow for its columns ends the process.
    unpacked = sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
    if not 0 <= metadata.num_rows <= packed or unpacked > _MOST_UNPACKED * packed:
        raise ValueError(f"{packed:,} bytes would unpack to {metadata.num_rows:,} words of {unpacked:,} bytes")


def number_words(tokens: pa.LargeListArray) -> tuple[Sequences, pa.LargeStringArray]:
    """Returns each row's words as indices in a list of the distinct words, and this list."""
    encoded = tokens.flatten().dictionary_encode()
    return Sequences(encoded.indices.to_numpy(), _offsets(tokens)), encoded.dictionary


def _offsets(tokens: pa.LargeListArray) -> npt.NDArray[np.int64]:
    """Returns where each row begins in `tokens.flatten()`, and its length at the end; `tokens` may be a slice."""
    offsets = tokens.offsets.to_numpy()
    from_zero: npt.NDArray[np.int64] = offsets - offsets[0]
    return from_zero


def count_words(tokens: pa.LargeListArray) -> pa.Table:
    """Returns the occurrences of each word in `tokens`, as a table of word and count in no particular order."""
    counted = pc.value_counts(tokens.flatten())
    return pa.table([counted.field("values"), counted.field("counts")], schema=_COUNTS)


def merge_counts(tables: Sequence[pa.Table]) -> pa.Table:
    """Returns the sum of several results of `count_words`."""
    merged = pa.concat_tables([_COUNTS.empty_table(), *tables]).group_by("word").aggregate([("count", "sum")])
    return merged.rename_columns({"count_sum": "count"}).select(["word", "count"])


def build_vocabulary(counts: pa.Table, size: int) -> Vocabulary:
    """Returns the most frequent words of `counts`, with at most `size` ids, including the reserved ones."""
    ranked = counts.sort_by([("count", "descending"), ("word", "ascending")]).slice(0, max(0, size - FIRST_WORD_ID))
    return Vocabulary(ranked["word"].combine_chunks(), ranked["count"].combine_chunks(), size)
