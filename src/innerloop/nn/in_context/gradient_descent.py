"""Gradient descent on the context: explicitly, and as the weights of a linear self-attention layer."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...core.errors import require
from ..attention.linear_attention import LinearSelfAttention
from ..projections import Projections
from .regressor import InContextRegressor
from .residual_stack import ResidualStack


def in_context_gd(
    x: Float[Array, "n d"],
    y: Float[Array, "n o"],
    queries: Float[Array, "m d"],
    *,
    learning_rate: float | Float[Array, ""],
    steps: int = 1,
    w0: Float[Array, "o d"] | None = None,
    gamma: float | Float[Array, ""] = 0.0,
    weights: Float[Array, "n"] | None = None,
) -> Float[Array, "m o"]:
    r"""The predictions of a linear model after `steps` steps of gradient descent, or of GD++, on a context.

    $$L(W) = \frac{1}{2N} \sum_j a_j \lVert W x_j - y_j \rVert^2, \qquad W \leftarrow W - \eta \nabla L(W)$$

    from $W_0$ (zero by default). With $\gamma \ne 0$ each step also transforms all inputs, queries too, which
    pre-conditions the following steps. With residuals $r_j = y_j - W_0 x_j$, and $r = 0$ for a query at
    first, all of them change at once:

    $$r_i \leftarrow r_i - \frac{\eta}{N} \sum_j a_j (x_i \cdot x_j) r_j, \qquad
      x_i \leftarrow x_i - \gamma \sum_j a_j (x_i \cdot x_j) x_j$$

    and the prediction is $W_0 x - r$, with the query as it was given.

    ```python
    >>> import jax.numpy as jnp
    >>> from innerloop.nn import in_context_gd
    >>> x = 2.0 * jnp.eye(3)
    >>> in_context_gd(x, x @ jnp.ones((3, 1)), jnp.ones((1, 3)), learning_rate=3 / 4)
    Array([[3.]], dtype=float32)

    ```

    **Arguments:**

    - `x`, `y`: the context.
    - `queries`: the inputs to predict for.
    - `learning_rate`: the step size $\eta$, of the *mean* loss: it is divided by $N$ in the sums above.
    - `steps`: how many steps.
    - `w0`: the weights at the start.
    - `gamma`: the strength of the transformation of the inputs; not divided by $N$.
    - `weights`: $a_j$, by default 1: an example of weight 2 counts as two examples, $N$ staying what it is.

    **Reference:** von Oswald et al. (2023), arXiv 2212.07677 (gradient descent) and appendix
    (GD++).

    **Errors:** `ValueError` for axes that do not fit.
    """
    require(steps >= 0, f"steps must not be negative, but is {steps}")
    require(x.shape[0] == y.shape[0], f"axis 'n' has size {x.shape[0]} in x, but {y.shape[0]} in y")
    require(
        x.shape[1] == queries.shape[1],
        f"axis 'd' has size {x.shape[1]} in x, but {queries.shape[1]} in queries",
    )
    rate = learning_rate / max(x.shape[0], 1)
    residuals = y if w0 is None else y - x @ w0.T
    start = jnp.zeros((queries.shape[0], y.shape[1]), y.dtype) if w0 is None else queries @ w0.T
    # A number known to be zero while tracing leaves the inputs as they are: half of the work.
    transforms = not (isinstance(gamma, float) and gamma == 0.0)
    moved = jnp.zeros_like(start)
    for _ in range(steps):
        weighted = x if weights is None else x * weights[:, None]
        gradient = weighted.T @ residuals
        moved = moved + rate * (queries @ gradient)
        residuals = residuals - rate * (x @ gradient)
        if transforms:
            second_moment = weighted.T @ x
            queries = queries - gamma * (queries @ second_moment)
            x = x - gamma * (x @ second_moment)
    return start + moved


def gd_construction(
    dim: int,
    outputs: int,
    num_context: int,
    learning_rate: float | Float[Array, ""],
    *,
    w0: Float[Array, "o d"] | None = None,
    gamma: float | Float[Array, ""] = 0.0,
    dtype: jnp.dtype | None = None,
) -> LinearSelfAttention:
    r"""The linear self-attention layer that is one step of gradient descent, or of GD++.

    For tokens $[x_j, y_j]$ as rows:

    $$W^Q = W^K = \mathrm{diag}(I, 0), \quad v_j = [x_j, \, W_0 x_j - y_j], \quad
      W^O = \mathrm{diag}(-\gamma I, \, \tfrac{\eta}{N} I)$$

    so that as a residual layer it takes $y_i$ to $y_i - \Delta W x_i$ with
    $\Delta W = \tfrac{\eta}{N} \sum_j (y_j - W_0 x_j) x_j^\top$, and $x_i$ to $(I - \gamma X^\top X) x_i$.
    The query token starts as $[x, -W_0 x]$ and ends with minus the prediction. Both numbers may be traced:
    they can be learned by gradient and swept by `vmap`.

    The tokens keep $W_0 x_j$ inside their label entry, hence for several steps of plain gradient descent
    *every* layer needs the same $W_0$. With $\gamma \ne 0$ the inputs change meanwhile and a repeated layer
    with $W_0 \ne 0$ is not GD++; `gd_model` takes $W_0$ out of the labels beforehand, which is right in both
    cases.

    **Arguments:**

    - `dim`, `outputs`: the sizes of an input and of a label.
    - `num_context`: $N$.
    - `learning_rate`, `gamma`, `w0`: as in `in_context_gd`.
    - `dtype`: of the weights; by default that of the arrays among the numbers, or else JAX's default.

    **Reference:** von Oswald et al. (2023), arXiv 2212.07677, proposition 1 (GD++: appendix).

    **Errors:** `ValueError` for sizes below one or a `w0` of another shape.
    """
    for name, size in dict(dim=dim, outputs=outputs, num_context=num_context).items():
        require(size >= 1, f"{name} must be at least 1, not {size}")
    if w0 is not None:
        require(w0.shape == (outputs, dim), f"w0 must have shape {(outputs, dim)} [o d], not {w0.shape}")
    if dtype is None:
        given = [number.dtype for number in (learning_rate, gamma, w0) if isinstance(number, jax.Array)]
        dtype = jnp.result_type(*given) if given else jnp.result_type(float)
    width = dim + outputs
    inputs, labels = jnp.eye(width, dtype=dtype)[:dim], jnp.eye(width, dtype=dtype)[dim:]
    compare = inputs.T @ inputs
    value = compare - labels.T @ labels
    if w0 is not None:
        value = value + inputs.T @ w0.T.astype(dtype) @ labels
    rate, shrink = jnp.asarray(learning_rate, dtype) / num_context, jnp.asarray(gamma, dtype)
    output = rate * (labels.T @ labels) - shrink * compare
    return LinearSelfAttention(
        Projections(query=compare[None], key=compare[None], value=value[None], output=output[None])
    )


def gd_model(
    dim: int,
    outputs: int,
    num_context: int,
    learning_rate: float | Float[Array, ""],
    *,
    steps: int = 1,
    w0: Float[Array, "o d"] | None = None,
    gamma: float | Float[Array, ""] = 0.0,
    dtype: jnp.dtype | None = None,
) -> InContextRegressor:
    r"""The transformer that is `steps` steps of gradient descent, or of GD++, with shared weights.

    It takes the tokens of the task, $[x_j, y_j]$ and $[x_q, 0]$. A start $W_0 \ne 0$ is a linear embedding
    $[x, y] \mapsto [x, y - W_0 x]$, the same for data and query.

    ```python
    >>> import jax.numpy as jnp
    >>> from innerloop.nn import gd_model
    >>> x, query = 2.0 * jnp.eye(3), jnp.ones((1, 3))
    >>> tokens = jnp.block([[x, x @ jnp.ones((3, 1))], [query, jnp.zeros((1, 1))]])
    >>> gd_model(3, 1, num_context=3, learning_rate=3 / 4)(tokens)
    Array([3.], dtype=float32)

    ```

    Arguments as in `gd_construction` and `in_context_gd`.

    **Reference:** von Oswald et al. (2023), arXiv 2212.07677.
    """
    require(steps >= 1, f"steps must be at least 1, not {steps}")
    layer = gd_construction(dim, outputs, num_context, learning_rate, gamma=gamma, dtype=dtype)
    embedding = None
    if w0 is not None:
        require(w0.shape == (outputs, dim), f"w0 must have shape {(outputs, dim)} [o d], not {w0.shape}")
        kind = layer.projections.query.dtype
        embedding = jnp.eye(dim + outputs, dtype=kind).at[:dim, dim:].set(-w0.T.astype(kind))
    return InContextRegressor(ResidualStack((layer,), num_repeats=steps), embedding=embedding, outputs=outputs)
