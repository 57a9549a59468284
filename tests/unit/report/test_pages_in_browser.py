"""The pages in a browser: on a phone and a screen, light and dark."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from browser import Browser

from lstm_ray.evaluate.counts import BinaryCounts
from lstm_ray.evaluate.groups import GroupResult
from lstm_ray.evaluate.shard import Mistake
from lstm_ray.model.drift import compare
from lstm_ray.model.profile import Profile, TrainingData, count_scores, count_texts
from lstm_ray.report.pages import evaluation_report, training_report
from lstm_ray.report.scoring_page import scoring_report
from lstm_ray.report.search_page import search_report
from lstm_ray.score.output import Manifest
from lstm_ray.text.sequences import Sequences

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LONG = "s3://a-bucket-with-a-long-name/" + "a_directory_without_a_place_to_break/" * 4 + "part.parquet"

pytestmark = [
    pytest.mark.second_tier,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on the PATH"),
]

# The lowest contrast of a text with what is behind it, the text, and what it needs: WCAG 2.2, 1.4.3.
CONTRAST = """
(() => {
  const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
  const light = colour => numbers(colour).slice(0, 3)
    .map(value => value / 255).map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
    .reduce((sum, value, band) => sum + value * [0.2126, 0.7152, 0.0722][band], 0);
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if ((numbers(colour)[3] ?? 1) > 0) return colour;
    }
  };
  const found = [];
  for (const element of document.body.querySelectorAll("*")) {
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
    if (!own || element.tagName === "title" || element.tagName === "STYLE") continue;
    const style = getComputedStyle(element);
    const values = [light(element.tagName === "text" ? style.fill : style.color), light(behind(element))].sort();
    const size = parseFloat(style.fontSize), is_large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    const ratio = (Math.max(...values) + 0.05) / (Math.min(...values) + 0.05);
    found.push([ratio / (is_large ? 3 : 4.5), element.textContent.slice(0, 40), style.color]);
  }
  return found.sort((one, other) => one[0] - other[0])[0];
})()
"""

# Tables that reach out of the page, or out of a box that does not scroll.
CUT = """
[...document.querySelectorAll("table")].filter(table => {
  const box = table.closest(".scroll") ?? table.parentElement, main = document.querySelector("main");
  const scrolls = getComputedStyle(box).overflowX === "auto", right = box.getBoundingClientRect().right;
  return right > main.getBoundingClientRect().right || (!scrolls && table.getBoundingClientRect().right > right + 1);
}).map(table => table.textContent.slice(0, 40))
"""


def profile(rows: int, unknown: float) -> Profile:
    """Returns the counts of random rows."""
    generator = np.random.default_rng(rows)
    offsets = np.concatenate([[0], np.cumsum(generator.integers(1, 90, rows))])
    ids = np.where(generator.random(offsets[-1]) < unknown, 2, 7).astype(np.int32)
    return count_texts(Sequences(ids, offsets), rows // 9) + count_scores(generator.random(rows, np.float32), 0.5)


def training_page() -> str:
    """Returns the report of a run that overfits."""
    epochs = np.arange(1, 7)
    history = pa.table(
        {
            "epoch": pa.array(epochs, pa.int32()),
            "loss": 0.6 * np.exp(-epochs / 3),
            "accuracy": 1 - 0.3 * np.exp(-epochs / 3),
            "validation_loss": 0.36 + 0.03 * (epochs - 3.0) ** 2,
            "validation_accuracy": 0.88 - 0.01 * (epochs - 3.0) ** 2,
            "validation_accuracy_standard_error": np.full(6, 0.004),
            "validation_auc": 0.94 - 0.01 * (epochs - 3.0) ** 2,
            "learning_rate": np.full(6, 0.001),
            "seconds": np.full(6, 1234.5),
            "rows_per_s": np.full(6, 12_345.0),
            "best": epochs == 3,
        }
    )
    measured = counts()
    return training_report(
        title="Training run a-rather-long-name-of-a-run-for-a-phone",
        history=history,
        best_by="accuracy",
        metrics=measured.metrics(),
        counts=measured,
        profile=TrainingData(profile(900, 0.02), profile(300, 0.04)),
        rows_seen=3,
        config={"train": [LONG], "output": LONG},
        summary='Model: "lstm"\n' + "━" * 66,
        notes=["3 of 300 validation rows (1.0%) also occur in the training data."],
    )


def counts() -> BinaryCounts:
    """Returns the counts of an evaluation."""
    generator = np.random.default_rng(5)
    labels = generator.integers(0, 2, 4000)
    scores = np.clip(labels * 0.4 + 0.6 * generator.random(4000), 0, 1).astype(np.float32)
    return BinaryCounts.from_scores(labels, scores)


def scoring_page(unknown: float) -> str:
    """Returns the report of a scoring run over rows with this share of unknown words."""
    rows = profile(2000, unknown) + Profile(without_words=15)
    trained_on = TrainingData(profile(900, 0.02), profile(800, 0.04))
    movements = compare(rows, trained_on, 0.45)
    file = {"path": LONG, "rows": 2000, "positives": 9, "without_score": 2, "words": 9, "unknown": 7, "truncated": 4}
    errors = {"null_text": 12, "no_words": 3}
    manifest = Manifest("out", 2, 0, 2015, 900, errors, 1, 2.0, 12_345.0, "", "", files=[file, file])
    return scoring_report(manifest, rows, trained_on, movements, {"inputs": [LONG], "model": "runs/first/model"})


def search_page() -> str:
    """Returns the report of a search of twelve trials, one of which failed."""
    numbers = np.arange(1, 13)
    trials = pa.table(
        {
            "trial": pa.array(numbers, pa.int32()),
            "state": ["finished"] * 8 + ["stopped"] * 3 + ["failed"],
            "epochs": [5] * 11 + [0],
            "best_epoch": [4] * 11 + [0],
            "validation_accuracy": [*(0.91 - 0.004 * numbers[:-1]), None],
            "validation_accuracy_standard_error": [0.004] * 11 + [None],
            "seconds": 90.0 * numbers,
            "error": [None] * 11 + [f"{LONG}: the loss is no longer a number"],
            "learning_rate": 0.0123456 / numbers,
            "units": 32 * numbers,
        }
    )
    drawn = ["learning_rate", "units"]
    return search_report(
        title="Search runs/search", trials=trials, best_by="accuracy", drawn=drawn, config={"train": [LONG]}
    )


def wide_search_page() -> str:
    """Returns the report of a search of twelve settings: its table is wider than a page."""
    drawn = [f"setting_number_{number}" for number in range(12)]
    figures = {"validation_accuracy": [0.9], "validation_accuracy_standard_error": [0.004]}
    trials = pa.table(
        {"trial": [1], "state": ["finished"], "epochs": [5], "best_epoch": [4], **figures, "seconds": [9.0]}
        | {"error": pa.nulls(1, pa.string())}
        | {name: [0.0123456] for name in drawn}
    )
    return search_report(title="Search", trials=trials, best_by="accuracy", drawn=drawn, config={"train": [LONG]})


PAGES = {
    "tune-wide": wide_search_page,
    "tune": search_page,
    "train": training_page,
    "evaluate": lambda: evaluation_report(
        title=f"Evaluation of {LONG}", counts=counts(), config={"model": LONG}, mistakes=[Mistake("a " * 300, 0, 0.98)]
    ),
    "score": lambda: scoring_page(0.04),
    "score-moved": lambda: scoring_page(0.7),
}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Gives a browser, which takes seconds to start."""
    assert CHROMIUM is not None
    with Browser(CHROMIUM, tmp_path_factory.mktemp("chromium")) as started:
        yield started


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_reads_well_and_complains_of_nothing(
    browser: Browser, tmp_path: Path, name: str, scheme: str
) -> None:
    page = tmp_path / f"{name}.html"
    page.write_text(PAGES[name](), encoding="utf-8")
    for width in (360, 1100, 1280):
        assert browser.open(page, width, scheme) == []
        assert browser.evaluate(CUT) == []
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        paper: Any = browser.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (int(paper.removeprefix("rgb(").split(",")[0]) < 128) is (scheme == "dark")
        lowest: Any = browser.evaluate(CONTRAST)
        assert lowest[0] >= 1, lowest
        alignments = "[...document.querySelectorAll('.numbers td + td')].map(cell => getComputedStyle(cell).textAlign)"
        assert set(browser.evaluate(alignments)) <= {"right"}


def test_the_verdicts_on_the_texts_fit_on_a_phone(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "score.html"
    page.write_text(scoring_page(0.7), encoding="utf-8")
    browser.open(page, 390, "light")
    assert browser.evaluate("document.querySelector('.scroll td.much').getBoundingClientRect().right") <= 390


def test_what_a_mistake_is_can_be_read_on_a_phone_and_bands_of_length_stay_in_a_line(
    browser: Browser, tmp_path: Path
) -> None:
    group = GroupResult("length", "101-200", 9, 4, 0.5, (0.2, 0.8), 0.5, 0.5, 1.0)
    page = tmp_path / "evaluate.html"
    report = evaluation_report(
        title="", counts=counts(), config={}, groups=[group], mistakes=[Mistake("film " * 50, 0, 0.98, "a.parquet", 7)]
    )
    page.write_text(report, encoding="utf-8")
    names = """[...document.querySelectorAll('.mistakes td.key')].map(
        cell => getComputedStyle(cell, '::before').content + cell.textContent)"""
    for width, words in ((390, ["predicted ", "labelled ", "row "]), (1280, ["", "", ""])):
        browser.open(page, width, "light")
        shown = [text.replace("none", "").replace('"', "") for text in browser.evaluate(names)]
        assert shown == [word + text for word, text in zip(words, ("positive, 98.0%", "negative", "7"), strict=True)]
        cell: Any = browser.evaluate("document.querySelector('.numbers tbody td').getBoundingClientRect().height")
        assert cell < 40
        review: Any = browser.evaluate("document.querySelector('.mistakes td.value').getBoundingClientRect().right")
        assert review <= width


def test_a_long_table_of_groups_scrolls_in_itself(browser: Browser, tmp_path: Path) -> None:
    group = GroupResult("product", "p1", 9, 4, 0.5, (0.2, 0.8), 0.5, 0.5, 1.0)
    page = tmp_path / "evaluate.html"
    page.write_text(evaluation_report(title="", counts=counts(), config={}, groups=[group] * 200), encoding="utf-8")
    for width in (390, 1280):
        browser.open(page, width, "light")
        assert browser.evaluate("document.querySelector('.long').clientHeight") == 640
