"""Regression in context, and gradient descent written as weights of linear self-attention."""

from .alignment import Alignment, CopyShares, alignment, copy_shares, interpolate_attention
from .gradient_descent import gd_construction, gd_model, in_context_gd
from .regressor import (
    InContextRegressor,
    deep_regressor,
    interleaved_regressor,
    one_layer_regressor,
    recurrent_regressor,
    sine_regressor,
    sinusoidal_encoding,
)
from .residual_stack import ResidualStack
from .step_size import LineSearch, OptimalStep, candidate_grid, line_search, optimal_learning_rate

__all__ = [
    "Alignment",
    "CopyShares",
    "InContextRegressor",
    "LineSearch",
    "OptimalStep",
    "ResidualStack",
    "alignment",
    "candidate_grid",
    "copy_shares",
    "deep_regressor",
    "gd_construction",
    "gd_model",
    "in_context_gd",
    "interleaved_regressor",
    "interpolate_attention",
    "line_search",
    "one_layer_regressor",
    "optimal_learning_rate",
    "recurrent_regressor",
    "sine_regressor",
    "sinusoidal_encoding",
]
