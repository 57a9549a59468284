"""Kernels as functions: compiled once, on arrays that start at a cache line, and for other processors too."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from inspect import unwrap

import llvmlite.binding as llvm
import pytest

from lstm_ray.kernels import adam, backward, forward, products
from lstm_ray.kernels.emitter import Emitter, Target
from lstm_ray.kernels.function import aligned_empty
from lstm_ray.runtime.threads import Threads

AVX512 = Target.of("skylake-avx512", {"avx512f": True, "avx2": True, "fma": True})
AVX2 = Target.of("haswell", {"avx2": True, "fma": True})
SSE2 = Target.of("x86-64", {})
NEON = Target.of("neoverse-n1", {"neon": True})


def test_code_is_made_once() -> None:
    assert products.add_rows(Target.host(), 32) is products.add_rows(Target.host(), 32)
    assert products.add_rows(Target.host(), 32) is not products.add_rows(Target.host(), 64)


def test_threads_that_want_the_same_code_at_once_get_the_same() -> None:
    units = 7 * Target.host().lanes  # which nothing else here has
    everybody = threading.Barrier(8, timeout=60)

    def want(_: int) -> object:
        everybody.wait()
        return backward.backward(Target.host(), units, 0)

    assert len(set(Threads(8, "test").map(want, range(8)))) == 1


def test_arrays_start_at_a_cache_line() -> None:
    assert all(aligned_empty(3, size).ctypes.data % 64 == 0 for size in range(1, 50))


def all_code(target: Target) -> Iterator[Emitter]:
    """Writes every kernel, under every kind of dropout."""

    def write(kernel: Callable[..., object], *arguments: object) -> Emitter:
        return unwrap(kernel)(target, *arguments)  # type: ignore[no-any-return]

    yield from (write(forward.forward, 21, 0, output) for output in ("last", "max", "mean", "sequence"))
    yield write(forward.forward, 32, 16, "last")
    yield from (write(forward.forward, 32, 0, "steps", masks) for masks in (0, 4))
    yield from (write(backward.backward, 32, masks) for masks in (0, 4))
    for kernel in (products.product, products.outer):
        yield from (write(kernel, 16, 32, gated) for gated in (False, True))
    yield from (write(products.spread, 16, 32, masks) for masks in (0, 1, 4))
    yield from (write(products.feed, 16, masks) for masks in (1, 4))
    yield write(products.add_rows, 32)
    yield from (write(adam.adam, 32, has_gradients) for has_gradients in (False, True))


def instructions(triple: str, target: Target) -> list[set[str]]:
    """Returns the instructions of each kernel."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=target.cpu, features=target.features, opt=2)
    return [
        {line.split()[0] for line in code.splitlines() if line.startswith("\t") and line.split()}
        for code in (machine.emit_assembly(llvm.parse_assembly(str(b.module_))) for b in all_code(target))
    ]


@pytest.mark.parametrize(
    ("triple", "target", "multiply_add"),
    [
        ("x86_64-unknown-linux-gnu", AVX512, "vfmadd"),
        ("x86_64-unknown-linux-gnu", AVX2, "vfmadd"),
        ("x86_64-unknown-linux-gnu", SSE2, "mulps"),
        ("aarch64-unknown-linux-gnu", NEON, "fmla"),
    ],
    ids=["avx512", "avx2", "sse2", "neon"],
)
def test_code_for_other_processors_calls_nothing(triple: str, target: Target, multiply_add: str) -> None:
    kernels = instructions(triple, target)
    multiplying = [used for used in kernels if any(name.startswith(multiply_add) for name in used)]
    assert len(multiplying) >= len(kernels) - 3  # `feed` and `add_rows` have none
    for used in kernels:
        calls = used & {"call", "callq", "bl", "blr"}
        assert not calls, "a call would be to a library's fmaf or expf: correct, and 100 times slower"
