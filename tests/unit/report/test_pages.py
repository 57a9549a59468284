"""Reports are well-formed, self-contained and escaped, and can be written for any history and any counts."""

import math
import re
import struct
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pytest

from lstm_ray.evaluate.counts import BinaryCounts
from lstm_ray.evaluate.groups import GroupResult
from lstm_ray.evaluate.shard import Comparison, Mistake
from lstm_ray.model.explain import WordWeight
from lstm_ray.model.profile import Profile, TrainingData
from lstm_ray.report.pages import evaluation_report, history_png, training_report

VOID = {"meta", "br", "img", "hr", "input", "link"}
HOSTILE = "</pre><script>alert('gotcha')</script> & \"quoted\""


class Page(HTMLParser):
    """Parses a page and fails on a tag that is closed out of turn; collects text, tags and attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.open_tags: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert not self.open_tags, f"never closed: {self.open_tags}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open_tags.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open_tags, f"</{tag}> closes nothing"
        assert self.open_tags.pop() == tag

    def handle_data(self, data):
        self.text += data


def history(epochs=5, *, validation=True, nan_from=None):
    """A history of `epochs` epochs that overfits from epoch 4 on; NaN losses from epoch `nan_from`."""
    count = np.arange(1, epochs + 1)
    loss = 0.6 * np.exp(-count / 3)
    validation_loss = 0.36 + 0.03 * (count - 3) ** 2
    if nan_from is not None:
        loss[nan_from - 1 :] = validation_loss[nan_from - 1 :] = math.nan
    columns = {
        "epoch": pa.array(count, pa.int32()),
        "loss": loss,
        "accuracy": 1 - loss / 2,
        "validation_loss": validation_loss if validation else pa.nulls(epochs, pa.float64()),
        "validation_accuracy": 1.0 - validation_loss / 3 if validation else pa.nulls(epochs, pa.float64()),
        "validation_accuracy_standard_error": np.full(epochs, 0.012) if validation else pa.nulls(epochs, pa.float64()),
        "validation_auc": 1.0 - validation_loss / 6 if validation else pa.nulls(epochs, pa.float64()),
        "learning_rate": np.full(epochs, 0.001),
        "seconds": np.full(epochs, 12.5),
        "rows_per_s": np.full(epochs, 2000.0),
        "best": count == min(3, epochs) if validation else np.zeros(epochs, bool),
    }
    return pa.table(columns)


def counts(rows=400):
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 2, rows)
    return BinaryCounts.from_scores(labels, np.clip(labels * 0.4 + 0.6 * rng.random(rows), 0, 1).astype(np.float32))


def training_page(table, **overrides):
    arguments = {
        "title": "A run",
        "best_by": "loss",
        "metrics": None,
        "config": {"model": {"preset": "lstm", "masked": True}, "inputs": ["a", "b"]},
        "summary": "Model: lstm",
    }
    return check_self_contained(training_report(history=table, **(arguments | overrides)))


def evaluation_page(measured, mistakes=(), **others):
    return check_self_contained(
        evaluation_report(title="An evaluation", counts=measured, config={"a": 1}, mistakes=mistakes, **others)
    )


def check_self_contained(html):
    page = Page(html)
    assert "script" not in page.tags
    policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    assert ("content", policy) in page.attributes
    assert not {"src", "href", "xlink:href"} & {name for name, _ in page.attributes}
    assert not re.search(r"https?://|url\(|@import", html)
    assert not re.search(r'="[^"]*(nan|inf)\b[^"]*"', html), "a coordinate is not a number"
    return page


def test_a_training_report_shows_figures_sentence_matrix_table_model_and_settings():
    measured = counts()
    page = training_page(history(), metrics=measured.metrics(), notes=["A note.", "Another."])
    for expected in (
        "The model of epoch 3 of 5 was kept, the best by validation loss",
        "From epoch 4 on it overfits: validation loss, lowest in epoch 3, rises by 0.12",
        f"{measured.metrics()['accuracy']:.1%}",
        f"± {100 * measured.metrics()['accuracy_standard_error']:.1f}",
        "84.0% ± 1.2",
        "A note. Another.",
        "balanced accuracy",
        "2,000",
        f"{measured.true_positives:,}",
        "share of predicted positives that are positive",
        "overfits from epoch 4",
        "epoch 5, validation 0.480",
        "validation loss",
        "Model: lstm",
        "model.preset",
        "a, b",
    ):
        assert expected in page.text
    assert page.tags.count("svg") == 2
    assert "ROC curve" not in page.text, "a run that an older version began has no counts"
    assert page.text.count("▲ best by loss") == 2
    assert '<tr class="best"><td>3</td>' in page.html


def test_a_training_report_shows_scores_and_rows():
    measured = counts()
    rows = Profile(rows=800, positives=200, words=24_000, unknown=240, truncated=80)
    page = training_page(
        history(),
        metrics=measured.metrics(),
        counts=measured,
        profile=TrainingData(rows, replace(rows, rows=400, unknown=1200)),
        rows_seen=7,
    )
    assert page.tags.count("svg") == 4
    for expected in (
        "ROC curve",
        "Reliability",
        "base rate",
        "unknown words",
        "1.0%",
        "5.0%",
        "25.0%",
        "10.0%",
        "30.0",
    ):
        assert expected in page.text, expected
    assert "<td>rows also in training</td><td></td><td>7</td>" in page.html
    blind = training_page(history(2, validation=False), profile=TrainingData(rows, Profile()))
    assert "<td>labelled positive</td><td>25.0%</td><td>—</td>" in blind.html


def test_a_training_report_shows_what_each_part_reaches_alone():
    table = history()
    for name, value in (("lstm_loss", 0.5), ("lstm_accuracy", 0.7), ("ngram_loss", 0.4), ("ngram_accuracy", 0.99)):
        table = table.append_column(f"validation_{name}", pa.array(np.full(5, value)))
    page = training_page(table.append_column("lstm_share", pa.array(np.full(5, 0.25))), metrics=counts().metrics())
    for expected in (
        "Each part alone",
        "0.9900",
        "25%",
        "With the LSTM (0.8800) the model is no better than the n-grams",
    ):
        assert expected in page.text
    assert "Each part alone" not in training_page(history(), metrics=counts().metrics()).text


@pytest.mark.parametrize(
    "table",
    [
        history(1),
        history(1, validation=False),
        history(6, validation=False),
        history(120),
        history(5, nan_from=3),
        history(5, nan_from=1),
        history(3).slice(0, 0),
        history(4).select(["epoch", "loss", "accuracy"]),
    ],
    ids=["one", "one-blind", "blind", "many", "nan-later", "nan-at-once", "none", "few-columns"],
)
def test_any_history_gives_a_training_report_and_a_picture(table):
    training_page(table)
    picture = history_png(table, "loss")
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", picture[16:24]) == (1800, 720)
    assert picture.endswith(b"IEND\xaeB`\x82")


def test_a_picture_of_the_same_history_is_the_same():
    assert history_png(history(), "auc") == history_png(history(), "auc")


def test_without_validation_the_training_accuracy_is_the_headline_and_there_is_no_matrix():
    page = training_page(history(2, validation=False))
    assert "Training accuracy" in page.text
    assert "Validation accuracy" not in page.text
    assert "Confusion matrix" not in page.text
    assert "validation loss" not in page.text


def test_everything_that_comes_from_outside_is_escaped():
    page = training_page(history(), title=HOSTILE, summary=HOSTILE, config={HOSTILE: {HOSTILE: HOSTILE}})
    assert page.text.count(HOSTILE) == 6  # <title>, heading, summary, setting name (two levels) and value
    mistakes = [Mistake(HOSTILE, 0, 0.9)]
    evaluation = evaluation_report(title=HOSTILE, counts=counts(), config={HOSTILE: HOSTILE}, mistakes=mistakes)
    assert check_self_contained(evaluation).text.count(HOSTILE) == 5


def test_an_evaluation_report_shows_charts_metrics_and_mistakes():
    mistakes = [Mistake("badly wrong", 0, 0.97), Mistake("long " * 500, 1, 0.2), Mistake("mildly wrong", 1, 0.4)]
    page = evaluation_page(counts(), mistakes)
    assert page.html.count('<svg viewBox="0 0 340 330" style="max-width: 442px"') == 5, "alone in a row it stays small"
    for expected in ("ROC curve", "Reliability", "calibration error", "positive, 97.0%", "negative, 80.0%"):
        assert expected in page.text
    assert page.text.index("badly wrong") < page.text.index("long long") < page.text.index("mildly wrong")
    assert "labelled positive" in page.text
    assert page.text.count("long") < 100
    assert "…" in page.text


def test_an_evaluation_report_shows_the_words_of_mistakes_that_have_them():
    words = tuple(WordWeight(word, weight, ()) for word, weight in (("<b>", -1.5), ("dull", 0.25), *[("x", 0.0)] * 9))
    page = evaluation_page(counts(), [Mistake("<b> dull", 1, 0.1, words=words), Mistake("other", 0, 0.9)])
    assert "<b> -1.50, dull +0.25, x +0.00, x +0.00, x +0.00" in page.text
    assert page.html.count('<div class="note">') == 1
    assert "log odds" in page.text
    assert "log odds" not in evaluation_page(counts(), [Mistake("other", 0, 0.9)]).text


@pytest.mark.parametrize("labels", [[], [1, 1], [0, 0, 0]], ids=["no-rows", "positives-only", "negatives-only"])
def test_an_evaluation_report_can_be_written_when_some_metrics_do_not_exist(labels):
    measured = BinaryCounts.from_scores(np.array(labels, np.int8), np.full(len(labels), 0.3, np.float32))
    page = evaluation_page(measured)
    assert "—" in page.text
    assert "needs both labels" in page.text


def test_an_evaluation_report_shows_groups_another_model_and_the_threshold_asked_for():
    measured = counts()
    groups = [
        GroupResult("shop", value, 100, 40, 0.5, (0.4, 0.6), 0.25, 0.75, p_value)
        for value, p_value in (("plain", 0.6), (HOSTILE, 0.01), (None, None))
    ]
    page = evaluation_page(
        measured,
        groups=groups,
        comparison=Comparison(measured, 400, 300, 30, 10),
        ngrams=Comparison(measured, 400, 300, 10, 30),
        chosen=measured.at(0.25),
    )
    for expected in (
        "By shop",
        "40.0% to 60.0%",
        "null",
        HOSTILE,
        "p 0.0022",
        "+5.0 points",
        "its n-grams alone, a linear model, is",
        "-5.0 points",
        "meets the target is 0.25",
    ):
        assert expected in page.text
    assert page.html.count('<tr class="marked">') == 1
    most = [GroupResult("id", str(number), 1, 1, 1.0, (0.2, 1.0), 1.0, 1.0, 1.0) for number in range(999)]
    page = evaluation_page(measured, groups=most)
    assert page.html.count("20.0% to 100.0%") == 200
    assert "200 of 999 groups: those that stand out first" in page.text
    assert "groups: those that" not in evaluation_page(measured, groups=most[:200]).text


def test_an_evaluation_report_says_which_way_mistakes_lean():
    labels = np.repeat([0, 1], 100)
    always_positive = BinaryCounts.from_scores(labels, np.full(200, 0.9, np.float32))
    page = evaluation_page(always_positive)
    assert "100 of 200 rows are predicted correctly (50.0% ± 3.5). Always predicting positive gets 50.0%." in page.text
    assert "Most mistakes are false positives: 100 false positives, 0 false negatives." in page.text
    one = evaluation_page(BinaryCounts.from_scores(np.array([1]), np.array([0.9], np.float32)))
    assert "1 of 1 row is predicted correctly (100.0%" in one.text
    assert "off by 10.0 points on average, which may be chance: calibrated ones would be off by about 23.9" in one.text
    assert "off by 40.0 points on average, so lstm-ray calibrate may improve them" in page.text


def test_the_style_sheet_has_every_colour_of_the_charts():
    html = training_page(history()).html + evaluation_page(counts()).html
    colours = set(re.findall(r'<(?:polyline|polygon|circle|text) class="(\w+)', html))
    assert {"rule", "training", "validation", "best", "warm"} <= colours
    for colour in colours:
        assert f"svg .{colour} {{ color: var(--{colour}); }}" in html
        assert html.count(f"--{colour}: #") == 4, "light and dark, in both pages"


def test_what_would_turn_a_page_s_text_around_is_shown():
    acting, shown = "a\x1b[2J\u202egpj.exe\r\x9b", "a\\u001b[2J\\u202egpj.exe\\u000d\\u009b"
    training = training_page(history(), title=acting, summary=acting, notes=[acting], config={acting: {acting: acting}})
    assert training.text.count(shown) == 7
    evaluation = evaluation_report(
        title=acting, counts=counts(), config={acting: [acting]}, mistakes=[Mistake(acting, 0, 0.9)]
    )
    for page in (training, check_self_contained(evaluation)):
        assert not set("\x1b\u202e\r\x9b") & set(page.html)
