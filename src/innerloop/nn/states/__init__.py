"""States of recurrent layers as things to keep: mixed, composed, compared, and found again."""

from .context import EncodedContext, compose, encode_context
from .library import StateLibrary
from .mixing import mix_states
from .similarity import memory_vectors, state_similarity
from .transition import memory_transition

__all__ = [
    "EncodedContext",
    "StateLibrary",
    "compose",
    "encode_context",
    "memory_transition",
    "memory_vectors",
    "mix_states",
    "state_similarity",
]
