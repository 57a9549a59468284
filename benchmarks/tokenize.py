"""Measures the tokenizer on one core, against Python's string methods and Hugging Face's tokenizers.

    python benchmarks/tokenize.py [--input PARQUET] [--rounds 5]

All contestants split the same texts, in turns, for several rounds; the table shows medians of the CPU time of this
process, which other work on the machine does not change. Without --input the texts are synthetic: 25,000, as long as
IMDb reviews. Contestants that take Python strings get them ready-made. tokenizers takes part if it is installed.
"""

from __future__ import annotations

import os
import sys

# This file has the name of a module of the standard library, and Python puts a script's directory first in sys.path: in
# every script of this directory, `import dataclasses` (which needs `tokenize`) would import this file. So, run as a
# script, it removes its directory from the path before it imports anything. Imported in place of the standard library's
# module, it imports that one instead of itself.
HERE = os.path.dirname(os.path.abspath(__file__))
_OTHERS = [directory for directory in sys.path if os.path.abspath(directory) != HERE]

if __name__ == "__main__":
    sys.path[:] = _OTHERS
    import argparse
    import re
    import time
    from collections import Counter
    from collections.abc import Callable
    from pathlib import Path
    from statistics import median
    from typing import Any

    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from lstm_ray.config import TokenSettings
    from lstm_ray.text.tokenize import FILTERED, decode_texts, tokenize
    from lstm_ray.text.vocabulary import build_vocabulary, count_words
else:
    _all, sys.path[:] = sys.path[:], _OTHERS
    del sys.modules[__name__]
    __import__(__name__)
    sys.path[:] = _all

ROWS = 25_000
VOCABULARY_SIZE = 20_000
KEEP = 80
BASELINE = "Python: lower, translate, split"


def main() -> None:
    """Runs the measurement and prints the table."""
    parser = argparse.ArgumentParser(description="Measures how fast texts become words, on one core.")
    parser.add_argument("--input", type=Path, metavar="PARQUET", help="texts to split; synthetic if not given")
    parser.add_argument("--column", default="text", help="column of the texts (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="turns for each (%(default)s)")
    options = parser.parse_args()
    use_one_core()
    texts = read_texts(options.input, options.column) if options.input else made_up_texts(ROWS)
    size = sum(len(text.encode()) for text in texts.to_pylist())
    print(f"{len(texts):,} texts, {size / 1e6:.1f} MB, one core, {options.rounds} rounds, medians\n")
    seconds = measure(competitors(texts), options.rounds)
    print_table(seconds, len(texts), size)


def use_one_core() -> None:
    """Keeps this process, and all threads that libraries start in it, on one core."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    pa.set_cpu_count(1)
    if hasattr(os, "sched_setaffinity"):  # not on macOS
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def read_texts(path: Path, column: str) -> pa.LargeStringArray:
    """Returns the texts of a Parquet file that are not null."""
    return decode_texts(pq.read_table(path, columns=[column])[column]).drop_null()


def made_up_texts(rows: int) -> pa.LargeStringArray:
    """Returns texts as long as IMDb's: words by Zipf's law, some with a capital, a comma, a full stop or a `<br />`."""
    generator = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlu"))
    words = np.array(["".join(generator.choice(letters, 2 + rank.bit_length() // 2)) for rank in range(60_000)])
    lengths = np.clip(generator.lognormal(5.2, 0.65, rows), 10, 2_500).astype(int)
    drawn = words[(generator.zipf(1.3, lengths.sum()) - 1) % len(words)]
    endings = generator.choice(np.array(["", ",", ".", "!<br /><br />"]), lengths.sum(), p=[0.84, 0.08, 0.075, 0.005])
    capital = generator.random(lengths.sum()) < 0.1
    written = [
        (word.capitalize() if is_first else word) + ending
        for word, ending, is_first in zip(drawn.tolist(), endings.tolist(), capital.tolist(), strict=True)
    ]
    ends = np.cumsum(lengths).tolist()
    starts = [0, *ends[:-1]]
    return pa.array([" ".join(written[a:b]) for a, b in zip(starts, ends, strict=True)], pa.large_string())


def competitors(texts: pa.LargeStringArray) -> dict[str, Callable[[], object] | None]:
    """Returns the contestants by their name in the table; None for one that is not installed."""
    strings = texts.to_pylist()
    to_spaces = str.maketrans(FILTERED, " " * len(FILTERED))
    vocabulary = build_vocabulary(count_words(tokenize(texts, TokenSettings(strip_html=False))), VOCABULARY_SIZE)
    return {
        BASELINE: lambda: [text.lower().translate(to_spaces).split() for text in strings],
        "lstm_ray: words": lambda: tokenize(texts, TokenSettings(strip_html=False)),
        "lstm_ray: words, <br /> stripped": lambda: tokenize(texts, TokenSettings()),
        "lstm_ray: words and punctuation": lambda: tokenize(texts, TokenSettings(strip_html=False, punctuation="keep")),
        f"lstm_ray: last {KEEP} words": lambda: tokenize(texts, TokenSettings(strip_html=False), keep=KEEP),
        f"lstm_ray: last {KEEP} words, <br /> stripped": lambda: tokenize(texts, TokenSettings(), keep=KEEP),
        "lstm_ray: words to ids": lambda: vocabulary.look_up(tokenize(texts, TokenSettings(strip_html=False))),
        **hugging_face(strings),
    }


def hugging_face(strings: list[str]) -> dict[str, Callable[[], object] | None]:
    """Returns two word-level pipelines of tokenizers: one that finds the same words as ours, and the fastest one.

    The second also splits at apostrophes and at punctuation beyond ASCII.
    """
    names = ("tokenizers: ids of the same words", "tokenizers: ids, white space and punctuation")
    try:
        from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
    except ModuleNotFoundError:
        return dict.fromkeys(names)

    def pipeline(splitter: Any) -> Callable[[], object]:
        counts: Counter[str] = Counter()
        for text in strings[:2_000]:
            counts.update(word for word, _ in splitter.pre_tokenize_str(text.lower()))
        words = ["[UNK]", *(word for word, _ in counts.most_common(VOCABULARY_SIZE - 1))]
        vocabulary = {word: word_id for word_id, word in enumerate(words)}
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.Lowercase()
        tokenizer.pre_tokenizer = splitter
        encode = getattr(tokenizer, "encode_batch_fast", tokenizer.encode_batch)  # without offsets, from 0.20
        return lambda: [encoding.ids for encoding in encode(strings)]

    by_pattern = pre_tokenizers.Split(Regex(f"[\\s{re.escape(FILTERED)}]+"), behavior="removed")
    fastest = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("removed")])
    return {names[0]: pipeline(by_pattern), names[1]: pipeline(fastest)}


def measure(split_by: dict[str, Callable[[], object] | None], rounds: int) -> dict[str, float | None]:
    """Returns the median CPU seconds of each contestant; a first round is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in split_by}
    for turn in range(rounds + 1):
        for name, split in split_by.items():
            if split is None:
                continue
            started = time.process_time()
            words = split()
            elapsed = time.process_time() - started
            del words  # not measured: freeing millions of strings is not splitting
            if turn:
                seconds[name].append(elapsed)
    return {name: median(times) if times else None for name, times in seconds.items()}


def print_table(seconds: dict[str, float | None], rows: int, size: int) -> None:
    """Prints a line for each, its speed as a multiple of Python's string methods'."""
    baseline = seconds[BASELINE]
    assert baseline is not None
    width = max(map(len, seconds))
    print(f"{'':{width}}  {'reviews/s':>10}  {'MB/s':>6}  {'ratio':>6}")
    for name, elapsed in seconds.items():
        if elapsed is None:
            print(f"{name:{width}}  {'not installed':>10}")
        else:
            speed = f"{rows / elapsed:>10,.0f}  {size / elapsed / 1e6:>6.1f}  {baseline / elapsed:>5.2f}x"
            print(f"{name:{width}}  {speed}")


if __name__ == "__main__":
    main()
