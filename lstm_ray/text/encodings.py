"""What bytes that are not UTF-8 read in other encodings, the likely ones first: a person decides."""

from __future__ import annotations

import codecs
import re
import unicodedata
from itertools import pairwise

_CANDIDATES = (
    *("cp1252", "cp1251", "cp1250", "cp1254", "cp1253", "cp1255", "cp1256", "koi8-r"),
    *("shift_jis", "gb18030", "euc_kr", "big5"),
)
_BEFORE, _AFTER = 20, 30  # bytes that are read, at most, before the first that is not UTF-8 and from there on
_MOST = 3
_BREAKS = re.compile(rb"[\s,;:|\"'{}\[\]]")
_WORD = re.compile(r"[^\W\d_]+")
_ACCENTED = re.compile("[\xc0-\u024f]{3,}")
_SIGNS = frozenset("\xa0°€£")  # besides punctuation
_COMMON_HAN = range(0xB0, 0xD8)  # first bytes in GB 2312


def readings(data: bytes, start: int) -> str:
    """Returns what a word and a few more read in likely encodings: 'Отличный' in cp1251, 'Îòëè÷íûé' in cp1252.

    Args:
        data: Text.
        start: Position of the first byte that is not UTF-8.
    """
    begin = max(0, start - _BEFORE)
    begin = max([begin, *(found.end() for found in _BREAKS.finditer(data, begin, start))])
    excerpt = re.split(rb"[\r\n]", data[begin : start + _AFTER])[0]
    odd: dict[str, tuple[float, str]] = {}
    for encoding in _CANDIDATES:
        try:  # incremental, as the last character may be cut
            text = codecs.getincrementaldecoder(encoding)().decode(excerpt)
        except UnicodeDecodeError:
            continue
        odd.setdefault(text, (_oddness(text), encoding))
    likely = sorted(odd, key=lambda text: odd[text][0])
    return ", ".join(f"{text!r} in {odd[text][1]}" for text in likely[:_MOST])


def utf8_word(text: str, encoding: str) -> str | None:
    """Returns a word with letters that are not ASCII if a text's bytes are UTF-8 too, and what it reads there.

    Args:
        text: A text that was decoded.
        encoding: The encoding that it was decoded in.
    """
    if text.isascii():
        return None
    try:
        encoded = text.encode(encoding)
        encoded.decode()
    except UnicodeError:
        return None
    if encoded.isascii():  # escape sequences, as in ISO-2022
        return None
    word = next(word for word in text.rstrip("\r\n").split(" ") if not word.isascii())
    return f"{word!r}, in UTF-8 {word.encode(encoding).decode()!r}"


def _oddness(text: str) -> float:
    """Returns how much in a text is unusual: symbols, words of several scripts, capitals within words, rare letters."""
    found = 2 * sum(map(_is_symbol, text))
    for word in _WORD.findall(text):
        found += 3 * (len({_script(char) for char in word}) - 1)
        found += sum(one.islower() and other.isupper() for one, other in pairwise(word))
        found += sum(len(run) - 2 for run in _ACCENTED.findall(word))
        found += sum(map(_is_rare, word))
    return found


def _is_symbol(char: str) -> bool:
    is_usual = char.isascii() or char.isalpha() or char in _SIGNS or unicodedata.category(char).startswith("P")
    return not is_usual


def _script(char: str) -> str:
    script = unicodedata.name(char, "").partition(" ")[0]
    return "CJK" if script in ("HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA") else script


def _is_rare(char: str) -> bool:
    """Returns whether a character is seldom used: most Chinese ones, and halfwidth Japanese ones."""
    if unicodedata.name(char, "").startswith("CJK"):
        return char.encode("gb2312", errors="replace")[0] not in _COMMON_HAN
    return "\uff61" <= char <= "\uff9f"
