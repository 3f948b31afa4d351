"""The linear recurrent unit: complex neurons that turn and decay at their own, learned rates."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from ...core.errors import require
from ..initialise import truncated_normal
from ..precision import at_least_float32
from ..sequence import AbstractSequenceLayer, Form, check_form, check_resets, check_state, check_width
from .diagonal import diagonal_recurrence


class LRULayer(AbstractSequenceLayer):
    r"""Independent complex neurons with constant multipliers inside the unit circle.

    $$\lambda = \exp(-\exp(\nu) + i \exp(\theta)), \qquad
      h_t = \lambda \odot h_{t-1} + \exp(g) \odot (x_t B), \qquad y_t = \mathrm{Re}(h_t C) + D \odot x_t$$

    At first the multipliers are uniform, by area, on a part of a ring, and $\exp(g) = \sqrt{1 - |\lambda|^2}$; from
    then on $g$ is learned for itself. The state holds the real parts, then the imaginary ones.

    ```python
    >>> import jax
    >>> from innerloop.nn import LRULayer
    >>> layer = LRULayer(6, 8, key=jax.random.key(0))
    >>> outputs, state = layer(jax.random.normal(jax.random.key(1), (7, 6)))
    >>> outputs.shape, state.shape
    ((7, 6), (2, 8))

    ```

    **Reference:** Orvieto et al. (2023), arXiv 2303.06349; Zucchet et al. (2023), arXiv 2305.15947.

    **Errors:** `ValueError` for sizes below one, radii out of order or beyond the unit circle, or a `max_phase`
    that is not positive.
    """

    log_decay_rate: Float[Array, "n"]
    log_phase: Float[Array, "n"]
    log_gain: Float[Array, "n"]
    input_real: Float[Array, "d n"]
    input_imaginary: Float[Array, "d n"]
    output_real: Float[Array, "n d"]
    output_imaginary: Float[Array, "n d"]
    skip: Float[Array, "d"]
    chunk_size: int = eqx.field(static=True)

    def __init__(
        self,
        width: int,
        state_size: int,
        *,
        min_radius: float = 0.0,
        max_radius: float = 1.0,
        max_phase: float = 6.28,
        chunk_size: int = 64,
        key: Key[Array, ""],
    ):
        """**Arguments:**

        - `width`: the size of a token.
        - `state_size`: the number of neurons.
        - `min_radius`, `max_radius`: of the ring on which the multipliers begin.
        - `max_phase`: the largest angle at which one begins.
        - `chunk_size`: how many tokens the chunk form takes at once.
        - `key`: a random key.
        """
        for name, size in dict(width=width, state_size=state_size, chunk_size=chunk_size).items():
            require(size >= 1, f"{name} must be at least 1, not {size}")
        require(
            0 <= min_radius < max_radius <= 1,
            f"0 <= min_radius < max_radius <= 1 is needed, not {min_radius} and {max_radius}",
        )
        require(max_phase > 0, f"max_phase must be positive, not {max_phase}")
        keys = jax.random.split(key, 7)
        # Neither a radius of 0 or 1 nor an angle of 0 has a finite parameter.
        squared = jax.random.uniform(keys[0], (state_size,), minval=min_radius**2, maxval=max_radius**2)
        squared = jnp.clip(squared, 1e-6, 1 - 1e-6)
        self.log_decay_rate = jnp.log(-jnp.log(squared) / 2)
        self.log_phase = jnp.log(max_phase * jax.random.uniform(keys[1], (state_size,), minval=1e-6))
        self.log_gain = jnp.log1p(-squared) / 2
        shape = (width, state_size)
        self.input_real = truncated_normal(keys[2], shape, fan_in=width, variance=0.5)
        self.input_imaginary = truncated_normal(keys[3], shape, fan_in=width, variance=0.5)
        self.output_real = truncated_normal(keys[4], shape[::-1], fan_in=state_size)
        self.output_imaginary = truncated_normal(keys[5], shape[::-1], fan_in=state_size)
        self.skip = jax.random.normal(keys[6], (width,))
        self.chunk_size = chunk_size

    @property
    def width(self) -> int:
        """The size of one input token."""
        return self.skip.shape[0]

    def init_state(self) -> Float[Array, "2 n"]:
        """All neurons at zero."""
        dtype = at_least_float32(self.log_gain.dtype)
        return jnp.zeros((2, *self.log_gain.shape), dtype)

    def step(self, state: Float[Array, "2 n"], x: Float[Array, "d"]) -> tuple[Float[Array, "2 n"], Float[Array, "d"]]:
        """One token."""
        check_width(self, x, axes="d")
        outputs, state = self(x[None], state, form="recurrent")
        return state, outputs[0]

    def __call__(
        self,
        xs: Float[Array, "t d"],
        state: Float[Array, "2 n"] | None = None,
        *,
        form: Form = "chunk",
        resets: Bool[Array, "t"] | None = None,
    ) -> tuple[Float[Array, "t d"], Float[Array, "2 n"]]:
        """A whole sequence; see `AbstractSequenceLayer`."""
        check_form(form)
        check_width(self, xs)
        check_resets(self, xs, resets)
        if state is not None:
            check_state(self, state)
        dtype = at_least_float32(self.log_gain.dtype)
        rate, phase, gain = (
            jnp.exp(part.astype(dtype)) for part in (self.log_decay_rate, self.log_phase, self.log_gain)
        )
        multipliers = jax.lax.complex(jnp.exp(-rate) * jnp.cos(phase), jnp.exp(-rate) * jnp.sin(phase))
        inputs = jax.lax.complex(
            gain[None] * (xs @ self.input_real).astype(dtype), gain[None] * (xs @ self.input_imaginary).astype(dtype)
        )
        states, final = diagonal_recurrence(
            multipliers,
            inputs,
            None if state is None else jax.lax.complex(state[0], state[1]),
            form=form,
            chunk_size=self.chunk_size,
            resets=resets,
        )
        real, imaginary = jnp.real(states).astype(xs.dtype), jnp.imag(states).astype(xs.dtype)
        ys = real @ self.output_real - imaginary @ self.output_imaginary + self.skip[None] * xs
        return ys, jnp.stack([jnp.real(final), jnp.imag(final)])
