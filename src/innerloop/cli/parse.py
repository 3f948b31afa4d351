"""From arguments to a command."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Annotated, Any, Union

import tyro

from ..core.errors import UnknownNameError, UsageError
from .flags import flags_of, one_line_errors, refuse_unknown
from .look import Bench, Cite, Doctor, List, New, Show
from .runs import Compare, Export, Report, Resume, Run

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
    if given[0].startswith("-") and given[0] not in ("-h", "--help"):
        raise UsageError(f"the command comes before its flags ({given[0]}); `innerloop --help` lists the commands")
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
    options = tuple(Annotated[kind, tyro.conf.subcommand(name, prefix_name=False)] for name, kind in COMMANDS.items())
    return Union[options]  # noqa: UP007 (made of a tuple)


def _help_for_study(given: list[str]) -> None:
    """`innerloop run STUDY --help`: the flags of `run`, then those of the study."""
    from ..studies import load

    others = [item for item in given[1:] if item not in ("-h", "--help")]
    run, _ = one_line_errors(lambda: tyro.cli(Run, args=others, return_unknown_args=True), flags_of(Run))
    if not run.studies:
        return
    name = run.studies[0]
    study = load(name)
    config = study.configurations.get(run.scale, next(iter(study.configurations.values())))
    with contextlib.suppress(SystemExit):
        tyro.cli(Run, args=["--help"], prog=f"innerloop run {name}")
    tyro.cli(
        type(config),
        default=config,
        args=["--help"],
        prog=f"innerloop run {name}",
        description=f"Configuration of {study.name} at scale {run.scale}",
    )
