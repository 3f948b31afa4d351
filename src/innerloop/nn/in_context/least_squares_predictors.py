"""Predictors of the next observation that need no training: least squares, and kernel regression."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...core.errors import require
from ..attention.softmax_attention import masked_softmax


def stack_windows(observations: Float[Array, "t n"], window: int) -> Float[Array, "t m"]:
    r"""The last `window` observations side by side, oldest first: $z_t = [s_{t-k+1}, \dots, s_t]$.

    Zero where the sequence is still shorter than the window. If the system is linear and noiseless and
    $k n_s \ge n_h$, the next window is a linear function of the window, though an observation alone tells less
    than the state: $z_{t+1} = O_k W O_k^\dagger z_t$ with $O_k = [C; CW; \dots; CW^{k-1}]$.

    **Reference:** von Oswald et al. (2023), arXiv 2309.05858 (partially observed systems).

    **Errors:** `ValueError` for a window below one.
    """
    require(window >= 1, f"window must be at least 1, not {window}")
    length = observations.shape[0]
    padded = jnp.pad(observations, [(window - 1, 0), (0, 0)])
    windows = jnp.concatenate([padded[shift : shift + length] for shift in range(window)], axis=-1)
    complete = jnp.arange(length) >= window - 1
    return jnp.where(complete[:, None], windows, 0.0)


def least_squares_predictor(
    observations: Float[Array, "t n"],
    ridge: float | Float[Array, ""] = 0.0,
    *,
    window: int = 1,
) -> Float[Array, "t n"]:
    r"""The prediction of each next observation by ridge regression on all pairs seen so far.

    $$\hat s_{t+1} = \Phi_t z_t, \qquad
      \Phi_t = \arg\min_\Phi \sum_{t' < t} \lVert s_{t'+1} - \Phi z_{t'} \rVert^2 + \rho \lVert \Phi \rVert^2$$

    With a `ridge` of exactly the float 0 it is the smallest of all minimisers. Exact as soon as the context spans
    the space, if there is no noise.

    ```python
    >>> import jax, jax.numpy as jnp
    >>> import innerloop as il
    >>> example = il.LinearSystem(2, length=8, process_noise=0.0).sample(jax.random.key(0))
    >>> wrong = jnp.abs(il.least_squares_predictor(example.inputs) - example.target).max(axis=1)
    >>> (wrong > 1e-3).tolist()
    [True, True, False, False, False, False, False, False]

    ```

    **Arguments:**

    - `observations`: $s_1, \dots, s_T$.
    - `ridge`: $\rho$.
    - `window`: of how many observations $z_t$ consists, see `stack_windows`; incomplete ones are not fitted.

    **Reference:** von Oswald et al. (2023), arXiv 2309.05858.

    **Errors:** `ValueError` for a negative ridge or a window below one.
    """
    windows = stack_windows(observations, window)
    keys = jnp.concatenate([jnp.zeros_like(windows[:1]), windows[:-1]])
    return least_squares(keys, observations, windows, ridge)


def least_squares(
    inputs: Float[Array, "t d"],
    targets: Float[Array, "t o"],
    queries: Float[Array, "t d"],
    ridge: float | Float[Array, ""] = 0.0,
) -> Float[Array, "t o"]:
    r"""Ridge regression along a sequence: query $t$ is answered from the pairs up to and with number $t$.

    A pair whose input is zero counts for nothing. With a `ridge` of exactly the float 0, the smallest minimiser.

    **Errors:** `ValueError` for a negative ridge.
    """
    require(not isinstance(ridge, float) or ridge >= 0, f"ridge must not be negative, but is {ridge}")
    moments = jnp.cumsum(inputs[:, :, None] * inputs[:, None, :], axis=0)
    products = jnp.cumsum(inputs[:, :, None] * targets[:, None, :], axis=0)
    if isinstance(ridge, float) and ridge == 0.0:
        solutions = jnp.einsum("tij,tj->ti", jnp.linalg.pinv(moments, hermitian=True), queries)
    else:
        identity = jnp.eye(inputs.shape[1], dtype=moments.dtype)[None]
        factors = jax.scipy.linalg.cho_factor(moments + ridge * identity, lower=True)
        solutions = jax.scipy.linalg.cho_solve(factors, queries[..., None])[..., 0]
    return jnp.einsum("ti,tio->to", solutions, products)


def kernel_regression_predictor(
    observations: Float[Array, "t n"], sharpness: float | Float[Array, ""]
) -> Float[Array, "t n"]:
    r"""The prediction of each next observation as a mean of those that followed similar ones.

    $$\hat s_{t+1} = \sum_{t' < t} s_{t'+1} \, \mathrm{softmax}_{t'}(\beta \, s_{t'} \cdot s_t)$$

    What one softmax attention layer does when neighbouring observations are bound together. Zero without context.

    **Arguments:**

    - `observations`: $s_1, \dots, s_T$.
    - `sharpness`: $\beta$.

    **Reference:** von Oswald et al. (2023), arXiv 2309.05858 (softmax attention).
    """
    length = observations.shape[0]
    if length < 2:
        return jnp.zeros_like(observations)
    scores = sharpness * (observations @ observations[:-1].T)
    visible = jnp.arange(length - 1)[None, :] < jnp.arange(length)[:, None]
    return masked_softmax(scores[None], visible[None])[0] @ observations[1:]
