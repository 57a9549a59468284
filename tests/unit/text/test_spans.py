"""Spans: the position of each word in a text, whatever separates the words."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_ray.config import TokenSettings
from lstm_ray.text.spans import find_words
from lstm_ray.text.tokenize import tokenize

SETTINGS = st.builds(
    TokenSettings,
    strip_html=st.booleans(),
    lowercase=st.sampled_from(["unicode", "ascii"]),
    split_on=st.sampled_from(["space", "whitespace"]),
    punctuation=st.sampled_from(["drop", "keep"]),
)
# Capitals whose small letters are two or depend on their neighbours, what only some count as white space, and tags.
PIECES = [*"aBé.:'! \t\n\r\v\x1c", "\u00a0", "\u0085", "\u03a3", "\u03c2", "\u0130", "ß", "\u01c5"]
PIECES += ["<br />", "<BR>", "<br\v>", "br", "\u0307"]


@given(st.lists(st.sampled_from(PIECES), max_size=25).map("".join), SETTINGS)
def test_each_word_is_where_it_was_taken_from(text: str, settings: TokenSettings) -> None:
    words = tokenize(pa.array([text], pa.large_string()), settings).to_pylist()[0]
    spans = find_words(text, words, settings)
    ends = [0, *(end for _, end in spans)]
    assert all(before <= start < end for before, (start, end) in zip(ends, spans, strict=False))
    for (start, end), word in zip(spans, words, strict=True):
        assert lowered(text[start:end], settings) == lowered(word, settings)


def lowered(text: str, settings: TokenSettings) -> str:
    """Returns a text in lower case, with one small sigma."""
    if settings.lowercase == "ascii":
        return "".join(character.lower() if character.isascii() else character for character in text)
    return text.lower().replace("\u03c2", "\u03c3")


@pytest.mark.parametrize(
    ("text", "settings", "found"),
    [
        ("Not <br />BAD!", {}, ["Not", "BAD"]),
        ("Not <br />BAD!", {"strip_html": False}, ["Not", "br", "BAD"]),
        ("so-so...", {"punctuation": "keep"}, ["so", "-", "so", ".", ".", "."]),
        ("", {}, []),
    ],
)
def test_examples(text: str, settings: dict[str, Any], found: list[str]) -> None:
    by = TokenSettings(**settings)
    words = tokenize(pa.array([text], pa.large_string()), by).to_pylist()[0]
    assert [text[start:end] for start, end in find_words(text, words, by)] == found
