"""Small tools on pytrees that more than one part needs."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree


def trainable(model: PyTree) -> PyTree:
    """The floating-point arrays of a model, everything else replaced by `None`: what an optimiser moves."""
    return eqx.filter(model, eqx.is_inexact_array)


def pick(stacked: Any, index: int | Array) -> Any:
    """One (or, with an array of indices, several) of what is stacked along a leading axis."""
    return jax.tree.map(lambda x: x[index] if eqx.is_array(x) else x, stacked)


def all_finite(tree: PyTree) -> Bool[Array, ""]:
    """Whether every floating-point entry of every array of `tree` is finite."""
    leaves = jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array))
    return jnp.all(jnp.asarray([jnp.all(jnp.isfinite(leaf)) for leaf in leaves])) if leaves else jnp.asarray(True)


def inner_product(a: PyTree, b: PyTree) -> Float[Array, ""]:
    """The sum over all arrays of the products of their entries; both trees have one structure."""
    products = jax.tree.map(lambda x, y: jnp.sum(x * y), a, b)
    return jax.tree.reduce(jnp.add, products, jnp.zeros(()))


def path_names(tree: PyTree) -> list[str]:
    """One readable name per leaf, such as `0.layers.1.key`, in the order of `jax.tree.leaves`."""
    paths: Any = jax.tree_util.tree_flatten_with_path(tree)[0]
    return [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in paths]
