"""Many players decide whether to pay into a common pot: the linear public goods game, repeated."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int, Key

from ..core.errors import require
from .environment import AbstractEnvironment, TimeStep
from .spaces import Discrete


class PublicGoodsState(NamedTuple):
    """How many steps of the episode have been made."""

    time: Int[Array, ""]


class PublicGoods(AbstractEnvironment):
    r"""Each of $n$ players contributes an endowment $e$ to a common pot (action 0) or keeps it (action 1).

    The pot is multiplied by $r$ and shared equally, whoever paid: with $C$ contributors in all, player $i$ earns

    $$ e\,[i \text{ keeps}] + \frac{r\,e\,C}{n} . $$

    For $1 < r < n$ it is a dilemma: everybody is better off when all contribute, and each is better off by
    $e\,(1 - r/n)$ for keeping. Two players are an iterated matrix game, whose observations these are too: 0 before
    the first move, then $1 + n\,u + k$, where $u$ was the player's own action and $k$ the number of the *others* who
    kept. Nobody sees who it was. After `num_steps` steps the episode terminates.

    ```python
    >>> import jax, jax.numpy as jnp
    >>> from innerloop.envs import PublicGoods
    >>> game = PublicGoods(3, num_steps=10, multiplication=1.5)
    >>> start = game.reset(jax.random.key(0))
    >>> after = game.step(jax.random.key(1), start.state, jnp.asarray([0, 0, 1]))
    >>> after.reward.tolist(), after.observation.tolist()
    ([1.0, 1.0, 2.0], [2, 2, 4])

    ```

    **Reference:** Ledyard, *Public goods: a survey of experimental research*, in the Handbook of Experimental
    Economics, 1995 (the linear game, there called the voluntary contribution mechanism).

    **Errors:** `ValueError` for fewer than two players or no steps.
    """

    multiplication: Float[Array, ""]
    endowment: Float[Array, ""]
    num_players: int = eqx.field(static=True)
    num_steps: int = eqx.field(static=True)

    def __init__(
        self, num_players: int, *, num_steps: int, multiplication: ArrayLike = 1.6, endowment: ArrayLike = 1.0
    ):
        """**Arguments:**

        - `num_players`: how many play.
        - `num_steps`: how long an episode is.
        - `multiplication`: the factor $r$ by which the pot grows.
        - `endowment`: what each can contribute at each step.
        """
        require(num_players >= 2, f"a public goods game has at least two players, not {num_players}")
        require(num_steps >= 1, f"num_steps must be at least 1, not {num_steps}")
        self.multiplication = jnp.asarray(multiplication, jnp.float32)
        self.endowment = jnp.asarray(endowment, jnp.float32)
        self.num_players = num_players
        self.num_steps = num_steps

    @property
    def num_agents(self) -> int:
        """All players."""
        return self.num_players

    @property
    def observation_space(self) -> Discrete:
        """The start, and what one did with how many of the others keeping."""
        return Discrete(1 + 2 * self.num_players)

    @property
    def action_space(self) -> Discrete:
        """0 contributes, 1 keeps."""
        return Discrete(2)

    def reset(self, key: Key[Array, ""]) -> TimeStep:
        """Nobody has moved."""
        no = jnp.asarray(False)
        observation = jnp.zeros(self.num_players, jnp.int32)
        reward = jnp.zeros(self.num_players, self.endowment.dtype)
        state = PublicGoodsState(jnp.asarray(0, jnp.int32))
        return TimeStep(state, observation, reward, no, no, {"contributors": jnp.asarray(0, jnp.int32)})

    def step(self, key: Key[Array, ""], state: PublicGoodsState, action: Int[Array, " n"]) -> TimeStep:
        """All move at once; `info` has how many contributed."""
        keeps = action.astype(jnp.int32)
        keepers = jnp.sum(keeps)
        contributors = self.num_players - keepers
        share = self.multiplication * self.endowment * contributors.astype(self.endowment.dtype) / self.num_players
        time = state.time + 1
        return TimeStep(
            PublicGoodsState(time),
            1 + self.num_players * keeps + (keepers - keeps),
            self.endowment * keeps.astype(self.endowment.dtype) + share,
            time >= self.num_steps,
            jnp.asarray(False),
            {"contributors": contributors},
        )
