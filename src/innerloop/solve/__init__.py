"""Solvers that layers and rules run inside themselves."""

from .conjugate_gradients import SolveInfo, conjugate_gradients

__all__ = ["SolveInfo", "conjugate_gradients"]
