"""Matrix memories: layers whose heads write outer products into a matrix and read it with queries."""

from .additive import AdditiveMemory, additive_memory
from .delta import DeltaMemory, delta_memory
from .gates import (
    AbstractGates,
    ChannelGates,
    ExponentialGates,
    FixedGates,
    Gates,
    SigmoidGates,
    TimeStepGates,
)
from .mesa import ConjugateGradients, MesaMemory, mesa_memory
from .multi_head import MultiHeadMemory, MultiHeadState
from .rule import AbstractMemoryRule, MemoryInputs

__all__ = [
    "AbstractGates",
    "AbstractMemoryRule",
    "AdditiveMemory",
    "ChannelGates",
    "ConjugateGradients",
    "DeltaMemory",
    "ExponentialGates",
    "FixedGates",
    "Gates",
    "MemoryInputs",
    "MesaMemory",
    "MultiHeadMemory",
    "MultiHeadState",
    "SigmoidGates",
    "TimeStepGates",
    "additive_memory",
    "delta_memory",
    "mesa_memory",
]
