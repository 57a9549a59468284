"""The processor that kernels are compiled for: its tile, and how it is described to people."""

from __future__ import annotations

import platform

import llvmlite.binding as llvm
import pytest

from lstm_ray.kernels.emitter import Target, slow_note


@pytest.mark.parametrize(
    ("features", "expected", "described"),
    [
        ({"avx512f": True, "avx2": True, "fma": True}, (16, 6, True), "AVX-512, 16 lanes"),
        ({"avx2": True, "fma": True}, (8, 3, True), "AVX2, 8 lanes"),
        ({"avx2": True}, (4, 3, False), "no AVX2, NEON or fused multiply-add: slow, and "),
        ({"neon": True}, (4, 6, True), "NEON, 4 lanes"),
        ({}, (4, 3, False), "no AVX2, NEON or fused multiply-add: slow, and "),
    ],
)
def test_a_tile_fills_the_registers(features: dict[str, bool], expected: tuple[int, int, bool], described: str) -> None:
    target = Target.of("any", features)
    assert (target.lanes, target.tile_rows, target.fused) == expected
    assert target.describe().startswith(described)


def test_the_host_is_recognised() -> None:
    target = Target.host()
    assert target.lanes in (4, 8, 16)
    assert target.cpu in (llvm.get_host_cpu_name(), "generic", "x86-64")


def use_host(monkeypatch: pytest.MonkeyPatch, machine: str, cpu: str, features: dict[str, bool]) -> Target:
    """Returns the target of a host that LLVM and the operating system describe so."""
    monkeypatch.setattr(llvm, "get_host_cpu_name", lambda: cpu)
    monkeypatch.setattr(llvm, "get_host_cpu_features", lambda: features)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    return Target.host()


def test_a_host_whose_features_are_known_is_used_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    target = use_host(monkeypatch, "x86_64", "haswell", {"avx2": True, "fma": True, "avx512f": False})
    assert target == Target("haswell", "+avx2,-avx512f,+fma", lanes=8, tile_rows=3, fused=True, instructions="AVX2")
    assert slow_note() is None


def test_a_slow_host_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    use_host(monkeypatch, "x86_64", "nehalem", {"sse4.2": True, "avx2": False})
    note = slow_note()
    assert note is not None
    assert note.startswith("native engine: no AVX2")


@pytest.mark.parametrize("features", [{}, {"avx2": False, "neon": False}], ids=["none", "all off"])
@pytest.mark.parametrize(
    ("machine", "cpu", "lanes", "fused"),
    [
        ("x86_64", "x86-64", 4, False),
        ("AMD64", "x86-64", 4, False),
        ("arm64", "generic", 4, True),  # every 64-bit ARM has NEON and fused multiply-add
        ("aarch64", "generic", 4, True),
        ("riscv64", "generic", 4, False),
    ],
)
def test_a_host_whose_features_are_unknown_gets_those_of_its_architecture(
    machine: str, cpu: str, lanes: int, fused: bool, features: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = use_host(monkeypatch, machine, "a-processor-of-tomorrow", features)
    assert (target.cpu, target.lanes, target.fused) == (cpu, lanes, fused)
    assert "processor features unknown" in target.describe()


def test_an_operating_system_that_llvm_cannot_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> dict[str, bool]:
        raise RuntimeError("failed to get host cpu features")

    use_host(monkeypatch, "arm64", "apple-m1", {})
    monkeypatch.setattr(llvm, "get_host_cpu_features", fail)
    assert "processor features unknown" in Target.host().describe()
