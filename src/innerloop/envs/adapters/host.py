"""What Gymnasium and PettingZoo share: worlds as objects that change, NumPy values, our agents among them."""

from typing import Any, NamedTuple

import equinox as eqx
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, PyTree

from ...core.errors import require
from ..agent import AbstractAgent
from ..environment import AbstractEnvironment, TimeStep
from ..spaces import AbstractSpace, Box, Discrete


class Life(NamedTuple):
    """What one agent lived through in one episode."""

    observation: Array  # [t + 1 ...]: before each action, and after the last
    action: Array  # [t ...]
    reward: Array  # [t]
    terminated: bool
    truncated: bool


def gymnasium_space(space: AbstractSpace) -> gymnasium.spaces.Space:
    """Gymnasium's counterpart of one of our spaces."""
    if isinstance(space, Discrete):
        return gymnasium.spaces.Discrete(space.size)
    assert isinstance(space, Box)
    return gymnasium.spaces.Box(space.low, space.high, space.shape, np.float32)


def to_host(space: AbstractSpace, value: Any) -> Any:
    """A value as Gymnasium wants it: integers for a discrete space, arrays for a box."""
    return np.int64(value) if isinstance(space, Discrete) else np.asarray(value, space.dtype)


class Running:
    """A world of ours that is going on: it keeps the state and draws the keys."""

    def __init__(self, world: AbstractEnvironment):
        self.world = world
        self._reset, self._step = eqx.filter_jit(world.reset), eqx.filter_jit(world.step)
        self._now: TimeStep | None = None
        self._key = jax.random.key(0)

    @property
    def over(self) -> bool:
        """Whether there is nothing to step."""
        return self._now is None or bool(self._now.ended)

    def reset(self, seed: int) -> TimeStep:
        """Start an episode of which everything follows from the seed."""
        self._key, key = jax.random.split(jax.random.key(seed))
        now = self._now = self._reset(key)
        return now

    def step(self, action: Any) -> TimeStep:
        """One step of everybody."""
        require(not self.over, "there is no episode to go on with: call reset() first")
        assert self._now is not None
        self._key, key = jax.random.split(self._key)
        now = self._now = self._step(key, self._now.state, jnp.asarray(action, self.world.action_space.dtype))
        return now


class Player:
    """An agent of ours in a foreign world: it keeps the memory and the record."""

    def __init__(self, agent: AbstractAgent, key: Key[Array, ""], observation_space: Any, action_space: Any, who: str):
        for what, space in (("observation", observation_space), ("action", action_space)):
            require(
                isinstance(space, (gymnasium.spaces.Discrete, gymnasium.spaces.Box)),
                f"the {what} space of {who} is {space}; only Discrete and Box spaces have a counterpart here",
            )
        self._agent, self._key, self._memory = agent, key, agent.init_memory()
        self._spaces = (observation_space, action_space)
        self._seen: list[Array] = []
        self._done: list[Array] = []
        self._earned: list[float] = []
        self.ends = (False, False)

    @property
    def present(self) -> bool:
        """Whether it has entered the world."""
        return bool(self._seen)

    def see(self, observation: Any) -> None:
        """The first observation, or what came of the last action."""
        space = self._spaces[0]
        if isinstance(space, gymnasium.spaces.Discrete):
            self._seen.append(jnp.asarray(int(observation) - int(space.start), jnp.int32))
        else:
            self._seen.append(jnp.asarray(observation, jnp.float32))

    def act(self) -> Any:
        """An action, as the world wants it."""
        self._key, key = jax.random.split(self._key)
        self._memory, action = _act(self._agent, key, self._memory, self._seen[-1])
        self._done.append(action)
        space = self._spaces[1]
        if isinstance(space, gymnasium.spaces.Discrete):
            return np.int64(int(action) + int(space.start))
        return np.asarray(action, space.dtype)

    def earn(self, reward: float, observation: Any, terminated: bool, truncated: bool) -> None:
        """What came of the action."""
        earned = jnp.asarray(reward, jnp.float32)
        self._memory = _observe(self._agent, self._memory, self._seen[-1], self._done[-1], earned)
        self._earned.append(float(reward))
        self.see(observation)
        self.ends = (bool(terminated), bool(truncated))

    def life(self) -> Life:
        """The record."""
        actions = jnp.stack(self._done) if self._done else jnp.zeros(0, jnp.int32)
        return Life(jnp.stack(self._seen), actions, jnp.asarray(self._earned, jnp.float32), *self.ends)


@eqx.filter_jit
def _act(agent: AbstractAgent, key: Key[Array, ""], memory: PyTree, observation: Array) -> tuple[PyTree, Array]:
    return agent.act(key, memory, observation)


@eqx.filter_jit
def _observe(agent: AbstractAgent, memory: PyTree, observation: Array, action: Array, reward: Array) -> PyTree:
    return agent.observe(memory, observation, action, reward)
