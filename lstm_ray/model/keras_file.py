"""Opens a bundle's `model.keras` without running code from the file.

A bundle is untrusted input. Keras's `safe_mode` refuses functions stored in the file; pyproject.toml requires a version
of Keras without known ways around it. Modules of the current directory are imported only if the model has user-defined
layers, and then only the modules that register them. The `__init__.py` of their packages, which Python runs first, must
register layers too or contain no code.
"""

from __future__ import annotations

import ast
import contextlib
import json
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lstm_ray import user_code
from lstm_ray.errors import BundleError, ConfigError
from lstm_ray.model.archives import open_archive
from lstm_ray.runtime.tensorflow import start_tensorflow
from lstm_ray.wording import reason

if TYPE_CHECKING:
    import keras

_REGISTERS = b"register_keras_serializable"


def modules_needed(path: str, content: bytes, builder: str) -> list[str]:
    """Returns the user's modules that register layers of a model. Imports nothing.

    Args:
        path: The bundle, for messages.
        content: Content of its .keras file.
        builder: The module whose function built the model. It registers the layers that name no module.

    Raises:
        BundleError: The file is not a Keras model, or a layer's module has no valid name.
    """
    try:
        named = _registering(json.loads(open_archive(content).read("config.json")))
    except (zipfile.BadZipFile, KeyError, ValueError, RecursionError) as error:
        raise BundleError(f"{path}: model.keras is not a Keras model: {reason(error)}") from error
    modules = sorted({builder if module in (None, "builtins") else str(module) for module in named})
    for module in modules:
        if not user_code.is_named(f"{module}:layer"):
            raise BundleError(f"{path}: its network has layers of {module!r}, which is not a module's name")
    return modules


def _registering(described: Any) -> list[Any]:
    """Returns the modules of the registered classes, such as mine>Attention, in Keras's description of a model."""
    if isinstance(described, list):
        return [module for part in described for module in _registering(part)]
    if not isinstance(described, dict):
        return []
    here = [described.get("module")] if ">" in str(described.get("registered_name")) else []
    return [*here, *_registering(list(described.values()))]


def import_modules(path: str, modules: Sequence[str]) -> None:
    """Imports the modules that a bundle's model needs. A module must register layers.

    Raises:
        BundleError: A module is missing, fails to import, or registers nothing.
    """
    if modules:
        start_tensorflow()  # the modules import it
    for module in modules:
        layers = f"{path}: its network has layers of the module {module!r}"
        if problem := _obstacle(module):
            raise BundleError(f"{layers}, which is not imported: {problem}")
        try:
            user_code.import_module(module)
        except ConfigError as error:
            raise BundleError(f"{layers}: {error}") from error


def _obstacle(module: str) -> str | None:
    """Returns why a module must not be imported; None if the import runs only code that registers layers."""
    if "__main__" in module.split("."):
        return "__main__ is a program"
    if module.partition(".")[0] in sys.stdlib_module_names:
        return None  # `import_module` rejects it
    for run in user_code.run_by_import(module):
        source = run.path.read_bytes() if run.path.suffix == ".py" and run.path.is_file() else b"unknown"
        if _REGISTERS in source:
            continue
        if run.module == module:
            return f"it does not use {_REGISTERS.decode()}()"
        if run.is_here and not (run.path.name == "__init__.py" and _is_without_code(source)):
            return f"that would run {run.path}, which has code but does not use {_REGISTERS.decode()}()"
    return None


def _is_without_code(source: bytes) -> bool:
    """Returns whether a Python file contains only comments and strings."""
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError):
        return False
    return all(isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) for line in body)


def open_keras_file(content: bytes, modules: Sequence[str]) -> keras.Model:
    """Returns the uncompiled model of a .keras file, after `import_modules`."""
    open_archive(content)  # checks it before Keras unpacks it
    import keras

    importable = user_code.importable_from() if modules else contextlib.nullcontext()
    with tempfile.TemporaryDirectory() as directory, importable:  # Keras reads .keras files by name only
        path = Path(directory) / "model.keras"
        path.write_bytes(content)
        return keras.models.load_model(path, compile=False, safe_mode=True)
