"""Sequence layers, stacks of them, and the exact constructions of learning algorithms."""

from .alignment import Alignment, CopyShares, alignment, copy_shares, interpolate_attention
from .feedforward import LayerNorm, MultilayerPerceptron
from .gradient_descent import gd_construction, gd_model, in_context_gd
from .in_context import (
    InContextRegressor,
    deep_regressor,
    interleaved_regressor,
    one_layer_regressor,
    recurrent_regressor,
    sine_regressor,
    sinusoidal_encoding,
)
from .initialise import truncated_normal
from .linear_attention import LinearSelfAttention
from .projections import Projections
from .sequence import AbstractMemoryLayer, AbstractSequenceLayer, Form
from .softmax_attention import KeyValueCache, SoftmaxSelfAttention
from .step_size import LineSearch, OptimalStep, candidate_grid, line_search, optimal_learning_rate
from .transformer import ResidualStack

__all__ = [
    "AbstractMemoryLayer",
    "AbstractSequenceLayer",
    "Alignment",
    "CopyShares",
    "Form",
    "InContextRegressor",
    "KeyValueCache",
    "LayerNorm",
    "LineSearch",
    "LinearSelfAttention",
    "MultilayerPerceptron",
    "OptimalStep",
    "Projections",
    "ResidualStack",
    "SoftmaxSelfAttention",
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
    "truncated_normal",
]
