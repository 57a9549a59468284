"""tokenize: Keras's rule on any text and any Arrow column, and the shortcut for rows that are cut anyway."""

import re
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_ray.config import TokenSettings
from lstm_ray.runtime.tensorflow import start_tensorflow
from lstm_ray.text.tokenize import FILTERED, PUNCTUATION, decode_texts, is_text_type, tokenize

SPACES = [" ", "\t", "\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x1f", "\x85", "\xa0", "\u2003", "\u2028", "\u3000"]
MARKS = ["'", ".", ",", "!", "<", ">", "/", "-", "_", "\\", "\x00", "\x7f", "\u200b", "\u00ad", "\ufeff", "\u0301"]
TAGS = ["<br />", "<br/>", "<BR>", "<bR\t/>", "< br>", "<br//>", "<b>", "<br", "br />"]
WORDS = ["a", "B", "Good", "film", "x" * 30, "É", "ß", "😀", "עברית", "中文"]
FOLDED_ODDLY = ["İ", "\u0131", "\u1e9e", "\u212b", "\u01c5", "\ufb01"]  # i's with and without dot, capital ß, ...
SIGMAS = ["Σ", "ΟΔΟΣ", "ς"]

any_text = st.lists(
    st.sampled_from(SPACES + MARKS + TAGS + WORDS + FOLDED_ODDLY + SIGMAS) | st.text(max_size=4), max_size=20
).map("".join)


def split_by_rule(
    text: str, lowercase: str = "unicode", split_on: str = "whitespace", punctuation: str = "drop"
) -> list[str]:
    """The rule: Keras's, after replacing other white space by spaces if it separates words."""
    text = text.lower() if lowercase == "unicode" else lower_ascii(text)
    if split_on == "whitespace":
        text = "".join(" " if character.isspace() else character for character in text)
    for character in FILTERED:
        is_kept = punctuation == "keep" and not character.isspace()
        text = text.replace(character, f" {character} " if is_kept else " ")
    return [word for word in text.split(" ") if word]


def without_line_breaks(text: str) -> str:
    return re.sub(r"<[bB][rR][ \t\n\f\r]*/?>", " ", text)


def lower_ascii(text: str) -> str:
    return "".join(character.lower() if character.isascii() else character for character in text)


def column(texts: list[str | None]) -> pa.LargeStringArray:
    return pa.array(texts, pa.large_string())


def split(
    texts: pa.LargeStringArray, keep: int | None = None, truncating: str = "pre", **rule: Any
) -> pa.LargeListArray:
    return tokenize(texts, TokenSettings(**rule), keep=keep, truncating=truncating)


def words_of(text: str, **settings: Any) -> list[str]:
    return split(column([text]), **settings).to_pylist()[0]


@pytest.fixture(scope="module")
def text_to_word_sequence() -> Callable[[str], list[str]]:
    start_tensorflow()
    from keras.src.legacy.preprocessing.text import text_to_word_sequence

    return text_to_word_sequence


rules = st.fixed_dictionaries(
    {},
    optional={
        "lowercase": st.sampled_from(["unicode", "ascii"]),
        "split_on": st.sampled_from(["whitespace", "space"]),
        "punctuation": st.sampled_from(["drop", "keep"]),
    },
)


# The rule


@given(text=any_text)
def test_splitting_on_the_space_is_what_keras_does(
    text_to_word_sequence: Callable[[str], list[str]], text: str
) -> None:
    assert words_of(text, strip_html=False, split_on="space") == text_to_word_sequence(text)
    assert split_by_rule(text, split_on="space") == text_to_word_sequence(text)


@given(text=any_text)
def test_splitting_on_white_space_is_what_keras_does_once_all_of_it_is_spaces(
    text_to_word_sequence: Callable[[str], list[str]], text: str
) -> None:
    spaced = "".join(" " if character.isspace() else character for character in text)
    assert words_of(text, strip_html=False) == text_to_word_sequence(spaced)


@given(texts=st.lists(st.none() | any_text, max_size=6), rule=rules, strip_html=st.booleans())
def test_a_column_is_split_by_the_rule(texts: list[str | None], rule: dict[str, Any], strip_html: bool) -> None:
    words = split(column(texts), strip_html=strip_html, **rule)
    words.validate(full=True)
    assert words.type == pa.large_list(pa.large_string())
    seen = [without_line_breaks(text or "") if strip_html else text or "" for text in texts]
    assert words.to_pylist() == [split_by_rule(text, **rule) for text in seen]


@given(text=any_text, rule=rules)
def test_kept_punctuation_leaves_the_other_words_as_they_are(text: str, rule: dict[str, Any]) -> None:
    kept = words_of(text, **rule | {"punctuation": "keep"})
    assert [word for word in kept if word not in PUNCTUATION] == words_of(text, **rule | {"punctuation": "drop"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (FILTERED, list(PUNCTUATION)),
        ("Not bad...!", ["not", "bad", ".", ".", ".", "!"]),
        ("don't 'quote', so-so (8/10)", ["don't", "'quote'", ",", "so", "-", "so", "(", "8", "/", "10", ")"]),
        ("fine<br />:-)<b>", ["fine", ":", "-", ")", "<", "b", ">"]),
        ("\u2018curly\u2019 \u2014 dash\u2026", ["\u2018curly\u2019", "\u2014", "dash\u2026"]),  # not ASCII
    ],
)
def test_punctuation_as_words(text: str, expected: list[str]) -> None:
    assert words_of(text, punctuation="keep") == expected


@given(
    texts=st.lists(st.none() | any_text, max_size=8), cut=st.tuples(st.integers(0, 8), st.integers(0, 8)), rule=rules
)
def test_a_slice_of_an_array_is_split_like_a_copy_of_it(
    texts: list[str | None], cut: tuple[int, int], rule: dict[str, Any]
) -> None:
    start, length = cut
    sliced = column(texts).slice(start, length)
    copied = column(texts[start : start + length])
    for keep in (None, 2):
        words = split(sliced, keep=keep, **rule)
        words.validate(full=True)
        assert words.to_pylist() == split(copied, keep=keep, **rule).to_pylist()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \t\r\n\x85\xa0\u2028", []),
        (FILTERED, []),
        ("...!?", []),
        ("don't 'quote'", ["don't", "'quote'"]),
        ("Not bad!At ALL.", ["not", "bad", "at", "all"]),
        ("one\r\ntwo\rthree", ["one", "two", "three"]),
        ("one\xa0two\u3000three", ["one", "two", "three"]),
        ("zero\u200bwidth", ["zero\u200bwidth"]),  # not white space to Unicode
        ("a\x00b c", ["a\x00b", "c"]),
        ("😀 so-so 😀😀", ["😀", "so", "so", "😀😀"]),
        ("e\u0301te\u0301 ÉTÉ", ["e\u0301te\u0301", "été"]),  # not normalised
        ("İstanbul", ["i\u0307stanbul"]),  # Arrow's own lower-casing gives a plain i
        ("ΟΔΟΣ ΣΑΣ.", ["οδος", "σας"]),  # and no final sigma
        ("\u212a \u212b", ["k", "\u00e5"]),  # the Kelvin and Ångström signs; the first becomes ASCII
        ("שלום, עולם! مرحبا", ["שלום", "עולם", "مرحبا"]),
        ("很好。很好 ١٢٣", ["很好。很好", "١٢٣"]),
        ("A-B_C/D\\E", ["a", "b", "c", "d", "e"]),
        ("\u2018curly\u2019 \u2014 dash\u2026", ["\u2018curly\u2019", "\u2014", "dash\u2026"]),
        ("[^a]{b}|~`c`", ["a", "b", "c"]),
    ],
)
def test_awkward_texts(text: str, expected: list[str]) -> None:
    assert words_of(text) == expected
    assert split_by_rule(text) == expected


@pytest.mark.parametrize("space", ["\r", "\v", "\f", "\x1c", "\x1f", "\x85", "\xa0", "\u2028", "\u3000"])
def test_white_space_that_is_part_of_a_word_to_keras(space: str) -> None:
    for text in (f"One{space}Two{space} {space} three", f"ÉTÉ{space}{space}. {space}"):
        expected = text.lower().replace(".", " ").split(" ")
        assert words_of(text, split_on="space") == [word for word in expected if word]
        assert words_of(text) == text.lower().replace(".", " ").split()


@pytest.mark.parametrize("letter", ["x", "é"])
def test_a_row_of_a_megabyte(letter: str) -> None:
    word = letter * (1 << 20)
    many = " ".join([letter.upper()] * 300_000)
    assert words_of(f"{many} {word}") == [letter] * 300_000 + [word]
    assert words_of(f"{many} {word}", keep=3)[-3:] == [letter, letter, word]
    assert words_of(f"{word} {many}", keep=3, truncating="post")[:3] == [word, letter, letter]


@pytest.mark.parametrize("strip_html", [True, False])
@pytest.mark.parametrize("keep", [None, 1, 5])
def test_no_rows_and_rows_without_words(strip_html: bool, keep: int | None) -> None:
    for texts in ([], [None], [None, None, ""], ["", "."], [None, "a", "", None, "b c"]):
        words = split(column(texts), strip_html=strip_html, keep=keep)
        words.validate(full=True)
        assert words.to_pylist() == [split_by_rule(text or "") for text in texts]


# Line breaks


@pytest.mark.parametrize("tag", ["<br>", "<br/>", "<br />", "<BR />", "<Br\n/>", "<br \t />"])
def test_a_line_break_is_a_space_or_the_word_br(tag: str) -> None:
    assert words_of(f"one{tag}two") == ["one", "two"]
    assert words_of(f"один{tag}два") == ["один", "два"]
    assert words_of(f"one{tag}two", strip_html=False) == ["one", "br", "two"]


@pytest.mark.parametrize("tag", ["<brr>", "< br>", "<br clear='all'>", "<br", "br />", "</br>", "<b>"])
def test_other_tags_are_words(tag: str) -> None:
    assert words_of(f"one{tag}two") == words_of(f"one{tag}two", strip_html=False)


# keep


def named(words: list[str], keep: int, truncating: str) -> list[str]:
    """Returns the words that `truncate` would leave."""
    if len(words) <= keep:
        return words
    last = {"pre": keep, "post": 0, "middle": keep // 2}[truncating]
    return words[: keep - last] + words[len(words) - last :]


# Not Σ: what becomes of it depends on what stands before, which a cut takes away. It has a test of its own below.
long_text = st.lists(st.sampled_from(SPACES + MARKS + TAGS + WORDS + FOLDED_ODDLY), max_size=60).map("".join)


@given(
    texts=st.lists(st.none() | long_text, max_size=4),
    keep=st.integers(1, 6),
    truncating=st.sampled_from(["pre", "post", "middle"]),
    strip_html=st.booleans(),
    rule=rules,
)
def test_keep_changes_none_of_the_words_it_names(
    texts: list[str | None], keep: int, truncating: Any, strip_html: bool, rule: dict[str, Any]
) -> None:
    whole = split(column(texts), strip_html=strip_html, **rule).to_pylist()
    kept_rows = split(column(texts), keep=keep, truncating=truncating, strip_html=strip_html, **rule)
    kept_rows.validate(full=True)
    kept = kept_rows.to_pylist()
    for all_words, words in zip(whole, kept, strict=True):
        assert named(words, keep, truncating) == named(all_words, keep, truncating)
        assert len(words) > keep or words == all_words


@pytest.mark.parametrize("strip_html", [True, False])
@pytest.mark.parametrize("truncating", ["pre", "post", "middle"])
@pytest.mark.parametrize("punctuation", ["drop", "keep"])
@pytest.mark.parametrize("tag", ["<br />", "<br /><br />", "<BR\n\n\n\n\n\n\n\n\n\n\n\n\n\n/>", "😀<br>é"])
def test_a_line_break_anywhere_around_the_cut(strip_html: bool, truncating: Any, punctuation: Any, tag: str) -> None:
    keep = 3
    # As long as the ends that are split: with what makes a window of exactly `keep` words and those of a cut tag.
    texts = ["ab " * left + "c" * extra + tag + "de " * (30 - left) for left in range(31) for extra in range(3)]
    texts += ["a" * left + " " + tag + "b" * right + " c d" for left in range(60) for right in (1, 30, 40)]
    rule: dict[str, Any] = {"strip_html": strip_html, "punctuation": punctuation}
    whole = split(column(texts), **rule).to_pylist()
    kept = split(column(texts), **rule, keep=keep, truncating=truncating).to_pylist()
    assert [named(words, keep, truncating) for words in kept] == [named(words, keep, truncating) for words in whole]
    assert any(len(few) < len(all_words) for few, all_words in zip(kept, whole, strict=True)), "nothing was cut"


def test_keep_splits_long_words_whole() -> None:
    texts = ["a b c " + "x" * 1000, "x" * 1000 + " a b c", None, "short", "y" * 400 + " " + "z" * 400]
    assert split(column(texts), keep=2).to_pylist()[0] == ["a", "b", "c", "x" * 1000]
    assert [row[-2:] for row in split(column(texts), keep=2).to_pylist()] == [
        ["c", "x" * 1000],
        ["b", "c"],
        [],
        ["short"],
        ["y" * 400, "z" * 400],
    ]


@pytest.mark.parametrize(
    ("text", "truncating"),
    [("Δ" + ".'" * 20 + ".Σ", "pre"), ("ΔΣ" + ".'" * 20 + ".Δ", "post")],
    ids=["letter-before", "letter-after"],
)
def test_keep_does_not_change_a_sigma_far_from_the_cut(text: str, truncating: Any) -> None:
    # Σ becomes ς after a letter and before none; apostrophes, dots and accents in between do not count, however many.
    assert named(words_of(text, keep=1, truncating=truncating), 1, truncating) == named(words_of(text), 1, truncating)


def test_a_word_at_both_ends_is_not_counted_twice() -> None:
    texts = ["aa b " + "c" * length for length in range(100)] + ["x" * 1000, "a " + "x" * 1000, "x" * 1000 + " a b"]
    assert split(column(texts), keep=4, truncating="middle").to_pylist() == split(column(texts)).to_pylist()


# Arrow types


VALUES = ["Good film", None, "", "très BIEN", "😀"]
DECODED = [["good", "film"], [], [], ["très", "bien"], ["😀"]]
TEXT_TYPES = [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view()]


def encoded(kind: pa.DataType, values: list[Any]) -> pa.Array:
    is_bytes = kind in (pa.binary(), pa.large_binary(), pa.binary_view())
    return pa.array([value.encode() if is_bytes and value is not None else value for value in values], kind)


@pytest.mark.parametrize("kind", TEXT_TYPES, ids=str)
def test_every_text_type_is_decoded(kind: pa.DataType) -> None:
    array = encoded(kind, VALUES)
    chunked = pa.chunked_array([array.slice(0, 2), array.slice(2, 0), array.slice(2)], kind)
    assert is_text_type(kind)
    for texts in (array, chunked, pa.chunked_array([], kind)):
        decoded = decode_texts(texts)
        assert isinstance(decoded, pa.LargeStringArray)
        assert split(decoded).to_pylist() == DECODED[: len(texts)]
    assert split(decode_texts(array.slice(3))).to_pylist() == DECODED[3:]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.large_binary()], ids=str)
def test_dictionaries_are_decoded(kind: pa.DataType) -> None:
    chunks = [encoded(kind, values).dictionary_encode() for values in (VALUES, ["other", "Good film"])]
    assert is_text_type(chunks[0].type)
    assert split(decode_texts(chunks[0].slice(1))).to_pylist() == DECODED[1:]
    assert split(decode_texts(pa.chunked_array(chunks))).to_pylist() == [*DECODED, ["other"], ["good", "film"]]


def test_a_column_of_nulls_has_no_words() -> None:
    assert is_text_type(pa.null())
    assert split(decode_texts(pa.nulls(3))).to_pylist() == [[], [], []]


INVALID = [
    b"fine",
    b"caf\xe9",
    None,
    b"\xed\xa0\x80 surrogate",
    b"\xc0\xafoverlong",
    b"cut \xf0\x9f\x98",
    "été".encode(),
]
VALID_ONLY = ["fine", None, None, None, None, None, "été"]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()], ids=str)
def test_bytes_that_are_not_utf8_become_null(kind: pa.DataType) -> None:
    array = pa.array(INVALID, kind)
    assert decode_texts(array).to_pylist() == VALID_ONLY
    assert decode_texts(array.slice(1, 3)).to_pylist() == VALID_ONLY[1:4]
    assert decode_texts(pa.chunked_array([array, array])).to_pylist() == VALID_ONLY * 2


def test_bytes_in_a_dictionary_that_are_not_utf8_become_null() -> None:
    assert decode_texts(pa.array(INVALID, pa.binary()).dictionary_encode()).to_pylist() == VALID_ONLY


@pytest.mark.parametrize(
    ("kind", "stored_as"), [(pa.string(), pa.binary()), (pa.large_string(), pa.large_binary())], ids=str
)
def test_strings_that_are_not_utf8_become_null(kind: pa.DataType, stored_as: pa.DataType) -> None:
    # Parquet files hold such columns: writers in other languages declare strings unchecked, and Arrow reads them so.
    array = pa.Array.from_buffers(kind, len(INVALID), pa.array(INVALID, stored_as).buffers())
    assert decode_texts(array).to_pylist() == VALID_ONLY
    assert decode_texts(array.slice(1, 3)).to_pylist() == VALID_ONLY[1:4]


@given(values=st.lists(st.none() | st.binary(max_size=8), max_size=5))
def test_any_bytes_are_decoded_as_python_does(values: list[bytes | None]) -> None:
    def decode(value: bytes | None) -> str | None:
        try:
            return None if value is None else value.decode()
        except UnicodeDecodeError:
            return None

    assert decode_texts(pa.array(values, pa.binary())).to_pylist() == [decode(value) for value in values]


@pytest.mark.parametrize(
    "array",
    [
        pa.array([1, 2]),
        pa.array([0.5]),
        pa.array([True]),
        pa.array([["a"]]),
        pa.array([{"text": "a"}]),
        pa.array([1, 1]).dictionary_encode(),
        pa.chunked_array([[1], [2]]),
        pa.array([b"ab"], pa.binary(2)),
    ],
    ids=lambda array: str(array.type),
)
def test_a_column_of_something_else_is_refused(array: pa.Array) -> None:
    assert not is_text_type(array.type)
    with pytest.raises(TypeError, match="expected a column of text, found "):
        decode_texts(array)
