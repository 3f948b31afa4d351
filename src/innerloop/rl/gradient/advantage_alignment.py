"""Advantage alignment: opponent shaping by one line more in the advantage."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .returns import Scalar


def aligned_advantages(
    own: Float[Array, "t"],
    others: Float[Array, "t n"],
    first: Bool[Array, "t"] | None = None,
    *,
    discount: Scalar,
    alignment: Scalar,
) -> Float[Array, "t"]:
    r"""Advantages that reward actions by which those gain who have been good to us.

    $$A^*_t = A_t + \beta\gamma \Big(\sum_{k < t} \gamma^{t-k} A_k\Big) \sum_j A^j_t$$

    The sum runs over the past of the episode. They take the place of ordinary advantages in any loss:
    `reinforce_loss`, `proximal_loss` (proximal advantage alignment). With `alignment=0` they are ordinary ones.

    ```python
    >>> import jax.numpy as jnp
    >>> from innerloop.rl import aligned_advantages
    >>> own, other = jnp.asarray([1.0, 0.0, 2.0]), jnp.asarray([[5.0], [1.0], [-1.0]])
    >>> aligned_advantages(own, other, discount=1.0, alignment=0.5).tolist()
    [1.0, 0.5, 1.5]

    ```

    **Arguments:**

    - `own`: the agent's own advantages.
    - `others`: those of all other agents at the same steps; their sum counts.
    - `first`: at which steps a new episode begins; by default only the first.
    - `discount`: of one step ($\gamma$).
    - `alignment`: how much alignment weighs ($\beta$).

    **Reference:** Duque, Aghajohari, Cooijmans, Ciuca, Zhang, Gidel & Courville (2024), arXiv 2406.14662.
    """
    first = jnp.zeros(own.shape, bool) if first is None else first

    def forward(past: Float[Array, ""], now: tuple) -> tuple[Float[Array, ""], Float[Array, ""]]:
        advantage, begins = now
        past = jnp.where(begins, jnp.zeros_like(past), past)
        return discount * (past + advantage), past

    past = jax.lax.scan(forward, jnp.zeros_like(own[0]), (own, first))[1]
    return own + alignment * discount * past * jnp.sum(others, axis=1)
