"""What bytes that are not UTF-8 may be: the right reading is among those shown."""

from __future__ import annotations

import pytest

from lstm_ray.text.encodings import readings, utf8_word


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Très bon café", "cp1252"),
        ("It\u2019s “great”", "cp1252"),
        ("Größer als erwartet", "cp1252"),
        ("Příliš žluťoučký kůň", "cp1250"),
        ("świetny wybór", "cp1250"),
        ("a\u011f\u0131r iş", "cp1254"),
        ("Πολύ καλή ταινία", "cp1253"),
        ("Отличный фильм, очень понравилось", "cp1251"),
        ("скучно и длинно", "koi8-r"),
        ("סרט מצוין", "cp1255"),
        ("فيلم رائع جدا", "cp1256"),
        ("素晴らしい映画でした", "shift_jis"),
        ("非常好的电影", "gb18030"),
        ("非常好的電影", "big5"),
        ("정말 재미있는 영화", "euc_kr"),
    ],
)
@pytest.mark.parametrize("before", [b"", b"4,", b"a film of many words " * 9])
def test_the_right_reading_is_among_those_shown(text: str, encoding: str, before: bytes) -> None:
    data = before + text.encode(encoding) + b"\nnext line"
    with pytest.raises(UnicodeDecodeError) as caught:
        data.decode()
    shown = readings(data, caught.value.start)
    word = next(word for word in text.split() if not word.isascii())
    assert f"in {encoding}" in shown
    assert word in shown
    assert "next line" not in shown
    assert shown.count(" in ") <= 3


def test_bytes_of_any_kind_are_read_or_not() -> None:
    for start in range(256):
        readings(bytes(range(256)), start)
    assert readings(b"\xff", 0)


@pytest.mark.parametrize(
    ("text", "encoding", "shown"),
    [
        ("un caf\xc3\xa9 ok\n", "latin-1", "'cafÃ©', in UTF-8 'café'"),
        ("non\xc2\xa0", "latin-1", r"'nonÂ\xa0', in UTF-8 'non\xa0'"),
        ("un café", "latin-1", None),
        ("plain", "latin-1", None),
        ("\xa0", "latin-1", None),
        ("Отличный", "cp1251", None),
        ("素晴らしい映画", "iso2022_jp", None),
    ],
)
def test_a_text_that_is_utf8_in_truth_is_found(text: str, encoding: str, shown: str | None) -> None:
    assert utf8_word(text, encoding) == shown
