"""The figures of `learning-aware`: each makes a table from records and draws nothing but that table."""

from .sampled.figures import FIGURES as SAMPLED_FIGURES

FIGURES = (*SAMPLED_FIGURES,)
