"""The measurements of scripts/gpu_check, each run as a process: `python -m benchmarks.gpu_parts NAME`.

A part prints one JSON object for each row of the table, as soon as it has it. So a part that is stopped keeps the rows
it had printed. A part that lacks something prints {"missing": reason}. Only the part's own libraries are imported.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from itertools import count, cycle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.networks import NETWORKS, Network, Rows, draw_rows

LARGE = "default, 512 rows a step"
SPEEDS = {**NETWORKS, LARGE: replace(NETWORKS["default"], global_batch_size=512)}
TIMED_S = 2.5  # of each contestant, after its first steps: some 25 looks at the GPU
CURVE_STEPS = {"lstm": 60, "bilstm": 60, "default": 24}
TOLERANCE = 1e-3  # of a step's loss, which starts at 0.69; on CPUs, oneDNN on and off differ by 6e-6 at most
SCORED_ROWS = 200_000
SCORE_TOLERANCE = 5e-3  # of a probability: TensorFlow rounds products to TF32 on a GPU, to 10 bits

Batch = tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]


class MissingError(Exception):
    """Something that a part needs is not there; the message says what."""


def main() -> None:
    """Runs a part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=[*PARTS, "cpu-losses"])
    part = parser.parse_args().part
    if part == "cpu-losses":
        for name, network in NETWORKS.items():
            say(network=name, losses=losses(network, CURVE_STEPS[name]))
        return
    try:
        for row in PARTS[part]():
            say(**row)
    except MissingError as error:
        say(missing=str(error))


def say(**row: Any) -> None:
    """Prints a row."""
    print(json.dumps(row), flush=True)


def need_tensorflow() -> None:
    """Starts TensorFlow and checks that it sees a GPU."""
    try:
        from lstm_ray.runtime.tensorflow import start_tensorflow

        start_tensorflow()
    except ImportError as error:
        raise MissingError(f"{error.name or error} is not installed") from error
    import tensorflow as tf

    if not tf.config.list_physical_devices("GPU"):
        raise MissingError(f"TensorFlow {tf.__version__} sees no GPU: pip install 'tensorflow[and-cuda]'")


def curves() -> Iterator[dict[str, Any]]:
    """Yields, for each network, how far the losses of its first steps on the GPU are from those on the CPU."""
    need_tensorflow()
    import tensorflow as tf

    # TF32 would round products to 10 bits on the GPU alone, which hides errors.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    command = [sys.executable, "-m", "benchmarks.gpu_parts", "cpu-losses"]
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    with subprocess.Popen(command, env=hidden, stdout=subprocess.PIPE, text=True) as on_cpu:
        assert on_cpu.stdout is not None
        for name, network in NETWORKS.items():
            ours = losses(network, CURVE_STEPS[name])
            line = on_cpu.stdout.readline()
            if not line:
                raise RuntimeError(f"the CPU's steps of {name} failed")
            yield compare_curves(name, ours, json.loads(line)["losses"])


def losses(network: Network, steps: int) -> list[float]:
    """Returns the mean loss of each training step of lstm-ray's Keras engine, on the device that TensorFlow chooses."""
    from lstm_ray.runtime.tensorflow import start_tensorflow

    start_tensorflow()
    from lstm_ray.collective.protocol import Alone
    from lstm_ray.train.step.keras_engine import KerasStepper

    stepper = KerasStepper(config_of(network), Alone(), np.zeros(steps * network.global_batch_size, np.int8))
    found = []
    for step, batch in zip(range(1, steps + 1), cycle(our_batches(network)), strict=False):
        stepper.reseed(0, 1, step, 0)
        found.append(float(stepper.train(batch)[0]) / batch.global_rows)
    return found


def compare_curves(name: str, ours: list[float], cpu: list[float]) -> dict[str, Any]:
    """Returns the row of a network: it fails if a step's loss differs by more than `TOLERANCE`, or nothing is learned.

    Dropout's random numbers do not depend on the device. So only rounding differs, which learning amplifies.
    """
    difference = float(np.abs(np.subtract(ours, cpu)).max())
    quarter = max(1, len(ours) // 4)
    first, last = np.mean(ours[:quarter]), np.mean(ours[-quarter:])
    return {
        "network": name,
        "what": f"{len(ours)} steps, GPU against CPU",
        "result": f"loss {first:.3f} to {last:.3f}, differs by at most {difference:.1e} (allowed: {TOLERANCE:.0e})",
        "failed": bool(not difference <= TOLERANCE or not last < first),
        "losses": {"gpu": ours, "cpu": cpu},
    }


def speed() -> Iterator[dict[str, Any]]:
    """Yields the speed of lstm-ray's steps and of Keras's `fit`, on each network."""
    need_tensorflow()
    from lstm_ray.collective.protocol import Alone
    from lstm_ray.model.architectures import build_model
    from lstm_ray.train.step.keras_engine import KerasStepper

    for name, network in SPEEDS.items():
        config = config_of(network)
        stepper = KerasStepper(config, Alone(), np.zeros(10**6, np.int8))
        prepared = list(our_batches(network))

        def step(number: int, stepper: Any = stepper, prepared: Any = prepared) -> Any:
            stepper.reseed(0, 1, number, 0)
            return stepper.train(prepared[number % len(prepared)])

        tokens = float(np.mean([(batch.token_ids != 0).sum() for batch in prepared]))
        yield {"network": name, "what": "lstm-ray", **timed(step, float_of_sums, tokens)}
        yield {"network": name, "what": "Keras fit, TensorFlow", **time_fit(build_model(config, config, 0), network)}


def float_of_sums(sums: Any) -> float:
    """Waits for the result of a step of lstm-ray's Keras engine."""
    return float(sums[0])


def keras_fit(backend: str) -> Iterator[dict[str, Any]]:
    """Yields the speed of `fit` with the same layers, on another backend of Keras's."""
    os.environ["KERAS_BACKEND"] = backend
    need_device(backend)
    try:
        import keras
    except ImportError as error:
        raise MissingError(f"{error.name or error} is not installed") from error
    for name, network in SPEEDS.items():
        yield {
            "network": name,
            "what": f"Keras {keras.__version__} fit, {backend}",
            **time_fit(keras_model(network), network),
        }


def need_device(backend: str) -> None:
    """Checks that PyTorch or JAX is there and sees a GPU."""
    try:
        if backend == "jax":
            import jax

            sees_gpu = any(device.platform == "gpu" for device in jax.devices())
        else:
            import torch

            sees_gpu = torch.cuda.is_available()
    except ImportError as error:
        raise MissingError(f"{error.name or error} is not installed") from error
    if not sees_gpu:
        raise MissingError(f"{'JAX' if backend == 'jax' else 'PyTorch'} sees no GPU")


def keras_model(network: Network) -> Any:
    """Returns the network of lstm_ray/model/architectures.py, with layers of Keras alone."""
    import keras
    from keras import ops

    keras.utils.set_random_seed(0)
    ids = keras.Input((network.max_tokens,), dtype="int32")
    hidden = keras.layers.Embedding(network.vocabulary_size, network.embedding_size, mask_zero=network.mask)(ids)
    if network.embedding_dropout:
        hidden = keras.layers.Dropout(network.embedding_dropout)(hidden)
    layer: Any = keras.layers.LSTM(
        network.units,
        dropout=network.dropout,
        recurrent_dropout=network.recurrent_dropout,
        return_sequences=network.pooling != "last",
    )
    hidden = (keras.layers.Bidirectional(layer) if network.bidirectional else layer)(hidden)
    if network.pooling != "last":
        assert network.mask, "an unmasked network's padding would count, too"
        is_token = ops.expand_dims(ops.not_equal(ids, 0), -1)
        counted = ops.cast(is_token, hidden.dtype)
        mean = ops.sum(hidden * counted, 1) / ops.sum(counted, 1)
        largest = ops.max(ops.where(is_token, hidden, -1e9), 1)
        pools = {"mean": [mean], "max": [largest], "mean_max": [mean, largest]}[network.pooling]
        hidden = ops.concatenate(pools, 1)
    return keras.Model(ids, keras.layers.Dense(1, activation="sigmoid")(hidden))


def time_fit(model: Any, network: Network) -> dict[str, Any]:
    """Returns the speed of `model.fit` on arrays padded beforehand. All rows are as long as the longest one."""
    import keras

    model.compile(keras.optimizers.Adam(network.learning_rate), "binary_crossentropy")
    rows = draw_rows(network, 8 * network.global_batch_size)
    ids = rows.padded(network)[:, _longest(network, rows)]
    labels = rows.labels.astype(np.float32)[:, None]

    def epoch(_: int) -> None:
        model.fit(ids, labels, batch_size=network.global_batch_size, verbose=0)

    figures = timed(epoch, lambda _: None, float((ids != 0).sum()))
    return {**figures, "step_ms": figures["step_ms"] / 8}


def torch_cudnn() -> Iterator[dict[str, Any]]:
    """Yields the speed of PyTorch's LSTM, which runs on cuDNN, with rows sorted by length and packed."""
    need_device("torch")
    import torch

    from benchmarks.torch_lstm import TorchTrainer, Ways

    for name, network in SPEEDS.items():
        trainer = TorchTrainer(network, Ways(packed=True), "cuda")
        prepared = [
            (np.ascontiguousarray(ids[:, : max((ids != 0).sum(1))] if network.mask else ids), labels)
            for ids, labels in sorted_batches(network)
        ]

        def step(number: int, trainer: Any = trainer, prepared: list[Batch] = prepared) -> Any:
            return trainer.train(*prepared[number % len(prepared)])

        tokens = float(np.mean([(ids != 0).sum() for ids, _ in prepared]))
        without = ", without recurrent dropout" if network.recurrent_dropout else ""
        yield {"network": name, "what": f"PyTorch {torch.__version__}, cuDNN{without}", **timed(step, float, tokens)}
        del trainer, step, prepared
        torch.cuda.empty_cache()


def sorted_batches(network: Network) -> Iterator[Batch]:
    """Yields eight batches of rows of similar lengths, as training makes them: padded token ids, and labels."""
    rows = draw_rows(network, 8 * network.global_batch_size)
    order = np.argsort(rows.lengths, kind="stable") if network.mask else np.arange(len(rows.lengths))
    ids, labels = rows.padded(network), rows.labels.astype(np.float32)
    for batch in np.split(order, 8):
        yield ids[batch], labels[batch]


def our_batches(network: Network) -> Iterator[Any]:
    """Yields the eight batches of an epoch of lstm-ray's."""
    from lstm_ray.text.sequences import Sequences
    from lstm_ray.train.data.batches import epoch_steps, worker_batches
    from lstm_ray.train.data.corpus import Corpus

    rows, config = draw_rows(network, 8 * network.global_batch_size), config_of(network)
    sequences = Sequences.of(rows.token_ids, rows.lengths)
    steps = epoch_steps(rows.lengths, config, 1)
    yield from worker_batches(Corpus(sequences, rows.labels), steps, config, rank=0, world_size=1, epoch=1)


def config_of(network: Network) -> Any:
    """Returns the settings of a training run of the network."""
    from lstm_ray.config import TrainConfig, resolve

    return resolve(TrainConfig, {**asdict(network), "preset": "none", "train": ("-",), "output": "-"})


def timed(step: Callable[[int], Any], wait: Callable[[Any], object], tokens: float) -> dict[str, Any]:
    """Returns milliseconds of a step, tokens/s, and the share of time in which the GPU computed.

    Args:
        step: Takes the step of a number.
        wait: Waits until a step's result is there.
        tokens: Tokens of a step, without padding.
    """
    numbers = count(1)
    for _ in range(10):  # the first ones compile, for each length of a batch
        wait(step(next(numbers)))
    with watched_gpu() as looks:
        begun, done = time.perf_counter(), 0
        while time.perf_counter() < begun + TIMED_S:
            wait(step(next(numbers)))
            done += 1
        elapsed = time.perf_counter() - begun
    figures = {"step_ms": 1e3 * elapsed / done, "tokens_per_s": tokens * done / elapsed}
    return {**figures, "gpu_busy": float(np.mean(looks)) if looks else None}


@contextlib.contextmanager
def watched_gpu() -> Iterator[list[float]]:
    """Gives a list that is filled, when the block ends, with the shares of time in which a kernel ran on the GPU.

    nvidia-smi reports the share of its last sampling period, a sixth of a second to a second. That is the same measure
    for all libraries, and costs them nothing.
    """
    looks: list[float] = []
    command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-i", "0", "-lms", "100"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as watcher:
        assert watcher.stdout is not None
        reader = threading.Thread(target=_read_shares, args=(watcher.stdout, looks))
        reader.start()
        try:
            yield looks
        finally:
            watcher.terminate()
            reader.join()


def _read_shares(lines: Iterable[str], looks: list[float]) -> None:
    looks += [int(line) / 100 for line in lines if line.strip().isdigit()]


def score() -> Iterator[dict[str, Any]]:
    """Yields the rate of a GPU actor on Ray Data, and how far its scores are from those of the CPU's engine."""
    need_tensorflow()
    import pyarrow as pa
    import pyarrow.parquet as pq

    import lstm_ray
    from lstm_ray.datasets.demo import write_demo

    with tempfile.TemporaryDirectory(prefix="gpu-") as directory:
        at = Path(directory)
        train = write_demo(at / "demo", rows=5_000).train
        reviews = pq.read_table(train)
        (at / "corpus").mkdir()
        for number in range(4):
            part = pa.concat_tables([reviews.select(["id", "text"])] * (SCORED_ROWS // 4 // len(reviews)))
            pq.write_table(part, at / "corpus" / f"{number}.parquet", row_group_size=10_000)
        run = lstm_ray.train(train, output=at / "run", preset="bilstm", epochs=1, max_rows=2_000)
        model = run.model
        on_gpu = lstm_ray.score(at / "corpus", model=model, output=at / "gpu", actors=1, gpus_per_actor=1)
        on_cpu = lstm_ray.score(at / "corpus" / "0.parquet", model=model, output=at / "cpu", actors=0, engine="native")
        yield compare_scores(at / "gpu", at / "cpu", on_gpu, on_cpu)


def compare_scores(gpu: Path, cpu: Path, on_gpu: Any, on_cpu: Any) -> dict[str, Any]:
    """Returns the row of the scoring run: it fails if rows are missing, or a probability differs too much."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def probabilities(output: Path) -> npt.NDArray[np.float64]:
        parts = [pq.read_table(path, columns=["sentiment_probability"]) for path in sorted(output.glob("part-*"))]
        return np.asarray(pa.concat_tables(parts)["sentiment_probability"].to_numpy(), np.float64)

    theirs = probabilities(cpu)
    ours = probabilities(gpu)[: len(theirs)]
    difference = float(np.abs(ours - theirs).max()) if ours.shape == theirs.shape else float("inf")
    return {
        "network": "bilstm",
        "what": "one GPU actor, Ray Data",
        "rows_per_s": on_gpu.rows_per_s,
        "result": f"{on_gpu.rows:,} rows, {on_gpu.rows_per_s:,.0f} rows/s with Ray's start; scores differ from the "
        f"CPU's by at most {difference:.1e} (allowed: {SCORE_TOLERANCE:.0e})",
        "failed": bool(on_gpu.rows != SCORED_ROWS or not difference <= SCORE_TOLERANCE),
    }


def _longest(network: Network, rows: Rows) -> slice:
    """Returns the columns of padded rows that hold a token; an unmasked network reads all."""
    return slice(0, int(rows.lengths.max())) if network.mask else slice(None)


PARTS: dict[str, Callable[[], Iterator[dict[str, Any]]]] = {
    "curves": curves,
    "speed": speed,
    "torch": torch_cudnn,
    "keras-jax": lambda: keras_fit("jax"),
    "keras-torch": lambda: keras_fit("torch"),
    "score": score,
}

if __name__ == "__main__":
    main()
