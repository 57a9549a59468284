"""Compiles kernels into Python functions, and allocates arrays for them."""

import ctypes
import math
from collections.abc import Callable
from functools import cache, wraps
from threading import Lock
from typing import Any, ParamSpec, cast

import llvmlite.binding as llvm
import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from lstm_ray.kernels.emitter import Emitter

P = ParamSpec("P")

llvm.initialize_native_target()
llvm.initialize_native_asmprinter()


def compiled(write: Callable[P, Emitter]) -> "Callable[P, CompiledFunction]":
    """Decorates a function that builds a kernel: it returns the compiled kernel, cached per process and arguments."""
    made = cast(Any, cache(lambda *args, **kwargs: CompiledFunction(write(*args, **kwargs))))
    lock = Lock()  # without it, threads that ask at the same time would each compile

    @wraps(write)
    def make(*args: P.args, **kwargs: P.kwargs) -> CompiledFunction:
        with lock:
            function: CompiledFunction = made(*args, **kwargs)
            return function

    return make


class CompiledFunction:
    """A compiled kernel. It takes its arguments by name, see `kernels/arguments.py`."""

    def __init__(self, emitter: Emitter) -> None:
        """Compiles the emitter's code."""
        target = emitter.target
        module = llvm.parse_assembly(str(emitter.module_))
        machine = llvm.Target.from_default_triple().create_target_machine(
            cpu=target.cpu, features=target.features, opt=2
        )
        self._engine = llvm.create_mcjit_compiler(module, machine)  # owns the machine code
        self._engine.finalize_object()
        self._declared = emitter.declared
        address = self._engine.get_function_address(emitter.function.name)
        self._call = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * len(self._declared.names))(address)

    def __call__(self, **arguments: int | NDArray[Any]) -> None:
        """Checks the arguments and runs the kernel without holding the GIL.

        Raises:
            TypeError: An argument is missing, unknown or of the wrong type.
            ValueError: An array has the wrong shape or layout.
        """
        self._call(*self._declared.values(arguments))


def aligned_empty(*shape: int, dtype: npt.DTypeLike = np.float32) -> NDArray[Any]:
    """Returns an uninitialised array, aligned to a cache line, where vectors load fastest."""
    size = np.dtype(dtype).itemsize * math.prod(shape)
    raw = np.empty(size + 64, np.uint8)
    offset = -raw.ctypes.data % 64
    return raw[offset : offset + size].view(dtype).reshape(shape)
