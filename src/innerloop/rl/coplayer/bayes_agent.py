"""The exact companion: a player who infers the other's table and plans against it."""

import enum
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from ...core.errors import require
from ...envs.agent import AbstractAgent
from ...envs.matrix_games import PRISONERS_DILEMMA
from .best_response import best_response
from .posterior import BetaPosterior
from .tabular_pool import swap_view


class Planning(enum.Enum):
    """How a `BayesPlanner` turns its posterior into a plan."""

    CERTAINTY_EQUIVALENT = "certainty equivalent"  # as if the posterior mean were the truth: it does not explore
    THOMPSON = "thompson"  # as if a draw from the posterior were the truth: it explores as long as it doubts


class BayesMemory(NamedTuple):
    """What a `BayesPlanner` knows."""

    posterior: BetaPosterior  # of the co-player, at the co-player's own views
    view: Int[Array, ""]  # the own view at the last look
    believed: Float[Array, "5"]  # the co-player that the present plan is made for
    time: Int[Array, ""]


class BayesPlanner(AbstractAgent):
    r"""Infers a memory-one co-player exactly and answers best to what it believes.

    The posterior over the co-player's table is a product of Beta laws; at each round the planner takes the posterior
    mean, or a draw that it keeps for `commitment` rounds, for the truth and looks `horizon` rounds ahead by dynamic
    programming. The horizon moves along: the end of the episode is not known to it.

    ```python
    >>> import jax
    >>> import innerloop as il
    >>> game = il.IteratedMatrixGame(il.PRISONERS_DILEMMA, num_steps=20)
    >>> defector = il.MemoryOne.always_defect()
    >>> played, _ = il.rollout(game, (il.rl.BayesPlanner(), defector), jax.random.key(0), 20)
    >>> int(played.action[-1, 0])
    1

    ```

    **Arguments:**

    - `concentration`: of the pool's law, the prior.
    - `planning`: what to take for the truth.
    - `horizon`: how many rounds to look ahead.
    - `commitment`: for how many rounds a draw is kept.
    - `learns`: whether it updates its posterior at all; without, it is its own control.

    **Errors:** `ValueError` for a horizon or a commitment below one.
    """

    concentration: float | Float[Array, ""] = 1.0
    payoffs: Float[Array, "2 2"] = eqx.field(converter=jnp.asarray, default_factory=lambda: PRISONERS_DILEMMA)
    planning: Planning = eqx.field(static=True, default=Planning.CERTAINTY_EQUIVALENT)
    horizon: int = eqx.field(static=True, default=15)
    commitment: int = eqx.field(static=True, default=1)
    learns: bool = eqx.field(static=True, default=True)

    def __check_init__(self):
        require(self.horizon >= 1, f"horizon must be at least 1, not {self.horizon}")
        require(self.commitment >= 1, f"commitment must be at least 1, not {self.commitment}")

    def init_memory(self) -> BayesMemory:
        """The prior."""
        prior, zero = BetaPosterior.prior(self.concentration), jnp.asarray(0, jnp.int32)
        return BayesMemory(prior, zero, prior.mean, zero)

    def act(
        self, key: Key[Array, ""], memory: BayesMemory, observation: Int[Array, ""]
    ) -> tuple[BayesMemory, Int[Array, ""]]:
        """Learn from what the other did in the last round, make a plan, and do its first step."""
        posterior = memory.posterior
        if self.learns:
            new = posterior.update(swap_view(memory.view), (observation - 1) % 2)
            posterior = jax.tree.map(lambda a, b: jnp.where(observation > 0, a, b), new, posterior)
        if self.planning is Planning.THOMPSON:
            drawn = posterior.sample(key)
            believed = jnp.where(memory.time % self.commitment == 0, drawn, memory.believed)
        else:
            believed = posterior.mean
        plan = best_response(believed, self.horizon, self.payoffs)
        memory = BayesMemory(posterior, observation, believed, memory.time + 1)
        return memory, plan.actions[-1, observation]
