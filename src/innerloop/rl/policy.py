"""Policies: agents whose actions have known probabilities, so that policy gradients can be taken."""

import abc
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from ..envs.agent import AbstractAgent


class PolicyOutput(NamedTuple):
    """What a policy says about one moment (or, with a leading time axis, about many)."""

    logits: Float[Array, "*t a"]
    value: Float[Array, "*t"]


class AbstractPolicy(AbstractAgent):
    """An agent over a finite set of actions that gives logits and a value for everything it has seen.

    `unroll` over a sequence and `look` one by one are the same function: losses re-unroll whole trajectories from
    the first observation, so no stored recurrent state can be out of date.
    """

    @abc.abstractmethod
    def look(self, memory: PyTree, observation: Array) -> tuple[PyTree, PolicyOutput]:
        """One observation: the memory after it, and what the policy says."""

    @abc.abstractmethod
    def unroll(
        self, observations: Array, memory: PyTree | None = None, *, resets: Bool[Array, "t"] | None = None
    ) -> tuple[PolicyOutput, PyTree]:
        """A sequence of observations `[t ...]`.

        **Arguments:**

        - `observations`: what was seen, in order.
        - `memory`: where to go on from; `None` is the empty memory.
        - `resets`: at which observations a new episode begins, of which what came before is not remembered.

        **Returns:** logits `[t a]` and values `[t]`, and the memory after the last observation.
        """

    def act(self, key: Key[Array, ""], memory: PyTree, observation: Array) -> tuple[PyTree, Int[Array, ""]]:
        """Look at an observation and draw an action."""
        memory, output = self.look(memory, observation)
        return memory, jax.random.categorical(key, output.logits).astype(jnp.int32)


def log_probability(logits: Float[Array, "*t a"], action: Int[Array, "*t"]) -> Float[Array, "*t"]:
    """The log-probability of each action."""
    return jnp.take_along_axis(jax.nn.log_softmax(logits), action[..., None], axis=-1)[..., 0]


class TabularPolicy(AbstractPolicy):
    """A policy without memory over finitely many observations: one row of logits and one value for each.

    Observations are indices. Memory-one strategies of an iterated game are such policies: what a player observes
    is the last joint action.

    ```python
    >>> import jax, jax.numpy as jnp
    >>> from innerloop.rl import TabularPolicy
    >>> policy = TabularPolicy.uniform(5, 2)
    >>> output, _ = policy.unroll(jnp.arange(5))
    >>> output.logits.shape, output.value.shape
    ((5, 2), (5,))

    ```
    """

    logits: Float[Array, "s a"]
    values: Float[Array, "s"]

    @classmethod
    def uniform(cls, num_observations: int, num_actions: int) -> "TabularPolicy":
        """All actions alike, all values zero."""
        return cls(jnp.zeros((num_observations, num_actions)), jnp.zeros(num_observations))

    def init_memory(self) -> None:
        """There is nothing to remember."""
        return None

    def look(self, memory: None, observation: Int[Array, ""]) -> tuple[None, PolicyOutput]:
        """The row of this observation."""
        return None, PolicyOutput(self.logits[observation], self.values[observation])

    def unroll(
        self, observations: Int[Array, "t"], memory: None = None, *, resets: Bool[Array, "t"] | None = None
    ) -> tuple[PolicyOutput, None]:
        """The rows of these observations."""
        return PolicyOutput(self.logits[observations], self.values[observations]), None
