"""Measures planning, memory, start and end of a scoring run, and the parts of scoring itself.

python -m benchmarks.scoring_costs plan
python -m benchmarks.scoring_costs memory --model runs/imdb/model --input imdb/unlabelled.parquet
python -m benchmarks.scoring_costs fixed --model runs/imdb/model --input imdb/unlabelled.parquet
python -m benchmarks.scoring_costs processes --model runs/imdb/model --input imdb/unlabelled.parquet
python -m benchmarks.scoring_costs shares --model runs/imdb/model --input imdb/dev.parquet

plan     seconds and memory of planning 25,000, 50,000 and 100,000 files of 10 parts each, which have no rows to read
memory   peak memory of every process while 200,000 and 2,000,000 rows are scored, with 0 and with 2 actors
fixed    1,000 rows: seconds of each step of a run, median of several
processes
         1,000 rows (--rows) in one file (--files) with 2 actors: CPU seconds of each kind of process, which other work
         on the machine stretches less
shares   CPU time that a row of all rows takes to be tokenized, in the LSTM and in the n-grams, in each precision; and
         how many labels, and how far probabilities, differ from float32. A model without n-grams is measured with
         8,388,608 random weights of n-grams of up to 3 words, but its labels are those without
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.processes import measure
from benchmarks.scoring import score_command
from lstm_ray.kernels.emitter import Target
from lstm_ray.kernels.precision.choice import precisions_of
from lstm_ray.model.bundle import read_bundle
from lstm_ray.score.engine import NativeEngine
from lstm_ray.score.scorer import Encoder, encode_column

GROUPS = 10  # row groups of a planned file, each of which becomes a part

PLAN = """
import json, resource, sys, time
from lstm_ray.config import ScoreConfig
from lstm_ray.score.plan import make_plan
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
begun, cpu = time.perf_counter(), time.process_time()
plan = make_plan(ScoreConfig(inputs=(sys.argv[1],), rows_per_part=1), "hash")
planned, cpu = time.perf_counter(), time.process_time() - cpu
tasks = sum(1 for _ in plan.tasks(set()))
done = time.perf_counter()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([plan.parts, planned - begun, cpu, done - planned, (peak - before) / 1024]))
"""

FIXED = """
import sys, time
steps = {}
last = time.perf_counter()
def step(name):
    global last
    now = time.perf_counter()
    steps[name] = steps.get(name, 0) + now - last
    last = now
inputs, model, output, actors = sys.argv[1:]
from lstm_ray.cli.app import app
step("import the command line")
import numpy, pyarrow, pyarrow.parquet
step("import numpy and pyarrow")
from lstm_ray.config import ScoreConfig
from lstm_ray.model.bundle import read_bundle
from lstm_ray.score import run
from lstm_ray.score.plan import make_plan
step("import the rest of scoring")
config = ScoreConfig(inputs=(inputs,), model=model, output=output, actors=actors, engine="native")
bundle = read_bundle(model)
step("read and check the model")
plan = make_plan(config, bundle.hash)
step("plan")
if actors == "0":
    from lstm_ray.score import engine
    step("import the compiler")
    results = run.score_here(config, bundle, plan, set())
else:
    from lstm_ray.score import ray_data
    step("import Ray")
    connect = ray_data.connect
    import contextlib
    @contextlib.contextmanager
    def timed(*arguments, **options):
        with connect(*arguments, **options):
            step("start Ray")
            yield
            step("start actors, load the model, score, write")
        step("stop Ray")
    ray_data.connect = timed
    results = ray_data.score_on_ray(config, bundle, plan, set(), lambda note: None)
print(sum(part.rows for part in results), "rows", file=sys.stderr)
step("compile, load the weights, score, write" if actors == "0" else "stop Ray")
import json
print(json.dumps(steps))
"""


def main() -> None:
    """Runs one of the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["plan", "memory", "fixed", "processes", "shares"])
    parser.add_argument("--model", help="model bundle")
    parser.add_argument("--input", help="Parquet with a column `text`, of 50,000 rows")
    parser.add_argument("--rounds", type=int, default=5, help="of `fixed`, `processes` and `shares`")
    parser.add_argument("--rows", type=int, default=1_000, help="of `processes`")
    parser.add_argument("--files", type=int, default=1, help="that `processes` divides the rows into")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        if arguments.what == "plan":
            measure_planning(work)
        elif not (arguments.model and arguments.input):
            parser.error("--model and --input are missing")
        elif arguments.what == "memory":
            measure_memory(work, arguments.model, arguments.input)
        elif arguments.what == "processes":
            texts = pq.read_table(arguments.input, columns=["text"]).slice(0, arguments.rows)
            measure_processes(work, arguments.model, texts, arguments.files, arguments.rounds)
        elif arguments.what == "shares":
            measure_shares(arguments.model, arguments.input, arguments.rounds)
        else:
            measure_start(work, arguments.model, arguments.input, arguments.rounds)


def measure_planning(work: Path) -> None:
    """Plans directories of many small files."""
    source = work / "source.parquet"
    pq.write_table(pa.table({"text": pa.array([None] * GROUPS, pa.string())}), source, row_group_size=1)
    print(f"{'files':>8} {'parts':>10} {'plan s':>8} {'CPU s':>8} {'tasks s':>8} {'MiB':>6}")
    for files in (25_000, 50_000, 100_000):
        place = work / str(files)
        for number in range(files):  # copies: links to a file are one input
            folder = place / f"{number // 1000:03d}"
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, folder / f"{number:06d}.parquet")
        parts, plan_s, cpu_s, tasks_s, size = json.loads(run_python(PLAN, str(place)))
        print(f"{files:8,} {parts:10,} {plan_s:8.1f} {cpu_s:8.1f} {tasks_s:8.1f} {size:6.0f}", flush=True)
        shutil.rmtree(place)


def measure_memory(work: Path, model: str, source: str) -> None:
    """Scores two corpora, 200,000 and 2,000,000 rows, and prints the peak of every kind of process."""
    rows_per_file = pq.read_metadata(source).num_rows
    for actors in (0, 2):
        peaks: dict[str, dict[int, float]] = defaultdict(dict)
        sizes = (200_000, 2_000_000)
        for rows in sizes:
            corpus = work / f"{rows}"
            corpus.mkdir(exist_ok=True)
            for number in range(rows // rows_per_file):
                if not (corpus / f"{number:04d}.parquet").exists():
                    shutil.copyfile(source, corpus / f"{number:04d}.parquet")
            for role, size in peaks_of(corpus, model, work / "out", actors).items():
                peaks[role][rows] = size
            shutil.rmtree(work / "out")
        print(f"\n--actors {actors}{'':33} {sizes[0]:>12,} {sizes[1]:>12,}   MiB at the peak")
        for role, by_rows in sorted(peaks.items(), key=lambda item: -max(item[1].values())):
            if len(by_rows) == len(sizes):
                small, large = (by_rows[rows] for rows in sizes)
                print(f"{role:42} {small:12,.0f} {large:12,.0f} {large / small - 1:+8.0%}", flush=True)


def peaks_of(corpus: Path, model: str, output: Path, actors: int) -> dict[str, float]:
    """Scores a corpus; returns the largest peak of memory among the processes of each kind, MiB."""
    measured = measure(score_command(corpus, model, output, actors))
    manifest = json.loads((output / "_manifest.json").read_text(encoding="utf-8"))
    print(f"{manifest['rows']:,} rows, --actors {actors}: {manifest['rows_per_s']:,.0f} rows/s", file=sys.stderr)
    return measured.peak_mib


def measure_processes(work: Path, model: str, texts: pa.Table, files: int, rounds: int) -> None:
    """Scores rows on Ray several times and prints the CPU time of each kind of process."""
    size = -(-len(texts) // files)
    (work / "in").mkdir()
    for number in range(files):
        pq.write_table(texts.slice(number * size, size), work / "in" / f"{number:06d}.parquet")
    runs = []
    for _ in range(rounds):
        runs.append(measure(score_command(work / "in", model, work / "out", 2)))
        shutil.rmtree(work / "out")
        print(f"{runs[-1].seconds:.1f} s, {sum(runs[-1].cpu_s.values()):.2f} CPU s", file=sys.stderr)
    kinds = {kind for run in runs for kind in run.cpu_s}
    medians = {kind: statistics.median(run.cpu_s.get(kind, 0.0) for run in runs) for kind in kinds}
    print(f"{len(texts):,} rows in {files:,} files, --actors 2, medians of {rounds}: CPU seconds, and processes")
    for kind, cpu_s in sorted(medians.items(), key=lambda item: -item[1]):
        print(f"{cpu_s:7.2f} {statistics.median(run.count.get(kind, 0) for run in runs):4.0f}  {kind}")
    print(f"{statistics.median(sum(run.cpu_s.values()) for run in runs):7.2f}       in all")
    print(f"{statistics.median(run.seconds for run in runs):7.2f}       seconds")


def measure_start(work: Path, model: str, source: str, rounds: int) -> None:
    """Scores 1,000 rows several times and prints where the time goes."""
    pq.write_table(pq.read_table(source, columns=["text"]).slice(0, 1000), work / "few.parquet")
    seconds: dict[str, dict[str, list[float]]] = {actors: defaultdict(list) for actors in ("0", "2")}
    for _ in range(rounds):
        for actors, steps in seconds.items():
            begun = time.perf_counter()
            out = run_python(FIXED, str(work / "few.parquet"), model, str(work / "out"), actors)
            whole = time.perf_counter() - begun
            measured = json.loads(out)
            measured = {"start and end Python": whole - sum(measured.values()), **measured, "in all": whole}
            for name, value in measured.items():
                steps[name].append(value)
            shutil.rmtree(work / "out")
    for actors, steps in seconds.items():
        print(f"\n1,000 rows, --actors {actors}, medians of {rounds}")
        for name, values in steps.items():
            print(f"{statistics.median(values):7.2f} s  {name}")


def measure_shares(model: str, source: str, rounds: int) -> None:
    """Scores all rows on one thread and prints where the CPU time goes, and how precisions differ."""
    bundle, texts = read_bundle(model), pq.read_table(source, columns=["text"])["text"]
    encoder, weights = Encoder(bundle), bundle.weights()
    alone = replace(weights, ngrams=0, ngram_table=None)
    table = np.random.default_rng(0).normal(scale=0.01, size=1 << 23).astype(np.float32)
    whole = weights if weights.ngrams else replace(weights, ngrams=3, ngram_table=table)
    pairs = {
        precision: (NativeEngine(alone, 1, precision), NativeEngine(whole, 1, precision))
        for precision in precisions_of(Target.host())
    }
    rows, encoded = len(texts), encode_column(encoder, texts)
    seconds: dict[str, list[float]] = defaultdict(list)

    def timed(name: str, call: Callable[[], object]) -> None:
        begun = time.process_time()
        call()
        seconds[name].append(time.process_time() - begun)

    for _ in range(rounds):
        timed("encode", lambda: encode_column(encoder, texts))
        for name, engines in pairs.items():
            for number, engine in enumerate(engines):
                timed(f"{name} {number}", partial(engine.logits, encoded.sequences))
    micro = {name: statistics.median(values) / rows * 1e6 for name, values in seconds.items()}
    exact = pairs["float32"][bool(weights.ngrams)].probabilities(encoded.sequences)
    print(f"{rows:,} rows of {encoded.sequences.lengths.mean():.0f} tokens, CPU time of one thread in us a row")
    print(f"{'':10}{'tokenize':>9}{'LSTM':>8}{'n-grams':>8}{'rows/s':>9}{'other labels':>14}{'largest difference':>20}")
    for name, engines in pairs.items():
        lstm, both = micro[f"{name} 0"], micro[f"{name} 1"]
        found = engines[bool(weights.ngrams)].probabilities(encoded.sequences)
        other = int(((found > bundle.threshold) != (exact > bundle.threshold)).sum())
        print(
            f"{name:10}{micro['encode']:>9.0f}{lstm:>8.0f}{both - lstm:>8.0f}{1e6 / (micro['encode'] + both):>9,.0f}"
            f"{other:>14}{np.abs(found - exact).max():>20.4f}"
        )


def run_python(program: str, *arguments: str) -> str:
    """Runs a program in a new Python process; returns its output."""
    done = subprocess.run([sys.executable, "-c", program, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


if __name__ == "__main__":
    main()
