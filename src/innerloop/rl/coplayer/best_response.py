"""The best answer to a known memory-one player, by dynamic programming, and what two such players earn."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from ...envs.matrix_games import PRISONERS_DILEMMA
from .tabular_pool import SWAP


class Plan(NamedTuple):
    """What is best with `i + 1` rounds to go, for each view of the planner."""

    action_values: Float[Array, "h 5 2"]
    values: Float[Array, "h 5"]
    actions: Int[Array, "h 5"]


def best_response(cooperation: Float[Array, "5"], horizon: int, payoffs: ArrayLike = PRISONERS_DILEMMA) -> Plan:
    r"""The best answer to a memory-one player who is known, with finitely many rounds to go.

    $Q_h(s, u) = \sum_v P(v \mid s)\,[R_{uv} + V_{h-1}(uv)]$, $V_h = \max_u Q_h$, $V_0 = 0$ on the five views $s$ of
    the planner. Ties are broken for cooperation.

    ```python
    >>> import jax.numpy as jnp
    >>> from innerloop.rl import best_response
    >>> tit_for_tat = jnp.asarray([1.0, 1.0, 0.0, 1.0, 0.0])
    >>> plan = best_response(tit_for_tat, 10)
    >>> float(plan.values[-1, 0]), plan.actions[:, 1].tolist()
    (11.0, [1, 0, 0, 0, 0, 0, 0, 0, 0, 0])

    ```

    **Arguments:**

    - `cooperation`: the probability with which the co-player cooperates at **its** own views.
    - `horizon`: how many rounds are left.
    - `payoffs`: of the planner, own action first.
    """
    table = jnp.asarray(payoffs, cooperation.dtype)
    seen = cooperation[SWAP]  # at the planner's own views
    other = jnp.stack([seen, 1 - seen], axis=1)

    def back(values: Float[Array, "5"], _: None):
        worth = table + values[1:].reshape(2, 2)
        action_values = other @ worth.T
        values = jnp.max(action_values, axis=1)
        return values, Plan(action_values, values, jnp.argmax(action_values, axis=1).astype(jnp.int32))

    return jax.lax.scan(back, jnp.zeros_like(cooperation), None, length=horizon)[1]


def joint_chain(
    first: Float[Array, "5"], second: Float[Array, "5"], payoffs: ArrayLike = PRISONERS_DILEMMA
) -> tuple[Float[Array, "5 5"], Float[Array, "5 2"]]:
    """Two memory-one players as a Markov chain on the views of the first one.

    **Returns:** the transition matrix (rows sum to one; nothing leads back to the start), and what either player
    expects to earn in the round that begins at each view.
    """
    table = jnp.asarray(payoffs, first.dtype)
    a, b = first, second[SWAP]
    pairs = jnp.stack([a * b, a * (1 - b), (1 - a) * b, (1 - a) * (1 - b)], axis=1)
    transitions = jnp.concatenate([jnp.zeros((5, 1), first.dtype), pairs], axis=1)
    rewards = jnp.stack([pairs @ table.reshape(-1), pairs @ table.T.reshape(-1)], axis=1)
    return transitions, rewards


def chain_rewards(
    first: Float[Array, "5"],
    second: Float[Array, "5"],
    num_rounds: int,
    payoffs: ArrayLike = PRISONERS_DILEMMA,
    *,
    start: int = 0,
) -> Float[Array, "t 2"]:
    """What two memory-one players expect to earn in each round, exactly: powers of the transition matrix.

    **Arguments:**

    - `first`, `second`: probabilities of cooperation, each at its player's own views.
    - `num_rounds`: how many rounds.
    - `payoffs`: own action first, for both alike.
    - `start`: the first player's view before the first of these rounds.
    """
    transitions, rewards = joint_chain(first, second, payoffs)

    def advance(occupancy: Float[Array, "5"], _: None):
        return occupancy @ transitions, occupancy @ rewards

    begin = jnp.asarray(np.eye(5)[start], first.dtype)
    return jax.lax.scan(advance, begin, None, length=num_rounds)[1]
