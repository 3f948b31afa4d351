"""Random memory-one players: who a learner meets besides other learners."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from ...core.errors import require

NUM_VIEWS = 5  # start, CC, CD, DC, DD: the player's own action first
SWAP = np.asarray([0, 1, 3, 2, 4])  # what the other player sees at each of them
LEAST_PROBABILITY = 1e-3  # in the vector that tells who somebody is: a logarithm of zero helps nobody


class TabularPool(eqx.Module):
    r"""Players who look at the last round only, each entry of their table drawn by itself.

    A player cooperates with probability $q_s$ after its own view $s$ of the last round (start, CC, CD, DC, DD; own
    action first), and $q_s \sim \mathrm{Beta}(a, a)$. $a = 1$ is the uniform law. There, always defecting is close to
    the best answer to nearly everybody; below 1 the law is U-shaped, players are nearly deterministic, and it pays
    to find out who one plays with.

    ```python
    >>> import jax
    >>> from innerloop.rl import TabularPool
    >>> TabularPool(1.0).sample(jax.random.key(0)).shape
    (5,)

    ```

    **Reference:** Weis et al. (2026), arXiv 2602.16301 (the uniform law).

    **Errors:** `ValueError` for a concentration that is not above zero.
    """

    concentration: float | Float[Array, ""] = 1.0

    def __check_init__(self):
        if isinstance(self.concentration, (int, float)):
            require(self.concentration > 0, f"concentration must be above 0, not {self.concentration:g}")

    def sample(self, key: Key[Array, ""]) -> Float[Array, "5"]:
        """One player: the probability of cooperation at each of its own views."""
        both = jnp.full(2, self.concentration, jnp.zeros(()).dtype)
        return jax.random.dirichlet(key, both, (NUM_VIEWS,))[:, 0]  # compiles twice as fast as `jax.random.beta`


def swap_view(observation: Int[Array, "*n"]) -> Int[Array, "*n"]:
    """What the other player sees when this one sees `observation`: CD and DC change places."""
    return jnp.asarray(SWAP, observation.dtype)[observation]


def identity_vector(cooperation: Float[Array, "5"]) -> Float[Array, "10"]:
    r"""Who a tabular player is, in ten numbers: $\log \pi(a \mid o)$ for every observation and action.

    Learners are ten zeros (`jnp.zeros(10)`). Probabilities are held inside [0.001, 0.999].
    """
    safe = jnp.clip(cooperation, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    return jnp.log(jnp.stack([safe, 1 - safe], axis=1)).reshape(-1)
