"""Solvers that layers and rules run inside themselves."""

__all__: list[str] = []
