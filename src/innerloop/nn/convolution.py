"""Short causal convolutions, one filter per channel, that can be continued from a few remembered tokens."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from ..core.errors import require
from .initialise import truncated_normal
from .precision import at_least_float32


class CausalConvolution(eqx.Module):
    r"""Each channel of a token is a weighted sum of that channel over the last few tokens.

    $$y_t = \beta + \sum_{j=0}^{w-1} W_j \odot x_{t - w + 1 + j}$$

    The last row of the weights is the weight of the token itself. The state is the tail: the $w - 1$ tokens
    before, zeros at first. A token sees nothing from before the beginning of its own segment.

    ```python
    >>> import jax.numpy as jnp
    >>> from innerloop.nn import CausalConvolution
    >>> convolution = CausalConvolution(jnp.asarray([[10.0], [1.0]]))
    >>> outputs, tail = convolution(jnp.asarray([[1.0], [2.0], [3.0]]), convolution.init_state())
    >>> outputs[:, 0].tolist(), tail.tolist()
    ([1.0, 12.0, 23.0], [[3.0]])

    ```

    **Arguments:**

    - `weight`: of each of the last `w` tokens, oldest first, per channel.
    - `bias`: added to every output token, if any.

    **Reference:** Dauphin et al. (2017), arXiv 1612.08083, for causal convolutions of sequences; Gu and Dao
    (2023), arXiv 2312.00752, for short ones before a recurrence.

    **Errors:** `ValueError` for a filter of no tokens.
    """

    weight: Float[Array, "w d"]
    bias: Float[Array, "d"] | None = None

    def __check_init__(self):
        require(self.weight.shape[0] >= 1, f"a filter spans at least 1 token, not {self.weight.shape[0]}")

    @classmethod
    def random(cls, width: int, size: int = 4, *, use_bias: bool = False, key: Key[Array, ""]) -> "CausalConvolution":
        """A convolution over `size` tokens with random weights, and a bias of zero where one is wanted."""
        for name, number in dict(width=width, size=size).items():
            require(number >= 1, f"{name} must be at least 1, not {number}")
        weight = truncated_normal(key, (size, width), fan_in=size)
        return cls(weight, jnp.zeros((width,)) if use_bias else None)

    @property
    def width(self) -> int:
        """The number of channels."""
        return self.weight.shape[1]

    def init_state(self) -> Float[Array, "w d"]:
        """The tail before the first token: zeros, one token shorter than the filter."""
        dtype = at_least_float32(self.weight.dtype)
        return jnp.zeros((self.weight.shape[0] - 1, self.width), dtype)

    def __call__(
        self, xs: Float[Array, "t d"], tail: Float[Array, "w d"], resets: Bool[Array, "t"] | None = None
    ) -> tuple[Float[Array, "t d"], Float[Array, "w d"]]:
        """A whole sequence: the outputs, in the precision of the tokens, and the tail after it."""
        size, length, dtype = self.weight.shape[0], xs.shape[0], tail.dtype
        seen, weight = jnp.concatenate([tail, xs.astype(dtype)]), self.weight.astype(dtype)
        ys = jnp.zeros((length, self.width), dtype)
        if self.bias is not None:
            ys += self.bias.astype(dtype)[None]
        rest = seen[length:]
        if resets is None:
            for j in range(size):
                ys += weight[j][None] * seen[j : j + length]
            return ys.astype(xs.dtype), rest
        # The tail belongs to segment 0, which goes on unless the first token starts another.
        segment = jnp.concatenate([jnp.zeros((size - 1,), jnp.int32), jnp.cumsum(resets, dtype=jnp.int32)])
        nothing, own = jnp.zeros((), dtype), segment[size - 1 :]
        for j in range(size):
            visible = segment[j : j + length] == own
            ys += weight[j][None] * jnp.where(visible[:, None], seen[j : j + length], nothing)
        return ys.astype(xs.dtype), jnp.where((segment[length:] == segment[-1:])[:, None], rest, nothing)
