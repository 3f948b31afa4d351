"""Matrix memories: layers whose heads write outer products into a matrix and read it with queries."""

from .additive import AdditiveMemory, additive_memory
from .channel_gated import ChannelGatedMemory, channel_gated_memory
from .covariance import ConjugateGradients, DirectSolve
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
from .least_squares import LeastSquaresMemory, least_squares_memory, recursive_least_squares
from .mesa import MesaInfo, MesaMemory, MesaState, limit_forget_gate, mesa_memory
from .mlstm import NormalisedMemory, NormalisedState, mlstm_memory
from .multi_head import MultiHeadMemory, MultiHeadState
from .rule import AbstractMemoryRule, MemoryInputs

__all__ = [
    "AbstractGates",
    "AbstractMemoryRule",
    "AdditiveMemory",
    "ChannelGatedMemory",
    "ChannelGates",
    "ConjugateGradients",
    "DeltaMemory",
    "DirectSolve",
    "ExponentialGates",
    "FixedGates",
    "Gates",
    "LeastSquaresMemory",
    "MemoryInputs",
    "MesaInfo",
    "MesaMemory",
    "MesaState",
    "MultiHeadMemory",
    "MultiHeadState",
    "NormalisedMemory",
    "NormalisedState",
    "SigmoidGates",
    "TimeStepGates",
    "additive_memory",
    "channel_gated_memory",
    "delta_memory",
    "least_squares_memory",
    "limit_forget_gate",
    "mesa_memory",
    "mlstm_memory",
    "recursive_least_squares",
]
