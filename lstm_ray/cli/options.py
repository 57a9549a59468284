"""Builds the options of a Typer command from the fields of a configuration class.

A setting is declared once, in `lstm_ray.config`. Its option has the field's name in kebab-case, its type, its
description with the default, and its panel. An option that was not given is absent from the result, so that the value
of a job file or preset holds.
"""

from __future__ import annotations

import functools
import inspect
import os
import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import typer

from lstm_ray.cli import console
from lstm_ray.config import (
    PRESETS,
    Settings,
    argument_name,
    command_of,
    fields_in_order,
    is_list,
    option_name,
    resolve,
    shown_as,
)
from lstm_ray.errors import ConfigError
from lstm_ray.wording import join_list, quoted

C = TypeVar("C", bound=Settings)

JobFile = Annotated[
    str | None,
    typer.Option("--config", metavar="FILE", help="YAML job file with settings.", rich_help_panel="Input and output"),
]

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results, warnings and errors only.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print progress as lines, one a second.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
_OF_ALL = {"quiet": Quiet, "verbose": Verbose, "debug": Debug}
"""Options of every command; they may also be given before it."""

JobArgument = Annotated[str | None, typer.Argument(metavar="JOB.yaml", help="YAML job file with settings.")]


def takes_settings(kind: type[C], job_file: Any = JobFile) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Turns `command(config, **own)` into a Typer command.

    Its options are the fields of `kind`, `--config FILE`, and the command's own.

    Args:
        kind: The configuration class.
        job_file: `JobArgument` if the job file is an argument; None if the command takes none.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]

        def run(config: str | None = None, **given: Any) -> None:
            rest = {parameter.name: given.pop(parameter.name) for parameter in own}
            options = {
                name: as_setting(kind, name, value) for name, value in given.items() if value not in (None, [], ())
            }
            if config is None and job_file is JobFile:
                _refuse_job_files(kind, options)
            if config is not None and job_file is JobArgument and config.endswith(".parquet"):
                raise ConfigError(f"JOB.yaml {config} is Parquet; did you mean --train {quoted(config)}?")
            command(resolve(kind, options, config), **rest)

        run.__name__ = command.__name__
        run.__doc__ = command.__doc__
        parameters = [_parameter(kind, name) for name in fields_in_order(kind) if shown_as(kind, name)["option"]]
        if job_file is not None:
            option = inspect.Parameter("config", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=job_file)
            parameters.append(option)
        keyword_own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
        signature = inspect.Signature([*parameters, *keyword_own])
        run.__signature__ = signature  # type: ignore[attr-defined]
        run.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
        return run

    return decorate


def given_options(config: Settings, *kinds: type[Settings]) -> list[str]:
    """Returns the options, with their values, for those settings of some kinds that are not the defaults."""
    return [
        part
        for kind in kinds
        for name, field in kind.model_fields.items()
        if (value := getattr(config, name)) != field.default
        for part in (option_name(name), value if isinstance(value, str) else join_list(value))
    ]


def _refuse_job_files(kind: type[Settings], options: Mapping[str, Any]) -> None:
    """Raises ConfigError if an input is a job file that was given without --config."""
    for name in (name for name in options if shown_as(kind, name)["argument"]):
        words = [options[name]] if isinstance(options[name], str) else options[name]
        if (word := next((word for word in words if word.endswith((".yaml", ".yml"))), None)) is not None:
            raise ConfigError(f"{argument_name(name)} {word} is YAML; did you mean --config {quoted(word)}?")


def set_output(*, quiet: bool, verbose: bool, debug: bool) -> None:
    """Applies the options that all commands share."""
    console.set_verbosity(quiet=quiet, verbose=verbose)
    if debug:
        os.environ["LSTM_RAY_DEBUG"] = "1"


def with_options_of_all(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options that all commands share to a command."""

    @functools.wraps(command)
    def run(**given: Any) -> None:
        output = {name: given.pop(name) for name in _OF_ALL}
        if output["quiet"] or output["verbose"]:  # otherwise those before the command apply
            set_output(**output)
        elif output["debug"]:
            os.environ["LSTM_RAY_DEBUG"] = "1"
        command(**given)

    own = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in inspect.signature(command, eval_str=True).parameters.values()
    ]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)
        for name, annotation in _OF_ALL.items()
    ]
    run.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *added)}
    return run


def _parameter(kind: type[Settings], name: str) -> inspect.Parameter:
    field, shown = kind.model_fields[name], shown_as(kind, name)
    option_type = _option_type(field.annotation)
    description = field.description or ""
    if shown.get("must_be_given"):
        description += " (required)"
    elif field.default not in ("", (), None) and not shown["flag"]:  # these have no default to show
        description += f" (default: {_default(kind, name)})"
    if shown["argument"]:
        declared = typer.Argument(metavar=argument_name(name), help=description, show_default=False)
    else:
        declared = typer.Option(
            f"{option_name(name)}/{option_name(f'no_{name}')}"
            if option_type is bool and not shown["flag"]
            else option_name(name),
            *(["-o"] if name == "output" else []),
            help=description,
            show_default=False,
            rich_help_panel=shown["panel"],
            hidden=command_of(kind) in shown.get("refused", ()),
            metavar=shown["metavar"] or _metavar(option_type),
        )
    # Choices and numbers are parsed as strings and checked by `resolve`: that error is one line with the value, and
    # Typer supports Literal only since 0.19.
    parsed = str if get_origin(option_type) is Literal or option_type in (int, float) else option_type
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[parsed | None, declared]
    )


def _default(kind: type[Settings], name: str) -> str:
    """Returns the default of a setting: that of the default preset, if there is one, before the setting's own."""
    own = _show(kind.model_fields[name].default)
    preset = PRESETS[kind.model_fields["preset"].default] if "preset" in kind.model_fields else {}
    if name not in preset and not (preset and shown_as(kind, name).get("from_data")):
        return own
    return f"{_show(preset[name]) if name in preset else 'chosen for the data'}; with preset none: {own}"


def _option_type(annotation: Any) -> Any:
    """Returns the type of an option: that of its field, without None, and a list for a tuple."""
    if get_origin(annotation) in (Union, types.UnionType):
        annotation = next(part for part in get_args(annotation) if part is not type(None))
    if get_origin(annotation) is tuple:
        return list[str]
    return annotation


def _metavar(kind: Any) -> str | None:
    if get_origin(kind) is Literal:
        return "|".join(map(str, get_args(kind)))
    if get_origin(kind) is list:
        return "PATH"
    return {int: "N", float: "X", str: "TEXT"}.get(kind)


def _show(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(value)
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def as_setting(kind: type[Settings], name: str, value: Any) -> Any:
    """Converts the value of an option, which may be given several times, to what its setting accepts."""
    if not isinstance(value, list | tuple):
        return value
    return tuple(value) if is_list(kind.model_fields[name]) else ",".join(value)
