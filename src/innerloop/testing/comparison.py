"""When two trees count as the same: the tolerances of the batteries."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree


def assert_same(given: PyTree, wanted: PyTree, what: str, *, tolerance: float | None = None) -> None:
    """Two trees agree in structure, shapes, dtypes and, up to a relative root mean square, in values.

    The default tolerance is 1e-5 in float32 and 1e-10 in float64. Each array is measured against its own
    size, or against a thousandth of the largest array's where it is smaller: an array of almost-zeros has no
    digits to agree on.
    """
    assert jax.tree.structure(given) == jax.tree.structure(wanted), (
        f"{what}: structure {jax.tree.structure(given)} instead of {jax.tree.structure(wanted)}"
    )
    floor = 1e-3 * max([_size(leaf) for leaf in jax.tree.leaves(wanted)], default=0.0)
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(wanted)[0]]
    for path, a, b in zip(paths, jax.tree.leaves(given), jax.tree.leaves(wanted), strict=True):
        place = f"{what}{' at ' + path if path else ''}"
        assert jnp.shape(a) == jnp.shape(b), f"{place}: shape {jnp.shape(a)} instead of {jnp.shape(b)}"
        assert jnp.result_type(a) == jnp.result_type(b), (
            f"{place}: dtype {jnp.result_type(a)} instead of {jnp.result_type(b)}"
        )
        assert np.all(np.isfinite(np.asarray(a))), f"{place}: not finite"
        limit = tolerance
        if limit is None:
            limit = 1e-10 if jnp.result_type(b) == jnp.float64 else 1e-5
        error = _size(np.asarray(a, np.float64) - np.asarray(b, np.float64))
        scale = max(_size(b), floor)
        assert error <= limit * scale, (
            f"{place}: relative difference {error / max(scale, 1e-300):.2e}, over {limit:.0e}"
        )


def _size(leaf) -> float:
    values = np.asarray(leaf, np.float64)
    return float(np.sqrt(np.mean(values**2))) if values.size else 0.0
