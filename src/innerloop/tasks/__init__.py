"""Tasks: data as a function of a key."""

from .mad import MAD_SWEEP, Compression, FuzzyRecall, Memorisation, SelectiveCopy, mad_sweep, mad_tasks
from .recall import InContextRecall, MultiQueryRecall
from .regression import LinearRegression, RegressionData, SineRegression, from_tokens, to_tokens
from .skills import KeyValueSkills, SkillContexts
from .task import AbstractTask, Example, Split
from .tokens import AbstractTokenTask

__all__ = [
    "MAD_SWEEP",
    "AbstractTask",
    "AbstractTokenTask",
    "Compression",
    "Example",
    "FuzzyRecall",
    "InContextRecall",
    "KeyValueSkills",
    "LinearRegression",
    "Memorisation",
    "MultiQueryRecall",
    "RegressionData",
    "SelectiveCopy",
    "SineRegression",
    "SkillContexts",
    "Split",
    "from_tokens",
    "mad_sweep",
    "mad_tasks",
    "to_tokens",
]
