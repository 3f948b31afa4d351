"""A limit to how long an episode is looked at, which is no end of the world."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Int, Key, PyTree

from ..core.errors import require
from .environment import AbstractEnvironment, TimeStep
from .spaces import AbstractSpace


class TimeLimitState(NamedTuple):
    """The state of the world, and how many steps have been made."""

    inner: PyTree
    time: Int[Array, ""]


class TimeLimit(AbstractEnvironment):
    """Another world, whose episodes are *truncated* after `num_steps` steps.

    Whether an episode terminates is left to the world; one that terminates with the last step is not truncated.

    ```python
    >>> import jax, jax.numpy as jnp
    >>> from innerloop.envs import PRISONERS_DILEMMA, IteratedMatrixGame, TimeLimit
    >>> game = TimeLimit(IteratedMatrixGame(PRISONERS_DILEMMA, num_steps=100), 1)
    >>> after = game.step(jax.random.key(0), game.reset(jax.random.key(1)).state, jnp.asarray([0, 1]))
    >>> bool(after.terminated), bool(after.truncated)
    (False, True)

    ```
    """

    environment: AbstractEnvironment
    num_steps: int = eqx.field(static=True)

    def __check_init__(self):
        require(self.num_steps >= 1, f"num_steps must be at least 1, not {self.num_steps}")

    @property
    def num_agents(self) -> int:
        """As many as in the world."""
        return self.environment.num_agents

    @property
    def observation_space(self) -> AbstractSpace:
        """That of the world."""
        return self.environment.observation_space

    @property
    def action_space(self) -> AbstractSpace:
        """That of the world."""
        return self.environment.action_space

    def reset(self, key: Key[Array, ""]) -> TimeStep:
        """The start of an episode of the world."""
        start = self.environment.reset(key)
        return start._replace(state=TimeLimitState(start.state, jnp.asarray(0, jnp.int32)))

    def step(self, key: Key[Array, ""], state: TimeLimitState, action: Array) -> TimeStep:
        """One step of the world, after which the time may be over."""
        after = self.environment.step(key, state.inner, action)
        time = state.time + 1
        late = (time >= self.num_steps) & ~after.terminated
        return after._replace(state=TimeLimitState(after.state, time), truncated=after.truncated | late)
