"""Measures how fast texts become words, on one core, against Python's own string methods and Hugging Face's tokenizers.

    python benchmarks/tokenize.py [--input PARQUET] [--rounds 5]

Everyone splits the same texts and takes turns for several rounds, of which the table shows medians. Counted is the time
the core works for this process, not what a shared machine gives to others meanwhile. Without --input the texts are made
up: 25,000 of the length of IMDb reviews. Those who take Python strings get them ready-made. tokenizers takes part if it
is installed.
"""

from __future__ import annotations

import os
import sys

# This file bears the name of a module of the standard library, and Python puts a script's directory first in sys.path:
# here as in every other script of this directory, `import dataclasses` (which needs `tokenize`) would read this file.
# Run as a script, it therefore takes its directory away before it imports anything; imported in place of the standard
# library's module, it fetches that one and hands it over.
HERE = os.path.dirname(os.path.abspath(__file__))
_ELSEWHERE = [place for place in sys.path if os.path.abspath(place) != HERE]

if __name__ == "__main__":
    sys.path[:] = _ELSEWHERE
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
    _all_places, sys.path[:] = sys.path[:], _ELSEWHERE
    del sys.modules[__name__]
    __import__(__name__)
    sys.path[:] = _all_places

ROWS = 25_000
VOCABULARY_SIZE = 20_000
KEEP = 80
BASELINE = "Python: lower, translate, split"


def main() -> None:
    """Runs the measurement and prints the table."""
    parser = argparse.ArgumentParser(description="Measures how fast texts become words, on one core.")
    parser.add_argument("--input", type=Path, metavar="PARQUET", help="texts to split; made up if not given")
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
    """Returns the texts of a Parquet file that are there."""
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
    """Returns who takes part, by the name in the table; None stands for somebody who is not installed."""
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
    """Returns two word-level pipelines of tokenizers: the same words as ours by a pattern, and its fastest splitters.

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
    """Returns the median seconds of the core that each needs, one turn each a round, after one that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in split_by}
    for turn in range(rounds + 1):
        for name, split in split_by.items():
            if split is None:
                continue
            started = time.process_time()
            words = split()
            elapsed = time.process_time() - started
            del words  # outside the clock: freeing millions of strings is not splitting
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
