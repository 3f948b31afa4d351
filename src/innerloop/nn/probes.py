"""Linear probes: what can be read off the tokens inside a model, by one decoder for each position."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..core.errors import require


class LinearProbes(eqx.Module):
    r"""One affine decoder for each position, fitted by ridge regression on some sequences and judged on others.

    $$\min_{D_t, d_t} \frac1B \sum_b \lVert D_t a_{b,t} + d_t - y_{b,t} \rVert^2
      + \rho \, \frac{\operatorname{tr} C_t}{d} \lVert D_t \rVert^2$$

    with $C_t$ the covariance of the activations at position $t$. A decoder shared by all positions would miss what
    is written differently at each; one judged on the sequences it was fitted to would find what is not there.

    ```python
    >>> import jax
    >>> from innerloop.nn import LinearProbes
    >>> activations = jax.random.normal(jax.random.key(0), (400, 2, 5))
    >>> noise = jax.random.normal(jax.random.key(1), (400, 2, 1))
    >>> targets = activations[:, :, :1].at[:, 1].set(noise[:, 1])  # nothing to read at the second position
    >>> probes = LinearProbes.fit(activations[:200], targets[:200])
    >>> [round(float(error), 1) for error in probes.errors(activations[200:], targets[200:])]
    [0.0, 1.1]

    ```

    **Reference:** Alain and Bengio (2016), arXiv 1610.01644; von Oswald et al. (2023), arXiv 2309.05858.
    """

    weights: Float[Array, "t d k"]
    offsets: Float[Array, "t k"]

    @classmethod
    def fit(
        cls,
        activations: Float[Array, "b t d"],
        targets: Float[Array, "b t k"],
        *,
        ridge: float | Float[Array, ""] = 1e-5,
    ) -> "LinearProbes":
        r"""The decoders of least error.

        **Arguments:**

        - `activations`: the tokens of many sequences.
        - `targets`: what to decode from them.
        - `ridge`: $\rho$, in units of the mean variance of the activations.

        **Errors:** `ValueError` for axes that do not fit, and for fewer than two sequences per activation: such a
        decoder fits anything.
        """
        _check(activations, targets)
        count, _, width = activations.shape
        require(
            count >= 2 * width,
            f"{count} sequences are too few for decoders of {width} activations: at least {2 * width}, better 20 each",
        )
        mean, target_mean = jnp.mean(activations, axis=0), jnp.mean(targets, axis=0)
        centred, target_centred = activations - mean[None], targets - target_mean[None]
        covariance = jnp.einsum("btd,bte->tde", centred, centred) / count
        products = jnp.einsum("btd,btk->tdk", centred, target_centred) / count
        size = jnp.trace(covariance, axis1=1, axis2=2) / width
        # Where nothing varies there is nothing to read, and the covariance must not be singular.
        size = jnp.where(size > 0, ridge * size, jnp.ones_like(size))
        regularised = covariance + size[:, None, None] * jnp.eye(width, dtype=covariance.dtype)[None]
        weights = jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(regularised, lower=True), products)
        return cls(weights, target_mean - jnp.einsum("td,tdk->tk", mean, weights))

    def __call__(self, activations: Float[Array, "b t d"]) -> Float[Array, "b t k"]:
        """What is decoded."""
        return jnp.einsum("btd,tdk->btk", activations, self.weights) + self.offsets[None]

    def errors(self, activations: Float[Array, "b t d"], targets: Float[Array, "b t k"]) -> Float[Array, "t"]:
        """The mean squared error at each position over the variance of the targets: 0 is all, 1 is nothing.

        Take other sequences than those of `fit`.
        """
        _check(activations, targets)
        error = jnp.mean(jnp.sum((self(activations) - targets) ** 2, axis=-1), axis=0)
        variance = jnp.sum(jnp.var(targets, axis=0), axis=-1)
        return error / jnp.where(variance > 0, variance, jnp.ones_like(variance))


def _check(activations, targets) -> None:
    require(
        activations.ndim == 3 and targets.ndim == 3 and activations.shape[:2] == targets.shape[:2],
        f"activations [b t d] and targets [b t k] share their first axes, not {activations.shape} and {targets.shape}",
    )
