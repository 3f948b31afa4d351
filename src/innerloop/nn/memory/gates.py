"""Gates: what the tokens say about how much of a memory is kept, and how strongly they are written."""

import abc
import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from ...core.errors import require
from ..initialise import truncated_normal
from ..precision import at_least_float32


class Gates(NamedTuple):
    """The gates of all tokens, as `MemoryInputs` has them."""

    log_gate: Float[Array, "t h"] | Float[Array, "t h k"] | None = None
    strength: Float[Array, "t h"] | None = None
    log_strength: Float[Array, "t h"] | None = None
    negative: Bool[Array, "t h"] | None = None


class AbstractGates(eqx.Module):
    """From tokens to the gates of all heads, in float32 at least whatever the tokens are."""

    @abc.abstractmethod
    def __call__(self, xs: Float[Array, "t d"]) -> Gates:
        """The gates of a sequence."""


class SigmoidGates(AbstractGates):
    r"""One forget gate and one write strength per head, each a sigmoid of a linear map of the token.

    $$\gamma = \sigma(x W_\gamma + b_\gamma), \qquad \beta = \sigma(x W_\beta + b_\beta)$$

    The gates of MesaNet and gated DeltaNet here; without the forget gate those of DeltaNet, without the strength
    one of the gates that linear attention can have.

    **Reference:** von Oswald et al. (2025), arXiv 2506.05233.

    **Errors:** `ValueError` for sizes below one or no gate at all.
    """

    forget: Float[Array, "d h"] | None
    forget_bias: Float[Array, "h"] | None
    write: Float[Array, "d h"] | None
    write_bias: Float[Array, "h"] | None

    def __init__(
        self,
        width: int,
        num_heads: int,
        *,
        forget: bool = True,
        write: bool = True,
        forget_bias: float = 4.0,
        key: Key[Array, ""],
    ):
        """**Arguments:**

        - `width`: the size of a token.
        - `num_heads`: the number of heads.
        - `forget`, `write`: which of the two gates there are.
        - `forget_bias`: the first $b_\\gamma$; 4 keeps 98% per token at first.
        - `key`: a random key.
        """
        require(width >= 1 and num_heads >= 1, f"width and num_heads must be at least 1, not {(width, num_heads)}")
        require(forget or write, "gates without a forget gate and without a write strength are none")
        first, second = jax.random.split(key)
        shape = (width, num_heads)
        self.forget = truncated_normal(first, shape, fan_in=width) if forget else None
        self.forget_bias = jnp.full((num_heads,), forget_bias) if forget else None
        self.write = truncated_normal(second, shape, fan_in=width) if write else None
        self.write_bias = jnp.zeros((num_heads,)) if write else None

    def __call__(self, xs: Float[Array, "t d"]) -> Gates:
        """The gates of a sequence."""
        log_gate = strength = None
        if self.forget is not None and self.forget_bias is not None:
            log_gate = jax.nn.log_sigmoid(linear(xs, self.forget, self.forget_bias))
        if self.write is not None and self.write_bias is not None:
            strength = jax.nn.sigmoid(linear(xs, self.write, self.write_bias))
        return Gates(log_gate, strength)


class FixedGates(AbstractGates):
    r"""One constant forget gate per head, whatever the token: the decay of RetNet.

    $$\gamma_h = 1 - 2^{-5-h}, \qquad h = 0, 1, \ldots$$

    **Arguments:**

    - `log_gate`: the logarithms of the gates, not learned.

    **Reference:** Sun et al. (2023), arXiv 2307.08621.

    **Errors:** `ValueError` for a logarithm above 0.
    """

    log_gate: tuple[float, ...] = eqx.field(static=True)

    def __check_init__(self):
        require(all(gate <= 0 for gate in self.log_gate), f"log gates must be at most 0, not {self.log_gate}")

    @classmethod
    def retention(cls, num_heads: int) -> "FixedGates":
        """The gates of RetNet for this many heads."""
        return cls(tuple(math.log1p(-(2.0 ** -(5 + head))) for head in range(num_heads)))

    def __call__(self, xs: Float[Array, "t d"]) -> Gates:
        """The same gates for every token."""
        gates = jnp.asarray(self.log_gate, at_least_float32(xs.dtype))
        return Gates(jnp.broadcast_to(gates[None], (xs.shape[0], len(self.log_gate))))


class ChannelGates(AbstractGates):
    r"""One forget gate per key channel, from a linear map of low rank: the gates of gated linear attention.

    $$\alpha = \sigma(x W_1 W_2 + b)^{1/\tau}$$

    **Reference:** Yang et al. (2024), arXiv 2312.06635.

    **Errors:** `ValueError` for sizes below one.
    """

    down: Float[Array, "d r"]
    up: Float[Array, "r h k"]
    bias: Float[Array, "h k"]
    temperature: float | Float[Array, ""]

    def __init__(
        self,
        width: int,
        num_heads: int,
        key_size: int,
        *,
        rank: int = 16,
        temperature: float = 16.0,
        key: Key[Array, ""],
    ):
        """**Arguments:**

        - `width`: the size of a token.
        - `num_heads`, `key_size`: there is one gate for each of their products.
        - `rank`: of the linear map.
        - `temperature`: $\\tau$; the larger, the closer to one the gates are.
        - `key`: a random key.
        """
        for name, size in dict(width=width, num_heads=num_heads, key_size=key_size, rank=rank).items():
            require(size >= 1, f"{name} must be at least 1, not {size}")
        require(temperature > 0, f"temperature must be above 0, not {temperature}")
        first, second = jax.random.split(key)
        self.down = truncated_normal(first, (width, rank), fan_in=width)
        self.up = truncated_normal(second, (rank, num_heads, key_size), fan_in=rank)
        self.bias, self.temperature = jnp.zeros((num_heads, key_size)), temperature

    def __call__(self, xs: Float[Array, "t d"]) -> Gates:
        """The gates of a sequence."""
        dtype = at_least_float32(xs.dtype)
        logits = jnp.einsum("td,dr,rhk->thk", xs.astype(dtype), self.down.astype(dtype), self.up.astype(dtype))
        return Gates(jax.nn.log_sigmoid(logits + self.bias.astype(dtype)[None]) / self.temperature)


class TimeStepGates(AbstractGates):
    r"""A time step per head that both forgets and writes: the gates of Mamba-2.

    $$\Delta = \mathrm{softplus}(x W + b), \qquad \gamma = \exp(-\Delta\, e^{a}), \qquad \beta = \Delta$$

    **Reference:** Dao and Gu (2024), arXiv 2405.21060.

    **Errors:** `ValueError` for sizes below one.
    """

    weight: Float[Array, "d h"]
    bias: Float[Array, "h"]
    log_rate: Float[Array, "h"]

    def __init__(self, width: int, num_heads: int, *, key: Key[Array, ""]):
        """**Arguments:**

        - `width`: the size of a token.
        - `num_heads`: the number of heads.
        - `key`: a random key. Time steps start between 0.001 and 0.1, rates $e^a$ between 1 and 16.
        """
        require(width >= 1 and num_heads >= 1, f"width and num_heads must be at least 1, not {(width, num_heads)}")
        first, second, third = jax.random.split(key, 3)
        self.weight = truncated_normal(first, (width, num_heads), fan_in=width)
        low, high = jnp.log(1e-3), jnp.log(1e-1)
        step = jnp.exp(jax.random.uniform(second, (num_heads,), minval=low, maxval=high))
        self.bias = step + jnp.log(-jnp.expm1(-step))  # the inverse of softplus
        self.log_rate = jnp.log(jax.random.uniform(third, (num_heads,), minval=1.0, maxval=16.0))

    def __call__(self, xs: Float[Array, "t d"]) -> Gates:
        """The gates of a sequence."""
        step = jax.nn.softplus(linear(xs, self.weight, self.bias))
        return Gates(-step * jnp.exp(self.log_rate.astype(step.dtype))[None], step)


class ExponentialGates(AbstractGates):
    r"""A sigmoid forget gate and an exponential input gate per head: the gates of the mLSTM.

    $$f = \sigma(x W_f + b_f), \qquad i = \exp(x W_i + b_i)$$

    **Reference:** Beck et al. (2024), arXiv 2405.04517.

    **Errors:** `ValueError` for sizes below one.
    """

    forget: Float[Array, "d h"]
    forget_bias: Float[Array, "h"]
    write: Float[Array, "d h"]
    write_bias: Float[Array, "h"]

    def __init__(self, width: int, num_heads: int, *, forget_bias: float = 4.0, key: Key[Array, ""]):
        """**Arguments:**

        - `width`: the size of a token.
        - `num_heads`: the number of heads.
        - `forget_bias`: the first $b_f$.
        - `key`: a random key.
        """
        require(width >= 1 and num_heads >= 1, f"width and num_heads must be at least 1, not {(width, num_heads)}")
        first, second = jax.random.split(key)
        self.forget = truncated_normal(first, (width, num_heads), fan_in=width)
        self.forget_bias = jnp.full((num_heads,), forget_bias)
        self.write = truncated_normal(second, (width, num_heads), fan_in=width)
        self.write_bias = jnp.zeros((num_heads,))

    def __call__(self, xs: Float[Array, "t d"]) -> Gates:
        """The gates of a sequence."""
        log_gate = jax.nn.log_sigmoid(linear(xs, self.forget, self.forget_bias))
        return Gates(log_gate, log_strength=linear(xs, self.write, self.write_bias))


def linear(xs: Float[Array, "t d"], weight: Float[Array, "d h"], bias: Float[Array, "h"]) -> Float[Array, "t h"]:
    """A linear map in float32 at least."""
    dtype = at_least_float32(xs.dtype)
    return xs.astype(dtype) @ weight.astype(dtype) + bias.astype(dtype)[None]
