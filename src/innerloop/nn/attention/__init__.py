"""Self-attention as a memory layer: linear, softmax, and mixtures of both."""

from .linear_attention import LinearSelfAttention
from .softmax_attention import KeyValueCache, SoftmaxSelfAttention

__all__ = ["KeyValueCache", "LinearSelfAttention", "SoftmaxSelfAttention"]
