"""Spaces: which observations and actions there are, so that agents can be built and other libraries told."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Key

from ..core.errors import require


class AbstractSpace(eqx.Module):
    """The set of values that one agent's observation or action can take."""

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The shape of one value."""

    @property
    @abc.abstractmethod
    def dtype(self) -> np.dtype:
        """The dtype of one value."""

    @abc.abstractmethod
    def sample(self, key: Key[Array, ""]) -> Array:
        """A random value, uniform where that is possible."""

    @abc.abstractmethod
    def contains(self, value: Array) -> Bool[Array, ""]:
        """Whether a value of the right shape is in the space."""


class Discrete(AbstractSpace):
    """The integers from 0 to `size - 1`.

    ```python
    >>> import jax
    >>> from innerloop.envs import Discrete
    >>> space = Discrete(3)
    >>> bool(space.contains(space.sample(jax.random.key(0))))
    True

    ```
    """

    size: int = eqx.field(static=True)

    def __check_init__(self):
        require(self.size >= 1, f"a discrete space has at least one value, not {self.size}")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one value: a scalar."""
        return ()

    @property
    def dtype(self) -> np.dtype:
        """The dtype of one value."""
        return np.dtype(np.int32)

    def sample(self, key: Key[Array, ""]) -> Array:
        """A uniformly random value."""
        return jax.random.randint(key, (), 0, self.size, jnp.int32)

    def contains(self, value: Array) -> Bool[Array, ""]:
        """Whether an integer is in the space."""
        return (value >= 0) & (value < self.size)


class Box(AbstractSpace):
    """Arrays of one shape whose entries all lie between two bounds, which may be infinite."""

    low: float = eqx.field(static=True)
    high: float = eqx.field(static=True)
    size: tuple[int, ...] = eqx.field(static=True)

    def __check_init__(self):
        require(self.low <= self.high, f"the lower bound {self.low} is above the upper bound {self.high}")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one value."""
        return self.size

    @property
    def dtype(self) -> np.dtype:
        """The dtype of one value."""
        return np.dtype(np.float32)

    def sample(self, key: Key[Array, ""]) -> Array:
        """A value that is uniform between finite bounds, and standard normal, clipped, where one is infinite."""
        if np.isfinite(self.low) and np.isfinite(self.high):
            return jax.random.uniform(key, self.size, jnp.float32, self.low, self.high)
        return jnp.clip(jax.random.normal(key, self.size, jnp.float32), self.low, self.high)

    def contains(self, value: Array) -> Bool[Array, ""]:
        """Whether all entries lie between the bounds."""
        return jnp.all((value >= self.low) & (value <= self.high))
