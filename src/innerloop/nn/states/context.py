"""Contexts as states: what a model remembers of a sequence, and the exact rule by which two follow each other."""

from typing import Any, NamedTuple

from jaxtyping import Array, Float, Int, PyTree

from ...core.errors import require
from ..sequence import Form
from .transition import emptied, fade, join_transitions, layer_transition, memory_of, weighted_sum, with_memory


class EncodedContext(NamedTuple):
    """What a sequence leaves behind, read from the beginning.

    - `state`: what a model goes on from: one memory, the state of one layer, or a tuple of those of all layers.
    - `transition`: what the sequence makes of an earlier memory, see `memory_transition`; as many as there are
        memories. A memory that is not linear has `None`.
    """

    state: PyTree
    transition: PyTree


def encode_context(
    model: Any,
    inputs: Int[Array, "t"] | Float[Array, "t d"],
    *,
    after: tuple[PyTree, ...] | None = None,
    form: Form = "chunk",
) -> EncodedContext:
    """Read a sequence with empty memories and keep its state, with the transition of every layer.

    ```python
    >>> import jax, jax.numpy as jnp
    >>> import innerloop as il
    >>> layer = lambda key: il.gated_linear_attention_layer(8, num_heads=2, key_size=4, key=key)
    >>> model = il.LanguageModel(11, 8, 2, layer, key=jax.random.key(0))
    >>> context = il.encode_context(model, jnp.asarray([3, 1, 4, 1, 5]))
    >>> len(context.state), context.transition[0].shape  # two layers, a gate for each channel of each head
    (2, (2, 4))

    ```

    **Arguments:**

    - `model`: a `LanguageModel`, a `VectorSequenceModel` or a `Stack`: what has `hidden_states`.
    - `inputs`: what the model reads.
    - `after`: the state that came before: its convolutions remember their last tokens, its memories are emptied.
        By default nothing came before.
    - `form`: see `AbstractSequenceLayer`.

    **Reference:** Pióro et al. (2024), arXiv 2406.08423.
    """
    before = None if after is None else tuple(emptied(state) for state in after)
    hidden, state = model.hidden_states(inputs, before, form=form)
    layers = model.layers if hasattr(model, "layers") else model.stack.layers
    transitions = []
    for number, (layer, xs) in enumerate(zip(layers, hidden[:-1], strict=True)):
        try:
            transitions.append(layer_transition(layer, xs, None if before is None else before[number]))
        except TypeError:
            transitions.append(None)
    return EncodedContext(state, tuple(transitions))


def compose(first: EncodedContext, second: EncodedContext) -> EncodedContext:
    r"""The context `first` followed by the context `second`, of which each was read from the beginning.

    $$(\bar A_a, S_a) \circ (\bar A_b, S_b) = (\bar A_b \bar A_a, \; \bar A_b S_a + S_b)$$

    This is associative, so that many contexts can be joined by `jax.lax.associative_scan(jax.vmap(compose), ...)`.
    It is **exact** for memories, and for the first layer of a model if `second` was encoded `after` the state of
    `first`, or without convolutions: otherwise they see zeros, not the end of `first`, at the first tokens of
    `second`. In deeper layers it is an approximation, as what `second` writes there depends on what its tokens have
    read in the layers below. Tails of convolutions are those of `second`.

    **Reference:** Pióro et al. (2024), arXiv 2406.08423 (mixing with decay).

    **Errors:** `ValueError` for contexts of different models, or without transitions.
    """
    if type(first.state) is tuple:
        require(
            type(second.state) is tuple and len(first.state) == len(second.state),
            "contexts can be composed if they are of one model, with the same layers",
        )
        both = zip(first.state, first.transition, second.state, second.transition, strict=True)
        layers = [_compose_layer(number, *parts) for number, parts in enumerate(both)]
        return EncodedContext(tuple(state for state, _ in layers), tuple(transition for _, transition in layers))
    return EncodedContext(*_compose_layer(0, *first, *second))


def _compose_layer(number: int, first: PyTree, before: Any, second: PyTree, after: Any) -> tuple[PyTree, Any]:
    if before is None or after is None:
        raise ValueError(f"layer {number} has no linear transition, so that its states cannot be composed")
    memory = weighted_sum([fade(after, memory_of(first)), memory_of(second)], [1.0, 1.0])
    return with_memory(second, memory), join_transitions(before, after)
