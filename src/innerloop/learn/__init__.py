"""Learning rules: alternatives to `jax.grad` with one interface."""

from .backpropagation import Backpropagation
from .rule import AbstractLearningRule

__all__ = ["AbstractLearningRule", "Backpropagation"]
