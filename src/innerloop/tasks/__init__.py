"""Tasks: data as a function of a key."""

from .dynamics import LinearSystem, RegressionSequence, constructed_tokens, random_transition
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
    "LinearSystem",
    "Memorisation",
    "MultiQueryRecall",
    "RegressionData",
    "RegressionSequence",
    "SelectiveCopy",
    "SineRegression",
    "SkillContexts",
    "Split",
    "constructed_tokens",
    "from_tokens",
    "mad_sweep",
    "mad_tasks",
    "random_transition",
    "to_tokens",
]
