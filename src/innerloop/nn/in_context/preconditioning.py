"""Preconditioning before a step of gradient descent: Richardson and Chebyshev iterations, also as attention layers."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from ...core.errors import require
from ..attention.linear_attention import LinearSelfAttention
from ..language.block import Stack
from ..projections import Projections
from ..sequence import AbstractSequenceLayer, Form, check_form, check_resets, check_width
from .sequence_gd import BLOCKS, SequenceRegressor, before, block_rows, causal_scores, sequence_gd_layer


def chebyshev_coefficients(
    smallest: float | Float[Array, ""], largest: float | Float[Array, ""], steps: int
) -> tuple[Float[Array, "k"], Float[Array, "k"]]:
    r"""The coefficients $\alpha, \beta$ with which `preconditioned` converges fastest for eigenvalues in an interval.

    From $x^0 = 0$, with $\kappa$ the largest over the smallest eigenvalue and $x^*$ the solution,

    $$\lVert x^K - x^* \rVert \le 2 \left(\tfrac{\sqrt\kappa - 1}{\sqrt\kappa + 1}\right)^K \lVert x^* \rVert$$

    ```python
    >>> import innerloop as il
    >>> alphas, betas = il.chebyshev_coefficients(1.0, 3.0, steps=3)
    >>> [round(float(alpha), 4) for alpha in alphas], [round(float(beta), 4) for beta in betas]
    ([0.5, 0.5714, 0.5385], [0.0, 0.1429, 0.0769])

    ```

    **Reference:** Golub and Varga (1961), Numerische Mathematik 3, on semi-iterative methods.

    **Errors:** `ValueError` for a number of steps below zero or eigenvalues out of order.
    """
    require(steps >= 0, f"steps must not be negative, but is {steps}")
    if isinstance(smallest, float) and isinstance(largest, float):
        require(0 < smallest < largest, f"eigenvalues lie in 0 < smallest < largest, not {smallest} and {largest}")
    centre = (jnp.asarray(largest, float) + smallest) / 2.0
    half = (jnp.asarray(largest, float) - smallest) / 2.0
    alphas, betas, ratio = [1.0 / centre], [jnp.zeros_like(centre)], half / centre
    for _ in range(steps - 1):
        following = 1.0 / (2.0 * centre / half - ratio)
        alphas.append(2.0 * following / half)
        betas.append(following * ratio)
        ratio = following
    return jnp.stack(alphas[:steps] or [centre])[:steps], jnp.stack(betas[:steps] or [centre])[:steps]


def preconditioned(
    observations: Float[Array, "t n"],
    alphas: Float[Array, "k"],
    betas: Float[Array, "k"],
    *,
    ridge: float | Float[Array, ""] = 0.0,
    start: float | Float[Array, ""] = 1.0,
    limit: float | None = None,
) -> Float[Array, "k+1 t n"]:
    r"""All iterates of each observation multiplied with the inverse second moment of the observations before it.

    $$x^{K+1} = x^K + \alpha_K (s_t - A_t x^K) + \beta_K (x^K - x^{K-1}), \qquad
      A_t = \sum_{t' < t} s_{t'} s_{t'}^\top + \rho I$$

    from $x^0 = c \, s_t$ goes to $A_t^{-1} s_t$: Richardson's iteration for $\beta = 0$, Chebyshev's with
    `chebyshev_coefficients`.

    **Arguments:**

    - `observations`: $s_1, \dots, s_T$.
    - `alphas`, `betas`: one number per step; the first $\beta$ has nothing to act on.
    - `ridge`: $\rho$; the paper's $1/\lambda$.
    - `start`: $c$.
    - `limit`: the largest magnitude of an entry after a step; `None` is no limit.

    **Reference:** von Oswald et al. (2023), arXiv 2309.05858, proposition 2. Its Neumann series
    $\sum_k (I - A)^k s$ is the case $\alpha = 1$, which converges for $\lVert I - A \rVert < 1$ only.

    **Errors:** `ValueError` for different numbers of `alphas` and `betas`.
    """
    require(
        alphas.shape == betas.shape and alphas.ndim == 1,
        f"alphas and betas have one number per step each, not shapes {alphas.shape} and {betas.shape}",
    )
    keys = before(observations)
    iterates = [start * observations]
    last = iterates[0]
    for alpha, beta in zip(alphas, betas, strict=True):
        x = iterates[-1]
        missing = observations - causal_scores(x, keys) @ keys - ridge * x
        new = x + alpha * missing + beta * (x - last)
        iterates.append(new if limit is None else jnp.clip(new, -limit, limit))
        last = x
    return jnp.stack(iterates)


def preconditioned_gd(
    observations: Float[Array, "t n"],
    alphas: Float[Array, "k"],
    betas: Float[Array, "k"],
    *,
    step_size: float | Float[Array, ""] = 1.0,
    ridge: float | Float[Array, ""] = 0.0,
    start: float | Float[Array, ""] = 1.0,
    limit: float | None = None,
) -> Float[Array, "t n"]:
    r"""One step of gradient descent from zero, with the observations preconditioned by some steps before it.

    $$\hat s_{t+1} = \eta \sum_{t' < t} s_{t'+1} \, (s_{t'} \cdot x^K)$$

    What `len(alphas) + 1` layers of linear attention can do; with $x^K = A_t^{-1} s_t$ and $\eta = 1$ it is ridge
    regression.

    **Arguments:** see `preconditioned`; `step_size` is $\eta$, and `limit` holds for the prediction too.

    **Reference:** von Oswald et al. (2023), arXiv 2309.05858, proposition 2.

    **Errors:** see `preconditioned`.
    """
    queries = preconditioned(observations, alphas, betas, ridge=ridge, start=start, limit=limit)[-1]
    prediction = step_size * (causal_scores(queries, before(observations)) @ observations)
    return prediction if limit is None else jnp.clip(prediction, -limit, limit)


class MixedLayer(AbstractSequenceLayer):
    r"""A layer added to a linear map of its tokens: $y_t = e_t M + \mathrm{layer}(e)_t$.

    Attention compares tokens with each other; what a token does to its own blocks is a map of its own. With
    $M = I$ it is a residual layer.

    **Arguments:**

    - `layer`: the layer.
    - `mixing`: $M$.

    **Errors:** `ValueError` for a map of another width.
    """

    layer: AbstractSequenceLayer
    mixing: Float[Array, "d d"]

    def __check_init__(self):
        shape = (self.layer.width, self.layer.width)
        require(self.mixing.shape == shape, f"the mixing has shape {self.mixing.shape}, not {shape}")

    @property
    def width(self) -> int:
        """The size of one input token."""
        return self.layer.width

    def init_state(self) -> PyTree:
        """The state of the layer."""
        return self.layer.init_state()

    def step(self, state: PyTree, x: Float[Array, "d"]) -> tuple[PyTree, Float[Array, "d"]]:
        """One token: the state after it, and its output."""
        state, y = self.layer.step(state, x)
        return state, x @ self.mixing + y

    def __call__(
        self,
        xs: Float[Array, "t d"],
        state: PyTree | None = None,
        *,
        form: Form = "chunk",
        resets: Bool[Array, "t"] | None = None,
    ) -> tuple[Float[Array, "t d"], PyTree]:
        """A whole sequence, causally; see `AbstractSequenceLayer`."""
        check_form(form)
        check_width(self, xs)
        check_resets(self, xs, resets)
        ys, state = self.layer(xs, state, form=form, resets=resets)
        return xs @ self.mixing + ys, state


def preconditioned_gd_model(
    size: int,
    alphas: Float[Array, "k"],
    betas: Float[Array, "k"],
    *,
    step_size: float | Float[Array, ""] = 1.0,
    ridge: float | Float[Array, ""] = 0.0,
    start: float | Float[Array, ""] = 1.0,
) -> SequenceRegressor:
    r"""`preconditioned_gd` as layers of causal linear self-attention on constructed tokens.

    In each but the last layer one head, with $s_{t-1}$ as key and as value and $x^K$ as query, multiplies $x^K$
    with the second moment of the observations before, and the first block keeps $x^{K-1}$; the last layer is
    `sequence_gd_layer`.

    ```python
    >>> import jax, jax.numpy as jnp
    >>> import innerloop as il
    >>> observations = jax.random.normal(jax.random.key(0), (7, 3))
    >>> alphas, betas = il.chebyshev_coefficients(1.0, 9.0, steps=2)
    >>> model = il.preconditioned_gd_model(3, alphas, betas, ridge=1.0)
    >>> predictions = il.preconditioned_gd(observations, alphas, betas, ridge=1.0)
    >>> bool(jnp.allclose(model(il.constructed_tokens(observations)), predictions, atol=1e-5))
    True

    ```

    **Arguments:** see `preconditioned_gd`; `size` is that of an observation.

    **Reference:** von Oswald et al. (2023), arXiv 2309.05858, proposition 2.

    **Errors:** `ValueError` for a size below one.
    """
    require(size >= 1, f"size must be at least 1, not {size}")
    identity = jnp.eye(size, dtype=alphas.dtype)
    layers = []
    for step, (alpha, beta) in enumerate(zip(alphas, betas, strict=True)):
        beta = beta if step else jnp.zeros_like(beta)  # the first block still keeps no iterate
        mixing = {
            (1, 0): 1.0,
            (1, 1): 1.0 - alpha * ridge + beta,
            (2, 1): alpha,
            (0, 1): -beta,
            (2, 2): 1.0,
            (3, 3): 1.0,
        }
        attention = LinearSelfAttention(
            Projections(
                query=block_rows(size, {1: identity})[None],
                key=block_rows(size, {3: identity})[None],
                value=-alpha * block_rows(size, {3: identity})[None],
                output=block_rows(size, {1: identity}).T[None],
            )
        )
        layers.append(MixedLayer(attention, _mix(mixing, identity)))
    # What the first block kept makes room for the prediction.
    descent = LinearSelfAttention(sequence_gd_layer(size, step_size).projections)
    descent = eqx.tree_at(lambda layer: layer.projections, descent, _cast(descent.projections, identity.dtype))
    layers.append(MixedLayer(descent, _mix({(1, 1): 1.0, (2, 2): 1.0, (3, 3): 1.0}, identity)))
    first = layers[0]
    scale = jnp.ones((BLOCKS * size,), identity.dtype).at[size : 2 * size].set(jnp.asarray(start, identity.dtype))
    first = eqx.tree_at(
        lambda layer: (layer.mixing, layer.layer.projections.query),
        first,
        (scale[:, None] * first.mixing, scale[None, :, None] * first.layer.projections.query),
    )
    return SequenceRegressor(Stack((first, *layers[1:])), size)


def _mix(entries: dict[tuple[int, int], float | Float[Array, ""]], identity: Float[Array, "n n"]):
    blocks = jnp.zeros((BLOCKS, BLOCKS), identity.dtype)
    for place, value in entries.items():
        blocks = blocks.at[place].set(jnp.asarray(value, identity.dtype))
    return jnp.kron(blocks, identity)


def _cast(projections: Projections, dtype) -> Projections:
    names = ("query", "key", "value", "output")
    return Projections(**{name: getattr(projections, name).astype(dtype) for name in names})
