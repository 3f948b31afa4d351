"""The selective state-space layer: neurons whose time constants, inputs and outputs depend on the token."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from ...core.errors import require
from ..convolution import CausalConvolution
from ..initialise import truncated_normal
from ..precision import at_least_float32
from ..sequence import (
    AbstractSequenceLayer,
    Form,
    check_form,
    check_resets,
    check_state,
    check_width,
    scan_chunks,
)
from .diagonal import diagonal_recurrence


class SelectiveState(NamedTuple):
    """The tail of the convolution and the neurons, `n` for each of the `e` channels."""

    tail: Float[Array, "w e"]
    neurons: Float[Array, "e n"]


class SelectiveSSM(AbstractSequenceLayer):
    r"""Channels with a few neurons each, which a token tells how long to take it in and how to read them.

    $$u = \mathrm{silu}(\mathrm{conv}(x W^u)), \quad \Delta = \mathrm{softplus}(u W^\downarrow W^\uparrow + b), \quad
      B = u W^B, \quad C = u W^C$$
    $$h_t = \exp(-\Delta_t \exp(\log A)) \odot h_{t-1} + \Delta_t u_t \otimes B_t, \qquad
      y = ((h C + D \odot u) \odot \mathrm{silu}(x W^g)) W^y$$

    At first $A = 1, \dots, n$ in each channel and the time step of a zero token is between 0.001 and 0.1,
    uniform in its logarithm. The chunk form holds the neurons of one chunk at a time and computes them again for the
    gradient: of each chunk it keeps only the state before it.

    ```python
    >>> import jax
    >>> from innerloop.nn import SelectiveSSM
    >>> layer = SelectiveSSM(6, state_size=4, key=jax.random.key(0))
    >>> outputs, state = layer(jax.random.normal(jax.random.key(1), (7, 6)))
    >>> outputs.shape, state.tail.shape, state.neurons.shape
    ((7, 6), (3, 12), (12, 4))

    ```

    **Reference:** Gu and Dao (2023), Mamba, arXiv 2312.00752, algorithm 2 and section 3.4.

    **Errors:** `ValueError` for sizes below one.
    """

    input: Float[Array, "d e"]
    gate: Float[Array, "d e"]
    convolution: CausalConvolution
    step_down: Float[Array, "e r"]
    step_up: Float[Array, "r e"]
    step_bias: Float[Array, "e"]
    write: Float[Array, "e n"]
    read: Float[Array, "e n"]
    log_rate: Float[Array, "e n"]
    skip: Float[Array, "e"]
    output: Float[Array, "e d"]
    chunk_size: int = eqx.field(static=True)

    def __init__(
        self,
        width: int,
        *,
        num_channels: int | None = None,
        state_size: int = 16,
        rank: int | None = None,
        convolution: int = 4,
        chunk_size: int = 64,
        key: Key[Array, ""],
    ):
        """**Arguments:**

        - `width`: the size of a token.
        - `num_channels`: how many channels there are; by default twice the width.
        - `state_size`: the number of neurons per channel.
        - `rank`: of the map from a token to its time steps; by default a sixteenth of the width.
        - `convolution`: how many tokens the convolution spans; 1 for none but a scale.
        - `chunk_size`: how many tokens the chunk form takes at once.
        - `key`: a random key.
        """
        channels = 2 * width if num_channels is None else num_channels
        rank = -(-width // 16) if rank is None else rank
        sizes = dict(width=width, num_channels=channels, state_size=state_size, rank=rank, chunk_size=chunk_size)
        for name, size in sizes.items():
            require(size >= 1, f"{name} must be at least 1, not {size}")
        keys = jax.random.split(key, 9)
        self.input = truncated_normal(keys[0], (width, channels), fan_in=width)
        self.gate = truncated_normal(keys[1], (width, channels), fan_in=width)
        self.convolution = CausalConvolution.random(channels, convolution, use_bias=True, key=keys[2])
        self.step_down = truncated_normal(keys[3], (channels, rank), fan_in=channels)
        self.step_up = truncated_normal(keys[4], (rank, channels), fan_in=rank, variance=1 / 3)
        first = jnp.exp(jax.random.uniform(keys[5], (channels,), minval=jnp.log(0.001), maxval=jnp.log(0.1)))
        self.step_bias = jnp.log(jnp.expm1(first))
        self.write = truncated_normal(keys[6], (channels, state_size), fan_in=channels)
        self.read = truncated_normal(keys[7], (channels, state_size), fan_in=channels)
        rates = jnp.log(jnp.arange(1, state_size + 1, dtype=float))
        self.log_rate = jnp.broadcast_to(rates[None], (channels, state_size))
        self.skip = jnp.ones((channels,))
        self.output = truncated_normal(keys[8], (channels, width), fan_in=channels)
        self.chunk_size = chunk_size

    @property
    def width(self) -> int:
        """The size of one input token."""
        return self.input.shape[0]

    def init_state(self) -> SelectiveState:
        """No tokens before, all neurons at zero."""
        neurons = jnp.zeros(self.log_rate.shape, at_least_float32(self.log_rate.dtype))
        return SelectiveState(self.convolution.init_state(), neurons)

    def step(self, state: SelectiveState, x: Float[Array, "d"]) -> tuple[SelectiveState, Float[Array, "d"]]:
        """One token."""
        check_width(self, x, axes="d")
        outputs, state = self(x[None], state, form="recurrent")
        return state, outputs[0]

    def __call__(
        self,
        xs: Float[Array, "t d"],
        state: SelectiveState | None = None,
        *,
        form: Form = "chunk",
        resets: Bool[Array, "t"] | None = None,
    ) -> tuple[Float[Array, "t d"], SelectiveState]:
        """A whole sequence; see `AbstractSequenceLayer`."""
        check_form(form)
        channels, steps, tail, neurons = self._channels(xs, state, resets)
        dtype = neurons.dtype
        rate = -jnp.exp(self.log_rate.astype(dtype))

        def span(neurons, tokens):
            """Some tokens: only here are there neurons for each of them."""
            step, added, write, read, resets = tokens
            states, neurons = diagonal_recurrence(
                jnp.exp(step[:, :, None] * rate[None]),
                added[:, :, None] * write[:, None, :],
                neurons,
                form="recurrent" if form == "recurrent" else "parallel",
                resets=resets,
            )
            return neurons, jnp.einsum("ten,tn->te", states, read)

        write, read = ((channels @ weight).astype(dtype) for weight in (self.write, self.read))
        tokens = steps, steps * channels.astype(dtype), write, read, resets
        if form == "recurrent":
            neurons, ys = scan_chunks(span, neurons, tokens, chunk_size=1)
        elif form == "chunk":
            neurons, ys = scan_chunks(
                jax.checkpoint(span, prevent_cse=False), neurons, tokens, chunk_size=self.chunk_size
            )
        else:
            neurons, ys = span(neurons, tokens)
        ys = ys.astype(xs.dtype) + self.skip[None] * channels
        return (ys * jax.nn.silu(xs @ self.gate)) @ self.output, SelectiveState(tail, neurons)

    def log_decay(
        self,
        xs: Float[Array, "t d"],
        state: SelectiveState | None = None,
        *,
        resets: Bool[Array, "t"] | None = None,
    ) -> Float[Array, "e n"]:
        r"""The logarithm of what the tokens together leave of the neurons before them: $-\exp(\log A) \sum_t \Delta_t$.

        It is $-\infty$ where there is a reset among the tokens.
        """
        _, steps, _, neurons = self._channels(xs, state, resets)
        total = -jnp.exp(self.log_rate.astype(neurons.dtype)) * jnp.sum(steps, axis=0)[:, None]
        return total if resets is None else jnp.where(jnp.any(resets), jnp.full_like(total, -jnp.inf), total)

    def _channels(self, xs, state, resets):
        """What goes into the channels, the time steps, the new tail, and the neurons before."""
        check_width(self, xs)
        check_resets(self, xs, resets)
        state = self.init_state() if state is None else state
        check_state(self, state)
        convolved, tail = self.convolution(xs @ self.input, state.tail, resets)
        channels, dtype = jax.nn.silu(convolved), state.neurons.dtype
        steps = (channels @ self.step_down).astype(dtype) @ self.step_up.astype(dtype)
        steps = jax.nn.softplus(steps + self.step_bias.astype(dtype)[None])
        return channels, steps, tail, state.neurons
