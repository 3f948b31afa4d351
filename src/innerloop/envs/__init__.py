"""Worlds with a leading agent axis, and the interface of whoever acts in them."""

from .agent import AbstractAgent
from .delayed_cue import DelayedCue
from .environment import AbstractEnvironment, TimeStep
from .matrix_games import (
    CHICKEN,
    MATCHING_PENNIES,
    PRISONERS_DILEMMA,
    STAG_HUNT,
    IteratedMatrixGame,
)
from .spaces import AbstractSpace, Box, Discrete

__all__ = [
    "CHICKEN",
    "MATCHING_PENNIES",
    "PRISONERS_DILEMMA",
    "STAG_HUNT",
    "AbstractAgent",
    "AbstractEnvironment",
    "AbstractSpace",
    "Box",
    "DelayedCue",
    "Discrete",
    "IteratedMatrixGame",
    "TimeStep",
]
