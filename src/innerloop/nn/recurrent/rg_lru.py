"""The real-gated linear recurrent unit, and the Hawk layer around it."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from ...core.errors import require
from ..convolution import CausalConvolution
from ..initialise import truncated_normal
from ..precision import at_least_float32
from ..sequence import AbstractSequenceLayer, Form, check_form, check_resets, check_state, check_width
from .diagonal import diagonal_recurrence


class RealGatedLRU(AbstractSequenceLayer):
    r"""Independent neurons that keep more or less of what they hold, as each token tells them.

    $$r_t = \sigma(x_t W^r + b^r), \quad i_t = \sigma(x_t W^i + b^i), \quad
      a_t = \exp(-8 \, \mathrm{softplus}(\Lambda) \odot r_t)$$
    $$h_t = a_t \odot h_{t-1} + \sqrt{1 - a_t^2} \odot i_t \odot x_t$$

    The output is the state. Both gates' weights are block diagonal, one block per head. At first
    $\exp(-8\,\mathrm{softplus}(\Lambda))$, the least that is kept, is uniform between 0.9 and 0.999. The first token
    is scaled like any other; the derivative of the root is not clipped, since that of $a_t$ makes up for it.

    ```python
    >>> import jax
    >>> from innerloop.nn import RealGatedLRU
    >>> layer = RealGatedLRU(6, num_heads=2, key=jax.random.key(0))
    >>> outputs, state = layer(jax.random.normal(jax.random.key(1), (7, 6)))
    >>> outputs.shape, state.shape
    ((7, 6), (6,))

    ```

    **Reference:** De et al. (2024), Griffin, arXiv 2402.19427, equations 1 to 4.

    **Errors:** `ValueError` for sizes below one or a width that the heads do not divide.
    """

    recurrence_gate: Float[Array, "h k k"]
    recurrence_bias: Float[Array, "d"]
    input_gate: Float[Array, "h k k"]
    input_bias: Float[Array, "d"]
    decay: Float[Array, "d"]
    chunk_size: int = eqx.field(static=True)

    def __init__(self, width: int, *, num_heads: int = 1, chunk_size: int = 64, key: Key[Array, ""]):
        """**Arguments:**

        - `width`: of a token, and the number of neurons.
        - `num_heads`: how many blocks the gates' weights have.
        - `chunk_size`: how many tokens the chunk form takes at once.
        - `key`: a random key.
        """
        for name, size in dict(width=width, num_heads=num_heads, chunk_size=chunk_size).items():
            require(size >= 1, f"{name} must be at least 1, not {size}")
        require(width % num_heads == 0, f"num_heads must divide the width {width}, which {num_heads} does not")
        size = width // num_heads
        first, second, third = jax.random.split(key, 3)
        self.recurrence_gate = truncated_normal(first, (num_heads, size, size), fan_in=size)
        self.input_gate = truncated_normal(second, (num_heads, size, size), fan_in=size)
        self.recurrence_bias, self.input_bias = jnp.zeros((width,)), jnp.zeros((width,))
        least = jax.random.uniform(third, (width,), minval=0.9, maxval=0.999)
        self.decay = jnp.log(jnp.expm1(-jnp.log(least) / 8))
        self.chunk_size = chunk_size

    @property
    def width(self) -> int:
        """The size of one input token, which is the number of neurons."""
        return self.decay.shape[0]

    def init_state(self) -> Float[Array, "d"]:
        """All neurons at zero."""
        return jnp.zeros((self.width,), at_least_float32(self.decay.dtype))

    def step(self, state: Float[Array, "d"], x: Float[Array, "d"]) -> tuple[Float[Array, "d"], Float[Array, "d"]]:
        """One token."""
        check_width(self, x, axes="d")
        outputs, state = self(x[None], state, form="recurrent")
        return state, outputs[0]

    def __call__(
        self,
        xs: Float[Array, "t d"],
        state: Float[Array, "d"] | None = None,
        *,
        form: Form = "chunk",
        resets: Bool[Array, "t"] | None = None,
    ) -> tuple[Float[Array, "t d"], Float[Array, "d"]]:
        """A whole sequence; see `AbstractSequenceLayer`."""
        check_form(form)
        check_width(self, xs)
        check_resets(self, xs, resets)
        if state is not None:
            check_state(self, state)
        tokens = xs.astype(at_least_float32(self.decay.dtype))
        log_kept = self._log_kept(tokens)
        inputs = _root(-jnp.expm1(2 * log_kept)) * self._gate(tokens, self.input_gate, self.input_bias) * tokens
        states, state = diagonal_recurrence(
            jnp.exp(log_kept), inputs, state, form=form, chunk_size=self.chunk_size, resets=resets
        )
        return states.astype(xs.dtype), state

    def log_decay(self, xs: Float[Array, "t d"]) -> Float[Array, "d"]:
        """The logarithm of what the tokens together leave of the state before them, per neuron."""
        check_width(self, xs)
        return jnp.sum(self._log_kept(xs.astype(at_least_float32(self.decay.dtype))), axis=0)

    def _log_kept(self, tokens):
        gate = self._gate(tokens, self.recurrence_gate, self.recurrence_bias)
        return -8 * jax.nn.softplus(self.decay.astype(tokens.dtype))[None] * gate

    def _gate(self, tokens, weight, bias):
        heads, size, _ = weight.shape
        blocks = jnp.einsum("thk,hkl->thl", tokens.reshape(-1, heads, size), weight.astype(tokens.dtype))
        return jax.nn.sigmoid(blocks.reshape(tokens.shape) + bias.astype(tokens.dtype)[None])


def _root(x):
    """The square root whose derivative at zero counts as zero: no more than that is left of it further back."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, jnp.ones_like(x))), jnp.zeros_like(x))


class HawkState(NamedTuple):
    """The tail of the convolution and the neurons."""

    tail: Float[Array, "w n"]
    neurons: Float[Array, "n"]


class HawkLayer(AbstractSequenceLayer):
    r"""The recurrent block of Hawk: a branch with a short convolution and neurons, gated by a branch without.

    $$y = \left(\mathrm{gelu}(x W^g) \odot \mathrm{RGLRU}(\mathrm{conv}(x W^x))\right) W^y$$

    ```python
    >>> import jax
    >>> from innerloop.nn import HawkLayer
    >>> layer = HawkLayer(6, 8, key=jax.random.key(0))
    >>> outputs, state = layer(jax.random.normal(jax.random.key(1), (7, 6)))
    >>> outputs.shape, state.tail.shape, state.neurons.shape
    ((7, 6), (3, 8), (8,))

    ```

    **Reference:** De et al. (2024), Griffin, arXiv 2402.19427, section 2.3.

    **Errors:** `ValueError` for sizes below one or a state that the heads do not divide.
    """

    gate: Float[Array, "d n"]
    input: Float[Array, "d n"]
    output: Float[Array, "n d"]
    convolution: CausalConvolution
    recurrence: RealGatedLRU

    def __init__(
        self,
        width: int,
        state_size: int | None = None,
        *,
        num_heads: int = 1,
        convolution: int = 4,
        chunk_size: int = 64,
        key: Key[Array, ""],
    ):
        """**Arguments:**

        - `width`: the size of a token.
        - `state_size`: the number of neurons; by default `width`.
        - `num_heads`: how many blocks the weights of the neurons' gates have.
        - `convolution`: how many tokens the convolution spans; 1 for none but a scale.
        - `chunk_size`: how many tokens the chunk form takes at once.
        - `key`: a random key.
        """
        state_size = width if state_size is None else state_size
        for name, size in dict(width=width, state_size=state_size).items():
            require(size >= 1, f"{name} must be at least 1, not {size}")
        keys = jax.random.split(key, 5)
        self.gate = truncated_normal(keys[0], (width, state_size), fan_in=width)
        self.input = truncated_normal(keys[1], (width, state_size), fan_in=width)
        self.output = truncated_normal(keys[2], (state_size, width), fan_in=state_size)
        self.convolution = CausalConvolution.random(state_size, convolution, use_bias=True, key=keys[3])
        self.recurrence = RealGatedLRU(state_size, num_heads=num_heads, chunk_size=chunk_size, key=keys[4])

    @property
    def width(self) -> int:
        """The size of one input token."""
        return self.gate.shape[0]

    def init_state(self) -> HawkState:
        """No tokens before, all neurons at zero."""
        return HawkState(self.convolution.init_state(), self.recurrence.init_state())

    def step(self, state: HawkState, x: Float[Array, "d"]) -> tuple[HawkState, Float[Array, "d"]]:
        """One token."""
        check_width(self, x, axes="d")
        outputs, state = self(x[None], state, form="recurrent")
        return state, outputs[0]

    def __call__(
        self,
        xs: Float[Array, "t d"],
        state: HawkState | None = None,
        *,
        form: Form = "chunk",
        resets: Bool[Array, "t"] | None = None,
    ) -> tuple[Float[Array, "t d"], HawkState]:
        """A whole sequence; see `AbstractSequenceLayer`."""
        check_form(form)
        check_width(self, xs)
        check_resets(self, xs, resets)
        state = self.init_state() if state is None else state
        check_state(self, state)
        inputs, tail = self.convolution(xs @ self.input, state.tail, resets)
        hidden, neurons = self.recurrence(inputs, state.neurons, form=form, resets=resets)
        return (jax.nn.gelu(xs @ self.gate) * hidden) @ self.output, HawkState(tail, neurons)
