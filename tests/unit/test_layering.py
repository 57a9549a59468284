"""The package's rules about itself: direction of imports, homes of heavy packages, names, sizes of packages."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import lstm_ray

PACKAGE = Path(lstm_ray.__file__).parent
MOST_FILES = 12

# Bottom to top: a module imports only from its own layer and from those before it.
LAYERS = (
    ("lstm_ray",),  # __version__; its functions are those of api
    ("arrays", "errors", "wording", "progress", "bounded_yaml"),
    ("storage",),
    ("runtime",),
    ("user_code",),
    ("config",),
    ("text", "kernels", "collective"),
    ("datasets",),
    ("model", "vectors"),
    ("score", "export", "evaluate", "report"),  # a scoring run writes a report too, and an evaluation scores
    ("train",),
    ("tune",),  # runs `train` many times
    ("cluster", "jobs", "doctor"),
    ("api",),  # the commands as functions
    ("cli", "__main__"),
)
# The only modules and packages that may import a heavy package.
HOMES = {
    "ray": (
        "runtime",
        "train.ray",
        "score.ray_data",
        "evaluate.ray_tasks",
        "tune.ray_trials",
        "cluster.status",
        "jobs.client",
        "doctor.ray_nodes",
    ),
    "tensorflow": ("runtime.tensorflow", "collective.tensorflow", "model", "train", "score"),
    "keras": ("runtime.tensorflow", "model", "train", "score"),
    "typer": ("cli",),
    "rich": ("cli",),
    "llvmlite": ("kernels",),
    "matplotlib": ("report.picture",),
    "jinja2": ("report.rendering", "cluster.definition.render"),
    "mlflow": ("train.loop.mlflow_run",),
    "onnx": ("export.onnx_graph",),
    "deltalake": ("storage.tables",),
    "pyiceberg": ("storage.tables",),
}
# Packages with more files than MOST_FILES, and why.
LARGE = {"lstm_ray.cli": "one file a command"}
# Modules that import TensorFlow and Keras when they are imported, which takes seconds.
START_TENSORFLOW = {
    "tensorflow": {"lstm_ray.train.step.keras_engine", "lstm_ray.collective.tensorflow"},
    "keras": {"lstm_ray.train.step.keras_engine", "lstm_ray.train.native.stepper"},
}
NAMELESS = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "managers"}


@dataclass(frozen=True)
class Import:
    """An import statement.

    Attributes:
        module: What it imports, such as "lstm_ray.text.tokenize" or "ray.train".
        line: Where it stands.
        at_start: True if it runs when its module is imported.
        for_types: True if only type checkers see it.
    """

    module: str
    line: int
    at_start: bool
    for_types: bool


def files() -> list[Path]:
    """Lists the package's source files."""
    return sorted(PACKAGE.rglob("*.py"))


def dotted(path: Path) -> str:
    """Returns a file's module name: lstm_ray/text/tokenize.py -> lstm_ray.text.tokenize."""
    parts = ("lstm_ray", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {dotted(path): path for path in files()}


def imports(path: Path) -> list[Import]:
    """Lists a file's imports, those inside functions included."""
    return list(_imports(ast.parse(path.read_text(encoding="utf-8")), at_start=True, for_types=False))


def _imports(node: ast.AST, at_start: bool, for_types: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, at_start, for_types) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute"
            assert child.module is not None
            for alias in child.names:  # `from lstm_ray import storage` imports a module, not a name in one
                full = f"{child.module}.{alias.name}"
                yield Import(full if full in MODULES else child.module, child.lineno, at_start, for_types)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for statement in child.body:
                yield from _imports(ast.Module([statement], []), at_start, True)
            for statement in child.orelse:
                yield from _imports(ast.Module([statement], []), at_start, for_types)
        else:
            is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports(child, at_start and not is_function, for_types)


IMPORTS = {module: imports(path) for module, path in MODULES.items()}


def layer(module: str) -> int:
    """Returns the number of a module's layer."""
    room = "lstm_ray" if module == "lstm_ray" else module.split(".")[1]
    found = [number for number, rooms in enumerate(LAYERS) if room in rooms]
    assert found, f"{module} has no layer: give it one in LAYERS"
    return found[0]


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module: str) -> None:
    ours = [found for found in IMPORTS[module] if found.module.split(".")[0] == "lstm_ray"]
    if module == "lstm_ray":  # others import it for its version, programs for the functions
        assert {found.module for found in ours if not found.for_types} == {"lstm_ray.api.functions", "lstm_ray.errors"}
        return
    for found in ours:
        assert layer(found.module) <= layer(module), f"{module}, line {found.line}: imports {found.module} above it"


def test_no_module_imports_itself_through_others() -> None:
    """Imports inside functions count: they hide a cycle, they do not break it."""
    graph = {
        module: {found.module for found in ours if not found.for_types and found.module in MODULES}
        for module, ours in IMPORTS.items()
    }
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path[path.index(module) :], module))
        if module not in done:
            for other in sorted(graph[module] - {"lstm_ray"}):
                visit(other, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("package", HOMES)
def test_a_package_is_imported_only_at_home(package: str) -> None:
    homes = tuple(f"lstm_ray.{home}" for home in HOMES[package])
    for module, found in IMPORTS.items():
        for one in found:
            if one.module.split(".")[0] == package and not one.for_types:
                at_home = any(module == home or module.startswith(f"{home}.") for home in homes)
                assert at_home, f"{module}, line {one.line}: imports {package}"


@pytest.mark.parametrize("package", START_TENSORFLOW)
def test_tensorflow_is_imported_inside_functions_but_by_the_engines(package: str) -> None:
    at_start = {
        module
        for module, found in IMPORTS.items()
        for one in found
        if one.module.split(".")[0] == package and one.at_start and not one.for_types
    }
    assert at_start == START_TENSORFLOW[package]


# Modules besides runtime/ray_internals.py that import private parts of Ray, and why.
PRIVATE_RAY = {"lstm_ray.cluster.status": "a function sent by value to clusters that may lack lstm-ray"}


def test_private_parts_of_ray_are_imported_in_one_file() -> None:
    for module, found in IMPORTS.items():
        for one in found:
            first, *parts = one.module.split(".")
            if first == "ray" and any(part.startswith("_") or part == "v2" for part in parts):
                allowed = module == "lstm_ray.runtime.ray_internals" or module in PRIVATE_RAY
                assert allowed, f"{module}, line {one.line}: imports {one.module}"


def test_private_parts_of_tensorflow_are_imported_in_one_file() -> None:
    for module, found in IMPORTS.items():
        for one in found:
            if one.module.startswith(("tensorflow.python", "tensorflow.core")):
                assert module == "lstm_ray.collective.tensorflow", f"{module}, line {one.line}: imports {one.module}"


def test_the_command_line_imports_only_settings_when_it_starts() -> None:
    allowed = (
        "lstm_ray.api.boundary",
        "lstm_ray.cli",
        "lstm_ray.config",
        "lstm_ray.cluster.definition.settings",
        "lstm_ray.errors",
        "lstm_ray.progress",
        "lstm_ray.wording",
    )
    for module, found in IMPORTS.items():
        if layer(module) == layer("lstm_ray.cli"):
            for one in found:
                if one.at_start and not one.for_types and one.module.startswith("lstm_ray."):
                    assert one.module.startswith(allowed), f"{module}, line {one.line}: imports {one.module} at start"


@pytest.mark.parametrize("module", ["lstm_ray", "lstm_ray.cli"])
def test_nothing_heavy_is_loaded_at_start(module: str) -> None:
    assert loaded(module).isdisjoint({"ray", "tensorflow", "keras", "numpy", "pyarrow"})


def test_sums_over_workers_load_no_compiler() -> None:
    assert "llvmlite" not in loaded("lstm_ray.collective.tcp")


def loaded(module: str) -> set[str]:
    """Returns what is loaded when a module is imported in a process of its own."""
    code = f"import sys, {module}; print(*sys.modules)"
    return set(subprocess.check_output([sys.executable, "-c", code], text=True, timeout=60).split())


def test_a_package_has_one_subject() -> None:
    """More than a dozen files are a sign of more."""
    sizes = Counter(module.rpartition(".")[0] for module, path in MODULES.items() if path.stem != "__init__")
    assert {package: size for package, size in sizes.items() if size > MOST_FILES and package not in LARGE} == {}


@pytest.mark.parametrize("path", files(), ids=dotted)
def test_a_file_and_what_it_defines_have_names_and_docstrings(path: Path) -> None:
    assert NAMELESS.isdisjoint(dotted(path).split("."))
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    if source.strip():
        assert ast.get_docstring(tree), "the module has no docstring"
    missing = [name for name, node in public_definitions(tree) if not ast.get_docstring(node)]
    assert missing == []


def test_a_public_class_has_a_name_of_its_own() -> None:
    homes = defaultdict(list)
    for module, path in MODULES.items():
        for name, node in public_definitions(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and "." not in name:
                homes[name].append(module)
    assert {name: modules for name, modules in homes.items() if len(modules) > 1} == {}


def test_a_type_of_arrays_is_defined_in_one_file() -> None:
    homes = defaultdict(list)
    for module, path in MODULES.items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            for name in (target.id for target in targets if isinstance(target, ast.Name)):
                homes[name].append(module)
    of_arrays = {name: modules for name, modules in homes.items() if "lstm_ray.arrays" in modules}
    assert "Floats" in of_arrays
    assert {name: modules for name, modules in of_arrays.items() if len(modules) > 1} == {}


Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def is_overload(node: Definition) -> bool:
    """Returns whether a definition is for type checkers only: the function itself follows."""
    return any(isinstance(decorator, ast.Name) and decorator.id == "overload" for decorator in node.decorator_list)


def public_definitions(node: ast.Module | ast.ClassDef, prefix: str = "") -> Iterator[tuple[str, Definition]]:
    """Yields classes and functions, and those of classes, that have no underscore in front."""
    for child in node.body:
        if isinstance(child, Definition) and not child.name.startswith("_") and not is_overload(child):
            yield prefix + child.name, child
            if isinstance(child, ast.ClassDef):
                yield from public_definitions(child, f"{prefix}{child.name}.")
