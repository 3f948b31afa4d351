"""The environment interface: a world with a leading agent axis, which never resets itself."""

import abc
from typing import ClassVar, NamedTuple

import equinox as eqx
from jaxtyping import Array, Bool, Float, Key, PyTree

from .spaces import AbstractSpace


class TimeStep(NamedTuple):
    """What a world shows after a reset or a step.

    Termination and truncation are kept apart: a *terminated* episode has no future, so its last state is worth
    nothing; a *truncated* one was only cut off, and its last observation, which is here and not replaced by the
    first of the next episode, still has a value.
    """

    state: PyTree  # all that the world needs in order to go on; nobody else looks inside
    observation: PyTree[Array]  # leading axis: agents
    reward: Float[Array, "n"]  # for what was just done; zero after a reset
    terminated: Bool[Array, ""]
    truncated: Bool[Array, ""]
    info: dict[str, Array]  # measurements, never needed to go on; the same names at every step and reset

    @property
    def ended(self) -> Bool[Array, ""]:
        """Whether the episode is over, in either way."""
        return self.terminated | self.truncated


class AbstractEnvironment(eqx.Module):
    """A world for `num_agents` agents, who all act at once; ordinary reinforcement learning has one.

    One world, no batch axis: batching is `jax.vmap`. Fields that are numbers are leaves, so that worlds with other
    payoffs or probabilities are a `vmap` too. Both methods are pure and have static shapes. `step` after the end of
    an episode is not defined: resetting belongs to whoever runs the world (`rollout`). `version` is raised with every
    change of what happens in a world, so that results of two versions are not taken for the same.
    """

    version: ClassVar[int] = 1

    @property
    @abc.abstractmethod
    def num_agents(self) -> int:
        """How many agents act: the leading axis of observations, actions and rewards."""

    @property
    @abc.abstractmethod
    def observation_space(self) -> AbstractSpace:
        """What one agent sees; the same space for every agent."""

    @property
    @abc.abstractmethod
    def action_space(self) -> AbstractSpace:
        """What one agent can do; the same space for every agent."""

    @abc.abstractmethod
    def reset(self, key: Key[Array, ""]) -> TimeStep:
        """The start of an episode."""

    @abc.abstractmethod
    def step(self, key: Key[Array, ""], state: PyTree, action: Array) -> TimeStep:
        """One step of everybody at once.

        **Arguments:**

        - `key`: for whatever is random in this step.
        - `state`: of the last `TimeStep`.
        - `action`: one action per agent, `[num_agents, ...]`. Actions that are not in the action space are not
            looked for: under `jit` nothing is known about them.
        """
