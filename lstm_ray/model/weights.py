"""A trained network as plain NumPy arrays, for the native engine.

This module does not import TensorFlow, so that a process that scores texts starts fast. The file format is an
uncompressed .npz without pickle: one array per weight, and the settings as small arrays.
"""

from __future__ import annotations

import io
import math
import zipfile
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from lstm_ray.config import ModelSettings, Pooling, Side, TextSettings, pools_of
from lstm_ray.errors import BundleError
from lstm_ray.model.archives import open_archive
from lstm_ray.text.ngrams import LONGEST
from lstm_ray.wording import reason


@dataclass(frozen=True)
class LstmWeights:
    """One direction of one LSTM layer, with gates in Keras's order: input, forget, candidate, output.

    Attributes:
        kernel: float32[inputs, 4 * units].
        recurrent: float32[units, 4 * units].
        bias: float32[4 * units].
    """

    kernel: NDArray[np.float32]
    recurrent: NDArray[np.float32]
    bias: NDArray[np.float32]

    @property
    def inputs(self) -> int:
        """Number of values that a step reads."""
        return int(self.kernel.shape[0])

    @property
    def units(self) -> int:
        """Number of values that a step returns."""
        return int(self.recurrent.shape[0])


@dataclass(frozen=True)
class Mix:
    """How the logits of the LSTM and of the n-grams are mixed: lstm * a + ngrams * b + bias.

    Attributes:
        lstm: Weight of the LSTM's logit.
        ngrams: Weight of the n-grams' logit.
        bias: Added to their sum.
    """

    lstm: float
    ngrams: float
    bias: float


@dataclass(frozen=True)
class NetworkWeights:
    """Embedding, LSTM layers, pooling over time, Dense(1), optionally a table of n-grams added to the logit, sigmoid.

    Attributes:
        embedding: float32[vocabulary_size, embedding_size].
        layers: Each is (forward,) or (forward, backward); the outputs of two directions are concatenated.
        output_kernel: float32[features]; features is the sum of the units of the last layer's directions, doubled with
            the pooling "mean_max".
        output_bias: Added to the logit.
        pooling: What the output layer reads: the final state of each direction, the maximum or mean over time, or the
            mean and then the maximum.
        masked: True if padding (id 0) is skipped, as with `Embedding(mask_zero=True)`.
        padding: Side on which a short row is padded with id 0.
        max_tokens: Length of a padded row, in tokens.
        ngrams: Maximum number of ids in an n-gram, as in `text/ngrams.py`; 0 without n-grams.
        ngram_table: float32[buckets], added to the logit for each distinct n-gram of a row; None without n-grams.
    """

    embedding: NDArray[np.float32]
    layers: tuple[tuple[LstmWeights, ...], ...]
    output_kernel: NDArray[np.float32]
    output_bias: float
    pooling: Pooling
    masked: bool
    padding: Side
    max_tokens: int
    ngrams: int = 0
    ngram_table: NDArray[np.float32] | None = None

    def to_bytes(self) -> bytes:
        """Returns the content of an .npz file with the network."""
        arrays: dict[str, Any] = {
            "embedding": self.embedding,
            "directions": np.array([len(layer) for layer in self.layers], np.int64),
            "output_kernel": self.output_kernel,
            "output_bias": np.array(self.output_bias, np.float64),
            "pooling": np.array(self.pooling),
            "masked": np.array(self.masked),
            "padding": np.array(self.padding),
            "max_tokens": np.array(self.max_tokens, np.int64),
        }
        for depth, layer in enumerate(self.layers):
            for direction, lstm in enumerate(layer):
                prefix = f"layer{depth}_direction{direction}_"
                arrays[prefix + "kernel"] = lstm.kernel
                arrays[prefix + "recurrent"] = lstm.recurrent
                arrays[prefix + "bias"] = lstm.bias
        if self.ngram_table is not None:
            arrays["ngrams"] = np.array(self.ngrams, np.int64)
            arrays["ngram_table"] = self.ngram_table
        stream = io.BytesIO()
        np.savez(stream, **arrays)
        return stream.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> NetworkWeights:
        """Reads what `to_bytes` returned.

        Raises:
            BundleError: The content is not an .npz file, an array is missing, or shapes or settings are inconsistent.
        """
        try:
            archive = open_archive(content)
            arrays = {member.filename.removesuffix(".npy"): _array(archive, member) for member in archive.infolist()}
        except Exception as error:  # zipfile and numpy raise a dozen types for damaged files
            raise BundleError(f"the network weights are not a readable .npz file: {reason(error)}") from error
        try:
            network = cls(
                embedding=arrays["embedding"],
                layers=tuple(
                    tuple(_lstm(arrays, f"layer{depth}_direction{direction}_") for direction in range(directions))
                    for depth, directions in enumerate(arrays["directions"].tolist())
                ),
                output_kernel=arrays["output_kernel"],
                output_bias=float(arrays["output_bias"]),
                pooling=arrays["pooling"].item(),
                masked=bool(arrays["masked"]),
                padding=arrays["padding"].item(),
                max_tokens=int(arrays["max_tokens"]),
                ngrams=int(arrays.get("ngrams", 0)),
                ngram_table=arrays.get("ngram_table"),
            )
        except KeyError as error:
            raise BundleError(f"the network weights lack an array: {error.args[0]}") from error
        except (TypeError, ValueError, OverflowError) as error:
            raise BundleError(f"the network weights have a setting of the wrong shape or type: {error}") from error
        network.check()
        return network

    def ngrams_alone(self, share: float, bias: float) -> NetworkWeights:
        """Returns a network that has only the n-grams of this one: a linear model.

        Its LSTM has one unit and weights of 0, so that the engine computes it at hardly any cost.

        Args:
            share: Factor by which this network's table was multiplied; not 0.
            bias: Added to the logit.
        """
        assert self.ngram_table is not None

        def zeros(*shape: int) -> NDArray[np.float32]:
            return np.zeros(shape, np.float32)

        return replace(
            self,
            embedding=zeros(len(self.embedding), 1),
            layers=((LstmWeights(zeros(1, 4), zeros(1, 4), zeros(4)),),),
            output_kernel=zeros(1),
            output_bias=bias,
            pooling="last",
            ngram_table=self.ngram_table / np.float32(share),
        )

    def check_settings(self, text: TextSettings, model: ModelSettings) -> None:
        """Checks that the network matches a bundle's settings.

        Raises:
            BundleError: They differ; the message names the setting.
        """
        units = {lstm.units for layer in self.layers for lstm in layer}
        for name, found, described in (
            ("vocabulary_size", self.embedding.shape[0], text.vocabulary_size),
            ("embedding_size", self.embedding.shape[1], model.embedding_size),
            ("layers", len(self.layers), model.layers),
            ("units", sorted(units), [model.units]),
            ("bidirectional", {len(layer) for layer in self.layers} != {1}, model.bidirectional),
            ("pooling", self.pooling, model.pooling),
            ("mask", self.masked, model.mask),
            ("padding", self.padding, text.padding),
            ("max_tokens", self.max_tokens, text.max_tokens),
            ("ngrams", self.ngrams, model.ngrams),
            ("ngram_buckets", 0 if self.ngram_table is None else len(self.ngram_table), model.ngram_buckets),
        ):
            if found != described and (name != "ngram_buckets" or model.ngrams):
                raise BundleError(
                    f"{name} of the network weights is {found}, but the bundle's settings say {described}"
                )

    def check(self) -> None:
        """Checks that all shapes, types and settings are consistent.

        Raises:
            BundleError: Something is inconsistent; the message names what was found and what is needed.
        """
        if self.pooling not in get_args(Pooling):
            raise BundleError(f"pooling of the network weights is {self.pooling!r}, not one of {get_args(Pooling)}")
        if self.padding not in get_args(Side):
            raise BundleError(f"padding of the network weights is {self.padding!r}, not one of {get_args(Side)}")
        if self.max_tokens < 1:
            raise BundleError(f"max_tokens of the network weights is {self.max_tokens}, but must be at least 1")
        if not self.layers:
            raise BundleError("the network weights have no LSTM layer")
        _check_array("embedding", self.embedding, (None, None))
        features = self.embedding.shape[1]
        for depth, layer in enumerate(self.layers):
            if len(layer) not in (1, 2):
                raise BundleError(f"layer {depth} of the network weights has {len(layer)} directions, not 1 or 2")
            for direction, lstm in enumerate(layer):
                name = f"layer {depth} direction {direction}"
                _check_array(f"{name} recurrent", lstm.recurrent, (None, None))
                units = lstm.units
                _check_array(f"{name} recurrent", lstm.recurrent, (units, 4 * units))
                _check_array(f"{name} kernel", lstm.kernel, (features, 4 * units))
                _check_array(f"{name} bias", lstm.bias, (4 * units,))
            features = sum(lstm.units for lstm in layer)
        _check_array("output kernel", self.output_kernel, (pools_of(self.pooling) * features,))
        if not np.isfinite(self.output_bias):
            raise BundleError(f"output bias of the network weights is {self.output_bias}, but must be finite")
        if not 0 <= self.ngrams <= LONGEST or (self.ngrams > 0) != (self.ngram_table is not None):
            table = "no table" if self.ngram_table is None else "a table"
            raise BundleError(
                f"ngrams of the network weights is {self.ngrams}, with {table}, "
                f"but must be 1 to {LONGEST} with a table or 0 without one"
            )
        if self.ngram_table is not None:
            _check_array("n-gram table", self.ngram_table, (None,))


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    """Reads an array, after checking that its size matches its header: numpy would allocate what the header says.

    Raises:
        ValueError: The sizes differ, or it is not an array of numbers or strings.
    """
    with archive.open(member) as stream:
        is_first_version = np.lib.format.read_magic(stream) == (1, 0)
        read_header = np.lib.format.read_array_header_1_0 if is_first_version else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(stream)
        size, expected = member.file_size - stream.tell(), math.prod(shape) * dtype.itemsize
    if size != expected or not dtype.itemsize:
        raise ValueError(f"{member.filename} has {size:,} bytes, but its header says {expected:,}")
    with archive.open(member) as stream:
        array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
        return array


def _lstm(arrays: dict[str, NDArray[Any]], prefix: str) -> LstmWeights:
    """Returns one direction's three arrays."""
    return LstmWeights(arrays[prefix + "kernel"], arrays[prefix + "recurrent"], arrays[prefix + "bias"])


def _check_array(name: str, array: NDArray[Any], shape: tuple[int | None, ...]) -> None:
    """Raises BundleError unless `array` is float32 of `shape`, where None is any size of at least 1."""
    fits = len(array.shape) == len(shape) and all(
        size == wanted if wanted is not None else size >= 1 for size, wanted in zip(array.shape, shape, strict=True)
    )
    if not fits:
        raise BundleError(f"{name} of the network weights has the shape {array.shape}, but {shape} is needed")
    if array.dtype != np.float32:
        raise BundleError(f"{name} of the network weights is {array.dtype}, but float32 is needed")
    if not np.isfinite(array).all():
        raise BundleError(f"{name} of the network weights has values that are not finite: its training diverged")
