"""Machine code as Python functions, and arrays for it."""

import ctypes
from collections.abc import Callable
from functools import cache, wraps
from threading import Lock
from typing import Any, ParamSpec, TypeAlias, cast

import llvmlite.binding as llvm
import numpy as np
from numpy.typing import NDArray

from lstm_ray.kernels.emitter import Emitter

Floats: TypeAlias = NDArray[np.float32]
P = ParamSpec("P")

llvm.initialize_native_target()
llvm.initialize_native_asmprinter()


def compiled(write: Callable[P, Emitter]) -> "Callable[P, CompiledFunction]":
    """Makes a function that writes code return it as machine code, made once per process for the same arguments."""

    made = cast(Any, cache(lambda *args, **kwargs: CompiledFunction(write(*args, **kwargs))))
    lock = Lock()  # a cache lets all threads that miss at once compile, one after the other

    @wraps(write)
    def make(*args: P.args, **kwargs: P.kwargs) -> CompiledFunction:
        with lock:
            function: CompiledFunction = made(*args, **kwargs)
            return function

    return make


class CompiledFunction:
    """A function of machine code that takes its arguments by name: integers, and arrays for their addresses."""

    def __init__(self, emitter: Emitter) -> None:
        """Compiles what the emitter wrote."""
        target = emitter.target
        module = llvm.parse_assembly(str(emitter.module_))
        machine = llvm.Target.from_default_triple().create_target_machine(
            cpu=target.cpu, features=target.features, opt=2
        )
        self._engine = llvm.create_mcjit_compiler(module, machine)  # owns the machine code
        self._engine.finalize_object()
        self._names = tuple(emitter.arguments)
        address = self._engine.get_function_address(emitter.function.name)
        self._call = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * len(self._names))(address)

    def __call__(self, **arguments: int | NDArray[Any] | None) -> None:
        """Runs the function without holding Python's lock; None passes a null address."""
        values = (arguments[name] for name in self._names)
        self._call(*[value.ctypes.data if isinstance(value, np.ndarray) else value or 0 for value in values])


def aligned_empty(*shape: int) -> Floats:
    """Returns float32[shape] that starts at a cache line, where vectors load fastest."""
    size = 4 * int(np.prod(shape))
    raw = np.empty(size + 64, np.uint8)
    offset = -raw.ctypes.data % 64
    return raw[offset : offset + size].view(np.float32).reshape(shape)
