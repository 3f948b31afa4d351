"""What a trained layer of linear attention says block by block: compression to one number per block, and averages."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...core.errors import require
from ..attention.linear_attention import LinearSelfAttention
from ..projections import Projections


def block_means(product: Float[Array, "h d e"], size: int) -> Float[Array, "h b c"]:
    """The mean diagonal of each `size` x `size` block."""
    heads, rows, columns = product.shape
    require(
        size >= 1 and rows % size == 0 and columns % size == 0,
        f"a product of {rows} x {columns} has no whole blocks of size {size}",
    )
    blocks = product.reshape(heads, rows // size, size, columns // size, size)
    return jnp.einsum("hbncn->hbc", blocks) / size


def compress_blocks(
    layer: LinearSelfAttention,
    size: int,
    *,
    query_key: tuple[tuple[int, int], ...] | None = None,
    value_output: tuple[tuple[int, int], ...] | None = None,
) -> LinearSelfAttention:
    r"""The layer whose weight products have every block replaced by its mean diagonal times the identity.

    $$W^Q (W^K)^\top \to (\tfrac1n \operatorname{tr} A_{bc}) \, I, \qquad
      W^V W^O \to (\tfrac1n \operatorname{tr} B_{bc}) \, I$$

    If little is lost, the layer does the same to every coordinate, and a few numbers say what: the algorithm that
    was learned. The constructions of gradient descent and of preconditioning lose nothing.

    ```python
    >>> import jax, jax.numpy as jnp
    >>> import innerloop as il
    >>> layer, tokens = il.sequence_gd_layer(3, 0.1), jax.random.normal(jax.random.key(0), (7, 12))
    >>> bool(jnp.allclose(il.compress_blocks(layer, 3)(tokens)[0], layer(tokens)[0], atol=1e-5))
    True

    ```

    **Arguments:**

    - `layer`: without biases.
    - `size`: of a block, $n$.
    - `query_key`, `value_output`: the blocks (row, column) of each product that are kept; by default all. Rows of
        the first are blocks of the query token, columns of the key token; rows of the second are blocks of the
        value token, columns of the output.

    **Returns:** a layer with the products as query and value weights and identities as key and output weights.

    **Reference:** von Oswald et al. (2023), arXiv 2309.05858 ("CompressedAlg").

    **Errors:** `ValueError` for biases or for blocks that do not fit.
    """
    require(not layer.projections.has_biases, "weight products say everything only about layers without biases")
    products = []
    for product, kept in zip(layer.projections.products(), (query_key, value_output), strict=True):
        means = block_means(product, size)
        if kept is not None:
            mask = jnp.zeros(means.shape[1:], bool).at[tuple(zip(*kept, strict=True))].set(True)
            means = jnp.where(mask[None], means, 0.0)
        products.append(jnp.kron(means, jnp.eye(size, dtype=means.dtype)[None]))
    return _of_products(layer, *products)


def average_products(
    first: LinearSelfAttention, second: LinearSelfAttention, fraction: float | Float[Array, ""] = 0.5
) -> LinearSelfAttention:
    r"""The layer whose weight products lie between those of two layers, head by head.

    Heads have no order and products no fixed scale, so this is meaningful for layers whose heads correspond: a layer
    and its compression. For unrelated layers of one head there is `interpolate_attention`.

    **Arguments:**

    - `first`, `second`: layers of as many heads, widths and of one scale, without biases.
    - `fraction`: 0 is the first layer, 1 the second.

    **Reference:** von Oswald et al. (2023), arXiv 2309.05858 (interpolation).

    **Errors:** `ValueError` for biases and for layers of different shapes.
    """
    for layer in (first, second):
        require(not layer.projections.has_biases, "weight products say everything only about layers without biases")
    pairs = list(zip(first.projections.products(), second.projections.products(), strict=True))
    for a, b in pairs:
        require(a.shape == b.shape, f"the layers have products of different shapes, {a.shape} and {b.shape}")
    between = [(1.0 - fraction) * a + fraction * b for a, b in pairs]
    return _of_products(first, *between)


def _of_products(layer, compare, move) -> LinearSelfAttention:
    heads, width, output_width = move.shape
    key, output = (
        jnp.broadcast_to(jnp.eye(n, dtype=move.dtype), (heads, n, n)) for n in (width, output_width)
    )  # fmt: skip
    projections = Projections(query=compare, key=key, value=move, output=output)
    return eqx.tree_at(lambda old: old.projections, layer, projections)
