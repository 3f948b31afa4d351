"""Errors for people: what was given, what is allowed, the nearest name, what to do."""

import difflib
from collections.abc import Iterable


class InnerloopError(Exception):
    """An error whose message is meant for the user; the command line shows it without a traceback."""


class UsageError(InnerloopError):
    """Something was asked for that cannot be: the command line answers with exit code 2."""


class UnknownNameError(UsageError):
    """A name that is not among the allowed ones."""

    def __init__(self, kind: str, given: str, allowed: Iterable[str], *, hint: str = ""):
        self.given = given
        self.allowed = sorted(allowed)
        close = difflib.get_close_matches(given, self.allowed, n=1, cutoff=0.5)
        message = f"unknown {kind} {given!r}"
        if close:
            message += f"; did you mean {close[0]!r}?"
        elif self.allowed:
            message += f"; allowed: {', '.join(self.allowed)}"
        if hint:
            message += f" ({hint})"
        super().__init__(message)


def require(condition: bool, message: str) -> None:
    """Raise a `ValueError` with `message` unless `condition` holds: bad input is refused at construction."""
    if not condition:
        raise ValueError(message)
