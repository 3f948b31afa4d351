"""Regression in context, and gradient descent written as weights of linear self-attention."""

from .alignment import Alignment, CopyShares, alignment, copy_shares, interpolate_attention
from .gradient_descent import gd_construction, gd_model, in_context_gd
from .least_squares_predictors import (
    kernel_regression_predictor,
    least_squares,
    least_squares_predictor,
    stack_windows,
)
from .preconditioning import (
    MixedLayer,
    chebyshev_coefficients,
    preconditioned,
    preconditioned_gd,
    preconditioned_gd_model,
)
from .prompts import PromptedRegression
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
from .sequence_gd import Clipped, SequenceRegressor, sequence_gd, sequence_gd_layer
from .step_size import LineSearch, OptimalStep, candidate_grid, line_search, optimal_learning_rate
from .token_blocks import average_products, block_means, compress_blocks

__all__ = [
    "Alignment",
    "Clipped",
    "CopyShares",
    "InContextRegressor",
    "LineSearch",
    "MixedLayer",
    "OptimalStep",
    "PromptedRegression",
    "ResidualStack",
    "SequenceRegressor",
    "alignment",
    "average_products",
    "block_means",
    "candidate_grid",
    "chebyshev_coefficients",
    "compress_blocks",
    "copy_shares",
    "deep_regressor",
    "gd_construction",
    "gd_model",
    "in_context_gd",
    "interleaved_regressor",
    "interpolate_attention",
    "kernel_regression_predictor",
    "least_squares",
    "least_squares_predictor",
    "line_search",
    "one_layer_regressor",
    "optimal_learning_rate",
    "preconditioned",
    "preconditioned_gd",
    "preconditioned_gd_model",
    "recurrent_regressor",
    "sequence_gd",
    "sequence_gd_layer",
    "sine_regressor",
    "sinusoidal_encoding",
    "stack_windows",
]
