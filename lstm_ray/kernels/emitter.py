"""The processor that kernels are compiled for, and a builder of LLVM code with the idioms that kernels need."""

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir

from lstm_ray.kernels.arguments import Arguments

Value: TypeAlias = Any  # an ir.Value; llvmlite has no types

I32, I64, POINTER = ir.IntType(32), ir.IntType(64), ir.PointerType()
F32, F64 = ir.FloatType(), ir.DoubleType()

_SLOW = "no AVX2, NEON or fused multiply-add: slow, and last bits differ from other processors"


@dataclass(frozen=True)
class Target:
    """A processor, and the tile size that fills its vector registers.

    Attributes:
        cpu: LLVM's name of the processor.
        features: LLVM's feature list, such as "+avx2,+fma,-avx512f".
        lanes: float32 values in a vector.
        tile_rows: Rows whose accumulators fit in registers.
        fused: True if the processor has a fused multiply-add, which rounds once.
        instructions: The instruction set that is used, for messages.
    """

    cpu: str
    features: str
    lanes: int
    tile_rows: int
    fused: bool
    instructions: str = ""

    @classmethod
    def of(cls, cpu: str, features: dict[str, bool]) -> "Target":
        """Returns the target for a processor: 32 vector registers hold 6 rows, 16 registers hold 3."""
        listed = ",".join(("+" if present else "-") + name for name, present in sorted(features.items()))
        if features.get("avx512f"):
            return cls(cpu, listed, lanes=16, tile_rows=6, fused=True, instructions="AVX-512")
        if features.get("avx2") and features.get("fma"):
            return cls(cpu, listed, lanes=8, tile_rows=3, fused=True, instructions="AVX2")
        if features.get("neon"):
            return cls(cpu, listed, lanes=4, tile_rows=6, fused=True, instructions="NEON")
        return cls(cpu, listed, lanes=4, tile_rows=3, fused=False, instructions=_SLOW)

    @classmethod
    def host(cls) -> "Target":
        """Returns the target for this machine's processor.

        If LLVM cannot detect its features, only those are used that every processor of the architecture has. On ARM
        that costs nothing, and scores have the same bits as elsewhere.
        """
        try:
            features = dict(llvm.get_host_cpu_features())
        except RuntimeError:  # LLVM cannot detect features on this operating system
            features = {}
        if any(features.values()):
            return cls.of(llvm.get_host_cpu_name(), features)
        machine = platform.machine()
        if machine in ("aarch64", "arm64"):
            target = cls.of("generic", {"neon": True})
        else:
            target = cls.of("x86-64" if machine in ("x86_64", "AMD64") else "generic", {})
        return replace(target, instructions=f"processor features unknown: {target.instructions}")

    def has(self, feature: str) -> bool:
        """Returns whether the processor has a feature, by LLVM's name."""
        return f"+{feature}" in self.features.split(",")

    def describe(self) -> str:
        """Returns the instruction set of the native engine for messages: "AVX-512, 16 lanes"."""
        return f"{self.instructions}, {self.lanes} lanes" if self.fused else self.instructions


def slow_note() -> str | None:
    """Returns a note for the user if the native engine is slow on this machine; otherwise None."""
    target = Target.host()
    return None if target.fused else f"native engine: {target.describe()}"


class Emitter(ir.IRBuilder):
    """Builds a kernel: llvmlite's IRBuilder with the idioms that kernels need.

    Attributes:
        target: The processor.
        declared: The kernel's arguments.
        arguments: The values of the arguments (arrays as addresses), of named lengths, and of `<name>_stride` for
            strided arrays.
        vector: The type of a vector register.
    """

    def __init__(self, target: Target, name: str, declarations: dict[str, str]) -> None:
        """Starts a kernel, in a new LLVM module.

        Args:
            target: The processor.
            name: The kernel's name, for messages.
            declarations: The kernel's arguments, see `kernels/arguments.py`.
        """
        self.target = target
        self.declared = Arguments(name, declarations)
        self.vector = ir.VectorType(F32, target.lanes)
        self.module_ = ir.Module()
        types = [POINTER if argument in self.declared.arrays else I64 for argument in self.declared.names]
        function = ir.Function(self.module_, ir.FunctionType(ir.VoidType(), types), "kernel")
        super().__init__(function.append_basic_block())
        self.arguments: dict[str, Value] = dict(zip(self.declared.names, function.args, strict=True))

    def intrinsic(self, name: str, result: Value, arguments: Sequence[Value]) -> Value:
        """Calls an LLVM intrinsic, and declares it at its first use."""
        function = self.module_.globals.get(name)
        if function is None:
            signature = ir.FunctionType(result, [argument.type for argument in arguments])
            function = ir.Function(self.module_, signature, name)
        return self.call(function, arguments)

    # Memory

    def at(self, pointer: Value, index: Value | int, element: Value = F32) -> Value:
        """Returns the address of element `index`."""
        return self.gep(pointer, [I64(index) if isinstance(index, int) else index], source_etype=element)

    def load_integer(self, pointer: Value, index: Value, kind: Value) -> Value:
        """Returns element `index` of an int32 or int64 array as int64."""
        return self.sext(self.load(self.at(pointer, index, kind), typ=kind), I64)

    def load_vector(self, pointer: Value) -> Value:
        """Returns the vector at an address; fastest at the start of a cache line, but any address works."""
        return self.load(pointer, typ=self.vector, align=4)

    def store_vector(self, value: Value, pointer: Value) -> None:
        """Writes a vector to an address."""
        self.store(value, pointer, align=4)

    def on_stack(self, count: int, kind: Value) -> Value:
        """Allocates memory for `count` values on the stack and returns its address. Call this before any loop."""
        memory = self.alloca(ir.ArrayType(kind, count))
        return self.inttoptr(self.ptrtoint(memory, I64), POINTER)  # llvmlite's alloca alone has no plain pointer type

    def prefetch(self, pointer: Value) -> None:
        """Prefetches the cache line at `pointer` for reading."""
        self.intrinsic("llvm.prefetch.p0", ir.VoidType(), [pointer, I32(0), I32(3), I32(1)])

    # Vectors of any length

    def like(self, value: Value, number: float) -> Value:
        """Returns `number` in every lane of a vector as long as `value`."""
        return ir.Constant(ir.VectorType(F32, value.type.count), [float(np.float32(number))] * value.type.count)

    def broadcast(self, scalar: Value) -> Value:
        """Returns a vector with `scalar` in every lane."""
        undefined = ir.Constant(self.vector, ir.Undefined)
        first = self.insert_element(undefined, scalar, I32(0))
        return self.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(I32, self.target.lanes), None))

    def join(self, vectors: Sequence[Value]) -> Value:
        """Returns the concatenated vectors. This costs nothing: LLVM keeps them in the same registers."""
        lanes = self.target.lanes
        length = lanes * len(vectors)
        joined = ir.Constant(ir.VectorType(F32, length), ir.Undefined)
        for part, vector in enumerate(vectors):
            name = f"llvm.vector.insert.v{length}f32.v{lanes}f32"
            joined = self.intrinsic(name, joined.type, [joined, vector, I64(part * lanes)])
        return joined

    def part(self, joined: Value, index: int) -> Value:
        """Returns one of the vectors that `join` concatenated."""
        lanes = self.target.lanes
        name = f"llvm.vector.extract.v{lanes}f32.v{joined.type.count}f32"
        return self.intrinsic(name, self.vector, [joined, I64(index * lanes)])

    def multiply_add(self, a: Value, b: Value, c: Value) -> Value:
        """Returns a * b + c, rounded once where the processor can."""
        if self.target.fused:
            return self.intrinsic(f"llvm.fma.v{a.type.count}f32", a.type, [a, b, c])
        return self.fadd(self.fmul(a, b), c)

    def clamp(self, value: Value, limit: float) -> Value:
        """Clips `value` to -limit .. limit. The order of operands makes each comparison one instruction."""
        high, low = self.like(value, limit), self.like(value, -limit)
        value = self.select(self.fcmp_ordered("<", high, value), high, value)
        return self.select(self.fcmp_ordered(">", low, value), low, value)

    def larger(self, a: Value, b: Value) -> Value:
        """Returns the larger of two vectors, lane by lane."""
        return self.select(self.fcmp_ordered("<", a, b), b, a)

    # Control

    def smaller(self, a: Value, b: Value) -> Value:
        """Returns the smaller of two integers."""
        return self.select(self.icmp_signed("<", a, b), a, b)

    def loop(
        self,
        stop: Value,
        carried: Sequence[Value],
        body: Callable[[Value, list[Value]], Sequence[Value]],
    ) -> list[Value]:
        """Runs `body` for 0 .. stop - 1 and returns the carried values after the last iteration.

        Args:
            stop: int64; nothing runs if it isn't positive.
            carried: The values before the first iteration.
            body: Takes the index and the carried values, returns those of the next iteration.
        """
        before = self.block
        inside, after = self.append_basic_block(), self.append_basic_block()
        self.cbranch(self.icmp_signed("<", I64(0), stop), inside, after)
        self.position_at_end(inside)
        index = self.phi(I64)
        current = [self.phi(value.type) for value in carried]
        following = body(index, current)
        next_index = self.add(index, I64(1))
        end = self.block
        self.cbranch(self.icmp_signed("<", next_index, stop), inside, after)
        for phi, first, later in zip([index, *current], [I64(0), *carried], [next_index, *following], strict=True):
            phi.add_incoming(first, before)
            phi.add_incoming(later, end)
        self.position_at_end(after)
        results = [self.phi(value.type) for value in carried]
        for phi, first, later in zip(results, carried, following, strict=True):
            phi.add_incoming(first, before)
            phi.add_incoming(later, end)
        return results
