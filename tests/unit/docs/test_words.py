"""One word for one thing: words that were replaced by others stay out of code, messages and pages."""

from __future__ import annotations

import re

import pages

REPLACED = {
    r"mend(s|ed|ing)?": "fix",
    r"go(es|ing) on": "resume",
    r"(is|are) told": "is reported",
    r"hears": "receives",
    r"who dies": "that dies",
    r"takes down": "records",
    r"belongs into": "belongs in",
    r"slip of the pen": "misspelt",
    r"stands twice": "duplicate",
    r"is no field": "unknown field",
    r"begins? by chance": "starts with random values",
}
"""Patterns, each with the word in use."""


def test_replaced_words_stay_out() -> None:
    texts = {page: pages.read(page) for page in pages.PAGES}
    for path in (pages.ROOT / "lstm_ray").rglob("*.py"):
        texts[str(path.relative_to(pages.ROOT))] = path.read_text(encoding="utf-8")
    assert len(texts) > 250
    found = [
        f"{name}:{number}: {match[0]}: say {word}"
        for name, text in texts.items()
        for number, line in enumerate(text.splitlines(), 1)
        for pattern, word in REPLACED.items()
        if (match := re.search(rf"\b{pattern}\b", line, re.IGNORECASE))
    ]
    assert not found, "\n".join(found)
