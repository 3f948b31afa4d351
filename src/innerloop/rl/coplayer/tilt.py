"""The policy that improves on a prior as far as it may move: Boltzmann's tilt."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from ...core.errors import require


def boltzmann_tilt(
    logits: Float[Array, "*n a"], action_values: Float[Array, "*n a"], beta: ArrayLike
) -> Float[Array, "*n a"]:
    r"""The log-probabilities of $\pi(a) \propto p(a)\,e^{\beta Q(a)}$.

    It is the policy that maximises $\sum_a \pi(a)\,Q(a) - \mathrm{KL}(\pi \| p)/\beta$, of which
    `tilt_objective` is the value.

    ```python
    >>> import jax, jax.numpy as jnp
    >>> from innerloop.rl import boltzmann_tilt
    >>> tilted = boltzmann_tilt(jnp.zeros(2), jnp.asarray([1.0, 0.0]), 2.0)
    >>> round(float(jnp.exp(tilted[0])), 4), round(float(jax.nn.sigmoid(2.0)), 4)
    (0.8808, 0.8808)

    ```

    **Arguments:**

    - `logits`: of the prior $p$, normalised or not.
    - `action_values`: $Q$; a constant added to all changes nothing.
    - `beta`: how far the policy may move; 0 is the prior itself.

    **Reference:** Weis et al. (2026), arXiv 2602.16301.
    """
    beta = jnp.asarray(beta, logits.dtype)
    return jax.nn.log_softmax(jax.nn.log_softmax(logits) + beta * action_values)


def tilt_objective(
    policy: Float[Array, "*n a"], prior: Float[Array, "*n a"], action_values: Float[Array, "*n a"], beta: ArrayLike
) -> Float[Array, "*n"]:
    r"""What the tilt maximises: $\sum_a \pi Q - \mathrm{KL}(\pi \| p)/\beta$, from log-probabilities."""
    weights = jnp.exp(policy)
    beta = jnp.asarray(beta, policy.dtype)
    return jnp.sum(weights * (action_values - (policy - prior) / beta), axis=-1)


def repeated_tilt(
    logits: Float[Array, "*n a"], action_values: Float[Array, "*n a"], beta: ArrayLike, *, times: int
) -> Float[Array, "*n a"]:
    r"""The log-probabilities after several tilts, each policy learned exactly and made the next prior.

    Small steps add up: with fixed values,
    $\log\frac{\pi_K(a)}{\pi_K(b)} = \log\frac{p(a)}{p(b)} + K\beta\,(Q(a) - Q(b))$.

    **Errors:** `ValueError` for a negative number of times.
    """
    require(times >= 0, f"times must not be negative, but is {times}")

    def once(logits: Float[Array, "*n a"], _: None):
        return boltzmann_tilt(logits, action_values, beta), None

    return jax.lax.scan(once, jax.nn.log_softmax(logits), None, length=times)[0]
