"""From arguments to a command: tyro does the parsing, this file makes its errors one line."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar, Union

import tyro

from ..core.errors import UnknownNameError, UsageError
from .look import Bench, Cite, Doctor, List, New, Show
from .runs import Compare, Export, Report, Resume, Run

Parsed = TypeVar("Parsed")

COMMANDS: dict[str, type] = {
    "list": List,
    "show": Show,
    "run": Run,
    "resume": Resume,
    "report": Report,
    "compare": Compare,
    "export": Export,
    "bench": Bench,
    "doctor": Doctor,
    "cite": Cite,
    "new": New,
}


def parse(arguments: Sequence[str]) -> tuple[Any, list[str]]:
    """The command, and what is left over: flags of the study's own configuration (for `run` only)."""
    given = list(arguments)
    if given and not given[0].startswith("-") and given[0] not in COMMANDS:
        raise UnknownNameError("command", given[0], COMMANDS, hint="`innerloop --help` lists them")
    if given in (["--version"], ["-V"]):
        from .. import __version__

        print(f"innerloop {__version__}")
        raise SystemExit(0)
    if not given:
        given = ["--help"]
    asks_help = given[0] == "run" and any(item in ("-h", "--help") for item in given)
    if asks_help and len(given) > 2:
        _help_for_study(given)
    command, rest = one_line_errors(
        lambda: tyro.cli(
            _union(),
            args=given,
            prog="innerloop",
            description="Learning inside learning: run the studies of 24 papers and judge their claims.",
            return_unknown_args=True,
            config=(tyro.conf.OmitSubcommandPrefixes,),
        ),
        flags_of(COMMANDS[given[0]]) if given[0] in COMMANDS else [],
    )
    if rest and not isinstance(command, Run):
        refuse_unknown(rest, flags_of(type(command)))
    return command, rest


def _union() -> Any:
    options = tuple(
        Annotated[kind, tyro.conf.subcommand(name, prefix_name=False)] for name, kind in COMMANDS.items()
    )
    return Union[options]


def parse_config(config: Parsed, arguments: Sequence[str], *, study: str, also: Sequence[str] = ()) -> Parsed:
    """A study's configuration with the flags that were given; `also` are the flags of `run` itself."""
    names = flags_of(config)
    for item in arguments:
        if item.startswith("--") and _flag(item) not in names:
            refuse_unknown([item], [*names, *also])
    return one_line_errors(
        lambda: tyro.cli(type(config), default=config, args=list(arguments), prog=f"innerloop run {study}"), names
    )


def flags_of(config: Any, prefix: str = "") -> list[str]:
    """The flags that a (nested) dataclass offers."""
    names = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name, None)
        name = f"{prefix}{field.name.replace('_', '-')}"
        names.extend(flags_of(value, f"{name}.") if dataclasses.is_dataclass(value) else [f"--{name}"])
    return names


def _flag(item: str) -> str:
    return item.split("=", 1)[0].replace("_", "-")


def refuse_unknown(rest: Sequence[str], allowed: Sequence[str]) -> None:
    for item in rest:
        if item.startswith("-"):
            raise UnknownNameError("flag", item.split("=", 1)[0], [*allowed, "--debug"])
    raise UsageError(f"unexpected argument {rest[0]!r}")


def one_line_errors(call: Callable[[], Parsed], allowed: Sequence[str]) -> Parsed:
    """Run a tyro parser; what it draws in a box when it refuses becomes one line."""
    boxed = io.StringIO()
    try:
        with contextlib.redirect_stderr(boxed):
            return call()
    except SystemExit as stop:
        if not stop.code:
            raise
        lines = [re.sub(r"[─-╿]", " ", line).strip() for line in boxed.getvalue().splitlines()]
        lines = [line for line in lines if line]
        unknown = re.search(r"Unrecognized options: (\S+?)[,\s]*(?:$|\s)", "\n".join(lines))
        if unknown:
            raise UnknownNameError("flag", unknown.group(1).rstrip(","), allowed) from None
        told = [line for line in lines[1:] if not line.startswith(("For full help", "Argument helptext", "(default"))]
        raise UsageError(" ".join(told[:3]) or "the arguments cannot be read; see --help") from None
    except ValueError as error:  # a configuration refused at construction
        raise UsageError(str(error)) from error


def _help_for_study(given: list[str]) -> None:
    """`innerloop run STUDY --help`: the flags of `run`, then those of the study."""
    from ..studies import load

    names = [item for item in given[1:] if not item.startswith("-")]
    if not names:
        return
    study = load(names[0])
    with contextlib.suppress(SystemExit):
        tyro.cli(Run, args=["--help"], prog=f"innerloop run {names[0]}")
    scale = "smoke"
    for index, item in enumerate(given):
        if item == "--scale" and index + 1 < len(given):
            scale = given[index + 1]
    config = study.configurations.get(scale, study.configurations["smoke"])  # pyright: ignore[reportArgumentType]
    tyro.cli(
        type(config),
        default=config,
        args=["--help"],
        prog=f"innerloop run {names[0]}",
        description=f"Configuration of {study.name} at scale {scale}",
    )
