"""Do two in-context learners compute the same thing? Predictions, sensitivities, weights, copying."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...core.errors import require
from ..attention.linear_attention import LinearSelfAttention
from ..projections import Projections
from .regressor import InContextRegressor

Predictor = Callable[[Float[Array, "t w"]], Float[Array, "o"]]


class Alignment(NamedTuple):
    """How far two models agree, as means over tasks; the second model is the reference.

    Of identical models the differences are 0 and the cosine is 1. Judge `sensitivity_difference` in units of
    `reference_sensitivity`, the mean norm of the reference's own sensitivity.
    """

    prediction_difference: Float[Array, ""]
    sensitivity_difference: Float[Array, ""]
    sensitivity_cosine: Float[Array, ""]
    reference_sensitivity: Float[Array, ""]


def alignment(
    model: Predictor, reference: Predictor, tokens: Float[Array, "b t w"], *, query_size: int | None = None
) -> Alignment:
    r"""Compare two models on the same tasks, by their predictions and by their sensitivities to the query.

    $$\overline{\lVert f_a - f_b \rVert}, \quad
      \overline{\lVert \partial f_a/\partial x_q - \partial f_b/\partial x_q \rVert}, \quad
      \overline{\cos(\partial f_a/\partial x_q, \partial f_b/\partial x_q)}, \quad
      \overline{\lVert \partial f_b/\partial x_q \rVert}$$

    **Arguments:**

    - `model`, `reference`: from the tokens of one task to the prediction for its last token.
    - `tokens`: held-out tasks.
    - `query_size`: how many leading coordinates of the last token are the query's input $x_q$; by default all
      but as many as the prediction has (joint tokens).

    **Reference:** von Oswald et al. (2023), arXiv 2212.07677 (comparison metrics).

    **Errors:** `ValueError` for a `query_size` which the tokens do not have.
    """
    require(tokens.ndim == 3, f"tokens of many tasks [b t w] are needed, not an array of shape {tokens.shape}")
    outputs = jax.eval_shape(reference, tokens[0]).shape[-1]
    size: int = tokens.shape[-1] - outputs if query_size is None else query_size
    require(
        1 <= size <= tokens.shape[-1],
        f"query_size must lie between 1 and the token width {tokens.shape[-1]}, not {size}",
    )
    return _alignment(model, reference, tokens, size)


@eqx.filter_jit
def _alignment(model, reference, tokens, query_size) -> Alignment:
    def responses(predict, one):
        def of_query(query):
            prediction = predict(one.at[-1, :query_size].set(query))
            return prediction, prediction

        sensitivity, prediction = jax.jacrev(of_query, has_aux=True)(one[-1, :query_size])
        return prediction, jnp.ravel(sensitivity)

    def compare(one):
        prediction, sensitivity = responses(model, one)
        wanted, wanted_sensitivity = responses(reference, one)
        norm, wanted_norm = jnp.linalg.norm(sensitivity), jnp.linalg.norm(wanted_sensitivity)
        product = norm * wanted_norm
        return Alignment(
            prediction_difference=jnp.linalg.norm(prediction - wanted),
            sensitivity_difference=jnp.linalg.norm(sensitivity - wanted_sensitivity),
            # A model that does not react to its query has no direction: it is aligned with nothing.
            sensitivity_cosine=jnp.where(
                product > 0, sensitivity @ wanted_sensitivity / jnp.where(product > 0, product, 1.0), 0.0
            ),
            reference_sensitivity=wanted_norm,
        )

    return jax.tree.map(jnp.mean, jax.vmap(compare)(tokens))


def interpolate_attention(
    first: LinearSelfAttention,
    second: LinearSelfAttention,
    fraction: float | Float[Array, ""] = 0.5,
    *,
    outputs: int = 1,
) -> LinearSelfAttention:
    r"""The layer whose weight *products* lie between those of two layers.

    A layer depends on $A = W^Q (W^K)^\top$ and $B = W^V W^O$ only, and on these only up to $(A/c, cB)$. The
    products are normalised so that the mean of the first $d$ diagonal entries of $A$ is one, then averaged.
    The raw weights never are: they have a gauge freedom, $W^Q G$ and $W^K G^{-\top}$ being as good.

    **Arguments:**

    - `first`, `second`: layers of one head without biases.
    - `fraction`: 0 is the first layer, 1 the second.
    - `outputs`: the size of a label; the $d$ coordinates before it are the input.

    **Returns:** a layer with the products as query and value weights, and identities as key and output
    weights.

    **Reference:** von Oswald et al. (2023), arXiv 2212.07677 (interpolation).

    **Errors:** `ValueError` for several heads (a sum of products of products is not between two others head
    by head, and heads have no order), for biases and for layers of different widths.
    """
    for layer in (first, second):
        heads = layer.projections.num_heads
        require(heads == 1, f"interpolation is defined for layers of one head, not of {heads}")
        require(not layer.projections.has_biases, "interpolation is defined for layers without biases")
        require(
            layer.projections.output_width == layer.width and 1 <= outputs < layer.width,
            f"interpolation needs tokens of one width above outputs = {outputs}, "
            f"not {layer.width} in and {layer.projections.output_width} out",
        )
    require(first.width == second.width, f"the layers have different widths, {first.width} and {second.width}")
    num_inputs = first.width - outputs

    def normalised(layer):
        compare, move = (product[0] for product in layer.projections.products())
        size = jnp.mean(jnp.diagonal(compare)[:num_inputs])
        return compare / size, layer.scale * size * move

    compare, move = (
        (1.0 - fraction) * a + fraction * b for a, b in zip(normalised(first), normalised(second), strict=True)
    )
    identity = jnp.eye(first.width, dtype=compare.dtype)
    return LinearSelfAttention(
        Projections(query=compare[None], key=identity[None], value=move[None], output=identity[None]),
        chunk_size=first.chunk_size,
    )


class CopyShares(NamedTuple):
    """Where the tokens of inputs come from after one layer, as shares of gradient norm that sum to one."""

    own: Float[Array, ""]
    following: Float[Array, ""]
    others: Float[Array, ""]


def copy_shares(model: InContextRegressor, tokens: Float[Array, "b t w"]) -> CopyShares:
    r"""Whether the first layer copies each label into the token of its input.

    For interleaved tokens $x_1, y_1, x_2, \dots, x_q$ and the output $h_k$ of the first layer at the token of
    $x_j$ ($k = 2j$, counted from zero), the norms

    $$\lVert \partial h_k / \partial e_k \rVert, \quad \lVert \partial h_k / \partial e_{k+1} \rVert, \quad
      \sum_{i \notin \{k, k+1\}} \lVert \partial h_k / \partial e_i \rVert$$

    are averaged over tokens and tasks and divided by their sum. Mind that the residual connection alone gives
    `own` a large share: an untrained first layer has `own` near 1 and `following` near 0, so `following` is
    what tells.

    **Reference:** von Oswald et al. (2023), arXiv 2212.07677 (token construction).

    **Errors:** `ValueError` for tokens that are not interleaved (an even number of them).
    """
    require(
        tokens.ndim == 3 and tokens.shape[1] % 2 == 1 and tokens.shape[1] >= 3,
        f"interleaved tokens [b 2n+1 w] are needed, not an array of shape {tokens.shape}",
    )
    own, following, others = _copy_norms(model, tokens)
    total = own + following + others
    return CopyShares(own / total, following / total, others / total)


@eqx.filter_jit
def _copy_norms(model, tokens) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
    inputs = jnp.arange(0, tokens.shape[1] - 1, 2)

    def norms(one):
        # [k, d, i, w]: forward mode, because tokens are narrower before the positions are put to them.
        jacobian = jax.jacfwd(lambda e: model.hidden_states(e)[1])(one)
        sizes = jnp.sqrt(jnp.sum(jacobian**2, axis=(1, 3)))[inputs]
        own, following = sizes[jnp.arange(len(inputs)), inputs], sizes[jnp.arange(len(inputs)), inputs + 1]
        return jnp.mean(own), jnp.mean(following), jnp.mean(jnp.sum(sizes, axis=1) - own - following)

    # Batches, not all tasks at once: a Jacobian is large.
    return jax.tree.map(jnp.mean, jax.lax.map(norms, tokens, batch_size=32))
