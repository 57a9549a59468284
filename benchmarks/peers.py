"""Compares lstm-ray with other text classifiers: accuracy, time, memory, and size of the model.

    python benchmarks/peers.py --data DATA --results peers.jsonl
    python benchmarks/peers.py --data DATA --results peers.jsonl --peers best --ours 'best=--preset best'
    python benchmarks/peers.py --results peers.jsonl --table --picture peers.svg

DATA holds app_reviews.parquet, rt_polarity.parquet, imdb/train.parquet and imdb/dev.parquet, with columns `text` and
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
scores in processes of its own. A training's time and memory are the whole process's, from the start of Python until the
model is written. Scoring runs on one core: texts in memory to probabilities, by the core's time, once the model is
loaded. Each finished training is a line in the file of results, and is not repeated. Run it on a machine that does
nothing else. Linux only.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import itertools
import json
import math
import os
import pickle
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# `python benchmarks/peers.py` puts benchmarks/ first on the path, where tokenize.py hides the standard library's.
sys.path = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent]

import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.compute as pc  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

from lstm_ray.report.charts import value_ticks  # noqa: E402
from lstm_ray.report.marks import Chart, Dot, Frame, Label, Line, Mark  # noqa: E402
from lstm_ray.report.picture import draw_charts  # noqa: E402

CORPORA = ("app_reviews", "rt_polarity", "imdb")
ROWS = ("500", "2000", "8000", "all")
OURS = {"lstm": "--preset lstm", "bilstm": "--preset bilstm", "defaults": "", "best": "--preset best"}

TEST_SHARE = 0.2
HELD_OUT_SHARE = 0.1  # of the training rows, for peers that choose something
PASS_S = 1.0  # a test set that is scored faster is scored again

Texts = list[str]
Labels = npt.NDArray[np.int8]
Probabilities = npt.NDArray[np.floating[Any]]
Score = Callable[[Texts], Probabilities]


class PeerError(Exception):
    """A peer that did not run: not installed, an unknown option. The message says why."""


@dataclass(frozen=True)
class Case:
    """A training: what identifies a line in the file of results.

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
    """What was measured; field by field a line in the file of results, after the case."""

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


def texts_and_labels(path: Path) -> tuple[Texts, Labels]:
    """Returns the rows of a file."""
    rows = read_rows(path)
    return rows["text"].to_pylist(), rows["label"].to_numpy().astype(np.int8)


def hold_out(texts: Texts, labels: Labels, seed: int) -> tuple[tuple[Texts, Labels], tuple[Texts, Labels]]:
    """Returns rows to learn from and rows to choose by."""
    order = np.random.default_rng(seed).permutation(len(texts))
    held_out, kept = np.split(order, [max(1, round(HELD_OUT_SHARE * len(order)))])
    left, right = (([texts[row] for row in part], labels[part]) for part in (kept, held_out))
    return left, right


# Peers: each learns from texts and writes a model; from that directory, another process gets what scores -------------


def learn_majority(texts: Texts, labels: Labels, seed: int, model: Path) -> None:
    """Writes the share of positives."""
    (model / "share").write_text(str(labels.mean()))


def load_majority(model: Path) -> Score:
    """Gives every text the same probability."""
    share = float((model / "share").read_text())
    return lambda texts: np.full(len(texts), share)


TOKEN = r"[\w']+|[^\w\s']"  # words, which hold their apostrophes, and each punctuation mark


def clean(text: str) -> str:
    """Returns a text in lower case, without the line breaks of IMDb's HTML."""
    return text.lower().replace("<br />", " ")


def learn_tfidf(texts: Texts, labels: Labels, seed: int, model: Path) -> None:
    """Fits TF-IDF and logistic regression."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    vectorizer = TfidfVectorizer(preprocessor=clean, token_pattern=TOKEN, ngram_range=(1, 2))
    classifier = LogisticRegression(C=10, max_iter=1000)
    classifier.fit(vectorizer.fit_transform(texts), labels)
    (model / "pipeline.pickle").write_bytes(pickle.dumps((vectorizer, classifier)))


def learn_nb(texts: Texts, labels: Labels, seed: int, model: Path) -> None:
    """Fits logistic regression to n-grams times their log ratios, which the written weights then hold."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    vectorizer = CountVectorizer(
        preprocessor=clean, token_pattern=TOKEN, ngram_range=(1, 3), binary=True, dtype=np.float64
    )
    ngrams = vectorizer.fit_transform(texts)
    positive, negative = (1 + ngrams[labels == label].sum(axis=0).A1 for label in (1, 0))
    ratios = np.log(positive / positive.sum()) - np.log(negative / negative.sum())
    classifier = LogisticRegression(C=0.5, max_iter=1000)
    classifier.fit(ngrams.multiply(ratios).tocsr(), labels)
    classifier.coef_ *= ratios
    (model / "pipeline.pickle").write_bytes(pickle.dumps((vectorizer, classifier)))


def load_linear(model: Path) -> Score:
    """Scores as a scikit-learn pipeline does."""
    vectorizer, classifier = pickle.loads((model / "pipeline.pickle").read_bytes())
    return lambda texts: classifier.predict_proba(vectorizer.transform(texts))[:, 1]


def learn_fasttext(texts: Texts, labels: Labels, seed: int, model: Path) -> None:
    """Trains fastText with several settings on nine tenths of the rows, and with the best of them on all."""
    import fasttext

    training, held_out = hold_out(texts, labels, seed)

    def train(rows: tuple[Texts, Labels], rate: float, epochs: int) -> Any:
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            file.writelines(f"__label__{label} {fasttext_line(text)}\n" for text, label in zip(*rows, strict=True))
            file.flush()
            return fasttext.train_supervised(
                file.name,
                lr=rate,
                epoch=epochs,
                dim=10,
                wordNgrams=2,
                seed=seed,
                thread=len(os.sched_getaffinity(0)),
                verbose=0,
            )

    def log_loss(settings: tuple[float, int]) -> float:
        probability = fasttext_probabilities(train(training, *settings), held_out[0])
        of_label = np.where(held_out[1] == 1, probability, 1 - probability)
        return float(-np.log(np.clip(of_label, 1e-7, 1)).mean())

    best = min(itertools.product((0.1, 0.5), (5, 25)), key=log_loss)
    train((texts, labels), *best).save_model(str(model / "model.bin"))


def load_fasttext(model: Path) -> Score:
    """Scores with the written model."""
    import fasttext

    loaded = fasttext.load_model(str(model / "model.bin"))
    return lambda texts: fasttext_probabilities(loaded, texts)


def fasttext_line(text: str) -> str:
    """Returns the tokens of a text, with spaces between them, on one line."""
    return " ".join(re.findall(TOKEN, clean(text)))


def fasttext_probabilities(model: Any, texts: Texts) -> Probabilities:
    """Returns the probability of label 1.

    `predict` of one text fails with NumPy 2; of a list it works, but gives all labels the probability of the first.
    """
    names, values = model.predict([fasttext_line(text) for text in texts])
    first = np.concatenate(values).clip(0, 1)  # it rounds to a little above 1
    return np.where(np.concatenate(names) == "__label__1", first, 1 - first)


WORDS, LONGEST, BATCH_ROWS, EPOCHS = 20_000, 400, 64, 8


def word_ids(texts: Texts, vocabulary: dict[str, int]) -> list[npt.NDArray[np.int64]]:
    """Returns the ids of the last words of each text: 0 is padding, 1 any word that the vocabulary does not have."""
    words = (re.findall(TOKEN, clean(text))[-LONGEST:] or [""] for text in texts)
    return [np.array([vocabulary.get(word, 1) for word in row]) for row in words]


def torch_network() -> Any:
    """Returns an embedding, a BiLSTM and an output layer."""
    import torch

    return torch.nn.ModuleDict(
        {
            "embedding": torch.nn.Embedding(WORDS, 128, padding_idx=0),
            "dropout": torch.nn.Dropout(0.3),
            "lstm": torch.nn.LSTM(128, 128, batch_first=True, bidirectional=True),
            "output": torch.nn.Linear(256, 1),
        }
    )


def torch_logits(network: Any, rows: list[npt.NDArray[np.int64]]) -> Any:
    """Returns float32[rows]."""
    import torch
    from torch.nn.utils import rnn

    padded = rnn.pad_sequence([torch.from_numpy(row) for row in rows], batch_first=True)
    lengths = torch.tensor([len(row) for row in rows])
    vectors = network["dropout"](network["embedding"](padded))
    packed = rnn.pack_padded_sequence(vectors, lengths, batch_first=True, enforce_sorted=False)
    states, _ = rnn.pad_packed_sequence(network["lstm"](packed)[0], batch_first=True, padding_value=-math.inf)
    return network["output"](network["dropout"](states.amax(dim=1)))[:, 0]


def torch_probabilities(network: Any, rows: list[npt.NDArray[np.int64]]) -> Probabilities:
    """Returns float32[rows], computed in batches of rows of like length."""
    import torch

    network.eval()
    order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
    result = np.empty(len(rows), np.float32)
    with torch.inference_mode():
        for first in range(0, len(rows), BATCH_ROWS):
            batch = order[first : first + BATCH_ROWS]
            result[batch] = torch.sigmoid(torch_logits(network, [rows[row] for row in batch])).numpy()
    return result


def learn_torch(texts: Texts, labels: Labels, seed: int, model: Path) -> None:
    """Trains the BiLSTM with Adam, and writes the epoch with the lowest loss on the rows held out."""
    import torch
    from sklearn.metrics import log_loss

    torch.manual_seed(seed)
    (texts, labels), (other_texts, other_labels) = hold_out(texts, labels, seed)
    counts = pc.value_counts(pa.array([word for text in texts for word in re.findall(TOKEN, clean(text))]))
    frequent = sorted(counts.to_pylist(), key=lambda word: (-word["counts"], word["values"]))[: WORDS - 2]
    vocabulary = {word["values"]: number for number, word in enumerate(frequent, 2)}
    rows, other_rows = word_ids(texts, vocabulary), word_ids(other_texts, vocabulary)
    network = torch_network()
    optimizer = torch.optim.Adam(network.parameters())
    generator = np.random.default_rng(seed)
    lowest = math.inf
    for _ in range(EPOCHS):
        network.train()
        for batch in batches_of_like_length(rows, generator):
            optimizer.zero_grad()
            logits = torch_logits(network, [rows[row] for row in batch])
            target = torch.from_numpy(labels[batch].astype(np.float32))
            torch.nn.functional.binary_cross_entropy_with_logits(logits, target).backward()
            optimizer.step()
        loss = log_loss(other_labels, torch_probabilities(network, other_rows), labels=[0, 1])
        if loss < lowest:
            lowest = loss
            torch.save(network.state_dict(), model / "weights.pt")
    (model / "vocabulary.json").write_text(json.dumps(vocabulary))


def batches_of_like_length(rows: Sequence[Any], generator: np.random.Generator) -> list[list[int]]:
    """Returns an epoch's batches of row numbers: pools of 32 batches are sorted by length, the batches shuffled."""
    order = generator.permutation(len(rows)).tolist()
    size = 32 * BATCH_ROWS
    pools = (sorted(order[first : first + size], key=lambda row: len(rows[row])) for first in range(0, len(rows), size))
    batches = [pool[first : first + BATCH_ROWS] for pool in pools for first in range(0, len(pool), BATCH_ROWS)]
    return [batches[number] for number in generator.permutation(len(batches))]


def load_torch(model: Path) -> Score:
    """Scores with the written weights."""
    import torch

    vocabulary = json.loads((model / "vocabulary.json").read_text())
    network = torch_network()
    network.load_state_dict(torch.load(model / "weights.pt", weights_only=True))
    return lambda texts: torch_probabilities(network, word_ids(texts, vocabulary))


def load_ours(model: Path) -> Score:
    """Scores as `lstm-ray score` does; a text without a score gets 0.5."""
    from lstm_ray.model.bundle import read_bundle
    from lstm_ray.score.scorer import Scorer

    scorer = Scorer(read_bundle(str(model)), engine="cpu")
    return lambda texts: scorer.score(pa.array(texts)).probability.fill_null(0.5).to_numpy()


PEERS: dict[str, tuple[Callable[[Texts, Labels, int, Path], None], Callable[[Path], Score]]] = {
    "majority": (learn_majority, load_majority),
    "tfidf": (learn_tfidf, load_linear),
    "nb": (learn_nb, load_linear),
    "fasttext": (learn_fasttext, load_fasttext),
    "torch": (learn_torch, load_torch),
}


# Measuring ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Usage:
    """What a process took."""

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
    with tempfile.TemporaryDirectory(dir=work) as directory:
        output = Path(directory)
        if case.peer in PEERS:
            learn = [*this_script("learn"), case.peer, str(work), str(output), str(case.seed)]
        else:
            learn = [sys.executable, "-m", "lstm_ray", "train", "--train", str(work / "training.parquet")]
            learn += ["--output", str(output), "--seed", str(case.seed), *shlex.split(case.arguments)]
        usage = run(learn, work)
        run([*this_script("score"), case.peer, str(work), str(output)], work, one_core=True)
        scored = json.loads((output / "scored.json").read_text())
        size = sum(file.stat().st_size for file in (output / "model").rglob("*") if file.is_file())
    return Result(
        **scored,
        training_rows=pq.read_metadata(work / "training.parquet").num_rows,
        train_s=usage.wall_s,
        train_cpu_s=usage.cpu_s,
        peak_mb=usage.peak_mb,
        model_mb=size / 1e6,
    )


def this_script(step: str) -> list[str]:
    """Returns the beginning of a command line that runs a step of this script."""
    return [sys.executable, __file__, "--step", step]


def run(command: list[str], work: Path, *, one_core: bool = False) -> Usage:
    """Runs a process, on one core or on all, and returns what it took.

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
    """Returns the line that says what was wrong: the first of lstm-ray's errors, the last of a traceback."""
    lines = [line for line in errors.splitlines() if line.strip()]
    return next((line for line in lines if line.startswith("error: ")), lines[-1] if lines else "")


def step_prepare(data: str, corpus: str, rows: str, seed: str, work: str) -> None:
    """Writes training and test rows. (Not in the main process, whose memory a child's peak never falls below.)"""
    training, test = read_corpus(Path(data), corpus)
    pq.write_table(draw(training, rows, int(seed)), Path(work) / "training.parquet")
    pq.write_table(test, Path(work) / "test.parquet")


def step_learn(peer: str, work: str, output: str, seed: str) -> None:
    """Trains a peer and writes its model."""
    model = Path(output) / "model"
    model.mkdir()
    PEERS[peer][0](*texts_and_labels(Path(work) / "training.parquet"), int(seed), model)


def step_score(peer: str, work: str, output: str) -> None:
    """Scores the test rows and writes metrics and speed, the median of as many passes as fill a second."""
    from lstm_ray.evaluate.counts import BinaryCounts

    load = PEERS[peer][1] if peer in PEERS else load_ours
    score = load(Path(output) / "model")
    texts, labels = texts_and_labels(Path(work) / "test.parquet")
    score(texts[:200])  # what is slow only once is not counted
    seconds: list[float] = []
    while sum(seconds) < PASS_S:
        started = time.process_time()
        probabilities = score(texts)
        seconds.append(time.process_time() - started)
    metrics = BinaryCounts.from_scores(labels, probabilities).metrics()
    figures = {
        "test_rows": len(texts),
        "accuracy": metrics["accuracy"],
        "balanced_accuracy": (metrics["recall"] + metrics["specificity"]) / 2,
        "log_loss": metrics["log_loss"],
        "reviews_per_s": len(texts) / statistics.median(seconds),
    }
    (Path(output) / "scored.json").write_text(json.dumps(figures))


STEPS: dict[str, Callable[..., None]] = {"prepare": step_prepare, "learn": step_learn, "score": step_score}


def measure_all(cases: Iterable[Case], data: Path, path: Path) -> None:
    """Runs the cases that the file of results does not have, and appends them to it."""
    done = read_results(path)
    missing = [case for case in cases if case not in done]
    for (corpus, rows, seed), group in itertools.groupby(missing, lambda case: (case.corpus, case.rows, case.seed)):
        with tempfile.TemporaryDirectory() as directory:
            work = Path(directory)
            run([*this_script("prepare"), str(data), corpus, rows, str(seed), directory], work)
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
    """Returns a markdown table: a line a peer, in bold what is best of a corpus and number of rows.

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
    """Returns accuracy by reviews/s on a logarithmic scale; a line joins those that no other beats in both.

    Args:
        corpus: Its title.
        points: Reviews/s and accuracy by peer.
    """
    speeds, accuracies = zip(*points.values(), strict=True)
    decades = range(math.floor(math.log10(min(speeds))), math.ceil(math.log10(max(speeds))) + 1)
    ticks = value_ticks(min(accuracies), max(accuracies))
    frame = Frame(48, 12, 288, 240, (decades[0], max(decades[-1], decades[0] + 1)), (ticks[0], ticks[-1]))
    marks: list[Mark] = []
    for tick in ticks:
        marks.append(frame.horizontal(frame.y(tick), "rule"))
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
        lowest = max(y + 4, lowest + LABEL_HEIGHT)  # labels stand below each other, wherever their dots are
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
    """Returns an SVG with a panel for each corpus that was measured on all its rows; without `majority`."""
    points: dict[str, dict[str, tuple[float, float]]] = {}
    for case, found in by_seeds(cases, results):
        if case.rows == "all" and is_ranked(case, found):
            speed = statistics.fmean(result.reviews_per_s for result in found)
            accuracy = statistics.fmean(result.accuracy for result in found)
            points.setdefault(case.corpus, {})[case.peer] = (speed, accuracy)
    return draw_charts([panel(corpus, each) for corpus, each in points.items()], "svg")


def main() -> None:
    """Runs what is missing, then prints and draws what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="directory of the corpora; without it nothing is run")
    parser.add_argument("--results", type=Path, help="file of results, a JSON object a line")
    parser.add_argument("--corpora", nargs="+", choices=CORPORA, default=CORPORA)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS)
    parser.add_argument("--peers", nargs="+", help="names, of --ours too (default: all)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--ours", action="append", default=[], metavar="NAME=ARGS", help="one more `lstm-ray train`")
    parser.add_argument("--table", action="store_true", help="print a markdown table of the selected results")
    parser.add_argument("--picture", type=Path, metavar="FILE.svg", help="draw accuracy by speed, whole corpora")
    parser.add_argument("--step", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        STEPS[options.step[0]](*options.step[1:])
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
