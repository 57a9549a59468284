"""The models that peers.py compares: each learns from texts and writes its files, and another process scores with them.

    python benchmarks/peers_models.py learn PEER SEED ROWS.parquet MODEL
    python benchmarks/peers_models.py score PEER MODEL ROWS.parquet FIGURES.json

`learn` makes the directory MODEL; `score` writes metrics and speed. PEER is a name in `PEERS`; for `score`, any other
name means a bundle of lstm-ray.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import pickle
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# As a script it has benchmarks/ first on the path, where tokenize.py hides the standard library's.
sys.path = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent]

import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.compute as pc  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

HELD_OUT_SHARE = 0.1  # of the rows, for peers that choose something
PASSES = 5

Texts = list[str]
Labels = npt.NDArray[np.int8]
Probabilities = npt.NDArray[np.floating[Any]]
Score = Callable[[Texts], Probabilities]


def read_rows(path: str) -> tuple[Texts, Labels]:
    """Returns the texts and labels of a Parquet file."""
    rows = pq.read_table(path, columns=["text", "label"])
    return rows["text"].to_pylist(), rows["label"].to_numpy().astype(np.int8)


def hold_out(texts: Texts, labels: Labels, seed: int) -> tuple[tuple[Texts, Labels], tuple[Texts, Labels]]:
    """Returns rows to learn from and rows to choose by."""
    order = np.random.default_rng(seed).permutation(len(texts))
    held_out, kept = np.split(order, [max(1, round(HELD_OUT_SHARE * len(order)))])
    left, right = (([texts[row] for row in part], labels[part]) for part in (kept, held_out))
    return left, right


def learn_majority(texts: Texts, labels: Labels, seed: int, model: Path) -> None:
    """Writes the share of positives."""
    (model / "share").write_text(str(labels.mean()))


def load_majority(model: Path) -> Score:
    """Gives every text the same probability."""
    share = float((model / "share").read_text())
    return lambda texts: np.full(len(texts), share)


TOKEN = r"[\w']+|[^\w\s']"  # words with their apostrophes, and single punctuation marks


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
    """Fits logistic regression to n-grams times their log ratios, which are multiplied into the written weights."""
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
    first = np.concatenate(values).clip(0, 1)  # fastText's values may exceed 1 by rounding
    return np.where(np.concatenate(names) == "__label__1", first, 1 - first)


WORDS, LONGEST, BATCH_ROWS, EPOCHS = 20_000, 400, 64, 8


def word_ids(texts: Texts, vocabulary: dict[str, int]) -> list[npt.NDArray[np.int64]]:
    """Returns the ids of the last words of each text: 0 is padding, 1 a word that is not in the vocabulary."""
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

    scorer = Scorer(read_bundle(str(model)), engine="native")
    return lambda texts: scorer.score(pa.array(texts)).probability.fill_null(0.5).to_numpy()


PEERS: dict[str, tuple[Callable[[Texts, Labels, int, Path], None], Callable[[Path], Score]]] = {
    "majority": (learn_majority, load_majority),
    "tfidf": (learn_tfidf, load_linear),
    "nb": (learn_nb, load_linear),
    "fasttext": (learn_fasttext, load_fasttext),
    "torch": (learn_torch, load_torch),
}


def learn(peer: str, seed: str, rows: str, model: str) -> None:
    """Trains a peer and writes its model."""
    Path(model).mkdir()
    PEERS[peer][0](*read_rows(rows), int(seed), Path(model))


def score(peer: str, model: str, rows: str, figures: str) -> None:
    """Scores rows, and writes metrics and the median speed of several passes."""
    from lstm_ray.evaluate.counts import BinaryCounts

    load = PEERS[peer][1] if peer in PEERS else load_ours
    score_texts = load(Path(model))
    texts, labels = read_rows(rows)
    score_texts(texts[:200])  # start-up costs are not counted
    seconds: list[float] = []
    for _ in range(PASSES):
        started = time.process_time()
        probabilities = score_texts(texts)
        seconds.append(time.process_time() - started)
    metrics = BinaryCounts.from_scores(labels, probabilities).metrics()
    measured = {
        "accuracy": metrics["accuracy"],
        "balanced_accuracy": metrics["balanced_accuracy"],
        "log_loss": metrics["log_loss"],
        "reviews_per_s": len(texts) / statistics.median(seconds),
    }
    Path(figures).write_text(json.dumps(measured))


if __name__ == "__main__":
    {"learn": learn, "score": score}[sys.argv[1]](*sys.argv[2:])
