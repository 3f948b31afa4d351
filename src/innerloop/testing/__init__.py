"""Public conformance batteries: run them on components of your own."""

from .environment import check_environment
from .learning_rule import check_learning_rule
from .sequence_layer import check_sequence_layer
from .study import check_study
from .task import check_task

__all__ = ["check_environment", "check_learning_rule", "check_sequence_layer", "check_study", "check_task"]
