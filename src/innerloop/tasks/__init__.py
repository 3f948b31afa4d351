"""Tasks: data as a function of a key."""

from .attention_teacher import AttentionTeacher
from .corpora import Document, brown_corpus, king_james_bible
from .dynamics import LinearSystem, RegressionSequence, constructed_tokens, random_transition
from .mad import MAD_SWEEP, Compression, FuzzyRecall, Memorisation, SelectiveCopy, mad_sweep, mad_tasks
from .parity import Parity
from .recall import InContextRecall, MultiQueryRecall
from .regression import LinearRegression, RegressionData, SineRegression, from_tokens, to_tokens
from .regular_languages import LanguageTarget, RegularLanguages
from .skills import KeyValueSkills, SkillContexts
from .task import AbstractTask, Example, Split
from .text import CharacterText, EncodedDocument
from .tokens import AbstractTokenTask

__all__ = [
    "MAD_SWEEP",
    "AbstractTask",
    "AbstractTokenTask",
    "AttentionTeacher",
    "CharacterText",
    "Compression",
    "Document",
    "EncodedDocument",
    "Example",
    "FuzzyRecall",
    "InContextRecall",
    "KeyValueSkills",
    "LanguageTarget",
    "LinearRegression",
    "LinearSystem",
    "Memorisation",
    "MultiQueryRecall",
    "Parity",
    "RegressionData",
    "RegressionSequence",
    "RegularLanguages",
    "SelectiveCopy",
    "SineRegression",
    "SkillContexts",
    "Split",
    "brown_corpus",
    "constructed_tokens",
    "from_tokens",
    "king_james_bible",
    "mad_sweep",
    "mad_tasks",
    "random_transition",
    "to_tokens",
]
