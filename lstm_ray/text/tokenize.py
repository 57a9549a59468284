"""Splits texts into words, a column at a time.

The rule is Keras's `text_to_word_sequence`: lower-case, replace !"#$%&()*+,-./:;<=>?@[\\]^_`{|}~ tab and newline by
spaces, split. Keras splits only at spaces: a carriage return, a no-break space or U+0085 stays part of a word.
`split_on="space"` does the same; 348 of the 25,000 IMDb training reviews need it to get the ids of keras.datasets.imdb.
`split_on="whitespace"` splits at all white space.

`punctuation="keep"` makes each of these characters a word, except tab and newline. Other words stay the same: Keras's
list has no apostrophe, so "don't" is one word in either case.

All of this except lower-casing and white space beyond ASCII concerns single bytes, and no byte of a multi-byte UTF-8
character is ASCII. So a column of ASCII texts is lower-cased and filtered by one `bytes.translate` over its whole
character buffer (0.04 s for 33 MB, against 0.5 s for Arrow's lower-case and regex kernels), then split by Arrow. Other
texts are lower-cased by Python's `str`, which is the reference (Arrow differs for İ and the final Σ). Kept punctuation
is surrounded by spaces by Arrow's regex kernel, before the translation.

Source: keras/src/legacy/preprocessing/text.py (the rule).
"""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lstm_ray.config import TokenSettings, Truncating
from lstm_ray.text.sequences import kept_ends

PUNCTUATION = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~'
FILTERED = PUNCTUATION + "\t\n"
"""The characters that become spaces, unless punctuation is kept."""

LINE_BREAK = r"(?i)<br[\t\n\f\r ]*/?>"  # not \s, which means other characters to Arrow than to Python
_ASCII_SPACES = "\t\n\v\f\r\x1c\x1d\x1e\x1f"  # white space below 0x80 for str.split(), without the space
_HIDDEN = bytes.maketrans(b"\v\f\r", b"\xfb\xfc\xfd")  # bytes that UTF-8 never uses
_SHOWN = bytes.maketrans(b"\xfb\xfc\xfd", b"\v\f\r")


def _byte_table(spaces: str) -> bytes:
    """Returns a table for `bytes.translate` that lower-cases A-Z and replaces the given characters by spaces."""
    return bytes(
        ord(" ") if chr(byte) in spaces else byte + 32 if ord("A") <= byte <= ord("Z") else byte for byte in range(256)
    )


# Arrow's kernel splits at \v, \f and \r too. With "space" they are parts of words, so they are hidden from it.
_TABLES: dict[tuple[str, str], bytes] = {
    ("whitespace", "drop"): _byte_table(FILTERED + _ASCII_SPACES),
    ("whitespace", "keep"): _byte_table(_ASCII_SPACES),
    ("space", "drop"): _byte_table(FILTERED).translate(_HIDDEN),
    ("space", "keep"): _byte_table("\t\n").translate(_HIDDEN),
}
_MARK = f"([{re.escape(PUNCTUATION)}])"
_WRONG_AT_CUT: dict[str, int] = {"drop": 1, "keep": 3}
"""Maximum number of wrong words at a cut: with "drop" part of a word, with "keep" the words of "br />"."""
_BYTES_PER_TOKEN = 8  # IMDb averages 5.6; a row with longer words is tokenized as a whole, which only costs time


def decode_texts(column: pa.Array) -> pa.LargeStringArray:
    """Returns a text column of any Arrow type as large_string; values that are not valid UTF-8 become null.

    Args:
        column: string, large_string, string_view, (large_)binary, binary_view, a dictionary of one of these, or null.

    Raises:
        TypeError: The column has another type.
    """
    if isinstance(column, pa.ChunkedArray):
        # One by one: with 32-bit offsets, concatenated chunks could not exceed 2 GiB.
        chunks = [decode_texts(chunk) for chunk in column.chunks]
        return pa.concat_arrays(chunks) if chunks else pa.array([], pa.large_string())
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_null(kind):
        return column.cast(pa.large_string())
    if not is_text_type(kind):
        raise TypeError(f"expected a column of text, found {kind}")
    # Strings are cast to bytes first, because Parquet readers do not check that they are UTF-8. The check takes 3 ms
    # for 33 MB.
    column = column.cast(pa.large_binary())
    try:
        return column.cast(pa.large_string())
    except pa.ArrowInvalid:  # some row is not UTF-8: find out which
        return pa.array([_decode(value) for value in column.to_pylist()], pa.large_string())


def is_text_type(kind: pa.DataType) -> bool:
    """Returns whether `decode_texts` accepts a column of this type."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_null(kind)
    )


def text_columns(schema: pa.Schema) -> set[str]:
    """Returns the names of the columns that may have texts."""
    return {field.name for field in schema if is_text_type(field.type)}


def no_texts(column: str, kind: pa.DataType) -> str:
    """Returns that a column does not hold texts, and what helps, for messages."""
    inside = "write its texts to a column of their own, or " if pa.types.is_nested(kind) else ""
    return f"column {column!r} is {kind}, expected text: {inside}choose with --text-column"


def tokenize(
    texts: pa.LargeStringArray,
    settings: TokenSettings,
    *,
    keep: int | None = None,
    truncating: Truncating = "pre",
) -> pa.LargeListArray:
    """Splits each text into its words.

    Args:
        texts: One text a row; a null gives an empty list.
        settings: `strip_html` first replaces `<br>`, `<br/>` and `<br />` by a space (otherwise they become the word
            "br"). `lowercase` "unicode" is Python's `str.lower`; "ascii" changes only the letters A-Z, as in
            keras.datasets.imdb. `split_on` is what separates words after the filtered characters became spaces: only
            the space, as in Keras, or any white space. `punctuation` "keep" makes each filtered character a word; "..."
            is three words.
        keep: How many words the caller needs, at least 1. A row may then lack some of its words, but it has all those
            that `truncate` keeps, and more than `keep` if the text has more.
        truncating: Which part of a long text the caller will drop.

    Returns:
        large_list<large_string>[rows].

    Example:
        >>> tokenize(pa.array(["Not bad!<br />At ALL."], pa.large_string()), TokenSettings()).to_pylist()
        [['not', 'bad', 'at', 'all']]
    """

    def split(texts: pa.LargeStringArray) -> pa.LargeListArray:
        return _split(texts, settings)

    if keep is None:
        return split(texts)
    # Most words of a long review are dropped, so only its ends are split. A cut inside a word or a "<br />" leaves
    # wrong words at that edge, so an end is long enough if it has `wrong` words more than are kept.
    first, last = kept_ends(keep, truncating)
    wrong = _WRONG_AT_CUT[settings.punctuation]
    head, tail = ((count + wrong) * _BYTES_PER_TOKEN if count else 0 for count in (first, last))
    is_short = pc.fill_null(pc.less_equal(pc.utf8_length(texts), head + tail), True)
    ends: list[pa.LargeListArray] = []
    is_enough = pa.scalar(True)
    # A short text is split once, as a whole.
    for count, start, stop, if_short in ((first, 0, head, texts), (last, -tail, None, "" if first else texts)):
        if not count:
            continue
        end = pc.if_else(is_short, if_short, pc.utf8_slice_codeunits(texts, start, stop))
        ends.append(split(end))
        is_enough = pc.and_(is_enough, pc.greater_equal(ends[-1].value_lengths(), count + wrong))
        if settings.lowercase == "unicode":  # whether Σ becomes ς may depend on letters beyond the cut
            is_enough = pc.and_not(is_enough, pc.fill_null(pc.match_substring(end, "Σ"), False))
    is_enough = pc.or_(is_short, is_enough)
    words = ends[0] if len(ends) == 1 else _joined(*ends)
    if pc.all(is_enough, min_count=0).as_py():
        return words
    missing = pc.indices_nonzero(pc.invert(is_enough))
    whole = split(texts.take(missing))
    source = np.arange(len(texts))
    source[missing.to_numpy()] = len(texts) + np.arange(len(missing))
    return pa.concat_arrays([words, whole]).take(pa.array(source))


def _joined(heads: pa.LargeListArray, tails: pa.LargeListArray) -> pa.LargeListArray:
    """Returns, for each row, the words of `heads` followed by those of `tails`."""
    in_turns = np.arange(2 * len(heads)).reshape(2, -1).T.ravel()
    pairs = pa.concat_arrays([heads, tails]).take(pa.array(in_turns))
    return pa.LargeListArray.from_arrays(pa.array(pairs.offsets.to_numpy()[::2]), pairs.values)


def _split(texts: pa.LargeStringArray, settings: TokenSettings) -> pa.LargeListArray:
    """Returns all words of each text."""
    texts = pc.fill_null(texts, "")
    if settings.strip_html:
        texts = _strip_line_breaks(texts)
    is_ascii = pc.string_is_ascii(texts)
    if not pc.all(is_ascii, min_count=0).as_py():
        others = [_fold_unicode(text, settings) for text in texts.filter(pc.invert(is_ascii)).to_pylist()]
        texts = pc.replace_with_mask(texts, pc.invert(is_ascii), pa.array(others, pa.large_string()))
    if settings.punctuation == "keep":
        texts = pc.replace_substring_regex(texts, _MARK, r" \1 ")
    words = pc.ascii_split_whitespace(
        pc.ascii_trim_whitespace(_translate(texts, _TABLES[settings.split_on, settings.punctuation]))
    )
    if settings.split_on == "space":
        words = pa.LargeListArray.from_arrays(words.offsets, _show_hidden(words.values))
    is_word = pc.not_equal(pc.binary_length(words.values), 0)
    if pc.all(is_word, min_count=0).as_py():
        return pa.LargeListArray.from_arrays(words.offsets, words.values)  # Arrow's kernel returns 32-bit offsets
    # Arrow splits an empty text into one empty word.
    words_before = np.concatenate([[0], np.cumsum(is_word.to_numpy(zero_copy_only=False))])
    offsets = words_before[words.offsets.to_numpy()]
    return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), words.values.filter(is_word))


def _strip_line_breaks(texts: pa.LargeStringArray) -> pa.LargeStringArray:
    """Replaces HTML line breaks by a space, looking only at texts that contain "<br"."""
    has_tag = pc.match_substring(texts, "<br", ignore_case=True)
    if not pc.any(has_tag, min_count=0).as_py():
        return texts
    stripped = pc.replace_substring_regex(texts.filter(has_tag), LINE_BREAK, " ")
    return pc.replace_with_mask(texts, has_tag, stripped)


def _translate(texts: pa.LargeStringArray, table: bytes) -> pa.LargeStringArray:
    """Translates the bytes of all texts at once."""
    _, offsets, characters = texts.buffers()
    if characters is None:
        return texts
    bounds = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    first = bounds[0]  # a slice shares its parent's buffer, of which only the slice is translated
    translated = bytes(memoryview(characters)[first : bounds[-1]]).translate(table)
    return pa.LargeStringArray.from_buffers(len(texts), pa.py_buffer(bounds - first), pa.py_buffer(translated))


def _show_hidden(words: pa.LargeStringArray) -> pa.LargeStringArray:
    """Restores the characters that were hidden from Arrow's kernel, if there are any."""
    characters = words.buffers()[2]
    if characters is None:
        return words
    content = characters.to_pybytes()
    if not any(hidden in content for hidden in (b"\xfb", b"\xfc", b"\xfd")):
        return words
    return _translate(words, _SHOWN)


def _fold_unicode(text: str, settings: TokenSettings) -> str:
    """Lower-cases letters and replaces white space beyond ASCII, which `_translate` cannot do."""
    if settings.lowercase == "unicode":
        text = text.lower()
    return " ".join(text.split()) if settings.split_on == "whitespace" else text


def _decode(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None
