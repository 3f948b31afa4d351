"""The gated recurrent unit."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from ...core.errors import require
from ..initialise import truncated_normal
from ..precision import at_least_float32
from ..sequence import AbstractSequenceLayer, Form, check_form, check_resets, check_state, check_width


class GRU(AbstractSequenceLayer):
    r"""Neurons that move from what they hold towards something new, as far as a gate tells them.

    $$r = \sigma(x_t W^r + h_{t-1} U^r + b^r), \qquad z = \sigma(x_t W^z + h_{t-1} U^z + b^z)$$
    $$n = \tanh(x_t W^n + b^n + r \odot (h_{t-1} U^n + \beta)), \qquad h_t = (1 - z) \odot h_{t-1} + z \odot n$$

    The output is $h_t$, or $h_t V$ where an output width is given. All biases are zero at first. The gates depend
    on the state before, so there is no parallel form: all three forms run the same scan over the tokens.

    ```python
    >>> import jax
    >>> from innerloop.nn import GRU
    >>> layer = GRU(6, 8, key=jax.random.key(0))
    >>> outputs, state = layer(jax.random.normal(jax.random.key(1), (7, 6)))
    >>> outputs.shape, state.shape
    ((7, 8), (8,))

    ```

    **Reference:** Cho et al. (2014), arXiv 1406.1078; Chung et al. (2014), arXiv 1412.3555, for the sense of $z$.

    **Errors:** `ValueError` for sizes below one.
    """

    input: Float[Array, "d m"]
    recurrent: Float[Array, "n m"]
    bias: Float[Array, "m"]
    inner_bias: Float[Array, "n"]
    output: Float[Array, "n e"] | None

    def __init__(self, width: int, state_size: int, output_width: int | None = None, *, key: Key[Array, ""]):
        """**Arguments:**

        - `width`: the size of a token.
        - `state_size`: the number of neurons.
        - `output_width`: the size of an output token; by default the neurons themselves are the output.
        - `key`: a random key.
        """
        for name, size in dict(width=width, state_size=state_size, output_width=output_width).items():
            require(size is None or size >= 1, f"{name} must be at least 1, not {size}")
        first, second, third = jax.random.split(key, 3)
        self.input = truncated_normal(first, (width, 3 * state_size), fan_in=width)
        self.recurrent = truncated_normal(second, (state_size, 3 * state_size), fan_in=state_size)
        self.bias, self.inner_bias = jnp.zeros((3 * state_size,)), jnp.zeros((state_size,))
        self.output = None
        if output_width is not None:
            self.output = truncated_normal(third, (state_size, output_width), fan_in=state_size)

    @property
    def width(self) -> int:
        """The size of one input token."""
        return self.input.shape[0]

    def init_state(self) -> Float[Array, "n"]:
        """All neurons at zero."""
        return jnp.zeros(self.inner_bias.shape, at_least_float32(self.bias.dtype))

    def step(self, state: Float[Array, "n"], x: Float[Array, "d"]) -> tuple[Float[Array, "n"], Float[Array, "e"]]:
        """One token."""
        check_width(self, x, axes="d")
        outputs, state = self(x[None], state, form="recurrent")
        return state, outputs[0]

    def __call__(
        self,
        xs: Float[Array, "t d"],
        state: Float[Array, "n"] | None = None,
        *,
        form: Form = "chunk",
        resets: Bool[Array, "t"] | None = None,
    ) -> tuple[Float[Array, "t e"], Float[Array, "n"]]:
        """A whole sequence; see `AbstractSequenceLayer`."""
        check_form(form)
        check_width(self, xs)
        check_resets(self, xs, resets)
        state = self.init_state() if state is None else state
        check_state(self, state)
        dtype, size = state.dtype, self.inner_bias.shape[0]
        recurrent, inner_bias = self.recurrent.astype(dtype), self.inner_bias.astype(dtype)

        def advance(state, token):
            drive, reset = token
            if reset is not None:
                state = jnp.where(reset, jnp.zeros_like(state), state)
            echo = state @ recurrent
            gates = jax.nn.sigmoid(drive[: 2 * size] + echo[: 2 * size])
            expose, move = gates[:size], gates[size:]
            new = jnp.tanh(drive[2 * size :] + expose * (echo[2 * size :] + inner_bias))
            state = (1 - move) * state + move * new
            return state, state

        drives = (xs @ self.input).astype(dtype) + self.bias.astype(dtype)[None]
        state, hidden = jax.lax.scan(advance, state, (drives, resets))
        hidden = hidden.astype(xs.dtype)
        return hidden if self.output is None else hidden @ self.output, state
