"""Compares lstm-ray with other text classifiers: accuracy, time, memory, and size of the model.

    python benchmarks/peers.py --data DATA --results peers.jsonl
    python benchmarks/peers.py --data DATA --results peers.jsonl --peers best --ours 'best=--preset best'
    python benchmarks/peers.py --results peers.jsonl --table --picture peers.png

DATA contains app_reviews.parquet, rt_polarity.parquet, imdb/train.parquet and imdb/dev.parquet, with columns `text` and
`label`. Of IMDb, models learn from train and are tested on dev; of the others, a fifth is the test set, the same for
all seeds. Equal texts are never on both sides. A seed decides which rows a model learns from, which of these it holds
out to choose its best epoch or setting, and its initial weights. Nothing is chosen on test rows.

    majority  the share of positives among the training rows, for every text
    tfidf     TF-IDF of 1-2-grams, logistic regression, C = 10
    nb        1-3-grams, binary, times the log ratio of their counts by class (Wang & Manning 2012), logistic
              regression, C = 0.5
    fasttext  bigrams, 10 numbers a word (Joulin et al. 2016); a tenth of the rows chooses learning rate and epochs
    torch     BiLSTM(128), max pooling, the last 400 words; a tenth of the rows chooses the epoch
    lstm, bilstm, defaults, best, and those of --ours
              `lstm-ray train` with the arguments in OURS

They need `pip install scikit-learn fasttext-wheel torch`; what is not installed is skipped. Each model learns and
scores in processes of its own. Time and memory of training are those of the whole process, from the start of Python
until the model is written. Scoring runs on one core, from texts in memory to probabilities, and is measured in CPU time
after the model is loaded. Each finished training is a line in the file of results, and is not repeated. Run it on an
idle machine. Linux only.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import itertools
import json
import math
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

# `python benchmarks/peers.py` puts benchmarks/ first on the path, where tokenize.py hides the standard library's.
sys.path = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent]

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.compute as pc  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

from lstm_ray.report.charts import value_ticks  # noqa: E402
from lstm_ray.report.marks import Chart, Dot, Frame, Label, Line, Mark  # noqa: E402
from lstm_ray.report.picture import draw_charts  # noqa: E402

CORPORA = ("app_reviews", "rt_polarity", "imdb")
ROWS = ("500", "2000", "8000", "all")
PEERS = ("majority", "tfidf", "nb", "fasttext", "torch")  # of peers_models.py
MODELS = (sys.executable, str(Path(__file__).with_name("peers_models.py")))
OURS = {"lstm": "--preset lstm", "bilstm": "--preset bilstm", "defaults": "--preset none", "best": "--preset best"}
TEST_SHARE = 0.2


class PeerError(Exception):
    """A peer that did not run: not installed, an unknown option. The message says why."""


@dataclass(frozen=True)
class Case:
    """A training. It identifies a line in the file of results.

    Attributes:
        corpus: Of `CORPORA`.
        rows: Of `ROWS`.
        peer: Of `PEERS`, of `OURS`, or a name from --ours.
        arguments: Of `lstm-ray train`; empty for other peers.
        seed: Of this training.
    """

    corpus: str
    rows: str
    peer: str
    arguments: str
    seed: int


@dataclass(frozen=True)
class Result:
    """The figures of a case: the fields that follow it in a line of the file of results."""

    training_rows: int
    test_rows: int
    accuracy: float
    balanced_accuracy: float
    log_loss: float
    train_s: float
    train_cpu_s: float
    reviews_per_s: float
    peak_mb: float
    model_mb: float


Results = dict[Case, Result]


# Corpora -----------------------------------------------------------------------------------------------------------


def read_corpus(data: Path, corpus: str) -> tuple[pa.Table, pa.Table]:
    """Returns training and test rows, columns `text` and `label`."""
    if corpus == "imdb":
        training, test = (read_rows(data / "imdb" / f"{half}.parquet") for half in ("train", "dev"))
    else:
        rows = read_rows(data / f"{corpus}.parquet")
        is_test = pa.array([share_of(text) < TEST_SHARE for text in rows["text"].to_pylist()])
        training, test = rows.filter(pc.invert(is_test)), rows.filter(is_test)
    return training.filter(pc.invert(pc.is_in(training["text"], test["text"].combine_chunks()))), test


def read_rows(path: Path) -> pa.Table:
    """Returns the rows of a file."""
    return pq.read_table(path, columns=["text", "label"])


def share_of(text: str) -> float:
    """Returns a number in [0, 1) that depends on the text alone."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8, key=b"peers").digest(), "little") / 2**64


def draw(training: pa.Table, rows: str, seed: int) -> pa.Table:
    """Returns rows in random order: as many as `rows` says, or all."""
    order = np.random.default_rng(seed).permutation(training.num_rows)
    return training.take(order if rows == "all" else order[: int(rows)])


# Measuring ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Usage:
    """Time and memory of a process."""

    wall_s: float
    cpu_s: float
    peak_mb: float


def measure(case: Case, work: Path) -> Result:
    """Returns the figures of one training, in processes of their own.

    Args:
        case: What to train.
        work: Directory with training.parquet and test.parquet.

    Raises:
        PeerError: A process failed.
    """
    training, test = (str(work / f"{part}.parquet") for part in ("training", "test"))
    figures = work / "figures.json"
    with tempfile.TemporaryDirectory(dir=work) as directory:
        output = Path(directory)
        model, seed = str(output / "model"), str(case.seed)
        if case.peer in PEERS:
            learn = [*MODELS, "learn", case.peer, seed, training, model]
        else:
            learn = [sys.executable, "-m", "lstm_ray", "train", "--train", training, "--output", directory]
            learn += ["--seed", seed, *shlex.split(case.arguments)]
        usage = run(learn, work)
        run([*MODELS, "score", case.peer, model, test, str(figures)], work, one_core=True)
        size = sum(file.stat().st_size for file in (output / "model").rglob("*") if file.is_file())
    return Result(
        **json.loads(figures.read_text()),
        training_rows=pq.read_metadata(training).num_rows,
        test_rows=pq.read_metadata(test).num_rows,
        train_s=usage.wall_s,
        train_cpu_s=usage.cpu_s,
        peak_mb=usage.peak_mb,
        model_mb=size / 1e6,
    )


def run(command: list[str], work: Path, *, one_core: bool = False) -> Usage:
    """Runs a process, on one core or on all, and returns its time and memory.

    Raises:
        PeerError: It failed.
    """
    pin = (lambda: os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})) if one_core else None
    errors = work / "errors.txt"
    started = time.perf_counter()
    with errors.open("wb") as stream:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stream, preexec_fn=pin)
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise PeerError(reason(errors.read_text(errors="replace")) or f"exit code {process.returncode}")
    return Usage(time.perf_counter() - started, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e6)


def reason(errors: str) -> str:
    """Returns the line that says what was wrong: the first of lstm-ray's message, the last of a traceback."""
    lines = [line for line in errors.splitlines() if line.strip()]
    return next((line for line in lines if line.startswith("error: ")), lines[-1] if lines else "")


def prepare(data: str, corpus: str, rows: str, seed: str, work: str) -> None:
    """Writes training and test rows. (Not in the main process, whose memory a child's peak never falls below.)"""
    training, test = read_corpus(Path(data), corpus)
    pq.write_table(draw(training, rows, int(seed)), Path(work) / "training.parquet")
    pq.write_table(test, Path(work) / "test.parquet")


def measure_all(cases: Iterable[Case], data: Path, path: Path) -> None:
    """Runs the cases that the file of results does not have, and appends them to it."""
    done = read_results(path)
    missing = [case for case in cases if case not in done]
    for (corpus, rows, seed), group in itertools.groupby(missing, lambda case: (case.corpus, case.rows, case.seed)):
        with tempfile.TemporaryDirectory() as directory:
            work = Path(directory)
            run([sys.executable, __file__, "--prepare", str(data), corpus, rows, str(seed), directory], work)
            for case in group:
                name = f"{corpus}, {rows} rows, seed {seed}: {case.peer}"
                try:
                    result = measure(case, work)
                except PeerError as error:
                    print(f"{name} skipped: {error}", file=sys.stderr, flush=True)
                    continue
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(dataclasses.asdict(case) | dataclasses.asdict(result)) + "\n")
                print(f"{name} {result.accuracy:.4f}, {result.train_s:.1f} s", file=sys.stderr, flush=True)


def read_results(path: Path) -> Results:
    """Returns the results in a file, none if there is no such file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    results: Results = {}
    for line in map(json.loads, lines):
        case = Case(**{field.name: line.pop(field.name) for field in dataclasses.fields(Case)})
        results[case] = Result(**line)
    return results


# Showing -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    """A column of the table: a mean over seeds.

    Attributes:
        title: At its head.
        value: Of a result.
        form: A format, such as ",.0f".
        best: `max` or `min`.
        spread: Whether the standard deviation is shown beside the mean.
    """

    title: str
    value: Callable[[Result], float]
    form: str
    best: Callable[[Iterable[float]], float]
    spread: bool = False


COLUMNS = (
    Column("accuracy, %", lambda result: 100 * result.accuracy, ".1f", max, spread=True),
    Column("balanced accuracy, %", lambda result: 100 * result.balanced_accuracy, ".1f", max),
    Column("log loss", lambda result: result.log_loss, ".3f", min),
    Column("training, s", lambda result: result.train_s, ",.0f", min),
    Column("training, CPU s", lambda result: result.train_cpu_s, ",.0f", min),
    Column("reviews/s per core", lambda result: result.reviews_per_s, ",.0f", max),
    Column("peak memory, MB", lambda result: result.peak_mb, ",.0f", min),
    Column("model, MB", lambda result: result.model_mb, ",.1f", min),
)


def by_seeds(cases: Sequence[Case], results: Results) -> Iterator[tuple[Case, list[Result]]]:
    """Yields each case of the first seed, with the results of all seeds."""
    for case in dict.fromkeys(dataclasses.replace(case, seed=cases[0].seed) for case in cases):
        same = [each for each in cases if dataclasses.replace(each, seed=case.seed) == case]
        yield case, [results[each] for each in same if each in results]


def table(cases: Sequence[Case], results: Results) -> str:
    """Returns a Markdown table with a line per peer, and the best figures of a corpus and number of rows in bold.

    `majority` is never bold. A peer without results is still to be measured, and says so.
    """
    lines = [f"| corpus | rows | model | seeds | {' | '.join(column.title for column in COLUMNS)} |"]
    lines.append("|---|---:|---|---:|" + "---:|" * len(COLUMNS))
    for (corpus, rows), group in itertools.groupby(
        by_seeds(cases, results), lambda pair: (pair[0].corpus, pair[0].rows)
    ):
        measured = list(group)
        best = [
            column.best(
                statistics.fmean(map(column.value, found)) for case, found in measured if is_ranked(case, found)
            )
            if any(is_ranked(*pair) for pair in measured)
            else None
            for column in COLUMNS
        ]
        for case, found in measured:
            cells = [
                cell(column, found, is_ranked(case, found) and statistics.fmean(map(column.value, found)) == first)
                for column, first in zip(COLUMNS, best, strict=True)
            ]
            lines.append(f"| {corpus} | {rows} | {case.peer} | {len(found) or ''} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def is_ranked(case: Case, found: list[Result]) -> bool:
    """Returns whether a peer may be the best of a column."""
    return bool(found) and case.peer != "majority"


def cell(column: Column, found: list[Result], bold: bool) -> str:
    """Returns a cell of the table."""
    if not found:
        return "to come" if column is COLUMNS[0] else ""
    values = list(map(column.value, found))
    text = format(statistics.fmean(values), column.form)
    text = f"**{text}**" if bold else text
    return f"{text} ± {statistics.stdev(values):{column.form}}" if column.spread and len(values) > 1 else text


PANEL_WIDTH, PANEL_HEIGHT, LABEL_HEIGHT = 300, 300, 13


def panel(corpus: str, points: dict[str, tuple[float, float]]) -> Chart:
    """Returns accuracy by reviews/s, on a logarithmic scale; a line joins the peers that no other beats in both.

    Args:
        corpus: Its title.
        points: Reviews/s and accuracy by peer.
    """
    speeds, accuracies = zip(*points.values(), strict=True)
    decades = range(math.floor(math.log10(min(speeds))), math.ceil(math.log10(max(speeds))) + 1)
    ticks = value_ticks(min(accuracies), max(accuracies))
    frame = Frame(48, 12, 274, 240, (decades[0], max(decades[-1], decades[0] + 1)), (ticks[0], ticks[-1]))
    marks: list[Mark] = []
    for tick in ticks:
        marks.append(frame.horizontal(frame.y(tick)))
        marks.append(Label(frame.left - 6, frame.y(tick) + 4, f"{100 * tick:.6g}%", "soft", "end"))
    for decade in decades:
        marks.append(frame.vertical(frame.x(decade), "rule"))
        marks.append(Label(frame.x(decade), frame.bottom + 17, f"{10**decade:,}", "soft", "middle"))
    marks.append(Label((frame.left + frame.right) / 2, frame.bottom + 36, "reviews/s on one core", "soft", "middle"))
    front = unbeaten(points)
    line = [(frame.x(math.log10(points[peer][0])), frame.y(points[peer][1])) for peer in front]
    marks.append(Line(line, "best", 1.5, (3, 3)))
    lowest: float = -math.inf
    for peer, (speed, accuracy) in sorted(points.items(), key=lambda point: -point[1][1]):
        x, y = frame.x(math.log10(speed)), frame.y(accuracy)
        colour = "soft" if peer in PEERS else "validation"
        lowest = max(y + 4, lowest + LABEL_HEIGHT)  # labels are below each other, wherever their dots are
        on_left = x > (frame.left + frame.right) / 2
        marks.append(Dot(x, y, 5, colour, f"{peer}: {accuracy:.1%}, {speed:,.0f} reviews/s"))
        marks.append(Label(x - 9 if on_left else x + 9, lowest, peer, colour, "end" if on_left else "start", bold=True))
    return Chart(corpus, PANEL_WIDTH, PANEL_HEIGHT, marks)


def unbeaten(points: dict[str, tuple[float, float]]) -> list[str]:
    """Returns, by rising speed, the peers to which no other is superior in both speed and accuracy."""
    return sorted(
        (
            peer
            for peer, (speed, accuracy) in points.items()
            if not any(other[0] > speed and other[1] > accuracy for other in points.values())
        ),
        key=lambda peer: points[peer],
    )


def picture(cases: Sequence[Case], results: Results) -> bytes:
    """Returns a PNG with a panel for each corpus that was measured on all its rows; without `majority`."""
    points: dict[str, dict[str, tuple[float, float]]] = {}
    for case, found in by_seeds(cases, results):
        if case.rows == "all" and is_ranked(case, found):
            speed = statistics.fmean(result.reviews_per_s for result in found)
            accuracy = statistics.fmean(result.accuracy for result in found)
            points.setdefault(case.corpus, {})[case.peer] = (speed, accuracy)
    return draw_charts([panel(corpus, each) for corpus, each in points.items()])


def main() -> None:
    """Runs the missing cases, then prints and draws the results as asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="directory of the corpora; without it nothing is run")
    parser.add_argument("--results", type=Path, help="file of results, one JSON object per line")
    parser.add_argument("--corpora", nargs="+", choices=CORPORA, default=CORPORA)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS)
    parser.add_argument("--peers", nargs="+", help="names, of --ours too (default: all)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--ours", action="append", default=[], metavar="NAME=ARGS", help="one more `lstm-ray train`")
    parser.add_argument("--table", action="store_true", help="print a markdown table of the selected results")
    parser.add_argument("--picture", type=Path, metavar="FILE.png", help="draw accuracy by speed, whole corpora")
    parser.add_argument("--prepare", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.prepare:
        prepare(*options.prepare)
        return
    if not options.results:
        parser.error("--results is required")
    ours = OURS | dict(each.split("=", 1) for each in options.ours)
    peers = options.peers or [*PEERS, *ours]
    if unknown := [peer for peer in peers if peer not in PEERS and peer not in ours]:
        parser.error(f"--peers {unknown[0]}: choose from {', '.join([*PEERS, *ours])}")
    cases = [
        Case(corpus, rows, peer, ours.get(peer, ""), seed)
        for corpus, rows, seed, peer in itertools.product(options.corpora, options.rows, options.seeds, peers)
    ]
    if options.data:
        measure_all(cases, options.data, options.results)
    results = read_results(options.results)
    if options.table:
        print(table(cases, results), end="")
    if options.picture:
        options.picture.write_bytes(picture(cases, results))


if __name__ == "__main__":
    main()
