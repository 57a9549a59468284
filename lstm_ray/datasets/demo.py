"""A synthetic corpus of short reviews, to try things without a download.

THE REVIEWS ARE SYNTHETIC: sentences of a small grammar about products that do not exist. Say so wherever a figure
measured on them is shown; the schema metadata of every table and file says it too.

Their use: word ORDER carries the sentiment. The same words are about as frequent in positive reviews as in negative
ones, so a model that counts words does poorly, while one that reads them in order can be right on every row:

    "The plot was superb, but in the end the acting was awful."     negative: the later clause decides
    "The plot was superb, even though the acting was awful."        positive: the first one does
    "Nothing about the battery was bad."                            positive: negation
    "It is no better than the dreadful one before it."              negative: comparison
    "My brother calls it dull. I could not disagree more."          positive: an opinion contradicted

A template has words of one polarity (`{A}`) or of the other (`{B}`), and a sign: the review gets the first polarity
(`+`) or the second (`-`). So every template is used in both classes, which balances its fixed words by construction;
the words of a polarity nearly balance, because negation and contrast reverse them. A review is one or two such
verdicts, neutral filler, and perhaps a remark about some OTHER thing, of random polarity, which a reader must ignore.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import NamedTuple, TypeVar

import pyarrow as pa

from lstm_ray.datasets.demo_grammar import (
    FILLER,
    NEGATIVE,
    NEUTRAL,
    OTHER,
    PLANS,
    POSITIVE,
    TOPICS,
    VERDICTS,
    WEIGHTS,
    phrases,
    with_article,
)
from lstm_ray.datasets.files import refuse_existing, write_tables
from lstm_ray.errors import ConfigError

_T = TypeVar("_T")
_Slots = dict[str, tuple[str, ...]]  # slot name -> the words or phrases that may fill it

_SCHEMA = pa.schema(
    {"id": pa.string(), "text": pa.string(), "label": pa.int8(), "topic": pa.string(), "product": pa.string()},
    metadata={"synthetic": "true", "description": "Synthetic reviews made by a seeded grammar, not by people."},
)
_PRODUCT = "@"  # replaced by the product's name in the whole review, so that all its sentences have the same one
_TOPICAL_FILLER = 3  # weight of a topic's filler sentence against a general one
_GAP_EVERY = 400  # rows of reviews.parquet; in each such run the rows of _GAPS have no text
_GAPS = {7: None, 11: ""}
_TOPIC_NAMES = tuple(TOPICS)
_WITH_ARTICLE = ("job", "animal", "colour", "place", "object")


class _Template(NamedTuple):
    """A sentence to fill in: one `%s` for each slot, and the words for each slot."""

    text: str
    slots: tuple[tuple[str, ...], ...]


class _Grammar(NamedTuple):
    """The templates of one topic: in `verdicts[label]` each construct as often as its weight, in `neutral` o and f."""

    products: list[_Template]
    verdicts: tuple[list[list[_Template]], list[list[_Template]]]
    neutral: dict[str, list[_Template]]


def _compile(template: str, slots: _Slots) -> _Template:
    """Returns the template with its slots resolved; `{x}` beside `{x2}` draw from different halves of the x words."""
    names = re.findall(r"{(\w+)}", template)
    choices = []
    for name in names:
        words = slots[name.removesuffix("2")]
        middle = len(words) // 2
        if name.endswith("2"):
            words = words[middle:]
        elif f"{name}2" in names:
            words = words[:middle]
        choices.append(words)
    return _Template(re.sub(r"{\w+}", "%s", template), tuple(choices))


def _polar_slots(a: _Slots, b: _Slots) -> _Slots:
    """Returns the slots of a verdict whose `{A}` words are taken from `a` and its `{B}` words from `b`."""
    slots = {f"A{kind}": words for kind, words in a.items()} | {f"B{kind}": words for kind, words in b.items()}
    return slots | {"aA": with_article(a[""]), "aB": with_article(b[""])}


def _compile_verdicts(label: int, slots: _Slots) -> list[list[_Template]]:
    """Returns the constructs, repeated by weight, worded so that each of their sentences means `label`."""
    positive_a, negative_a = _polar_slots(POSITIVE, NEGATIVE), _polar_slots(NEGATIVE, POSITIVE)
    constructs = []
    for construct, block in VERDICTS.items():
        sentences = []
        for line in phrases(block, "\n"):
            sign, template = line.split(" ", 1)
            a_is_positive = (sign == "+") == (label == 1)
            sentences.append(_compile(template, slots | (positive_a if a_is_positive else negative_a)))
        constructs += [sentences] * WEIGHTS[construct]
    return constructs


@cache
def _grammar(name: str) -> _Grammar:
    topic = TOPICS[name]
    either = POSITIVE[""] + NEGATIVE[""]
    slots = NEUTRAL | {
        "thing": (name,),
        "product": (_PRODUCT,),
        "x": phrases(topic.parts),
        "O": either,
        "aO": with_article(either),
        **{f"a{noun.capitalize()}": with_article(NEUTRAL[noun]) for noun in _WITH_ARTICLE},
        **{noun.capitalize(): tuple(map(str.capitalize, NEUTRAL[noun])) for noun in ("job", "animal")},
    }
    fillers = [*phrases(FILLER, "\n"), *phrases(topic.filler) * _TOPICAL_FILLER]
    return _Grammar(
        products=[_compile(template, slots) for template in phrases(topic.product)],
        verdicts=(_compile_verdicts(0, slots), _compile_verdicts(1, slots)),
        neutral={
            "o": [_compile(template, slots) for template in phrases(OTHER, "\n")],
            "f": [_compile(template, slots) for template in fillers],
        },
    )


class _Review(NamedTuple):
    text: str
    label: int
    topic: str
    product: str


def _reviews(seed: int, taken: set[str]) -> Iterator[_Review]:
    """Yields reviews without end, one of each class in every pair of rows; their texts are new to `taken` and added."""
    random = Random(seed).random  # the method whose sequence Python promises not to change

    def draw(choices: Sequence[_T]) -> _T:
        return choices[int(random() * len(choices))]

    def fill(template: _Template) -> str:
        return template.text % tuple([words[int(random() * len(words))] for words in template.slots])

    def review(label: int) -> _Review:
        topic = draw(_TOPIC_NAMES)
        grammar = _grammar(topic)
        product = fill(draw(grammar.products))
        separator = "<br /><br />" if random() < 0.08 else " "
        sentences: dict[str, str] = {}  # by template, so that none is used twice
        for part in draw(PLANS):
            template = None
            while template is None or template.text in sentences:
                template = draw(draw(grammar.verdicts[label]) if part == "v" else grammar.neutral[part])
            sentence = fill(template)
            sentences[template.text] = sentence[0].upper() + sentence[1:] + ("!" if random() < 0.06 else ".")
        text = separator.join(sentences.values()).replace(_PRODUCT, product)
        if random() < 0.04:
            text += f" {TOPICS[topic].emoji}"
        return _Review(text, label, topic, product)

    while True:
        first = int(random() * 2)
        for label in (first, 1 - first):
            drawn = review(label)
            while drawn.text in taken:
                drawn = review(label)
            taken.add(drawn.text)
            yield drawn


def _table(prefix: str, rows: int, seed: int, taken: set[str]) -> pa.Table:
    reviews = list(itertools.islice(_reviews(seed, taken), rows))
    ids = [f"{prefix}/{row}" for row in range(rows)]
    columns = [ids, *([review[field] for review in reviews] for field in range(len(_Review._fields)))]
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, _SCHEMA, strict=True)], schema=_SCHEMA
    )


@dataclass(frozen=True)
class DemoFiles:
    """Paths of the demo corpus's files, and their numbers of rows."""

    train: Path
    test: Path
    reviews: Path
    train_rows: int
    test_rows: int
    reviews_rows: int


def write_demo(output: Path, *, rows: int = 20_000, seed: int = 0, overwrite: bool = False) -> DemoFiles:
    """Writes the demo corpus into the directory `output`; returns its files' paths and rows.

    train.parquet (`rows` rows) and test.parquet (a quarter of that): id, text, label, topic, product. reviews.parquet
    (`rows` rows) is a corpus to score: id, text, product, and as in real ones some texts are null or empty. No text is
    in two of the files. The same seed gives the same rows on any machine and Python, and a longer train.parquet begins
    with the rows of a shorter one.

    Raises:
        ConfigError: `rows` is less than 1, or `seed` negative.
        OutputError: `output` already holds one of the files (and not `overwrite`), or cannot be written.
    """
    if rows < 1:
        raise ConfigError(f"rows must be at least 1, not {rows}")
    if seed < 0:
        raise ConfigError(f"seed must be 0 or more, not {seed}")
    files = DemoFiles(
        train=output / "train.parquet",
        test=output / "test.parquet",
        reviews=output / "reviews.parquet",
        train_rows=rows,
        test_rows=max(1, rows // 4),
        reviews_rows=rows,
    )
    refuse_existing(files.train, files.test, files.reviews, overwrite=overwrite)
    taken: set[str] = set()
    train = _table("train", files.train_rows, 3 * seed, taken)
    test = _table("test", files.test_rows, 3 * seed + 1, taken)
    reviews = _table("reviews", files.reviews_rows, 3 * seed + 2, taken).select(["id", "text", "product"])
    gaps = [_GAPS.get(row % _GAP_EVERY, text) for row, text in enumerate(reviews["text"].to_pylist())]
    reviews = reviews.set_column(1, "text", pa.array(gaps, pa.string()))
    write_tables({files.train: train, files.test: test, files.reviews: reviews})
    return files
