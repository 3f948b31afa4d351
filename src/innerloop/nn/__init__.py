"""Sequence layers, models made of them, and the exact constructions of learning algorithms."""

from . import attention, in_context, language, memory, recurrent
from .attention import *
from .convolution import CausalConvolution
from .feedforward import LayerNorm, MultilayerPerceptron
from .in_context import *
from .initialise import truncated_normal
from .language import *
from .memory import *
from .recurrent import *
from .sequence import AbstractMemoryLayer, AbstractSequenceLayer, Form

__all__ = [
    "AbstractMemoryLayer",
    "AbstractSequenceLayer",
    "CausalConvolution",
    "Form",
    "LayerNorm",
    "MultilayerPerceptron",
    "truncated_normal",
]
__all__ += attention.__all__
__all__ += in_context.__all__
__all__ += language.__all__
__all__ += memory.__all__
__all__ += recurrent.__all__
