"""Conformance batteries: check a component of your own against the promises of its interface."""

from .sequence_layer import check_sequence_layer
from .task import check_task

__all__ = ["check_sequence_layer", "check_task"]
