"""Tasks: data as a function of a key."""

from .regression import LinearRegression, RegressionData, SineRegression, from_tokens, to_tokens
from .task import AbstractTask, Example, Split
from .tokens import AbstractTokenTask

__all__ = [
    "AbstractTask",
    "AbstractTokenTask",
    "Example",
    "LinearRegression",
    "RegressionData",
    "SineRegression",
    "Split",
    "from_tokens",
    "to_tokens",
]
