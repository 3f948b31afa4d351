"""What a sequence makes of the memory that it finds: the transition of a linear memory, kept as logarithms."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ...core.errors import require
from ..language.block import Block
from ..memory.delta import DeltaMemory
from ..memory.multi_head import MultiHeadMemory, MultiHeadState
from ..memory.rule import AbstractMemoryRule, MemoryInputs

Transition = Float[Array, "h"] | Float[Array, "h k"] | Float[Array, "h k k"]


def memory_transition(rule: AbstractMemoryRule, inputs: MemoryInputs) -> Transition:
    r"""The map from the memory before a sequence to what is left of it afterwards, whatever is written.

    $$S_T = \bar A\, S_0 + U, \qquad \bar A = \prod_{t=1}^{T} A_t$$

    - A gate per head or per key channel: $\log \bar A = \sum_t \log \gamma_t$, `[h]` or `[h k]`. Products of many
      gates underflow, their logarithms do not.
    - The delta rule: the matrix $\bar A = \prod_t \gamma_t (I - \beta_t k_t k_t^\top)$, `[h k k]`: what the rule
      makes of the identity when it has nothing to write.

    **Arguments:**

    - `rule`: how the memory is written; its update must be linear in the memory.
    - `inputs`: what the tokens bring.

    **Reference:** Pióro et al. (2024), arXiv 2406.08423, for decays; the matrix is derived here.
    """
    _, heads, key_size = inputs.key.shape
    dtype = inputs.value.dtype
    if isinstance(rule, DeltaMemory):
        identity = jnp.broadcast_to(jnp.eye(key_size, dtype=dtype)[None], (heads, key_size, key_size))
        return rule(inputs._replace(value=jnp.zeros_like(inputs.key)), identity)[1]
    if inputs.log_gate is None:
        return jnp.zeros((heads,), dtype)
    return jnp.sum(inputs.log_gate, axis=0)


def fade(transition: Transition, memory: PyTree[Float[Array, "h ..."]]) -> PyTree[Float[Array, "h ..."]]:
    """The memory after a transition: faded per head or per key channel, or multiplied by a matrix."""

    def one(part: Array) -> Array:
        if transition.ndim == 3:
            return jnp.einsum("hij,hj...->hi...", transition, part)
        require(
            part.ndim >= transition.ndim,
            f"a transition of shape {transition.shape} does not fit a memory of shape {part.shape}",
        )
        kept = jnp.exp(transition)
        return kept.reshape(kept.shape + (1,) * (part.ndim - kept.ndim)) * part

    return jax.tree.map(one, memory)


def join_transitions(first: Transition, second: Transition) -> Transition:
    """The transition of two sequences one after the other: logarithms are added, matrices multiplied."""
    require(
        first.shape == second.shape, f"transitions of shapes {first.shape} and {second.shape} do not belong together"
    )
    return jnp.einsum("hij,hjk->hik", second, first) if first.ndim == 3 else first + second


def layer_transition(layer: Any, xs: Float[Array, "t d"]) -> Transition:
    """The transition of the memory of a layer, or of the layer of a block, over tokens read from the beginning.

    **Errors:** `TypeError` for a layer whose memory is not known to be linear.
    """
    if isinstance(layer, Block):
        return layer_transition(layer.layer, layer.normed(xs))
    if isinstance(layer, MultiHeadMemory):
        return memory_transition(layer.rule, layer.inputs(xs))
    raise TypeError(f"the memory of {type(layer).__name__} has no transition: it is not known to be linear")


def memory_of(state: PyTree) -> PyTree:
    """The part of a layer's state that can be mixed: the memory, without the last tokens of the convolutions."""
    return state.memory if isinstance(state, MultiHeadState) else state


def with_memory(state: PyTree, memory: PyTree) -> PyTree:
    """The state of a layer with another memory."""
    return state._replace(memory=memory) if isinstance(state, MultiHeadState) else memory


def without_tail(state: PyTree) -> PyTree:
    """The state of a layer whose convolutions have seen nothing."""
    if isinstance(state, MultiHeadState) and state.tail is not None:
        return state._replace(tail=jnp.zeros_like(state.tail))
    return state
