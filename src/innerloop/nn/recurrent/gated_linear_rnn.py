"""The gated linear recurrent network: independent linear neurons between two products."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Inexact, Key

from ...core.errors import require
from ..initialise import truncated_normal
from ..precision import at_least_float32
from ..sequence import AbstractSequenceLayer, Form, check_form, check_resets, check_state, check_width
from .diagonal import diagonal_recurrence

# Rates at which exp(-exp(rate)) is exactly one and exactly zero, in float32 and in float64. Both are finite, and
# so are all derivatives there.
RATE_OF_ONE, RATE_OF_ZERO = -50.0, 10.0


def rates_of(multipliers: Float[Array, "n"]) -> Float[Array, "n"]:
    r"""The rates $\nu = \log(-\log \lambda)$ of multipliers from zero to one, both ends included exactly.

    ```python
    >>> import jax.numpy as jnp
    >>> from innerloop.nn import rates_of
    >>> jnp.exp(-jnp.exp(rates_of(jnp.asarray([0.0, 1.0])))).tolist()
    [0.0, 1.0]

    ```
    """
    return jnp.clip(jnp.log(-jnp.log(multipliers)), RATE_OF_ONE, RATE_OF_ZERO)


def two_bands(num_neurons: int, share_of_memory: float = 0.8) -> Float[Array, "n"]:
    """Multipliers to start training from: most neurons keep nearly everything, the others nearly nothing.

    Evenly spaced in [0.98, 0.999] and in [0.01, 0.05]. What attention needs lies close to either band; from
    multipliers uniform in [0, 1] training is far slower.
    """
    num_memory = int(share_of_memory * num_neurons)
    memory, forget = jnp.linspace(0.98, 0.999, num_memory), jnp.linspace(0.01, 0.05, num_neurons - num_memory)
    return jnp.concatenate([memory, forget])


class GatedLinearRNN(AbstractSequenceLayer):
    r"""Linear neurons, each with a multiplier of its own, that read and are read through products.

    $$u_t = (W^{in}_m \bar x_t) \odot (W^{in}_x \bar x_t), \quad h_t = \lambda \odot h_{t-1} + u_t, \quad
      y_t = D \, [(W^{out}_m h_t) \odot (W^{out}_x h_t)]$$

    with $\bar x = [x; 1]$ and $\lambda = \exp(-\exp(\nu) + i \theta)$. With neurons enough this is exactly causal
    linear self-attention, `gated_rnn_from_attention`. Without one of the gates the product there is missing.
    Complex neurons are read as their real and imaginary parts, side by side.

    ```python
    >>> import jax, jax.numpy as jnp
    >>> from innerloop.nn import GatedLinearRNN
    >>> layer = GatedLinearRNN.random(4, num_neurons=10, num_products=16, key=jax.random.key(0))
    >>> outputs, state = layer(jnp.ones((7, 4)))
    >>> outputs.shape, state.shape
    ((7, 4), (10,))

    ```

    **Arguments:** the weights; `GatedLinearRNN.random` draws them.

    - `rate`: $\nu$; `rates_of` makes it from multipliers.
    - `input`, `input_gate`: $W^{in}_x$ and $W^{in}_m$, or `None` without a gate; `a` is $d + 1$:
      the last column multiplies the 1.
    - `output`, `output_gate`: $W^{out}_x$ and $W^{out}_m$, or `None`.
    - `readout`: $D$.
    - `phase`: $\theta$, or `None` for real neurons.
    - `chunk_size`: how many tokens the chunk form takes at once.

    **Reference:** Zucchet et al. (2023), arXiv 2309.01775.

    **Errors:** `ValueError` for weights that do not fit together or a `chunk_size` below one.
    """

    rate: Float[Array, "n"]
    input: Float[Array, "n a"]
    input_gate: Float[Array, "n a"] | None
    output: Float[Array, "m s"]
    output_gate: Float[Array, "m s"] | None
    readout: Float[Array, "e m"]
    phase: Float[Array, "n"] | None = None
    chunk_size: int = eqx.field(static=True, default=64)

    def __check_init__(self):
        neurons, products = self.rate.shape[0], self.readout.shape[1]
        require(self.input.shape[0] == neurons, f"input has {self.input.shape[0]} rows, but there are {neurons} rates")
        require(
            self.input_gate is None or self.input_gate.shape == self.input.shape,
            f"input_gate is not {self.input.shape}, as input is",
        )
        require(self.phase is None or self.phase.shape == (neurons,), f"phase needs one number for each of {neurons}")
        require(
            self.output.shape == (products, self.state_size),
            f"output must be {(products, self.state_size)} [m s], not {self.output.shape}",
        )
        require(
            self.output_gate is None or self.output_gate.shape == self.output.shape,
            f"output_gate is not {self.output.shape}, as output is",
        )
        require(self.chunk_size >= 1, f"chunk_size must be at least 1, not {self.chunk_size}")

    @classmethod
    def random(
        cls,
        width: int,
        num_neurons: int,
        num_products: int,
        output_width: int | None = None,
        *,
        complex: bool = False,
        input_gate: bool = True,
        output_gate: bool = True,
        multipliers: Float[Array, "n"] | None = None,
        variance: float | Float[Array, ""] = 1.0,
        chunk_size: int = 64,
        key: Key[Array, ""],
    ) -> "GatedLinearRNN":
        r"""Weights drawn from a truncated normal law with fan-in variance.

        **Arguments:**

        - `width`, `output_width`: the sizes of an input and of an output token, by default the same.
        - `num_neurons`, `num_products`: $n$ and $m$.
        - `complex`: whether neurons have a phase, at first $\pi / 10$ times uniform.
        - `input_gate`, `output_gate`: whether there is a product before and after the neurons.
        - `multipliers`: $|\lambda|$ at the start; by default `two_bands`.
        - `variance`: of a weight, times its fan-in.
        - `chunk_size`: how many tokens the chunk form takes at once.
        - `key`: a random key.

        **Errors:** `ValueError` for a size below one.
        """
        output_width = width if output_width is None else output_width
        sizes = dict(width=width, num_neurons=num_neurons, num_products=num_products, output_width=output_width)
        for name, size in sizes.items():
            require(size >= 1, f"{name} must be at least 1, not {size}")
        keys = jax.random.split(key, 6)
        read_in, read_out = (num_neurons, width + 1), (num_products, (1 + complex) * num_neurons)

        def draw(key: Key[Array, ""], shape: tuple[int, int]) -> Float[Array, "a b"]:
            return truncated_normal(key, shape, fan_in=shape[1], variance=variance)

        return cls(
            rate=rates_of(two_bands(num_neurons) if multipliers is None else multipliers),
            input=draw(keys[0], read_in),
            input_gate=draw(keys[1], read_in) if input_gate else None,
            output=draw(keys[2], read_out),
            output_gate=draw(keys[3], read_out) if output_gate else None,
            readout=draw(keys[4], (output_width, num_products)),
            phase=jnp.pi / 10 * jax.random.uniform(keys[5], (num_neurons,)) if complex else None,
            chunk_size=chunk_size,
        )

    @property
    def width(self) -> int:
        """The size of one input token."""
        return self.input.shape[1] - 1

    @property
    def num_neurons(self) -> int:
        """The number of neurons."""
        return self.rate.shape[0]

    @property
    def num_products(self) -> int:
        """The number of products that are read out."""
        return self.readout.shape[1]

    @property
    def state_size(self) -> int:
        """The size of the state: one number for a real neuron, two for a complex one."""
        return self.num_neurons * (1 if self.phase is None else 2)

    @property
    def multipliers(self) -> Inexact[Array, "n"]:
        r"""$\lambda$: what is kept of a neuron from one token to the next."""
        kept = jnp.exp(-jnp.exp(self._wide(self.rate)))
        if self.phase is None:
            return kept
        phase = self._wide(self.phase)
        return jax.lax.complex(kept * jnp.cos(phase), kept * jnp.sin(phase))

    def init_state(self) -> Float[Array, "s"]:
        """All neurons at zero."""
        return jnp.zeros((self.state_size,), at_least_float32(self.input.dtype))

    def write(self, xs: Float[Array, "t d"]) -> Inexact[Array, "t n"]:
        """What the tokens add to the neurons: products of linear functions of $[x; 1]$."""
        written = self._wide(_affine(self.input, xs))
        if self.input_gate is not None:
            written = written * self._wide(_affine(self.input_gate, xs))
        return written if self.phase is None else jax.lax.complex(written, jnp.zeros_like(written))

    def states(
        self,
        xs: Float[Array, "t d"],
        state: Float[Array, "s"] | None = None,
        *,
        form: Form = "chunk",
        resets: Bool[Array, "t"] | None = None,
    ) -> Float[Array, "t s"]:
        """The state after every token."""
        check_form(form)
        check_width(self, xs)
        check_resets(self, xs, resets)
        if state is not None:
            check_state(self, state)
        before = None if state is None else self._neurons(state)
        neurons, _ = diagonal_recurrence(
            self.multipliers, self.write(xs), before, form=form, chunk_size=self.chunk_size, resets=resets
        )
        return self._parts(neurons)

    def read(self, states: Float[Array, "*t s"]) -> Float[Array, "*t e"]:
        """The outputs at given states: products of linear functions of the state, read out."""
        products = states @ self._wide(self.output).T
        if self.output_gate is not None:
            products = products * (states @ self._wide(self.output_gate).T)
        return products @ self._wide(self.readout).T

    def step(self, state: Float[Array, "s"], x: Float[Array, "d"]) -> tuple[Float[Array, "s"], Float[Array, "e"]]:
        """Write one token, then read."""
        check_width(self, x, axes="d")
        check_state(self, state)
        state = self._parts(self.multipliers * self._neurons(state) + self.write(x[None])[0])
        return state, self.read(state).astype(x.dtype)

    def __call__(
        self,
        xs: Float[Array, "t d"],
        state: Float[Array, "s"] | None = None,
        *,
        form: Form = "chunk",
        resets: Bool[Array, "t"] | None = None,
    ) -> tuple[Float[Array, "t e"], Float[Array, "s"]]:
        """A whole sequence, causally; see `AbstractSequenceLayer`."""
        states = self.states(xs, state, form=form, resets=resets)
        if len(states) > 0:
            state = states[-1]
        return self.read(states).astype(xs.dtype), self.init_state() if state is None else state

    def _wide(self, array: Array) -> Array:
        return array.astype(at_least_float32(self.input.dtype))

    def _neurons(self, state: Float[Array, "*t s"]) -> Inexact[Array, "*t n"]:
        if self.phase is None:
            return state
        real, imaginary = jnp.split(state, 2, axis=-1)
        return jax.lax.complex(real, imaginary)

    def _parts(self, neurons: Inexact[Array, "*t n"]) -> Float[Array, "*t s"]:
        return neurons if self.phase is None else jnp.concatenate([neurons.real, neurons.imag], axis=-1)


def _affine(weights: Float[Array, "n a"], xs: Float[Array, "t d"]) -> Float[Array, "t n"]:
    return xs @ weights[:, :-1].T + weights[None, :, -1]
