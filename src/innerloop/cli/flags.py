"""Flags from dataclasses: tyro does the parsing, this file makes its errors one line."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import tyro

from ..core.errors import UnknownNameError, UsageError

Parsed = TypeVar("Parsed")


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
        if dataclasses.is_dataclass(value):
            names.extend(flags_of(value, f"{name}."))
        else:
            names.append(f"--{name}")
            if isinstance(value, bool):
                names.append(f"--{prefix}no-{field.name.replace('_', '-')}")
    return names


def _flag(item: str) -> str:
    return item.split("=", 1)[0].replace("_", "-")


def refuse_unknown(rest: Sequence[str], allowed: Sequence[str]) -> None:
    for item in rest:
        if item.startswith("-"):
            raise UnknownNameError("flag", item.split("=", 1)[0], [*allowed, "--debug"])
    raise _unexpected(rest[0])


def one_line_errors(call: Callable[[], Parsed], allowed: Sequence[str]) -> Parsed:
    """Run a tyro parser; what it draws in a box when it refuses becomes one line."""
    boxed = io.StringIO()
    try:
        with contextlib.redirect_stderr(boxed):
            return call()
    except SystemExit as stop:
        if not stop.code:
            raise
        lines = [re.sub(r"[─-╿]|-{9,}", " ", line).strip() for line in boxed.getvalue().splitlines()]
        raise _explain([line for line in lines[1:] if line], allowed) from None
    except ValueError as error:  # a configuration refused at construction
        raise UsageError(str(error)) from error


def _explain(lines: list[str], allowed: Sequence[str]) -> UsageError:
    """What tyro told, in our words; in its own where we know none."""
    text = " ".join(lines)
    if match := re.search(r"Unrecognized options: ([^\s,]+)", text):
        given = match[1]
        return UnknownNameError("flag", given, allowed) if given[0] == "-" else _unexpected(given)
    if match := re.search(r"invalid choice '(.*?)' for argument '(.*?)'.*Expected one of \((.*?),?\)", text):
        return UnknownNameError(f"value of {match[2]}", match[1], re.findall(r"'(.*?)'", match[3]))
    if match := re.search(r"Missing value for argument '(.*?)'. Expected (\d+) value", text):
        return UsageError(
            f"{match[1]} takes {'a value' if match[2] == '1' else f'{match[2]} values'}: too few are given"
        )
    if match := re.search(r"Missing from (.*?): \S+ (.*?) \(required\)", text):
        return UsageError(f"`{match[1]}` needs an argument: {match[2]}")
    told, _, help_text = text.partition(" Argument helptext: ")
    given = re.search(r"('[^']*'|\"[^\"]*\"|\[.*?\])(?=\.|$| into | Got errors)", told)
    if help_text and given and (match := re.match(r"Error parsing (--[^\s:]+)", told)):
        metavar = next(line for line in lines[lines.index("Argument helptext:") :] if line.startswith("--"))
        return UsageError(f"{match[1]} takes {_kind(metavar.partition(' ')[2])}, not {given[1].strip('[]')}")
    # A configuration refused at construction: its own reason is all there is to say.
    told = re.sub(r" For full helptext.*", "", re.sub(r"^Error parsing (?!--)\S+: ", "", told))
    return UsageError(told or "the arguments cannot be read; see --help")


def _kind(metavar: str) -> str:
    """tyro's name of a type in words: `{None}|FLOAT` is None or a number."""
    words = {"INT": "an integer", "FLOAT": "a number", "[INT [INT ...]]": "integers", "[FLOAT [FLOAT ...]]": "numbers"}
    return " or ".join(words.get(part, part.strip("{}")) for part in metavar.split("|")) or "a value of another kind"


def _unexpected(argument: str) -> UsageError:
    return UsageError(f"unexpected argument {argument!r}")
