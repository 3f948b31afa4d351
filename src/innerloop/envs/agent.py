"""The agent interface: whoever acts, remembers and observes, learned or not."""

import abc

import equinox as eqx
from jaxtyping import Array, Float, Key, PyTree


class AbstractAgent(eqx.Module):
    """One player of one world: no agent axis, no batch axis; both are `jax.vmap`.

    A turn has two halves. `act` reads the present observation and chooses; `observe` is told what was done, seen
    and earned. What an agent knows of the past is in its memory, a pytree of fixed shapes, and nowhere else: fixed
    strategies, recurrent networks and Bayesian planners differ only in what they keep there.
    """

    @abc.abstractmethod
    def init_memory(self) -> PyTree:
        """The memory before the first observation."""

    @abc.abstractmethod
    def act(self, key: Key[Array, ""], memory: PyTree, observation: PyTree) -> tuple[PyTree, Array]:
        """Look at an observation and choose an action: the memory after looking, and the action."""

    def observe(self, memory: PyTree, observation: PyTree, action: Array, reward: Float[Array, ""]) -> PyTree:
        """Learn what came of it: `action` was done at `observation` and earned `reward`.

        Agents who need no more than their observations keep this one, which changes nothing.
        """
        return memory
