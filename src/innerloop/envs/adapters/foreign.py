"""What worlds of other JAX libraries need before they keep what our interface promises."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from ...core.errors import require
from ..spaces import AbstractSpace, Box, Discrete


@contextlib.contextmanager
def their_promotion() -> Iterator[None]:
    """JAX's usual rules for mixed dtypes and ranks, on which other libraries rely, whatever ours are."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def strong(tree: PyTree) -> PyTree:
    """Python numbers and weakly typed arrays as arrays with a dtype of their own."""
    return jax.tree.map(lambda leaf: leaf if _is_key(leaf) else jnp.asarray(leaf, jnp.asarray(leaf).dtype), tree)


def like(tree: PyTree, template: PyTree) -> PyTree:
    """The same values in the dtypes of `template`."""
    return jax.tree.map(lambda leaf, old: leaf if _is_key(old) else jnp.asarray(leaf, old.dtype), tree, template)


def flat(info: Mapping[Any, Any]) -> dict[str, Any]:
    """Nested measurements under one name each, such as `agent/speed`."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(dict(info))
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def nothing_yet(shapes: Mapping[Any, Any]) -> dict[str, Array]:
    """Zeros for measurements of which only the shapes are known: there are none after a reset."""
    return {name: jnp.zeros(leaf.shape, leaf.dtype) for name, leaf in flat(shapes).items()}


def space_of(theirs: Any, what: str, *, exact: bool) -> AbstractSpace:
    """Our space for one of gymnax or JaxMARL, told apart by its attributes.

    A box whose entries have bounds of their own becomes the smallest box with one pair of bounds around it, if it
    need not be `exact`, as for observations. Bounds of the size of the largest float are no bounds.

    **Errors:** `ValueError` that names `what` has a space which we do not have.
    """
    if hasattr(theirs, "n"):
        return Discrete(int(theirs.n))
    require(
        hasattr(theirs, "low") and hasattr(theirs, "shape"),
        f"{what} is {theirs!r}; only Discrete and Box spaces have a counterpart here",
    )
    largest = float(np.finfo(np.float32).max)
    low, high = np.asarray(theirs.low, np.float64), np.asarray(theirs.high, np.float64)
    require(
        not exact or bool(np.all(low == low.min()) and np.all(high == high.max())),
        f"{what} has other bounds in other entries, from {low} to {high}; here all entries have the same",
    )
    lowest, highest = float(low.min()), float(high.max())
    return Box(
        -np.inf if lowest <= -largest else lowest,
        np.inf if highest >= largest else highest,
        tuple(int(size) for size in theirs.shape),
    )


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
