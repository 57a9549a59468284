"""Texts and names are shown as they are, and do not act on the terminal or page that shows them."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstm_ray.wording import (
    are,
    command_line,
    counted,
    either,
    named,
    no_column,
    on_one_line,
    quoted,
    visible,
    without_proposal,
)

DIRECTIONS = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}

acting = st.text(
    st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp"]) | st.sampled_from("a é漢\u05d0\U0001f600\\'\""),
    max_size=20,
)


@given(acting | st.text())
def test_nothing_in_a_visible_text_acts_and_all_else_is_kept(text: str) -> None:
    shown = visible(text)
    for character in shown:
        assert character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp")
        assert unicodedata.bidirectional(character) not in DIRECTIONS
    assert shown.encode().decode() == shown
    assert visible(shown) == shown
    assert "\n" not in on_one_line(text)
    kept = iter(shown)
    assert all(character in kept for character in text if character.isprintable()), "printable ones, in their order"


@given(acting.map(lambda text: text.encode(errors="replace").decode()))
def test_a_json_string_made_visible_means_the_same(text: str) -> None:
    assert json.loads(visible(json.dumps({text: text}, ensure_ascii=False))) == {text: text}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07", "\\u001b]0;title\\u0007"),  # sets the terminal's title
        ("\x1b]8;;https://example.com\x1b\\link", "\\u001b]8;;https://example.com\\u001b\\link"),
        ("\x9b2J", "\\u009b2J"),  # one character that begins an escape sequence
        ("ok\rfailed", "ok\\u000dfailed"),  # overwrites the line
        ("secret\x08\x08", "secret\\u0008\\u0008"),
        ("a\u202egpj.exe", "a\\u202egpj.exe"),  # reads exe.jpg
        ("a\u2066b\u2069", "a\\u2066b\\u2069"),
        ("name-\udce9", "name-\\udce9"),  # a file's name in Latin-1
        ("\U0001f469\u200d\u2764 \u0645\u200c", "\U0001f469\u200d\u2764 \u0645\u200c"),  # joiners belong to the text
        ("\u05e9\u05dc\u05d5\u05dd", "\u05e9\u05dc\u05d5\u05dd"),
    ],
)
def test_what_a_terminal_would_obey_is_shown(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_very_many_names_are_not_all_listed() -> None:
    assert named(["a", "b's"]) == "'a', \"b's\""
    assert named(range(20)).endswith("18, 19")
    assert [either("abc"[:count]) for count in (1, 2, 3)] == ["a", "a or b", "a, b or c"]
    assert named(f"c{number}" for number in range(200_000)).endswith("'c19' and 199,980 more")


@pytest.mark.parametrize(
    ("name", "names", "option", "expected"),
    [
        (
            "txt",
            ["id", "text"],
            "--text-column",
            "no column 'txt'; it has 'id', 'text': did you mean --text-column text?",
        ),
        ("TEXT", ["Text", "id"], "--by", "no column 'TEXT'; it has 'Text', 'id': did you mean --by Text?"),
        (
            "the lable",
            ["the label"],
            "--by",
            "no column 'the lable'; it has 'the label': did you mean --by 'the label'?",
        ),
        ("stars", ["id"], "--by", "no column 'stars'; it has 'id': choose with --by"),
        ("ids", ["id"], "", "no column 'ids'; it has 'id': did you mean 'id'?"),
        ("stars", ["id"], "", "no column 'stars'; it has 'id'"),
        (
            "text",
            ["id", "reviewText"],
            "--text-column",
            "no column 'text'; it has 'id', 'reviewText': did you mean --text-column reviewText?",
        ),
        (
            "label",
            ["Verified?", "Star Rating"],
            "--label-column",
            "no column 'label'; it has 'Verified?', 'Star Rating': did you mean --label-column 'Star Rating'?",
        ),
        (  # those of a scored file are the model's own answers
            "label",
            ["sentiment", "sentiment_probability"],
            "--label-column",
            "no column 'label'; it has 'sentiment', 'sentiment_probability': choose with --label-column",
        ),
        (
            "text",
            ["Overall", "Comment"],
            "--text-column",
            "no column 'text'; it has 'Overall', 'Comment': did you mean --text-column Comment?",
        ),
        (
            "label",
            ["Overall", "Comment"],
            "--label-column",
            "no column 'label'; it has 'Overall', 'Comment': did you mean --label-column Overall?",
        ),
        ("a.b", ["a", "b"], "--by", "no column 'a.b'; it has 'a', 'b': write 'b' of 'a' to a column of its own"),
        (
            "label",
            ["text"],
            "--label-column",
            "no column 'label'; it has 'text': to train or measure a model on these texts, "
            "add a column with a label for each",
        ),
        ("text", [], "--text-column", "no column 'text'; it has none: choose with --text-column"),
    ],
)
def test_the_column_that_was_meant_is_proposed(name: str, names: list[str], option: str, expected: str) -> None:
    assert no_column(name, names, option) == expected


def test_only_columns_that_are_possible_are_proposed() -> None:
    assert no_column("text", ["texts", "body"], "--text-column", possible={"body"}).endswith("--text-column body?")
    assert no_column("text", ["texts"], "--text-column", possible=set()).endswith(": choose with --text-column")


def test_all_columns_of_an_option_are_proposed_as_it_takes_them() -> None:
    said = no_column("produkt", ["product", "a,b", "id"], "--by", ["length", "produkt", "a,b"])
    assert said.endswith("""did you mean --by 'length,product,"a,b"'?""")
    assert no_column("a,c", ["a,b"], "--text-column").endswith("did you mean --text-column a,b?")


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0 rows are"), (1, "1 row is"), (1.0, "1 row is"), (0.5, "0.5 rows are"), (20_000, "20,000 rows are")],
)
def test_a_number_has_its_noun_and_verb(number: float, shown: str) -> None:
    assert f"{counted(number, 'row')} {are(number)}" == shown


def test_a_command_to_copy_is_quoted_for_a_shell() -> None:
    assert command_line("score", "my reviews.parquet") == "lstm-ray score 'my reviews.parquet'"


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@settings(max_examples=30)
@given(st.lists(acting | st.just("te\x1b[31mxt\u202e") | st.just("caf\udce9"), max_size=10))
def test_proposed_words_do_not_act_and_mean_the_same_to_a_shell(words: list[str]) -> None:
    words = [os.fsdecode(word.replace("\0", "").encode(errors="surrogatepass")) for word in words]  # as in sys.argv
    line = quoted(*words)
    assert on_one_line(line) == line
    done = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {line}"],
        stdout=subprocess.PIPE,
        check=True,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    assert done.stdout == b"".join(os.fsencode(word) + b"\0" for word in words or [""])


@pytest.mark.parametrize("word", ["reviews.parquet", "my reviews", "it's", "", "$x", "\u05e9"])
def test_words_without_control_characters_are_quoted_as_usual(word: str) -> None:
    assert quoted(word) == shlex.quote(word)


@pytest.mark.parametrize("end", ["", ": choose with --text-column", ": did you mean --text-column text?"])
def test_a_proposal_is_removed(end: str) -> None:
    message = "a: did you mean b?.parquet: no column 'x'; it has 'text'"
    assert without_proposal(message + end) == message
