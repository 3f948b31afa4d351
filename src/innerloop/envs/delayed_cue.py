"""A cue is shown, and asked for later: the smallest world that needs memory."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from ..core.errors import require
from .environment import AbstractEnvironment, TimeStep
from .spaces import Discrete


class DelayedCueState(NamedTuple):
    """The cue, and how many steps of the episode have been made."""

    cue: Int[Array, ""]
    time: Int[Array, ""]


class DelayedCue(AbstractEnvironment):
    """One agent sees one of `num_cues` cues, waits for `delay` steps, and is asked which it was.

    Observations are indices: the cue at first, then `num_cues` while there is nothing to see, and `num_cues + 1` when
    the question is put. The answer, an action from 0 to `num_cues - 1`, earns 1 if it is right and 0 otherwise, and
    terminates the episode; earlier actions do nothing. Without memory nobody earns more than `1 / num_cues` on
    average. With `delay=0` the cue is itself the question: a bandit with contexts.

    ```python
    >>> import jax, jax.numpy as jnp
    >>> from innerloop.envs import DelayedCue
    >>> world = DelayedCue(delay=1)
    >>> start = world.reset(jax.random.key(0))
    >>> asked = world.step(jax.random.key(1), start.state, jnp.asarray([0]))
    >>> answered = world.step(jax.random.key(2), asked.state, start.observation)
    >>> asked.observation.tolist(), answered.reward.tolist(), bool(answered.terminated)
    ([3], [1.0], True)

    ```

    **Errors:** `ValueError` for fewer than two cues or a negative delay.
    """

    delay: int = eqx.field(static=True)
    num_cues: int = eqx.field(static=True, default=2)

    def __check_init__(self):
        require(self.num_cues >= 2, f"num_cues must be at least 2, not {self.num_cues}")
        require(self.delay >= 0, f"delay must not be negative, but is {self.delay}")

    @property
    def num_agents(self) -> int:
        """One."""
        return 1

    @property
    def observation_space(self) -> Discrete:
        """The cues, nothing, and the question."""
        return Discrete(self.num_cues + 2)

    @property
    def action_space(self) -> Discrete:
        """The answers."""
        return Discrete(self.num_cues)

    def reset(self, key: Key[Array, ""]) -> TimeStep:
        """A random cue is shown."""
        cue = jax.random.randint(key, (), 0, self.num_cues, jnp.int32)
        no = jnp.asarray(False)
        return TimeStep(DelayedCueState(cue, jnp.asarray(0, jnp.int32)), cue[None], jnp.zeros(1), no, no, {})

    def step(self, key: Key[Array, ""], state: DelayedCueState, action: Int[Array, "1"]) -> TimeStep:
        """Time goes on; at the question the action is the answer."""
        answered = state.time == self.delay
        right = answered & (action[0] == state.cue)
        time = state.time + 1
        asked = jnp.where(time == self.delay, self.num_cues + 1, self.num_cues).astype(jnp.int32)
        return TimeStep(
            DelayedCueState(state.cue, time),
            asked[None],
            right[None].astype(jnp.float32),
            answered,
            jnp.asarray(False),
            {},
        )
