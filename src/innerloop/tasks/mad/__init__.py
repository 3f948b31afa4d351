"""The MAD benchmark: small tasks of tokens, each for one ability of a sequence layer."""

from .benchmark import MAD_SWEEP, mad_sweep, mad_tasks
from .compression import Compression
from .fuzzy_recall import FuzzyRecall
from .memorisation import Memorisation
from .selective_copy import SelectiveCopy

__all__ = ["MAD_SWEEP", "Compression", "FuzzyRecall", "Memorisation", "SelectiveCopy", "mad_sweep", "mad_tasks"]
