"""The figures about agents that learn from sampled games."""

from ....lab.study import Figure

FIGURES: tuple[Figure, ...] = ()
