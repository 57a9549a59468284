"""Scores Parquet into Parquet: lstm-ray against Ray Data's own batch-inference pattern, and against its own limit.

    python -m benchmarks.scoring --model runs/imdb/model --input imdb/unlabelled.parquet --rows 200000
    python -m benchmarks.scoring --model runs/imdb/model --input imdb/unlabelled.parquet --rows 200000 --kill

The input is repeated to the number of rows. The contestants take turns, so that a slow minute of the machine affects
all of them. Prints medians and ranges of whole commands (start of Python, Ray and TensorFlow included), and ratios,
also by the CPU time of all processes, which other work on the machine stretches less.

    limit     tokenizer and engine alone, in one process on all cores, texts already in memory
    score 0   lstm-ray score --actors 0
    score N   lstm-ray score --actors <cores>
    guide     read_parquet, map_batches(tokenize), map_batches(actor with model.predict), write_parquet
    guide+    the same with Ray's own checkpoint (ray.data.checkpoint.CheckpointConfig, beta), with --checkpoint

The guide leaves the number of actors and the batch size to the user. So each of SHAPES first runs once, and the fastest
takes part; with --by-cpu the one that takes the least CPU time.

With --kill, each is killed (SIGKILL) when half of the rows are written, and run again by the same command. Printed are
the seconds of both runs, and whether the output has every row once, in order. The guide's blocks are then
small: as it comes, it writes, and so checkpoints, blocks of up to 128 MiB, a single one for a small corpus.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.processes import measure
from lstm_ray.model.bundle import read_bundle
from lstm_ray.runtime.devices import available_cores
from lstm_ray.score.scorer import Scorer

SHAPES = tuple((actors, batch) for actors in sorted({1, available_cores()}) for batch in (256, 1024))
"""Numbers of actors, and rows of a batch that `model.predict` gets; a block has four batches."""
KILLED_FILES = 40
KILLED_BLOCK_BYTES = 256 << 10


@dataclass(frozen=True)
class Took:
    """What a contestant took in a round.

    Attributes:
        seconds: Wall time.
        cpu_s: CPU seconds of all its processes.
    """

    seconds: float
    cpu_s: float


@dataclass(frozen=True)
class Killed:
    """A command that was killed and run again.

    Attributes:
        killed_after_s: Seconds until it was killed.
        again_s: Seconds of the second run.
        exit_code: Exit code of the second run.
        ids: int64[rows], the ids in the output, in the order in which it is read.
    """

    killed_after_s: float
    again_s: float
    exit_code: int
    ids: npt.NDArray[np.int64]


def main() -> None:
    """Runs the rounds and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="model bundle")
    parser.add_argument("--input", required=True, help="Parquet with a column `text`")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--without-guide", action="store_true", help="leave out the slowest contestants")
    parser.add_argument("--checkpoint", action="store_true", help="let the guide also run with Ray's own checkpoint")
    parser.add_argument("--by-cpu", action="store_true", help="choose the guide's shape by CPU time")
    parser.add_argument("--kill", action="store_true", help="kill each in the middle, and run it again")
    parser.add_argument("--json", help="write the figures here")
    parser.add_argument("--run-guide", nargs=7, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run_guide:
        run_guide(*arguments.run_guide)
        return
    cores = available_cores()
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        if arguments.kill:
            corpus = repeat(arguments.input, arguments.rows, work / "input", -(-arguments.rows // KILLED_FILES))
            report_killed(kill_each(corpus, arguments.rows, arguments.model, work, cores), arguments.rows)
            return
        corpus = repeat(arguments.input, arguments.rows, work / "input")
        commands = {f"score {n}": score_command(corpus, arguments.model, work / "out", n) for n in (0, cores)}
        if not arguments.without_guide:
            shape = best_shape(corpus, arguments.model, work / "out", by_cpu=arguments.by_cpu)
            commands["guide"] = guide_command(corpus, arguments.model, work / "out", shape)
            if arguments.checkpoint:
                commands["guide+"] = guide_command(corpus, arguments.model, work / "out", shape, work / "checkpoint")
        took: dict[str, list[Took]] = {name: [] for name in ("limit", *commands)}
        for number in range(1, arguments.rounds + 1):
            for name, rounds in took.items():
                command = commands.get(name)
                rounds.append(run_command(command, work / "out") if command else run_limit(arguments.model, corpus))
                shutil.rmtree(work / "checkpoint", ignore_errors=True)
                print(f"round {number}: {name} {rounds[-1].seconds:.1f} s", file=sys.stderr)
    report(took, arguments.rows, cores, arguments.json)


def best_shape(corpus: Path, model: str, output: Path, *, by_cpu: bool) -> tuple[int, int]:
    """Runs the guide in each shape, prints what it took, and returns the best."""
    tried = {shape: run_command(guide_command(corpus, model, output, shape), output) for shape in SHAPES}
    for (actors, batch), took in tried.items():
        print(f"guide with {actors} actors, batches of {batch:5,}: {took.seconds:6.1f} s, {took.cpu_s:6.1f} CPU s")
    return min(tried, key=lambda shape: tried[shape].cpu_s if by_cpu else tried[shape].seconds)


def repeat(source: str, rows: int, directory: Path, file_rows: int = 50_000) -> Path:
    """Writes files of `file_rows` rows, `rows` in all, with ids from 0."""
    directory.mkdir()
    table = pq.read_table(source, columns=["text"])
    times = -(-rows // table.num_rows)
    whole = pa.concat_tables([table] * times).slice(0, rows)
    whole = whole.add_column(0, "id", pa.array(np.arange(rows)))
    for start in range(0, rows, file_rows):
        pq.write_table(whole.slice(start, file_rows), directory / f"{start:09d}.parquet", row_group_size=10_000)
    return directory


def run_limit(model: str, corpus: Path) -> Took:
    """Runs tokenizer and engine, without start, reading and writing."""
    scorer = Scorer(read_bundle(model), engine="native")
    texts = [pq.read_table(file, columns=["text"])["text"] for file in sorted(corpus.iterdir())]
    started, cpu_s = time.perf_counter(), time.process_time()
    for column in texts:
        scorer.score(column)
    return Took(time.perf_counter() - started, time.process_time() - cpu_s)


def score_command(corpus: Path, model: str, output: Path, actors: int) -> list[str]:
    """Returns the command line of a scoring run."""
    script = str(Path(sys.executable).with_name("lstm-ray"))
    return [script, "score", str(corpus), "--model", model, "--output", str(output), "--actors", str(actors)]


def guide_command(
    corpus: Path,
    model: str,
    output: Path,
    shape: tuple[int, int],
    checkpoint: Path | None = None,
    block_bytes: int | None = None,
) -> list[str]:
    """Returns the command line that scores as Ray Data's guide does, with Ray's own checkpoint if that is given."""
    given = [str(corpus), model, str(output), *map(str, shape), str(checkpoint or ""), str(block_bytes or "")]
    return [sys.executable, "-m", "benchmarks.scoring", "--model", "-", "--input", "-", "--run-guide", *given]


def run_command(command: list[str], output: Path) -> Took:
    """Runs a command and deletes its output."""
    measured = measure(command)
    shutil.rmtree(output)
    return Took(measured.seconds, sum(measured.cpu_s.values()))


def kill_each(corpus: Path, rows: int, model: str, work: Path, cores: int) -> dict[str, Killed]:
    """Kills each contestant when half of the rows are written, and runs it again."""
    shape = (max(1, cores - 1), 256)
    commands = {
        f"score {cores}": score_command(corpus, model, work / "score", cores),
        "guide": guide_command(corpus, model, work / "guide", shape, block_bytes=KILLED_BLOCK_BYTES),
        "guide+": guide_command(corpus, model, work / "guide+", shape, work / "checkpoint", KILLED_BLOCK_BYTES),
    }
    return {name: kill_and_repeat(command, work / name.split()[0], rows) for name, command in commands.items()}


def kill_and_repeat(command: list[str], output: Path, rows: int) -> Killed:
    """Runs a command, kills it when half of the rows are written, and runs it again."""
    started = time.perf_counter()
    errors = output.with_suffix(".log")
    with errors.open("wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True)
    while sum(map(rows_in, written(output))) < rows / 2:
        if process.poll() is not None:
            raise SystemExit(f"ended before it was killed:\n{errors.read_text()[-2000:]}")
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    killed_after = time.perf_counter() - started
    time.sleep(5)  # Ray's processes end with their driver
    started = time.perf_counter()
    again = subprocess.run(command, check=False, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if again.returncode:
        print(again.stderr[-2000:], file=sys.stderr)
    ids = np.concatenate([pq.read_table(path, columns=["id"])["id"].to_numpy() for path in written(output)])
    return Killed(killed_after, seconds, again.returncode, ids)


def written(output: Path) -> list[Path]:
    """Lists the files that readers of a directory find, by name."""
    return sorted(path for path in output.glob("*.parquet") if not path.name.startswith(("_", ".")))


def rows_in(path: Path) -> int:
    """Returns the number of rows of a file; 0 while it is being written."""
    try:
        return int(pq.read_metadata(path).num_rows)
    except pa.ArrowInvalid:
        return 0


def report_killed(killed: dict[str, Killed], rows: int) -> None:
    """Prints a line for each contestant."""
    print(f"{rows:,} rows in {KILLED_FILES} files, killed when half of the rows were written\n")
    print(f"{'':10} {'killed after':>13} {'again':>9} {'rows':>10} {'missing':>9} {'twice':>9} {'in order':>9}")
    for name, one in killed.items():
        distinct = np.unique(one.ids)
        order = "yes" if one.ids.size == rows and bool((one.ids == np.arange(rows)).all()) else "no"
        missing, twice = rows - distinct.size, one.ids.size - distinct.size
        ended = "" if one.exit_code == 0 else f"  exit code {one.exit_code}"
        print(
            f"{name:10} {one.killed_after_s:11.1f} s {one.again_s:7.1f} s {one.ids.size:10,} {missing:9,} {twice:9,}"
            f" {order:>9}{ended}"
        )


def run_guide(
    corpus: str, model: str, output: str, actors: str, batch_rows: str, checkpoint: str, block_bytes: str
) -> None:
    """Scores as Ray Data's batch-inference guide does: actors of one core have the Keras model.

    Source: https://docs.ray.io/en/latest/data/batch_inference.html
    """
    import ray

    # A core for the tasks beside the actors, and for the actor that filters rows in a resumed run: with no more cores
    # than actors, it would wait for ever.
    cpus = max(available_cores(), int(actors) + 1) + bool(checkpoint)
    ray.init(num_cpus=cpus, include_dashboard=False, log_to_driver=False)
    if checkpoint:
        from ray.data.checkpoint import CheckpointConfig

        ray.data.DataContext.get_current().checkpoint_config = CheckpointConfig("id", checkpoint)
    bundle = read_bundle(model)
    words = pq.read_table(pa.BufferReader(bundle.files["vocabulary.parquet"]))
    ids = dict(zip(words["word"].to_pylist(), words["id"].to_pylist(), strict=True))
    max_tokens = bundle.text.max_tokens
    separators = str.maketrans(dict.fromkeys('!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n', " "))

    def encode(batch: dict[str, Any]) -> dict[str, Any]:
        encoded = np.zeros((len(batch["text"]), max_tokens), np.int32)
        for row, text in enumerate(batch["text"]):
            tokens = [1, *(ids.get(word, 2) for word in text.lower().translate(separators).split())][-max_tokens:]
            encoded[row, -len(tokens) :] = tokens
        return {**batch, "token_ids": encoded}

    class Predictor:
        def __init__(self) -> None:
            os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
            self.model = read_bundle(model).keras_model()

        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            ids = batch.pop("token_ids")
            batch["probability"] = self.model.predict(ids, batch_size=int(batch_rows), verbose=0)[:, 0]
            return batch

    if block_bytes:
        ray.data.DataContext.get_current().target_max_block_size = int(block_bytes)
    size = None if block_bytes else 4 * int(batch_rows)  # None: a batch is a block
    dataset = ray.data.read_parquet(corpus)
    dataset = dataset.map_batches(encode, batch_size=size).map_batches(
        Predictor, batch_size=size, num_cpus=1, compute=ray.data.ActorPoolStrategy(size=int(actors))
    )
    dataset.write_parquet(output)


def report(took: dict[str, list[Took]], rows: int, cores: int, path: str | None) -> None:
    """Prints medians and ranges, as rows/s, shares of the limit, and multiples of the guide's pattern."""
    print(f"{rows:,} rows, {cores} cores, medians and ranges of {len(took['limit'])} interleaved rounds\n")
    for unit in ("seconds", "cpu_s"):
        values = {name: [float(getattr(one, unit)) for one in rounds] for name, rounds in took.items()}
        print(f"{'':10} {unit.replace('_', ' '):>24} {'rows/s':>9} {'of limit':>20} {'x guide':>22}")
        for name, own in values.items():
            shares = [limit / one for limit, one in zip(values["limit"], own, strict=True)]
            times = [guide / one for guide, one in zip(values.get("guide", []), own, strict=False)]
            print(
                f"{name:10} {spread(own, '.1f'):>24} {rows / statistics.median(own):9,.0f} {spread(shares, '.0%'):>20}"
                f" {spread(times, '.2f') if times else '':>22}"
            )
        print()
    if path:
        figures = {name: [asdict(one) for one in rounds] for name, rounds in took.items()}
        Path(path).write_text(json.dumps({"rows": rows, "cores": cores, "took": figures}, indent=2) + "\n")


def spread(values: list[float], form: str) -> str:
    """Returns median and range as text."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


if __name__ == "__main__":
    main()
