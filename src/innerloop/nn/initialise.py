"""How weights are drawn."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

# The standard deviation of a standard normal truncated at two.
_TRUNCATED_STD = 0.87962566103423978


def truncated_normal(
    key: Key[Array, ""], shape: tuple[int, ...], *, fan_in: int, variance: float | Float[Array, ""] = 1.0
) -> Float[Array, "..."]:
    r"""Weights of mean zero and variance `variance / fan_in`, from a normal law truncated at two deviations.

    $$w \sim \mathcal N(0, s^2) \text{ given } |w| \le 2 s, \quad \mathrm{Var}[w] = \sigma^2 / \text{fan-in}$$

    ```python
    >>> import jax
    >>> from innerloop.nn import truncated_normal
    >>> weights = truncated_normal(jax.random.key(0), (100, 100), fan_in=100)
    >>> round(float(weights.std()), 2)
    0.1

    ```
    """
    scale = jnp.sqrt(jnp.asarray(variance, float) / fan_in) / _TRUNCATED_STD
    return scale * jax.random.truncated_normal(key, -2.0, 2.0, shape)
