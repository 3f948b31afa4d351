"""Agents that learn about learners: meta-episodes, naive co-players, the learning-aware update, pools, evolution."""

from .evolution import EvolutionStrategy, Evolving, centred_ranks
from .meta_episode import MetaEpisode, MetaTrajectory, Moves
from .naive import AbstractNaiveLearner, InnerEpisodes, NaiveActorCritic, NaiveReinforce, NaiveState
from .pool import Pool, Population, PopulationStep, draw_others, stack_policies
from .update import LearningAwareUpdate, Lesson

__all__ = [
    "AbstractNaiveLearner",
    "EvolutionStrategy",
    "Evolving",
    "InnerEpisodes",
    "LearningAwareUpdate",
    "Lesson",
    "MetaEpisode",
    "MetaTrajectory",
    "Moves",
    "NaiveActorCritic",
    "NaiveReinforce",
    "NaiveState",
    "Pool",
    "Population",
    "PopulationStep",
    "centred_ranks",
    "draw_others",
    "stack_policies",
]
