"""How alike two states are: memories as vectors, layer by layer, and the cosine between them."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ...core.errors import UnknownNameError
from ..memory.mlstm import NormalisedState
from .transition import fade_by, memory_of

METRICS = ("cosine", "euclidean")
COMBINATIONS = ("mean", "concatenate")


def memory_vectors(state: PyTree, *, normalise_heads: bool = False) -> list[Float[Array, "_"]]:
    """The memory of every layer as one vector; with `normalise_heads` each head has length one before.

    **Arguments:**

    - `state`: of a model (a tuple of layer states), of one layer, or one memory.
    - `normalise_heads`: so that no head counts more for being larger.
    """
    layers = state if type(state) is tuple else (state,)

    def flat(part: Array) -> Array:
        rows = part.reshape(part.shape[0], -1)
        if normalise_heads:
            length = jnp.linalg.norm(rows, axis=1, keepdims=True)
            rows = rows / jnp.where(length > 0, length, 1.0)
        return rows.reshape(-1)

    def parts(memory: PyTree) -> list[Array]:
        if isinstance(memory, NormalisedState):
            kept = jnp.exp(memory.maximum - jnp.max(memory.maximum))
            return jax.tree.leaves(fade_by(kept, (memory.memory, memory.normaliser)))
        return jax.tree.leaves(memory)

    return [jnp.concatenate([flat(part) for part in parts(memory_of(layer))]) for layer in layers]


def similarity(
    queries: Float[Array, "q d"],
    references: Float[Array, "n d"],
    *,
    metric: str = "cosine",
    centre: bool = True,
) -> Float[Array, "q n"]:
    r"""How similar each query is to each reference; larger is more similar.

    $$\cos(x, y) = \frac{x^\top y}{\lVert x \rVert \, \lVert y \rVert} \qquad \text{or} \qquad -\lVert x - y \rVert$$

    **Arguments:**

    - `metric`: `"cosine"` or `"euclidean"`.
    - `centre`: whether the mean of the references is taken off all of them first: what all have in common says
        nothing, but can make up most of a vector. For the cosine all are brought to length one before that, as states
        of few tokens are shorter than those of many.

    **Errors:** `UnknownNameError` for another metric.
    """
    if metric not in METRICS:
        raise UnknownNameError("metric", metric, METRICS)
    if metric == "euclidean":  # of which no mean can change anything
        return -jnp.sqrt(jnp.sum((queries[:, None] - references[None]) ** 2, axis=-1))
    queries, references = _unit(queries), _unit(references)
    if centre:
        mean = jnp.mean(references, axis=0, keepdims=True)
        queries, references = _unit(queries - mean), _unit(references - mean)
    return queries @ references.T


def state_similarity(
    queries: PyTree,
    references: PyTree,
    *,
    layers: Sequence[int] | None = None,
    combine: str = "mean",
    metric: str = "cosine",
    centre: bool = True,
    normalise_heads: bool = False,
) -> Float[Array, "q n"]:
    """How similar each query state is to each reference state; both have a leading axis of many states.

    **Arguments:**

    - `layers`: which layers are compared; by default all.
    - `combine`: the `"mean"` of the similarities of the layers, or the similarity of all layers
        (`"concatenate"`d).
    - `metric`, `centre`: see `similarity`.
    - `normalise_heads`: see `memory_vectors`.

    **Reference:** Pióro et al. (2024), arXiv 2406.08423; centring and normalised heads are additions.

    **Errors:** `UnknownNameError` for another metric or combination.
    """
    if combine not in COMBINATIONS:
        raise UnknownNameError("combination", combine, COMBINATIONS)
    vectors = jax.vmap(lambda state: memory_vectors(state, normalise_heads=normalise_heads))
    pairs = list(zip(vectors(queries), vectors(references), strict=True))
    pairs = pairs if layers is None else [pairs[layer] for layer in layers]
    if combine == "concatenate":
        pairs = [tuple(jnp.concatenate(parts, axis=1) for parts in zip(*pairs, strict=True))]
    found = [similarity(query, reference, metric=metric, centre=centre) for query, reference in pairs]
    return jnp.mean(jnp.stack(found), axis=0)


def _unit(xs: Float[Array, "n d"]) -> Float[Array, "n d"]:
    length = jnp.linalg.norm(xs, axis=1, keepdims=True)
    return xs / jnp.where(length > 0, length, 1.0)
