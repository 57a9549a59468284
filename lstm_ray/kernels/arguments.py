"""Arguments of a kernel: declared once, and checked at each call, because machine code writes to any address it gets.

A declaration is "int64", or an array in the notation of the docstrings:

    "int32[steps]"            the kernel receives the length as the integer `steps`
    "float32[rows, 512]"      `rows` must be the same in all arrays of a call
    "float32[rows, 128+]"     rows of at least 128 floats, any distance apart, such as columns of a wider array; the
                              kernel receives the distance as `<name>_stride`, in elements
    "float32[rows, 512] out"  an array that the kernel writes to

Elements are not checked: the caller must not pass ids that are out of range. A check costs about a microsecond per
array.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from operator import index
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DECLARATION = re.compile(r"(?P<dtype>\w+)\[(?P<shape>[^\]]+?)(?P<strided>\+?)\](?P<out> out)?")


@dataclass(frozen=True)
class ArrayArgument:
    """An array that a kernel takes.

    Attributes:
        declaration: As it was written, for messages.
        dtype: Type of the elements.
        shape: The length of each dimension, or the length's name.
        is_strided: True if rows may be any distance apart; the last length is then a minimum.
        is_written: True if the kernel writes to it.
    """

    declaration: str
    dtype: np.dtype[Any]
    shape: tuple[int | str, ...]
    is_strided: bool
    is_written: bool

    @classmethod
    def parse(cls, declaration: str) -> ArrayArgument:
        """Reads a declaration."""
        match = _DECLARATION.fullmatch(declaration)
        assert match is not None, f"not the declaration of an array: {declaration}"
        shape = tuple(int(length) if length.isdecimal() else length for length in match["shape"].split(", "))
        return cls(declaration, np.dtype(match["dtype"]), shape, bool(match["strided"]), bool(match["out"]))

    def check(self, array: Any, lengths: dict[str, int]) -> None:
        """Checks an array that a caller passes.

        Args:
            array: The array.
            lengths: The named lengths of the arrays before this one; this array's lengths are added.

        Raises:
            TypeError: The argument is not an array of this dtype.
            ValueError: Its shape or memory layout does not fit, or it is read-only.
        """
        if not isinstance(array, np.ndarray):
            raise TypeError(f"must be {self.declaration}, not {type(array).__name__}")
        if array.dtype != self.dtype:
            raise TypeError(f"must be {self.declaration}, not {array.dtype}")
        shape, flags = array.shape, array.flags
        if len(shape) != len(self.shape):
            raise ValueError(f"must be {self.declaration}, not of shape {shape}")
        if self.is_strided:
            shape = self._check_rows(array)
        elif not flags.c_contiguous:
            raise ValueError("must be C-contiguous")
        if self.is_written and not flags.writeable:
            raise ValueError("is written to, but is read-only")
        for has, length in zip(shape, self.shape, strict=True):
            if has != (lengths.setdefault(length, has) if isinstance(length, str) else length):
                raise ValueError(f"must be {self.declaration}, not of shape {array.shape}; other lengths: {lengths}")

    def _check_rows(self, array: NDArray[Any]) -> tuple[int, ...]:
        """Checks columns and strides. Returns the shape, without columns that the kernel does not read."""
        rows, columns = array.shape
        between_rows, between_columns = array.strides
        # The strides of an array without rows say nothing; NumPy often makes them 0.
        if rows and (between_columns != array.itemsize or between_rows < 0 or between_rows % array.itemsize):
            raise ValueError(f"must have contiguous rows, but has strides of {array.strides} bytes")
        least = self.shape[1]
        assert isinstance(least, int)
        return rows, min(columns, least)


class Arguments:
    """The arguments of a kernel.

    Attributes:
        names: Names in the order of the machine code's signature: arrays, integers, lengths, strides.
        arrays: Names of the arrays, which are passed by address.
    """

    def __init__(self, kernel: str, declarations: dict[str, str]) -> None:
        """Reads the declarations of a kernel's arguments."""
        self._kernel = kernel
        self._integers = [name for name, declaration in declarations.items() if declaration == "int64"]
        self._arrays = {
            name: ArrayArgument.parse(declaration)
            for name, declaration in declarations.items()
            if declaration != "int64"
        }
        named = [length for array in self._arrays.values() for length in array.shape if isinstance(length, str)]
        self._lengths = list(dict.fromkeys(named))
        self._strided = [name for name, array in self._arrays.items() if array.is_strided]
        self._expected = frozenset(declarations)
        self.arrays = list(self._arrays)
        strides = [f"{name}_stride" for name in self._strided]
        self.names = [*self.arrays, *self._integers, *self._lengths, *strides]
        assert len(set(self.names)) == len(self.names), f"{kernel}: a length has the name of an argument"

    def values(self, given: dict[str, Any]) -> list[int]:
        """Returns addresses and integers in the order of `names`.

        Args:
            given: Integers and arrays by name.

        Raises:
            TypeError: An argument is missing, unknown or of the wrong type.
            ValueError: An array has the wrong shape or layout.
        """
        if given.keys() != self._expected:
            expected = ", ".join((*self._arrays, *self._integers))
            raise TypeError(f"{self._kernel} takes {expected}, not {', '.join(given)}")
        lengths: dict[str, int] = {}
        addresses = []
        for name, declared in self._arrays.items():
            array = given[name]
            try:
                declared.check(array, lengths)
            except (TypeError, ValueError) as error:
                raise type(error)(f"{self._kernel}: {name} {error}") from None
            addresses.append(array.ctypes.data)
        return [
            *addresses,
            *(index(given[name]) for name in self._integers),
            *(lengths[name] for name in self._lengths),
            *(given[name].strides[0] // given[name].itemsize for name in self._strided),
        ]
