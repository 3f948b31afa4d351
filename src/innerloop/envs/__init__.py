"""Worlds with a leading agent axis, and the interface of whoever acts in them."""

from . import adapters as adapters
from .agent import AbstractAgent
from .delayed_cue import DelayedCue
from .environment import AbstractEnvironment, TimeStep
from .grids.clean_up import CleanUp, CleanUpState
from .grids.clean_up_picture import draw_clean_up, save_gif, save_png
from .grids.coin_game import CoinGame, CoinGameState
from .matrix_games import (
    CHICKEN,
    MATCHING_PENNIES,
    PRISONERS_DILEMMA,
    STAG_HUNT,
    IteratedMatrixGame,
)
from .public_goods import PublicGoods
from .spaces import AbstractSpace, Box, Discrete
from .time_limit import TimeLimit

__all__ = [
    "CHICKEN",
    "MATCHING_PENNIES",
    "PRISONERS_DILEMMA",
    "STAG_HUNT",
    "AbstractAgent",
    "AbstractEnvironment",
    "AbstractSpace",
    "Box",
    "CleanUp",
    "CleanUpState",
    "CoinGame",
    "CoinGameState",
    "DelayedCue",
    "Discrete",
    "IteratedMatrixGame",
    "PublicGoods",
    "TimeLimit",
    "TimeStep",
    "draw_clean_up",
    "save_gif",
    "save_png",
]
