"""The figures of `learning-aware`: each makes a table from records and draws nothing but that table."""

from .exact_figures import FIGURES as EXACT_FIGURES
from .sampled.figures import FIGURES as SAMPLED_FIGURES

FIGURES = (*EXACT_FIGURES, *SAMPLED_FIGURES)
