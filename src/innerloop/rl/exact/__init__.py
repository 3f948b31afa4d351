"""Exact games: closed-form returns of memory-one policies, shaping, look-ahead, zero-determinant strategies."""

from .returns import action_probabilities, discounted_returns, naive_gradient, state_values, stationary_rewards
from .shaping import NaiveTrajectory, look_ahead_objective, mixed_gradient, naive_trajectory, shaping_objective
from .zero_determinant import ZeroDeterminantFit, fit_zero_determinant, zero_determinant

__all__ = [
    "NaiveTrajectory",
    "ZeroDeterminantFit",
    "action_probabilities",
    "discounted_returns",
    "fit_zero_determinant",
    "look_ahead_objective",
    "mixed_gradient",
    "naive_gradient",
    "naive_trajectory",
    "shaping_objective",
    "state_values",
    "stationary_rewards",
    "zero_determinant",
]
