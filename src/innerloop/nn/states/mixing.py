"""Mixing states: several contexts as one state, by averages, sums, interpolation, or decay."""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ...core.errors import UnknownNameError, require
from .context import EncodedContext, compose
from .transition import join_transitions, memory_of, weighted_sum, with_memory, without_tail

MODES = ("average", "sum", "decay", "interpolate")
TAILS = ("last", "reset")

# At run time plain strings, so that an unknown name reaches the check, which knows the nearest one.
if TYPE_CHECKING:
    Mode = Literal["average", "sum", "decay", "interpolate"]
    Tail = Literal["last", "reset"]
else:
    Mode = Tail = str


def mix_states(
    contexts: Sequence[EncodedContext],
    weights: Sequence[float] | float | Float[Array, "m"] | Float[Array, ""] | None = None,
    *,
    mode: Mode = "average",
    layers: Sequence[int] | None = None,
    conv: Tail = "last",
    rescale: bool = False,
) -> EncodedContext:
    r"""One state of several, each of which was made of a context of its own.

    - `"average"`: $\sum_i w_i S_i$ with weights that sum to one; by default equal ones.
    - `"sum"`: $\sum_i w_i S_i$; by default all weights are one.
    - `"decay"`: the contexts one after the other, each fading by the gates of the later ones; see `compose`.
    - `"interpolate"`: $(1 - w) S_1 + w S_2$ with one weight $w$; by default one half.

    Memories of two parts, such as the mesa layer's, are mixed part by part: sums of its statistics are those of
    all examples together, so that the layer then reads with the ridge regression on their union.

    ```python
    >>> import jax.numpy as jnp
    >>> import innerloop as il
    >>> none = jnp.zeros((1,))  # one head that keeps everything
    >>> one, two = (il.EncodedContext(jnp.full((1, 2, 2), size), none) for size in (1.0, 3.0))
    >>> il.mix_states([one, two]).state[0, 0].tolist()
    [2.0, 2.0]
    >>> il.mix_states([one, two], 0.25, mode="interpolate").state[0, 0].tolist()
    [1.5, 1.5]

    ```

    **Arguments:**

    - `contexts`: at least one, of one model or of one memory; the order matters for `"decay"` and for tails.
    - `weights`: see the modes; numbers may be traced.
    - `mode`: see above.
    - `layers`: which layers are mixed; the others are those of the last context. By default all.
    - `conv`: the last tokens that convolutions remember are never mixed: those of the `"last"` context, or none
        (`"reset"`).
    - `rescale`: whether each mixed head gets the mean norm of the heads that it is made of.

    **Returns:** the mixed state, and the transition of all contexts one after the other.

    **Reference:** Pióro et al. (2024), arXiv 2406.08423.

    **Errors:** `ValueError` for weights that do not fit, or contexts of different models; `UnknownNameError` for an
    unknown mode.
    """
    for kind, given, allowed in (("mode", mode, MODES), ("conv", conv, TAILS)):
        if given not in allowed:
            raise UnknownNameError(kind, given, allowed)
    contexts = list(contexts)
    require(len(contexts) >= 1, "there is no context to mix")
    structures = {jax.tree.structure(context) for context in contexts}
    require(len(structures) == 1, "only contexts of one model can be mixed; these have states of different structure")
    last = contexts[-1]
    several = type(last.state) is tuple
    if mode == "decay":
        require(weights is None, "decay gives every context its weight; leave weights out")
        mixed = functools.reduce(compose, contexts).state
    else:
        scales = _weights(weights, mode, len(contexts))
        states = [context.state for context in contexts]
        mixed = tuple(_sum(parts, scales) for parts in zip(*states, strict=True)) if several else _sum(states, scales)
    chosen = tuple(mixed) if several else (mixed,)
    sources = [context.state if several else (context.state,) for context in contexts]
    require(
        layers is None or all(0 <= layer < len(chosen) for layer in layers),
        f"layers are numbered from 0 to {len(chosen) - 1}, not {layers}",
    )
    finished = []
    for number, state in enumerate(chosen):
        parts = [source[number] for source in sources]
        if layers is not None and number not in layers:
            state = parts[-1]
        elif rescale:
            state = with_memory(state, _rescaled(memory_of(state), [memory_of(part) for part in parts]))
        finished.append(without_tail(state) if conv == "reset" else state)
    transitions = [context.transition for context in contexts]
    if several:
        joined = tuple(_joined(parts) for parts in zip(*transitions, strict=True))
        return EncodedContext(tuple(finished), joined)
    return EncodedContext(finished[0], _joined(transitions))


def _joined(transitions: Sequence[Any]) -> Any:
    return None if any(part is None for part in transitions) else functools.reduce(join_transitions, transitions)


def _weights(weights: Any, mode: str, count: int) -> list[Any]:
    """One number per context."""
    if mode == "interpolate":
        require(count == 2, f"interpolation is between two contexts, not {count}")
        require(
            weights is None or isinstance(weights, float | int) or jnp.shape(weights) == (),
            "interpolation has one weight, that of the second context",
        )
        weight = 0.5 if weights is None else weights
        return [1 - weight, weight]
    if weights is None:
        return [1 / count if mode == "average" else 1.0] * count
    weights = weights if isinstance(weights, Array) else tuple(weights)
    require(len(weights) == count, f"weights must be one number for each of {count} contexts, not {len(weights)}")
    if mode == "average" and not isinstance(weights, Array) and all(isinstance(weight, float) for weight in weights):
        total = sum(weights)
        require(abs(total - 1) < 1e-5, f"the weights of an average sum to one, not to {total:g}; or use mode='sum'")
    return [weights[i] for i in range(count)]


def _sum(states: Sequence[PyTree], weights: Sequence[Any]) -> PyTree:
    """The weighted sum of the memories of one layer; everything else is that of the last state."""
    return with_memory(states[-1], weighted_sum([memory_of(state) for state in states], weights))


def _rescaled(memory: PyTree, sources: Sequence[PyTree]) -> PyTree:
    def norm(part: Array) -> Array:
        return jnp.sqrt(jnp.sum(part**2, axis=tuple(range(1, part.ndim)), keepdims=True))

    def one(part: Array, *origins: Array) -> Array:
        wanted = functools.reduce(jnp.add, [norm(origin) for origin in origins]) / len(origins)
        own = norm(part)
        return jnp.where(own > 0, wanted / jnp.where(own > 0, own, 1.0), 0.0) * part

    return jax.tree.map(one, memory, *sources)
