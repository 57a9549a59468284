"""Measures the CPU scoring engine against Keras, ONNX Runtime and PyTorch, and against the processor's own limit.

    python benchmarks/scoring_engine.py [--rounds 7] [--json FILE]
    python benchmarks/scoring_engine.py --precisions [--rounds 7] [--json FILE]

Everyone gets the same weights, the same rows and all cores, and takes turns for several rounds: the table shows
medians, because a shared machine's speed swings. Each of the others runs at its best batch size of 32 .. 1024, found
beforehand. Where masking allows it, ONNX Runtime and PyTorch get rows of like length together, each batch cut to its
longest row; Keras gets the rows as its users have them, padded to max_tokens.

The limit is the speed of a large float32 matrix product on this machine (TensorFlow's or NumPy's, whichever is faster,
in the same rounds) divided by the arithmetic that is left once the input projection and the padding are precomputed.

With `--precisions` the engine alone runs in float32, bf16 and int8, for 128 and 512 units, on one thread. Its CPU time
is measured, in which a busy machine shows less.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lstm_ray.kernels.emitter import Target
from lstm_ray.kernels.precision.choice import precisions_of
from lstm_ray.model.weights import LstmWeights, NetworkWeights
from lstm_ray.runtime.devices import available_cores
from lstm_ray.score.engine import NativeEngine
from lstm_ray.text.sequences import Sequences

BATCH_SIZES = (32, 128, 256, 512, 1024)
CORES = available_cores()
VOCABULARY_SIZE, EMBEDDING_SIZE, UNITS = 20_000, 128, 128
MORE_UNITS = 512
MATRIX_SIZE = 1536
REST_S = 0.05  # between turns, because thread pools spin for a while after their work

Score = Callable[[], NDArray[np.floating[Any]]]


@dataclass(frozen=True)
class Case:
    """One network and one set of rows."""

    name: str
    max_tokens: int
    rows: int
    bidirectional: bool
    full: bool
    units: int = UNITS

    @property
    def masked(self) -> bool:
        """The bidirectional network of the benchmark is the masked one."""
        return self.bidirectional


CASES = (
    Case("LSTM, 80 tokens, all rows full", 80, 2048, bidirectional=False, full=True),
    Case("LSTM, 80 tokens, rows as long as reviews", 80, 2048, bidirectional=False, full=False),
    Case("BiLSTM, 400 tokens, all rows full", 400, 512, bidirectional=True, full=True),
    Case("BiLSTM, 400 tokens, rows as long as reviews", 400, 512, bidirectional=True, full=False),
)


@dataclass(frozen=True)
class Texts:
    """Token ids in the two forms that contenders take.

    Attributes:
        lengths: int64[rows].
        ragged: int32[total], row after row.
        padded: int32[rows, max_tokens], zeros first if the network is unmasked, last if it is masked.
    """

    lengths: NDArray[np.int64]
    ragged: NDArray[np.int32]
    padded: NDArray[np.int32]


def make_texts(case: Case, generator: np.random.Generator) -> Texts:
    """Draws words by Zipf's law, and lengths like those of film reviews: mean 230, median 175."""
    lengths = np.full(case.rows, case.max_tokens)
    if not case.full:
        lengths = np.clip(generator.lognormal(np.log(175), 0.7, case.rows), 5, case.max_tokens).astype(np.int64)
    frequency = 1 / np.arange(1, VOCABULARY_SIZE)
    ragged = generator.choice(VOCABULARY_SIZE - 1, lengths.sum(), p=frequency / frequency.sum()).astype(np.int32) + 1
    places = np.arange(case.max_tokens)
    real = places < lengths[:, None] if case.masked else places >= case.max_tokens - lengths[:, None]
    padded = np.zeros((case.rows, case.max_tokens), np.int32)
    padded[real] = ragged
    return Texts(lengths, ragged, padded)


def make_network(case: Case, generator: np.random.Generator) -> NetworkWeights:
    """Returns random weights of the same magnitude as trained ones."""

    def normal(*shape: int, scale: float) -> NDArray[np.float32]:
        return (generator.normal(size=shape) * scale).astype(np.float32)

    def lstm() -> LstmWeights:
        kernel = normal(EMBEDDING_SIZE, 4 * case.units, scale=0.1)
        recurrent = normal(case.units, 4 * case.units, scale=0.1 * (UNITS / case.units) ** 0.5)
        return LstmWeights(kernel, recurrent, normal(4 * case.units, scale=0.3))

    layer = (lstm(), lstm()) if case.bidirectional else (lstm(),)
    return NetworkWeights(
        embedding=normal(VOCABULARY_SIZE, EMBEDDING_SIZE, scale=0.5),
        layers=(layer,),
        output_kernel=normal(case.units * len(layer), scale=0.2),
        output_bias=0.1,
        pooling="max" if case.bidirectional else "last",
        masked=case.masked,
        padding="post" if case.masked else "pre",
        max_tokens=case.max_tokens,
    )


def engine(network: NetworkWeights, texts: Texts, _: int) -> Score:
    """This package's engine."""
    scorer = NativeEngine(network, CORES)
    sequences = Sequences.of(texts.ragged, texts.lengths)
    return lambda: scorer.probabilities(sequences)


def keras_predict(network: NetworkWeights, texts: Texts, batch_size: int) -> Score:
    """`model.predict` of the Keras model."""
    import keras

    inputs = keras.Input((network.max_tokens,), dtype="int32")
    embedding = keras.layers.Embedding(*network.embedding.shape, mask_zero=network.masked)
    lstm: Any = keras.layers.LSTM(UNITS, return_sequences=network.masked)
    if len(network.layers[0]) == 2:
        lstm = keras.layers.Bidirectional(lstm)
    values = lstm(embedding(inputs))
    if network.pooling == "max":
        values = keras.ops.max(keras.ops.where(inputs[:, :, None] != 0, values, -1e9), axis=1)
    dense = keras.layers.Dense(1, activation="sigmoid")
    model = keras.Model(inputs, dense(values))
    embedding.set_weights([network.embedding])
    lstm.set_weights([array for part in network.layers[0] for array in (part.kernel, part.recurrent, part.bias)])
    dense.set_weights([network.output_kernel[:, None], np.array([network.output_bias], np.float32)])
    return lambda: model.predict(texts.padded, batch_size=batch_size, verbose=0)[:, 0]


def in_batches(
    network: NetworkWeights, texts: Texts, batch_size: int, score: Callable[[Any, Any], NDArray[np.float32]]
) -> Score:
    """Calls `score(token_ids, lengths)` on batches; a masked network's are sorted and cut to their longest row."""

    def run() -> NDArray[np.float32]:
        order = np.argsort(-texts.lengths, kind="stable") if network.masked else np.arange(len(texts.lengths))
        result = np.empty(len(order), np.float32)
        for begin in range(0, len(order), batch_size):
            rows = order[begin : begin + batch_size]
            width = texts.lengths[rows].max() if network.masked else network.max_tokens
            result[rows] = score(texts.padded[rows, :width], texts.lengths[rows])
        return result

    return run


def onnx_runtime(network: NetworkWeights, texts: Texts, batch_size: int) -> Score:
    """ONNX Runtime's LSTM operator in a graph from token ids to logit."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    def reorder(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        i, f, g, o = np.split(matrix, 4, axis=-1)
        return np.concatenate([i, o, f, g], axis=-1).T

    layer = network.layers[0]
    zeros = np.zeros(4 * UNITS, np.float32)
    constants = {
        "embedding": network.embedding,
        "W": np.stack([reorder(part.kernel) for part in layer]),
        "R": np.stack([reorder(part.recurrent) for part in layer]),
        "B": np.stack([np.concatenate([reorder(part.bias), zeros]) for part in layer]),
        "output_kernel": network.output_kernel[:, None],
        "output_bias": np.array([network.output_bias], np.float32),
        "zero": np.array(0, np.int32),
        "low": np.array(-1e9, np.float32),
        "time": np.array([0], np.int64),
        "flat": np.array([0, -1], np.int64),
        "last_two": np.array([1, 3], np.int64),
    }
    nodes = [
        helper.make_node("Transpose", ["ids"], ["ids_by_time"], perm=[1, 0]),
        helper.make_node("Gather", ["embedding", "ids_by_time"], ["values"]),
        helper.make_node(
            "LSTM",
            ["values", "W", "R", "B", "lengths"] if network.masked else ["values", "W", "R", "B"],
            ["Y", "Y_h"],
            hidden_size=UNITS,
            direction="bidirectional" if len(layer) == 2 else "forward",
        ),
    ]
    if network.pooling == "max":
        nodes += [
            helper.make_node("Equal", ["ids_by_time", "zero"], ["is_padding"]),
            helper.make_node("Unsqueeze", ["is_padding", "last_two"], ["mask"]),
            helper.make_node("Where", ["mask", "low", "Y"], ["masked"]),
            helper.make_node("ReduceMax", ["masked", "time"], ["pooled"], keepdims=0),
            helper.make_node("Transpose", ["pooled"], ["by_row"], perm=[1, 0, 2]),
        ]
    else:
        nodes.append(helper.make_node("Transpose", ["Y_h"], ["by_row"], perm=[1, 0, 2]))
    nodes += [
        helper.make_node("Reshape", ["by_row", "flat"], ["features"]),
        helper.make_node("Gemm", ["features", "output_kernel", "output_bias"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["probabilities"]),
    ]
    inputs = [helper.make_tensor_value_info("ids", TensorProto.INT32, ["rows", "time"])]
    if network.masked:
        inputs.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, ["rows"]))
    outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", 1])]
    initializers = [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "lstm", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = CORES
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def score(token_ids: NDArray[np.int32], lengths: NDArray[np.int64]) -> NDArray[np.float32]:
        feed = {"ids": np.ascontiguousarray(token_ids)}
        if network.masked:
            feed["lengths"] = lengths.astype(np.int32)
        probabilities: NDArray[np.float32] = session.run(None, feed)[0][:, 0]
        return probabilities

    return in_batches(network, texts, batch_size, score)


def pytorch(network: NetworkWeights, texts: Texts, batch_size: int) -> Score:
    """torch.nn.LSTM, with packed sequences for the masked network."""
    import torch

    torch.set_num_threads(CORES)
    layer = network.layers[0]
    lstm = torch.nn.LSTM(EMBEDDING_SIZE, UNITS, batch_first=True, bidirectional=len(layer) == 2)
    embedding = torch.from_numpy(network.embedding)
    output = torch.from_numpy(network.output_kernel)
    with torch.no_grad():
        for part, suffix in zip(layer, ("_l0", "_l0_reverse"), strict=False):
            getattr(lstm, "weight_ih" + suffix).copy_(torch.from_numpy(part.kernel.T.copy()))
            getattr(lstm, "weight_hh" + suffix).copy_(torch.from_numpy(part.recurrent.T.copy()))
            getattr(lstm, "bias_ih" + suffix).copy_(torch.from_numpy(part.bias))
            getattr(lstm, "bias_hh" + suffix).zero_()

    def score(token_ids: NDArray[np.int32], lengths: NDArray[np.int64]) -> NDArray[np.float32]:
        with torch.inference_mode():
            values = torch.nn.functional.embedding(torch.from_numpy(np.ascontiguousarray(token_ids)), embedding)
            if network.masked:
                packed = torch.nn.utils.rnn.pack_padded_sequence(values, torch.from_numpy(lengths), batch_first=True)
                sequence, _ = lstm(packed)
                features = torch.nn.utils.rnn.pad_packed_sequence(
                    sequence, batch_first=True, padding_value=-float("inf")
                )[0].amax(dim=1)
            else:
                features = lstm(values)[1][0][0]
            probabilities: NDArray[np.float32] = torch.sigmoid(features @ output + network.output_bias).numpy()
            return probabilities

    return in_batches(network, texts, batch_size, score)


CONTENDERS: dict[str, Callable[[NetworkWeights, Texts, int], Score]] = {
    "engine": engine,
    "keras": keras_predict,
    "onnxruntime": onnx_runtime,
    "pytorch": pytorch,
}


def make_products() -> dict[str, Callable[[], object]]:
    """Returns functions that compute large float32 matrix products, the usual measure of a processor's speed."""
    import tensorflow as tf

    matrix = np.random.default_rng(0).normal(size=(MATRIX_SIZE, MATRIX_SIZE)).astype(np.float32)
    tensor = tf.constant(matrix)
    return {"tensorflow matmul": lambda: tf.matmul(tensor, tensor).numpy(), "numpy matmul": lambda: matrix @ matrix}


def elapsed(call: Callable[[], object]) -> float:
    """Returns the seconds that a call takes, after a rest."""
    time.sleep(REST_S)
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def best_batch(make: Callable[[NetworkWeights, Texts, int], Score], network: NetworkWeights, texts: Texts) -> int:
    """Returns the fastest batch size, judging by the second run of each."""
    times = {}
    for batch_size in BATCH_SIZES:
        score = make(network, texts, batch_size)
        score()
        times[batch_size] = elapsed(score)
    return min(times, key=lambda batch_size: times[batch_size])


def measure(case: Case, rounds: int) -> dict[str, Any]:
    """Runs one case and returns the figures of its table."""
    generator = np.random.default_rng(0)
    network, texts = make_network(case, generator), make_texts(case, generator)
    scores: dict[str, Score] = {}
    batch_sizes: dict[str, int | Literal["not installed"]] = {}
    for name, make in CONTENDERS.items():
        try:
            batch_sizes[name] = 0 if make is engine else best_batch(make, network, texts)
            scores[name] = make(network, texts, int(batch_sizes[name]))
        except ModuleNotFoundError:
            batch_sizes[name] = "not installed"
    answers = {name: score() for name, score in scores.items()}
    products = make_products()
    times: dict[str, list[float]] = {name: [] for name in (*scores, *products)}
    for _ in range(rounds):
        for name, call in (*scores.items(), *products.items()):
            times[name].append(elapsed(call))
    rows_per_s = {name: case.rows / median(times[name]) for name in scores}
    gflops = {name: 2 * MATRIX_SIZE**3 / median(times[name]) / 1e9 for name in products}
    flops = texts.lengths.sum() * 2 * UNITS * 4 * UNITS * len(network.layers[0])
    return {
        "case": case.name,
        "tokens_per_row": float(texts.lengths.mean()),
        "batch_size": batch_sizes,
        "rows_per_s": rows_per_s,
        "engine_speedup": {name: rows_per_s["engine"] / rows_per_s[name] for name in scores},
        "matmul_gflops": gflops,
        "limit_rows_per_s": max(gflops.values()) * 1e9 / (flops / case.rows),
        "engine_of_limit": rows_per_s["engine"] * flops / case.rows / (max(gflops.values()) * 1e9),
        "largest_difference_from_keras": {
            name: float(np.abs(answer - answers["keras"]).max()) for name, answer in answers.items()
        },
    }


def measure_precisions(case: Case, rounds: int) -> dict[str, Any]:
    """Runs one case in every precision that the processor has, on one thread, and returns the figures of its table."""
    generator = np.random.default_rng(0)
    network, texts = make_network(case, generator), make_texts(case, generator)
    sequences = Sequences.of(texts.ragged, texts.lengths)
    engines = {name: NativeEngine(network, 1, name) for name in precisions_of(Target.host())}
    answers = {name: one.probabilities(sequences) for name, one in engines.items()}
    times: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(rounds):
        for name, one in engines.items():
            begin = time.process_time()
            one.probabilities(sequences)
            times[name].append(time.process_time() - begin)
    exact = answers["float32"]
    return {
        "case": f"{case.name}, {case.units} units",
        "tokens_per_row": float(texts.lengths.mean()),
        "rows_per_cpu_s": {name: case.rows / median(times[name]) for name in engines},
        "speedup": {name: median(times["float32"]) / median(times[name]) for name in engines},
        "speedup_of_best": {name: min(times["float32"]) / min(times[name]) for name in engines},
        "largest_difference": {name: float(np.abs(answer - exact).max()) for name, answer in answers.items()},
        "other_labels": {name: int(((answer > 0.5) != (exact > 0.5)).sum()) for name, answer in answers.items()},
    }


def print_precisions(figures: dict[str, Any]) -> None:
    """Prints one case."""
    print(f"\n{figures['case']} ({figures['tokens_per_row']:.0f} tokens a row, one thread)")
    print(f"{'':10}{'rows/CPU-s':>12}{'x float32':>11}{'best':>8}{'difference':>13}{'other labels':>14}")
    for name, rows in figures["rows_per_cpu_s"].items():
        speedup, best = figures["speedup"][name], figures["speedup_of_best"][name]
        difference, other = figures["largest_difference"][name], figures["other_labels"][name]
        print(f"{name:10}{rows:>12,.0f}{speedup:>11.2f}{best:>8.2f}{difference:>13.1e}{other:>14}")


def print_table(figures: dict[str, Any]) -> None:
    """Prints one case."""
    print(f"\n{figures['case']} ({figures['tokens_per_row']:.0f} tokens a row, {CORES} cores)")
    print(f"{'':18}{'batch':>14}{'rows/s':>10}{'engine is':>11}{'from Keras':>13}")
    for name, batch_size in figures["batch_size"].items():
        if batch_size == "not installed":
            print(f"{name:18}{batch_size:>14}")
            continue
        speedup, difference = figures["engine_speedup"][name], figures["largest_difference_from_keras"][name]
        print(
            f"{name:18}{batch_size or '':>14}{figures['rows_per_s'][name]:>10,.0f}{speedup:>10.2f}x{difference:>13.1e}"
        )
    products = ", ".join(f"{name} {speed:.0f} GFLOP/s" for name, speed in figures["matmul_gflops"].items())
    print(f"{'limit':18}{'':14}{figures['limit_rows_per_s']:>10,.0f}{figures['engine_of_limit']:>10.0%}   {products}")


def main() -> None:
    """Parses, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="turns that each contender gets")
    parser.add_argument("--precisions", action="store_true", help="compare the precisions of the engine instead")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    results = []
    if arguments.precisions:
        for case in CASES:
            for units in (UNITS, MORE_UNITS):
                rows = case.rows * UNITS // units // 4
                results.append(measure_precisions(replace(case, units=units, rows=rows), arguments.rounds))
                print_precisions(results[-1])
    else:
        for case in CASES:
            results.append(measure(case, arguments.rounds))
            print_table(results[-1])
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
