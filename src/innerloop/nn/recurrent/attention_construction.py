"""Gated linear recurrent networks that are exactly linear self-attention, or a step of gradient descent."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...core.errors import require
from .gated_linear_rnn import GatedLinearRNN, rates_of


def gated_rnn_from_attention(
    query: Float[Array, "d k"],
    key: Float[Array, "d k"],
    value: Float[Array, "d v"],
    *,
    compressed: bool = True,
    scale: float | Float[Array, ""] = 1.0,
    decay: float | Float[Array, ""] = 1.0,
) -> GatedLinearRNN:
    r"""The gated linear recurrent network that is causal linear self-attention with these weights.

    $$y_t = s \sum_{s' \le t} \gamma^{t - s'} \, (x_t W^Q \cdot x_{s'} W^K) \; x_{s'} W^V$$

    *As it stands* (`compressed=False`): $d_v d_k$ neurons with $\lambda = \gamma$ hold $\sum v_i k_j$, and $d_k$
    neurons with $\lambda = 0$ hold the query; the constant input turns their product into a linear function.
    *Compressed*: what is remembered is the symmetric $\sum x x^\top$ alone, in $d (d + 1) / 2$ neurons, and the
    $d$ others hold $x W^Q W^{K \top}$; the values are taken in the readout. That holds for every $W^V$, singular
    ones too, and no network with fewer neurons that remember is exact for all weights: the monomials
    $x_i x_j$ are that many independent functions.

    ```python
    >>> import jax
    >>> from innerloop.nn import gated_rnn_from_attention
    >>> query, key, value = jax.random.normal(jax.random.key(0), (3, 4, 4))
    >>> [gated_rnn_from_attention(query, key, value, compressed=c).num_neurons for c in (False, True)]
    [20, 14]

    ```

    **Arguments:**

    - `query`, `key`, `value`: weights of row vectors, as of one head of `Projections`.
    - `compressed`: which of the two.
    - `scale`: multiplies what is read.
    - `decay`: $\gamma$, the forget factor of a retention layer; 1 is attention.

    **Reference:** Zucchet et al. (2023), arXiv 2309.01775; the compressed network is derived here.

    **Errors:** `ValueError` for weights that do not fit together.
    """
    require(
        query.shape == key.shape and value.shape[0] == key.shape[0],
        f"query [d k], key [d k] and value [d v] do not fit: {query.shape}, {key.shape}, {value.shape}",
    )
    width, dtype = key.shape[0], key.dtype
    unit = jnp.eye(width, dtype=dtype)
    if compressed:
        rows, columns = np.triu_indices(width)
        held = np.zeros((width, width), int)  # which neuron holds the sum of x_i x_j
        held[rows, columns] = held[columns, rows] = np.arange(len(rows))
        factors, queries, readout = (unit[rows], unit[columns]), (query @ key.T).T, value.T
    else:
        left, right = (part.ravel() for part in np.indices((value.shape[1], key.shape[1])))
        held = np.arange(len(left)).reshape(value.shape[1], key.shape[1])
        factors, queries = (value.T[left], key.T[right]), query.T
        readout = jnp.eye(value.shape[1], dtype=dtype)
    return _assemble(factors, queries, held, scale * readout, decay)


def gated_rnn_from_gd(
    dim: int,
    outputs: int,
    num_context: int,
    learning_rate: float | Float[Array, ""],
    *,
    dtype: jnp.dtype | None = None,
) -> GatedLinearRNN:
    r"""The gated linear recurrent network that predicts by one step of gradient descent from zero weights.

    $$\hat y_t = \frac{\eta}{N} \sum_{s \le t} y_s \, (x_s \cdot x_t)$$

    for tokens $[x_s, y_s]$, of which a query has $y = 0$: $d_y d_x$ neurons remember $\sum y_i x_j$, and $d_x$
    hold the input. That is fewer than any construction for attention with generic weights needs.

    ```python
    >>> from innerloop.nn import gated_rnn_from_gd
    >>> gated_rnn_from_gd(3, 3, num_context=12, learning_rate=1.0).num_neurons
    12

    ```

    **Arguments:**

    - `dim`, `outputs`: the sizes of an input and of a label.
    - `num_context`: $N$.
    - `learning_rate`: $\eta$, of the mean loss $\tfrac{1}{2N} \sum \lVert W x - y \rVert^2$.
    - `dtype`: of the weights; by default that of the learning rate, or else JAX's default.

    **Reference:** Zucchet et al. (2023), arXiv 2309.01775, and von Oswald et al. (2023), arXiv 2212.07677.

    **Errors:** `ValueError` for sizes below one.
    """
    for name, size in dict(dim=dim, outputs=outputs, num_context=num_context).items():
        require(size >= 1, f"{name} must be at least 1, not {size}")
    if dtype is None:
        dtype = learning_rate.dtype if isinstance(learning_rate, jax.Array) else jnp.result_type(float)
    unit = jnp.eye(dim + outputs, dtype=dtype)
    inputs, labels = unit[:dim], unit[dim:]
    left, right = (part.ravel() for part in np.indices((outputs, dim)))
    held = np.arange(outputs * dim).reshape(outputs, dim)
    rate = jnp.asarray(learning_rate, dtype) / num_context
    return _assemble((labels[left], inputs[right]), inputs, held, rate * jnp.eye(outputs, dtype=dtype), 1.0)


def _assemble(
    factors: tuple[Float[Array, "p d"], Float[Array, "p d"]],
    queries: Float[Array, "k d"],
    held: np.ndarray,
    readout: Float[Array, "e v"],
    decay: float | Float[Array, ""],
) -> GatedLinearRNN:
    """Neurons that sum products of two linear functions, neurons that hold queries, and all products of both.

    `held[i, j]` is the neuron whose sum is multiplied with query `j` and belongs to row `i` of the memory.
    """
    dtype = readout.dtype
    (num_memory, width), num_queries = factors[0].shape, queries.shape[0]
    constant = jnp.zeros((num_queries, width + 1), dtype).at[:, -1].set(1)

    def with_constant(weights: Float[Array, "r d"]) -> Float[Array, "r a"]:
        return jnp.pad(weights, [(0, 0), (0, 1)])

    neurons = jnp.eye(num_memory + num_queries, dtype=dtype)
    kept = jnp.concatenate([jnp.full(num_memory, decay, dtype), jnp.zeros(num_queries, dtype)])
    return GatedLinearRNN(
        rate=rates_of(kept),
        input=with_constant(jnp.concatenate([factors[0], queries])),
        input_gate=jnp.concatenate([with_constant(factors[1]), constant]),
        output=neurons[held.ravel()],
        output_gate=neurons[num_memory + np.tile(np.arange(num_queries), held.shape[0])],
        readout=jnp.repeat(readout, num_queries, axis=1),
    )
