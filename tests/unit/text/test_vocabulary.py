"""Vocabulary: Keras's ids, whoever counted the words in whatever order; other files are refused."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_ray.config import TokenSettings
from lstm_ray.errors import InputError
from lstm_ray.text.sequences import Sequences, truncate
from lstm_ray.text.tokenize import tokenize
from lstm_ray.text.vocabulary import (
    FIRST_WORD_ID,
    OOV_ID,
    START_ID,
    Vocabulary,
    build_vocabulary,
    count_words,
    merge_counts,
)

# Words that differ in case, accents and code units: \ufb01 stands before the emoji by code point and UTF-8 byte, and
# after it by UTF-16 code unit.
WORDS = ["a", "b", "B", "aa", "été", "e\u0301", "\ufb01", "😀", "'", "\x00", "zz"]

any_rows = st.lists(st.lists(st.sampled_from(WORDS), max_size=6), max_size=8)


def tokens_of(rows: list[list[str]]) -> pa.LargeListArray:
    return pa.array(rows, pa.large_list(pa.large_string()))


def rows_of(sequences: Sequences) -> list[list[int]]:
    assert sequences.token_ids.dtype == np.int32
    bounds = zip(sequences.offsets[:-1], sequences.offsets[1:], strict=True)
    return [sequences.token_ids[start:stop].tolist() for start, stop in bounds]


def vocabulary_of(words: list[str], size: int = 100) -> Vocabulary:
    return Vocabulary(pa.array(words, pa.large_string()), pa.array(range(len(words), 0, -1), pa.int64()), size)


def entries(vocabulary: Vocabulary) -> tuple[list[str], list[int], int]:
    assert vocabulary.words.type == pa.large_string()
    assert vocabulary.counts.type == pa.int64()
    return vocabulary.words.to_pylist(), vocabulary.counts.to_pylist(), vocabulary.size


# Looking up


def test_every_row_begins_with_the_start_id_and_words_count_from_four() -> None:
    ids = vocabulary_of(["the", "film", "good"]).look_up(tokens_of([["good", "film"], [], ["the", "unheard", "the"]]))
    assert rows_of(ids) == [[START_ID, 6, 5], [START_ID], [START_ID, 4, OOV_ID, 4]]


def test_a_word_beyond_the_size_is_out_of_vocabulary_though_listed() -> None:
    vocabulary = vocabulary_of(["the", "film", "good"], size=6)
    rows = tokens_of([["good", "unheard", "film"]])
    assert rows_of(vocabulary.look_up(rows)) == [[START_ID, OOV_ID, OOV_ID, 5]]
    assert rows_of(vocabulary.look_up(rows, "drop")) == [[START_ID, OOV_ID, 5]], "only the unlisted word is dropped"
    assert rows_of(vocabulary.resized(7).look_up(rows)) == [[START_ID, 6, OOV_ID, 5]]
    assert rows_of(vocabulary.resized(4).look_up(rows)) == [[START_ID, OOV_ID, OOV_ID, OOV_ID]]


@pytest.mark.parametrize("unlisted", ["oov", "drop"])
def test_no_rows_no_words_and_no_vocabulary(unlisted: Any) -> None:
    for vocabulary in (vocabulary_of(["a"]), vocabulary_of([])):
        assert rows_of(vocabulary.look_up(tokens_of([]), unlisted)) == []
        assert rows_of(vocabulary.look_up(tokens_of([[], []]), unlisted)) == [[START_ID], [START_ID]]
    expected = [START_ID, OOV_ID] if unlisted == "oov" else [START_ID]
    assert rows_of(vocabulary_of([]).look_up(tokens_of([["a"]]), unlisted)) == [expected]


@given(
    rows=any_rows,
    listed=st.lists(st.sampled_from(WORDS), unique=True),
    size=st.integers(4, 16),
    unlisted=st.sampled_from(["oov", "drop"]),
    cut=st.tuples(st.integers(0, 4), st.integers(0, 8)),
)
def test_ids_are_those_of_a_dictionary(
    rows: list[list[str]], listed: list[str], size: int, unlisted: Any, cut: tuple[int, int]
) -> None:
    def look_up(row: list[str]) -> list[int]:
        ids = [listed.index(word) + FIRST_WORD_ID if word in listed else None for word in row]
        kept = [word_id for word_id in ids if word_id is not None or unlisted == "oov"]
        return [START_ID, *(word_id if word_id is not None and word_id < size else OOV_ID for word_id in kept)]

    vocabulary = vocabulary_of(listed, size)
    expected = [look_up(row) for row in rows]
    assert rows_of(vocabulary.look_up(tokens_of(rows), unlisted)) == expected
    start, length = cut
    sliced = tokens_of(rows).slice(start, length)
    assert rows_of(vocabulary.look_up(sliced, unlisted)) == expected[start : start + length]


@given(
    texts=st.lists(st.lists(st.sampled_from(["a", "bb", "ccccccccc", "d" * 40, "."]), max_size=30).map(" ".join)),
    max_tokens=st.integers(1, 8),
    truncating=st.sampled_from(["pre", "post", "middle"]),
    punctuation=st.sampled_from(["drop", "keep"]),
)
def test_texts_cut_before_they_are_split_get_the_same_ids(
    texts: list[str], max_tokens: int, truncating: Any, punctuation: Any
) -> None:
    column, vocabulary = pa.array(texts, pa.large_string()), vocabulary_of(["a", "bb", "."])
    whole = vocabulary.look_up(tokenize(column, TokenSettings(punctuation=punctuation)))
    ends = vocabulary.look_up(
        tokenize(column, TokenSettings(punctuation=punctuation), keep=max_tokens, truncating=truncating)
    )
    assert rows_of(truncate(ends, max_tokens, truncating)) == rows_of(truncate(whole, max_tokens, truncating))


# Counting


@given(rows=any_rows, size=st.integers(4, 20))
def test_words_stand_by_falling_frequency_then_by_code_point(rows: list[list[str]], size: int) -> None:
    counts = Counter(word for row in rows for word in row)
    ranked = sorted(counts, key=lambda word: (-counts[word], word))[: size - FIRST_WORD_ID]
    built = build_vocabulary(count_words(tokens_of(rows)), size)
    assert entries(built) == (ranked, [counts[word] for word in ranked], size)


@given(rows=any_rows, data=st.data())
def test_any_partition_of_the_rows_gives_the_same_vocabulary(rows: list[list[str]], data: st.DataObject) -> None:
    shards: list[list[list[str]]] = [[] for _ in range(data.draw(st.integers(1, 4)))]
    for row in rows:
        shards[data.draw(st.integers(0, len(shards) - 1))].append(row)
    parts = [count_words(tokens_of(shard)) for shard in shards]
    expected = entries(build_vocabulary(count_words(tokens_of(rows)), 50))
    assert entries(build_vocabulary(merge_counts(parts), 50)) == expected
    assert entries(build_vocabulary(merge_counts(parts[::-1]), 50)) == expected
    first, rest = merge_counts(parts[:1]), merge_counts(parts[1:])
    assert entries(build_vocabulary(merge_counts([first, rest]), 50)) == expected, "merging is associative"


def test_nothing_to_count() -> None:
    for counts in (merge_counts([]), merge_counts([count_words(tokens_of([]))]), count_words(tokens_of([[], []]))):
        assert counts.num_rows == 0
        assert entries(build_vocabulary(counts, 100)) == ([], [], 100)


def test_a_slice_counts_its_own_rows_only() -> None:
    counts = count_words(tokens_of([["a"], ["b", "b"], ["c"]]).slice(1, 1))
    assert counts.to_pylist() == [{"word": "b", "count": 2}]


def test_the_size_counts_the_reserved_ids() -> None:
    counts = count_words(tokens_of([["a", "a", "b"]]))
    assert entries(build_vocabulary(counts, 5)) == (["a"], [2], 5)
    assert entries(build_vocabulary(counts, 4)) == ([], [], 4)


# Files


@given(words=st.lists(st.text(min_size=1), unique=True, max_size=6), size=st.integers(4, 10**9))
def test_read_returns_what_write_wrote(tmp_path_factory: pytest.TempPathFactory, words: list[str], size: int) -> None:
    path = tmp_path_factory.getbasetemp() / "vocabulary.parquet"
    vocabulary = vocabulary_of(words, size)
    vocabulary.write(path)
    assert entries(Vocabulary.read(path)) == entries(vocabulary)
    assert entries(Vocabulary.read(str(path))) == entries(vocabulary)


def test_the_file_has_a_row_for_each_word(tmp_path: Path) -> None:
    vocabulary_of(["the", "film"]).write(tmp_path / "vocabulary.parquet")
    assert pq.read_table(tmp_path / "vocabulary.parquet").to_pylist() == [
        {"word": "the", "id": 4, "count": 2},
        {"word": "film", "id": 5, "count": 1},
    ]


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"not Parquet",
        pa.table({"word": ["a"], "id": [4], "count": [1]}),
        pa.table({"word": ["a"], "id": [4], "count": [1]}).replace_schema_metadata({"size": "many"}),
        pa.table({"word": ["a"], "id": [4], "count": [1]}).replace_schema_metadata({"other": "1"}),
        pa.table({"text": ["a"], "label": [1]}).replace_schema_metadata({"size": "9"}),
    ],
    ids=["missing", "empty", "not-parquet", "no-size", "bad-size", "other-metadata", "other-columns"],
)
def test_a_file_that_is_no_vocabulary_is_refused(tmp_path: Path, content: bytes | pa.Table | None) -> None:
    path = tmp_path / "vocabulary.parquet"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        pq.write_table(content, path)
    with pytest.raises(InputError, match=r"vocabulary\.parquet: not a vocabulary written by lstm-ray"):
        Vocabulary.read(path)


def test_a_word_index_is_read_by_rank(tmp_path: Path) -> None:
    path = tmp_path / "index.json"
    path.write_text(json.dumps({"film": 2, "été": 3, "the": 1}, ensure_ascii=False), encoding="utf-8")
    assert entries(Vocabulary.read_word_index(path, 50)) == (["the", "film", "été"], [0, 0, 0], 50)


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"{",
        b"\xff\xfe",
        b"null",
        b"7",
        b'"words"',
        b'["the", "film"]',
        b"[1, 2]",
        b'{"the": 1, "film": 3}',
        b'{"the": 0, "film": 1}',
        b'{"the": 1, "film": 1}',
        b'{"the": "1"}',
        b'{"the": 1, "film": "2"}',
        b'{"the": null}',
        b'{"the": {"rank": 1}}',
        b'{"\\ud800": 1}',
    ],
    ids=lambda content: repr(content)[:30],
)
def test_a_file_that_is_no_word_index_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "index.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"index\.json: not a word index \(a JSON object of word to rank\)"):
        Vocabulary.read_word_index(path, 50)


# The ids of keras.datasets.imdb


INDEX = [
    "the",
    "a",
    "br",
    "don't",
    "film",
    "good",
    "café",
    "caf",
    "CAFÉ",
    "10",
    "x\x85",
    "\xa0",
    "'",
    "é",
    "été",
    "été\xa0",
]
TO_SPACES = bytes.maketrans(b'!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n', b" " * 33)


def imdb_ids(text: str, index: dict[str, int], num_words: int) -> list[int]:
    """The recipe of keras.datasets.imdb: on bytes, lower-casing ASCII only, splitting only at spaces."""
    ranks = {word.encode(): rank for word, rank in index.items()}
    words = text.encode().lower().translate(TO_SPACES).split(b" ")
    ids = [ranks[word] + 3 for word in words if word in ranks]
    return [1] + [word_id if word_id < num_words else 2 for word_id in ids]


def imdb_ids_of(texts: list[str], directory: Path, num_words: int) -> tuple[list[list[int]], list[list[int]]]:
    """Returns our ids and the recipe's."""
    index = {word: rank for rank, word in enumerate(INDEX, start=1)}
    (directory / "index.json").write_text(json.dumps(index))
    vocabulary = Vocabulary.read_word_index(directory / "index.json", num_words)
    words = tokenize(
        pa.array(texts, pa.large_string()), TokenSettings(strip_html=False, lowercase="ascii", split_on="space")
    )
    return rows_of(vocabulary.look_up(words, "drop")), [imdb_ids(text, index, num_words) for text in texts]


PIECES = [
    " ",
    "\t",
    "\n",
    "\r",
    "\v",
    "\x1c",
    "\u2028",
    ".",
    "<br />",
    "-",
    "'",
    "The",
    "FILM",
    "unheard",
    "É",
    "ÉTÉ",
    "😀",
    "ß",
    "İ",
    "Σ",
]


@given(
    texts=st.lists(st.lists(st.sampled_from(INDEX + PIECES), max_size=12).map("".join), max_size=6),
    num_words=st.integers(5, 24),
)
def test_ids_are_those_of_keras_datasets_imdb(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], num_words: int
) -> None:
    ours, expected = imdb_ids_of(texts, tmp_path_factory.getbasetemp(), num_words)
    assert ours == expected


def test_white_space_beyond_ascii_is_part_of_a_word_in_keras_datasets_imdb(tmp_path: Path) -> None:
    # 348 of its 25,000 training reviews need this, and its index lists words with a NEL (U+0085) in them.
    texts = ["film x\x85 film", "x\x85.film", "a\x85film", "a \xa0 film", "été\xa0", "É\xa0the"]
    ours, expected = imdb_ids_of(texts, tmp_path, 24)
    assert ours == expected == [[1, 8, 14, 8], [1, 14, 8], [1], [1, 5, 15, 8], [1, 19], [1]]


# More words


@given(any_rows, any_rows, st.integers(FIRST_WORD_ID + 1, 20), st.integers(0, 12))
def test_words_that_are_added_come_last_and_no_id_changes(
    old: list[list[str]], new: list[list[str]], size: int, most: int
) -> None:
    before, counts = build_vocabulary(count_words(tokens_of(old)), size), count_words(tokens_of(new))
    words, occurrences, extended = entries(before.extended(counts, most))
    known = len(before.words)
    assert words[:known] == before.words.to_pylist()
    assert extended == size + most
    others = Counter(word for row in new for word in row if word not in words[:known])
    expected = sorted(others, key=lambda word: (-others[word], word.encode()))[:most]
    assert words[known:] == expected
    assert occurrences[known:] == [others[word] for word in expected]


def test_words_beyond_the_size_make_room_for_those_that_are_added() -> None:
    before = vocabulary_of(["the", "film", "good"], size=6)
    counts = count_words(tokens_of([["good", "good", "new"]]))
    assert before.extended(counts, 1).words.to_pylist() == ["the", "film", "good"]
    assert before.extended(counts, 2).end == 8
