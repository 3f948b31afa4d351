"""Two players choose at once, again and again: iterated matrix games."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from ..core.errors import require
from .environment import AbstractEnvironment, TimeStep
from .spaces import Discrete

# The row player's payoffs, own action first; action 0 cooperates.
PRISONERS_DILEMMA = np.asarray([[1.0, -1.0], [2.0, 0.0]])
CHICKEN = np.asarray([[0.0, -1.0], [1.0, -10.0]])
STAG_HUNT = np.asarray([[4.0, 0.0], [3.0, 2.0]])
MATCHING_PENNIES = np.stack([np.asarray([[1.0, -1.0], [-1.0, 1.0]]), np.asarray([[-1.0, 1.0], [1.0, -1.0]])])


class MatrixGameState(NamedTuple):
    """How many steps of the episode have been made."""

    time: Int[Array, ""]


class IteratedMatrixGame(AbstractEnvironment):
    r"""Two players with $a$ actions each, who see the last joint action.

    Observations are indices: 0 before the first move, then $1 + a\,u + v$, where $u$ was the player's **own** action
    and $v$ the other's; in a dilemma 1 to 4 are CC, CD, DC, DD. Player $i$ earns `payoffs[i, own, other]`. After
    `num_steps` steps the episode terminates: there is no future to be valued.

    ```python
    >>> import jax, jax.numpy as jnp
    >>> from innerloop.envs import IteratedMatrixGame, PRISONERS_DILEMMA
    >>> game = IteratedMatrixGame(PRISONERS_DILEMMA, num_steps=10)
    >>> start = game.reset(jax.random.key(0))
    >>> after = game.step(jax.random.key(1), start.state, jnp.asarray([0, 1]))
    >>> after.reward.tolist(), after.observation.tolist()
    ([-1.0, 2.0], [2, 3])

    ```

    **Errors:** `ValueError` for payoffs that are neither one square table nor two of one size.
    """

    payoffs: Float[Array, "2 a a"]
    num_steps: int = eqx.field(static=True)

    def __init__(self, payoffs, *, num_steps: int):
        """**Arguments:**

        - `payoffs`: `[own action, other's action]` for both players alike, or `[2, own action, other's action]`.
        - `num_steps`: how long an episode is.
        """
        table = jnp.asarray(payoffs, jnp.float32)
        shape = table.shape
        require(
            len(shape) in (2, 3) and shape[-1] == shape[-2] and shape[-1] >= 2 and (len(shape) == 2 or shape[0] == 2),
            "payoffs are one table [own action, other's action] for both players or two of them, [2, own action, "
            f"other's action], with at least two actions; not an array of shape {shape}",
        )
        require(num_steps >= 1, f"num_steps must be at least 1, not {num_steps}")
        self.payoffs = jnp.broadcast_to(table, (2, *shape[-2:]))
        self.num_steps = num_steps

    @property
    def num_agents(self) -> int:
        """Two."""
        return 2

    @property
    def num_actions(self) -> int:
        """How many actions each player has."""
        return self.payoffs.shape[-1]

    @property
    def observation_space(self) -> Discrete:
        """The start and every joint action."""
        return Discrete(1 + self.num_actions**2)

    @property
    def action_space(self) -> Discrete:
        """The rows of the table."""
        return Discrete(self.num_actions)

    def reset(self, key: Key[Array, ""]) -> TimeStep:
        """Nobody has moved."""
        no = jnp.asarray(False)
        zeros = jnp.zeros(2, self.payoffs.dtype)
        return TimeStep(MatrixGameState(jnp.asarray(0, jnp.int32)), jnp.zeros(2, jnp.int32), zeros, no, no, {})

    def step(self, key: Key[Array, ""], state: MatrixGameState, action: Int[Array, "2"]) -> TimeStep:
        """Both move at once."""
        other = action[::-1]
        time = state.time + 1
        return TimeStep(
            MatrixGameState(time),
            1 + self.num_actions * action + other,
            self.payoffs[jnp.arange(2), action, other],
            time >= self.num_steps,
            jnp.asarray(False),
            {},
        )
