"""NetworkWeights: saved and loaded; arrays that do not fit together are refused with a reason."""

import io
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lstm_ray.errors import BundleError
from lstm_ray.model.weights import LstmWeights, NetworkWeights


def make_lstm(inputs: int, units: int) -> LstmWeights:
    generator = np.random.default_rng(inputs * 100 + units)
    return LstmWeights(
        kernel=generator.normal(size=(inputs, 4 * units)).astype(np.float32),
        recurrent=generator.normal(size=(units, 4 * units)).astype(np.float32),
        bias=generator.normal(size=4 * units).astype(np.float32),
    )


@pytest.fixture
def network() -> NetworkWeights:
    return NetworkWeights(
        embedding=np.arange(12, dtype=np.float32).reshape(6, 2),
        layers=((make_lstm(2, 3), make_lstm(2, 3)), (make_lstm(6, 5),)),
        output_kernel=np.arange(5, dtype=np.float32),
        output_bias=0.1,
        pooling="max",
        masked=True,
        padding="pre",
        max_tokens=80,
        ngrams=2,
        ngram_table=np.arange(9, dtype=np.float32),
    )


def assert_equal(left: NetworkWeights, right: NetworkWeights) -> None:
    np.testing.assert_array_equal(left.embedding, right.embedding)
    np.testing.assert_array_equal(left.output_kernel, right.output_kernel)
    np.testing.assert_array_equal(left.ngram_table, right.ngram_table)
    for name in ("output_bias", "pooling", "masked", "padding", "max_tokens", "ngrams"):
        assert getattr(left, name) == getattr(right, name)
    assert [len(layer) for layer in left.layers] == [len(layer) for layer in right.layers]
    for left_layer, right_layer in zip(left.layers, right.layers, strict=True):
        for left_lstm, right_lstm in zip(left_layer, right_layer, strict=True):
            for name in ("kernel", "recurrent", "bias"):
                np.testing.assert_array_equal(getattr(left_lstm, name), getattr(right_lstm, name))


def test_what_is_read_is_what_was_written(network: NetworkWeights) -> None:
    assert_equal(NetworkWeights.from_bytes(network.to_bytes()), network)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"output_kernel": np.zeros(4, np.float32)}, "output kernel"),
        ({"pooling": "mean_max"}, r"output kernel .* \(10,\) is needed"),
        ({"output_kernel": np.zeros(5, np.float64)}, "float64"),
        ({"embedding": np.zeros((6, 3), np.float32)}, "layer 0 direction 0 kernel"),
        ({"embedding": np.zeros(6, np.float32)}, "embedding"),
        ({"embedding": np.zeros((0, 2), np.float32)}, "embedding"),
        ({"layers": ()}, "no LSTM layer"),
        ({"layers": ((),)}, "0 directions"),
        ({"layers": ((make_lstm(2, 5),), (make_lstm(4, 5),))}, "layer 1 direction 0 kernel"),
        ({"pooling": "sum"}, "pooling"),
        ({"padding": "both"}, "padding"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"output_bias": float("nan")}, "finite"),
        ({"output_kernel": np.full(5, np.inf, np.float32)}, "finite"),
        ({"ngram_table": np.zeros((9, 1), np.float32)}, "n-gram table"),
        ({"ngram_table": np.zeros(0, np.float32)}, "n-gram table"),
        ({"ngram_table": np.zeros(9, np.float64)}, "n-gram table .* float64"),
        ({"ngram_table": np.full(9, np.nan, np.float32)}, "n-gram table .* not finite"),
        ({"ngrams": 4}, "ngrams of the network weights is 4, with a table"),
        ({"ngrams": 0}, "ngrams of the network weights is 0, with a table"),
    ],
)
def test_what_does_not_fit_is_refused(network: NetworkWeights, change: dict[str, object], message: str) -> None:
    content = replace(network, **change).to_bytes()  # type: ignore[arg-type]
    with pytest.raises(BundleError, match=message):
        NetworkWeights.from_bytes(content)


def test_ngrams_need_a_table(network: NetworkWeights) -> None:
    with pytest.raises(BundleError, match="ngrams of the network weights is 2, with no table"):
        replace(network, ngram_table=None).check()


def test_without_ngrams_the_file_is_that_of_the_first_versions(network: NetworkWeights) -> None:
    with_ngrams, without = network.to_bytes(), replace(network, ngrams=0, ngram_table=None).to_bytes()
    names = [set(zipfile.ZipFile(io.BytesIO(content)).namelist()) for content in (with_ngrams, without)]
    assert names[0] - names[1] == {"ngrams.npy", "ngram_table.npy"}
    loaded = NetworkWeights.from_bytes(without)
    assert (loaded.ngrams, loaded.ngram_table) == (0, None)


def test_recurrent_kernel_must_be_square_by_gate(network: NetworkWeights) -> None:
    lstm = make_lstm(2, 5)
    broken = replace(network, layers=((replace(lstm, recurrent=lstm.recurrent[:4]),),))
    with pytest.raises(BundleError, match="recurrent"):
        broken.check()


def test_missing_array_is_named(tmp_path: Path) -> None:
    path = tmp_path / "network.npz"
    np.savez(path, embedding=np.zeros((2, 2), np.float32))
    with pytest.raises(BundleError, match="directions"):
        NetworkWeights.from_bytes(path.read_bytes())


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04 cut off"])
def test_files_of_another_kind_are_refused(content: bytes) -> None:
    with pytest.raises(BundleError):
        NetworkWeights.from_bytes(content)


def test_pickles_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "network.npz"
    np.savez(path, embedding=np.array([{"a": 1}], dtype=object))
    with pytest.raises(BundleError):
        NetworkWeights.from_bytes(path.read_bytes())


def test_a_single_array_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "network.npy"
    np.save(path, np.zeros(3, np.float32))
    with pytest.raises(BundleError, match="not a readable"):
        NetworkWeights.from_bytes(path.read_bytes())


def test_a_damaged_archive_is_refused(network: NetworkWeights) -> None:
    content = bytearray(network.to_bytes())
    content[200] ^= 0xFF
    with pytest.raises(BundleError):
        NetworkWeights.from_bytes(bytes(content))
