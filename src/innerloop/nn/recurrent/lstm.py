"""Long short-term memory."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from ...core.errors import require
from ..initialise import truncated_normal
from ..precision import at_least_float32
from ..sequence import AbstractSequenceLayer, Form, check_form, check_resets, check_state, check_width


class LSTMState(NamedTuple):
    """What the neurons show and what they hold."""

    hidden: Float[Array, "n"]
    cell: Float[Array, "n"]


class LSTM(AbstractSequenceLayer):
    r"""Neurons that hold a sum, with gates for what comes in, what is kept and what is shown.

    $$(i, f, z, o) = x_t W + h_{t-1} U + b$$
    $$c_t = \sigma(f) \odot c_{t-1} + \sigma(i) \odot \tanh(z), \qquad h_t = \sigma(o) \odot \tanh(c_t)$$

    The output is $h_t$, or $h_t V$ where an output width is given. The bias of the forget gate is one at first,
    the others zero. The gates depend on the state before, so there is no parallel form: all three forms run the
    same scan over the tokens.

    ```python
    >>> import jax
    >>> from innerloop.nn import LSTM
    >>> layer = LSTM(6, 8, key=jax.random.key(0))
    >>> outputs, state = layer(jax.random.normal(jax.random.key(1), (7, 6)))
    >>> outputs.shape, state.cell.shape
    ((7, 8), (8,))

    ```

    **Reference:** Hochreiter and Schmidhuber (1997), "Long short-term memory"; Gers, Schmidhuber and Cummins
    (2000), "Learning to forget".

    **Errors:** `ValueError` for sizes below one.
    """

    input: Float[Array, "d m"]
    recurrent: Float[Array, "n m"]
    bias: Float[Array, "m"]
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
        self.input = truncated_normal(first, (width, 4 * state_size), fan_in=width)
        self.recurrent = truncated_normal(second, (state_size, 4 * state_size), fan_in=state_size)
        self.bias = jnp.zeros((4 * state_size,)).at[state_size : 2 * state_size].set(1)
        self.output = None
        if output_width is not None:
            self.output = truncated_normal(third, (state_size, output_width), fan_in=state_size)

    @property
    def width(self) -> int:
        """The size of one input token."""
        return self.input.shape[0]

    def init_state(self) -> LSTMState:
        """All neurons at zero."""
        zeros = jnp.zeros((self.recurrent.shape[0],), at_least_float32(self.bias.dtype))
        return LSTMState(zeros, zeros)

    def step(self, state: LSTMState, x: Float[Array, "d"]) -> tuple[LSTMState, Float[Array, "e"]]:
        """One token."""
        check_width(self, x, axes="d")
        outputs, state = self(x[None], state, form="recurrent")
        return state, outputs[0]

    def __call__(
        self,
        xs: Float[Array, "t d"],
        state: LSTMState | None = None,
        *,
        form: Form = "chunk",
        resets: Bool[Array, "t"] | None = None,
    ) -> tuple[Float[Array, "t e"], LSTMState]:
        """A whole sequence; see `AbstractSequenceLayer`."""
        check_form(form)
        check_width(self, xs)
        check_resets(self, xs, resets)
        state = self.init_state() if state is None else state
        check_state(self, state)
        dtype = state.cell.dtype
        recurrent = self.recurrent.astype(dtype)

        def advance(state, token):
            drive, reset = token
            if reset is not None:
                state = jax.tree.map(lambda leaf: jnp.where(reset, jnp.zeros_like(leaf), leaf), state)
            enter, keep, new, show = jnp.split(drive + state.hidden @ recurrent, 4)
            cell = jax.nn.sigmoid(keep) * state.cell + jax.nn.sigmoid(enter) * jnp.tanh(new)
            state = LSTMState(jax.nn.sigmoid(show) * jnp.tanh(cell), cell)
            return state, state.hidden

        drives = (xs @ self.input).astype(dtype) + self.bias.astype(dtype)[None]
        state, hidden = jax.lax.scan(advance, state, (drives, resets))
        hidden = hidden.astype(xs.dtype)
        return hidden if self.output is None else hidden @ self.output, state
