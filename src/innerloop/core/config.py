"""Configurations are nested frozen dataclasses; here they are flattened, stored, read back, hashed and diffed."""

import dataclasses
import hashlib
import json
import types
import typing
from typing import Any, TypeVar

from .errors import InnerloopError, UnknownNameError

Config = TypeVar("Config")


def to_dict(config: Any) -> Any:
    """A configuration as plain JSON values (nested dictionaries, lists, numbers, strings)."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {field.name: to_dict(getattr(config, field.name)) for field in dataclasses.fields(config)}
    if isinstance(config, (tuple, list)):
        return [to_dict(item) for item in config]
    if config is None or isinstance(config, (bool, int, float, str)):
        return config
    raise TypeError(f"a configuration holds numbers, strings, tuples and dataclasses, not {type(config).__name__}")


def from_dict(kind: type[Config], values: dict[str, Any]) -> Config:
    """Read back what `to_dict` wrote; unknown or missing fields are refused by name."""
    hints = typing.get_type_hints(kind)
    names = {field.name for field in dataclasses.fields(kind)}  # pyright: ignore[reportArgumentType]
    for name in values:
        if name not in names:
            raise UnknownNameError(f"field of {kind.__name__}", name, names)
    try:
        return kind(**{name: _revive(hints[name], value) for name, value in values.items()})
    except TypeError as error:
        raise InnerloopError(f"cannot read a {kind.__name__}: {error}") from error


def _revive(hint: Any, value: Any) -> Any:
    """One stored value as the type its field declares."""
    origin = typing.get_origin(hint)
    if dataclasses.is_dataclass(hint):
        return from_dict(hint, value)  # pyright: ignore[reportArgumentType]
    if origin in (typing.Union, types.UnionType) and isinstance(value, dict):
        for option in typing.get_args(hint):
            if dataclasses.is_dataclass(option) and {f.name for f in dataclasses.fields(option)} == set(value):
                return from_dict(option, value)  # pyright: ignore[reportArgumentType]
    if isinstance(value, list):
        if origin in (typing.Union, types.UnionType):
            hint = next((option for option in typing.get_args(hint) if typing.get_origin(option) is tuple), hint)
        arguments = [item for item in typing.get_args(hint) if item is not Ellipsis] or [Any]
        return tuple(_revive(arguments[min(i, len(arguments) - 1)], item) for i, item in enumerate(value))
    if hint is float and isinstance(value, int):
        return float(value)  # JSON may have written 1.0 as 1
    return value


def flatten(config: Any) -> dict[str, Any]:
    """Dotted names to values, as on the command line: `{"task.dim": 10, ...}`.

    ```python
    >>> import dataclasses
    >>> from innerloop.core.config import flatten
    >>> Task = dataclasses.make_dataclass("Task", [("dim", int, 10)], frozen=True)
    >>> Study = dataclasses.make_dataclass("Study", [("task", Task, Task()), ("steps", int, 5)], frozen=True)
    >>> flatten(Study())
    {'task.dim': 10, 'steps': 5}

    ```
    """
    result: dict[str, Any] = {}

    def visit(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for name, item in value.items():
                visit(f"{prefix}.{name}" if prefix else name, item)
        else:
            result[prefix] = value

    visit("", to_dict(config) if dataclasses.is_dataclass(config) else config)
    return result


def fingerprint(values: Any, *, digits: int = 8) -> str:
    """A short stable hash of a configuration (or of plain JSON values)."""
    plain = to_dict(values) if dataclasses.is_dataclass(values) else values
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


def diff(first: Any, second: Any) -> dict[str, tuple[Any, Any]]:
    """The dotted names at which two configurations differ, with both values (`None` where absent)."""
    a, b = flatten(first), flatten(second)
    return {name: (a.get(name), b.get(name)) for name in a | b if a.get(name) != b.get(name)}
