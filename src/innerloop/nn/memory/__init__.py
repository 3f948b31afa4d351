"""Matrix memories: layers whose heads write outer products into a matrix and read it with queries."""

from .additive import AdditiveMemory, additive_memory
from .rule import AbstractMemoryRule, MemoryInputs

__all__ = ["AbstractMemoryRule", "AdditiveMemory", "MemoryInputs", "additive_memory"]
