"""Sequence layers, models made of them, and the exact constructions of learning algorithms."""

from . import attention, in_context, language, memory, recurrent, states
from .attention import *
from .checked import Checked
from .convolution import CausalConvolution
from .families import (
    delta_net_layer,
    gated_delta_net_layer,
    gated_linear_attention_layer,
    linear_attention_layer,
    mamba2_layer,
    mesa_layer,
    mlstm_layer,
    retention_layer,
    softmax_attention_layer,
)
from .feedforward import GatedPerceptron, LayerNorm, MultilayerPerceptron, RootMeanSquareNorm
from .in_context import *
from .initialise import truncated_normal
from .language import *
from .memory import *
from .probes import LinearProbes
from .projections import Projections
from .recurrent import *
from .sequence import AbstractMemoryLayer, AbstractSequenceLayer, Form
from .states import *

__all__ = [
    "AbstractMemoryLayer",
    "AbstractSequenceLayer",
    "CausalConvolution",
    "Checked",
    "Form",
    "GatedPerceptron",
    "LayerNorm",
    "LinearProbes",
    "MultilayerPerceptron",
    "Projections",
    "RootMeanSquareNorm",
    "delta_net_layer",
    "gated_delta_net_layer",
    "gated_linear_attention_layer",
    "linear_attention_layer",
    "mamba2_layer",
    "mesa_layer",
    "mlstm_layer",
    "retention_layer",
    "softmax_attention_layer",
    "truncated_normal",
]
__all__ += attention.__all__
__all__ += in_context.__all__
__all__ += language.__all__
__all__ += memory.__all__
__all__ += recurrent.__all__
__all__ += states.__all__
