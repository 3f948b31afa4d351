"""Shaping a naive learner, and looking ahead of one, by exact gradients through his learning."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...core.errors import require
from .returns import Number, Payoffs, discounted_returns, naive_gradient


class NaiveTrajectory(NamedTuple):
    """A naive learner's way: where he starts, and where each of his steps takes him."""

    policies: Float[Array, "m s *a"]
    returns: Float[Array, "m 2"]  # of the policy that he learns against, and of his own


def naive_trajectory(
    ego: Float[Array, "s *a"],
    naive: Float[Array, "s *a"],
    payoffs: Payoffs,
    discount: Number,
    *,
    num_steps: int,
    rate: Number,
    normalised: bool = True,
) -> NaiveTrajectory:
    r"""Let a naive learner make `num_steps` steps against a policy that stays as it is.

    $$\psi_{m+1} = \psi_m + \eta \, \partial J_2(\theta, \psi_m) / \partial \psi_m$$

    Everything is differentiable in `ego`, through all steps.

    **Arguments:**

    - `ego`: the logits $\theta$ of the first player; see `discounted_returns`.
    - `naive`: the logits $\psi_0$ of the second player before learning.
    - `payoffs`, `discount`: the game.
    - `num_steps`: how many steps he makes; there is one more policy than steps.
    - `rate`: the step size $\eta$.
    - `normalised`: whether returns are per step ($1 - \gamma$ times their sum). It matters: a step along the raw
      return is $1/(1 - \gamma)$ times longer.

    **Errors:** `ValueError` for a negative number of steps.
    """
    require(num_steps >= 0, f"num_steps must not be negative, but is {num_steps}")
    tables = jnp.asarray(payoffs, ego.dtype)
    mirrored = tables if tables.ndim == 2 else tables[::-1]

    def advance(policy: Array, _: None) -> tuple[Array, tuple[Array, Array]]:
        earned = discounted_returns(ego, policy, tables, discount, normalised=normalised)
        gradient = naive_gradient(policy, ego, mirrored, discount, normalised=normalised)
        return policy + rate * gradient, (policy, earned)

    last, (policies, returns) = jax.lax.scan(advance, naive, None, length=num_steps)
    earned = discounted_returns(ego, last, tables, discount, normalised=normalised)
    return NaiveTrajectory(jnp.concatenate([policies, last[None]]), jnp.concatenate([returns, earned[None]]))


def shaping_objective(
    ego: Float[Array, "s *a"],
    naive: Float[Array, "s *a"],
    payoffs: Payoffs,
    discount: Number,
    *,
    num_steps: int,
    rate: Number,
    normalised: bool = True,
) -> Float[Array, ""]:
    r"""What a policy earns from a naive learner while he learns: the sum over his policies before, between and after.

    $$\bar J(\theta) = \sum_{m=0}^{M} J_1(\theta, \psi_m(\theta))$$

    Its gradient, `jax.grad(shaping_objective)`, is what a learning-aware agent follows.

    ```python
    >>> import jax, jax.numpy as jnp
    >>> from innerloop.envs import PRISONERS_DILEMMA
    >>> from innerloop.rl import shaping_objective
    >>> shape = lambda ego: shaping_objective(ego, jnp.zeros(5), PRISONERS_DILEMMA, 0.95, num_steps=20, rate=5.0)
    >>> gradient = jax.grad(shape)(jnp.full(5, -4.6))
    >>> ["start", "CC", "CD", "DC", "DD"][int(gradient.argmax())]
    'DC'

    ```

    **Arguments:** as of `naive_trajectory`.

    **Reference:** Meulemans et al. (2024), arXiv 2410.18636, appendix C.
    """
    way = naive_trajectory(ego, naive, payoffs, discount, num_steps=num_steps, rate=rate, normalised=normalised)
    return way.returns[:, 0].sum()


def look_ahead_objective(
    first: Float[Array, "s *a"],
    second: Float[Array, "s *a"],
    payoffs: Payoffs,
    discount: Number,
    *,
    look_aheads: int,
    rate: Number,
    normalised: bool = False,
) -> Float[Array, ""]:
    r"""LOLA: what the first player would earn after the second has made `look_aheads` naive steps.

    $$J_1\Big(\theta_1, \theta_2 + \sum_{q \le K} \Delta_q\Big), \qquad
      \Delta_q = \alpha \, \partial J_2 / \partial \theta_2 \text{ at the shifted point}$$

    The gradient, `jax.grad(look_ahead_objective)`, goes through the steps. It is the last term of the
    `shaping_objective` of a learner who starts where the co-player stands.

    **Arguments:** as of `naive_trajectory`; no look-aheads at all leave the return itself.

    **Reference:** Foerster et al. (2018), arXiv 1709.04326 and 1802.05098 (look-aheads by LOLA-DiCE).
    """
    way = naive_trajectory(first, second, payoffs, discount, num_steps=look_aheads, rate=rate, normalised=normalised)
    return way.returns[-1, 0]


def mixed_gradient(
    shaping: Float[Array, "*s"], partial: Float[Array, "*s"], naive_share: Number | Float[Array, "*s"]
) -> Float[Array, "*s"]:
    """The gradient in a pool of naive learners and learning-aware agents: a convex mixture of what both ask for.

    **Arguments:**

    - `shaping`: the gradient against naive learners (of a sum or a mean over their learning; or of LOLA).
    - `partial`: the gradient against another learning-aware agent as he is, `naive_gradient`.
    - `naive_share`: the weight of the first.

    **Errors:** `ValueError` for a share known not to lie between 0 and 1.
    """
    require(
        not isinstance(naive_share, (int, float)) or 0 <= naive_share <= 1,
        f"naive_share must lie between 0 and 1, not at {naive_share}",
    )
    return naive_share * shaping + (1 - naive_share) * partial
