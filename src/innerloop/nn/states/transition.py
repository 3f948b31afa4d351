"""What a sequence makes of the memory that it finds: the transition of a linear memory, kept as logarithms."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ...core.errors import require
from ..language.block import Block
from ..memory.delta import DeltaMemory
from ..memory.mlstm import EMPTY, NormalisedState
from ..memory.multi_head import MultiHeadMemory, MultiHeadState
from ..memory.rule import AbstractMemoryRule, MemoryInputs
from ..recurrent.rg_lru import HawkLayer, HawkState, RealGatedLRU
from ..recurrent.selective import SelectiveSSM, SelectiveState

# Of heads, of key channels or neurons, or as a matrix.
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
    """The memory after a transition: faded per head, channel or neuron, or multiplied by a matrix."""
    if isinstance(memory, NormalisedState):
        return memory._replace(maximum=jnp.maximum(memory.maximum + transition, jnp.asarray(EMPTY, transition.dtype)))

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


def weighted_sum(memories: Sequence[PyTree], weights: Sequence[Any]) -> PyTree:
    r"""$\sum_i w_i S_i$ of memories of one kind; those of mLSTM are brought to a common scale before."""
    if isinstance(memories[0], NormalisedState):
        maximum = functools.reduce(jnp.maximum, [memory.maximum for memory in memories])
        scales = [weight * jnp.exp(memory.maximum - maximum) for weight, memory in zip(weights, memories, strict=True)]
        parts = [fade_by(scale, memory) for scale, memory in zip(scales, memories, strict=True)]
        return jax.tree.map(lambda *terms: functools.reduce(jnp.add, terms), *parts)._replace(maximum=maximum)

    def one(*parts: Array) -> Array:
        scaled = [jnp.asarray(weight, part.dtype) * part for weight, part in zip(weights, parts, strict=True)]
        return functools.reduce(jnp.add, scaled)

    return jax.tree.map(one, *memories)


def fade_by(kept: Float[Array, "h"], memory: PyTree[Float[Array, "h ..."]]) -> PyTree[Float[Array, "h ..."]]:
    """Every head of every part multiplied by a number."""
    return jax.tree.map(lambda part: kept.reshape(kept.shape + (1,) * (part.ndim - 1)) * part, memory)


def join_transitions(first: Transition, second: Transition) -> Transition:
    """The transition of two sequences one after the other: logarithms are added, matrices multiplied."""
    require(
        first.shape == second.shape, f"transitions of shapes {first.shape} and {second.shape} do not belong together"
    )
    return jnp.einsum("hij,hjk->hik", second, first) if first.ndim == 3 else first + second


def layer_transition(layer: Any, xs: Float[Array, "t d"], state: PyTree | None = None) -> Transition:
    """The transition of the memory of a layer, or of the layer of a block, over tokens.

    **Arguments:**

    - `layer`: whose memory it is.
    - `xs`: the tokens, as the layer or the block is given them.
    - `state`: the state before; its convolutions' last tokens matter, its memory does not. By default the first.

    **Errors:** `TypeError` for a layer whose memory is not known to be linear in its past.
    """
    if isinstance(layer, Block):
        return layer_transition(layer.layer, layer.normed(xs), state)
    if isinstance(layer, MultiHeadMemory):
        return memory_transition(layer.rule, layer.inputs(xs, state))
    if isinstance(layer, HawkLayer):
        tail = (layer.init_state() if state is None else state).tail
        return layer.recurrence.log_decay(layer.convolution(xs @ layer.input, tail)[0])
    if isinstance(layer, SelectiveSSM):
        return layer.log_decay(xs, state)
    if isinstance(layer, RealGatedLRU):
        return layer.log_decay(xs)
    raise TypeError(f"the memory of {type(layer).__name__} has no transition: it is not known to be linear")


_MEMORY = {MultiHeadState: "memory", SelectiveState: "neurons", HawkState: "neurons"}


def memory_of(state: PyTree) -> PyTree:
    """The part of a layer's state that can be mixed: its memory, without the last tokens of the convolutions."""
    return getattr(state, _MEMORY[type(state)]) if type(state) in _MEMORY else state


def with_memory(state: PyTree, memory: PyTree) -> PyTree:
    """The state of a layer with another memory."""
    return state._replace(**{_MEMORY[type(state)]: memory}) if type(state) in _MEMORY else memory


def emptied(state: PyTree) -> PyTree:
    """The state of a layer with an empty memory."""
    empty = jax.tree.map(jnp.zeros_like, memory_of(state))
    if isinstance(empty, NormalisedState):
        empty = empty._replace(maximum=jnp.full_like(empty.maximum, EMPTY))
    return with_memory(state, empty)


def without_tail(state: PyTree) -> PyTree:
    """The state of a layer whose convolutions have seen nothing."""
    if type(state) in _MEMORY and state.tail is not None:
        return state._replace(tail=jnp.zeros_like(state.tail))
    return state
