"""Parts that act on each token alone: perceptrons and norms."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ..core.errors import require
from .initialise import truncated_normal
from .precision import at_least_float32


class MultilayerPerceptron(eqx.Module):
    r"""One hidden layer with the GELU non-linearity.

    $$y = \mathrm{gelu}(x W_1 + b_1) W_2 + b_2$$

    **Reference:** von Oswald et al. (2023), arXiv 2212.07677: the network before attention in the sine task.

    **Errors:** `ValueError` for a size below one.
    """

    hidden: Float[Array, "d m"]
    hidden_bias: Float[Array, "m"] | None
    output: Float[Array, "m e"]
    output_bias: Float[Array, "e"] | None

    def __init__(
        self,
        width: int,
        hidden_size: int,
        output_width: int | None = None,
        *,
        use_bias: bool = True,
        variance: float | Float[Array, ""] = 1.0,
        key: Key[Array, ""],
    ):
        """**Arguments:**

        - `width`: the size of a token.
        - `hidden_size`: the size of the hidden layer.
        - `output_width`: the size of an output token; by default `width`.
        - `use_bias`: whether both maps have a bias, zero at first.
        - `variance`: of a weight, times its fan-in.
        - `key`: a random key.
        """
        output_width = width if output_width is None else output_width
        for name, size in dict(width=width, hidden_size=hidden_size, output_width=output_width).items():
            require(size >= 1, f"{name} must be at least 1, not {size}")
        first, second = jax.random.split(key)
        self.hidden = truncated_normal(first, (width, hidden_size), fan_in=width, variance=variance)
        self.output = truncated_normal(second, (hidden_size, output_width), fan_in=hidden_size, variance=variance)
        self.hidden_bias = jnp.zeros((hidden_size,)) if use_bias else None
        self.output_bias = jnp.zeros((output_width,)) if use_bias else None

    def __call__(self, xs: Float[Array, "t d"]) -> Float[Array, "t e"]:
        """Each token on its own."""
        hidden = xs @ self.hidden
        hidden = jax.nn.gelu(hidden if self.hidden_bias is None else hidden + self.hidden_bias[None])
        outputs = hidden @ self.output
        return outputs if self.output_bias is None else outputs + self.output_bias[None]


class GatedPerceptron(eqx.Module):
    r"""One hidden layer of two branches, one gating the other with SiLU (SwiGLU).

    $$y = (\mathrm{silu}(x W_1) \odot x W_2) W_3$$

    **Reference:** Shazeer (2020), arXiv 2002.05202.

    **Errors:** `ValueError` for a size below one.
    """

    gate: Float[Array, "d m"]
    hidden: Float[Array, "d m"]
    output: Float[Array, "m d"]

    def __init__(
        self, width: int, hidden_size: int, *, output_variance: float | Float[Array, ""] = 1.0, key: Key[Array, ""]
    ):
        """**Arguments:**

        - `width`: the size of a token.
        - `hidden_size`: the size of each branch.
        - `output_variance`: of an output weight, times its fan-in.
        - `key`: a random key.
        """
        for name, size in dict(width=width, hidden_size=hidden_size).items():
            require(size >= 1, f"{name} must be at least 1, not {size}")
        keys = jax.random.split(key, 3)
        self.gate = truncated_normal(keys[0], (width, hidden_size), fan_in=width)
        self.hidden = truncated_normal(keys[1], (width, hidden_size), fan_in=width)
        self.output = truncated_normal(keys[2], (hidden_size, width), fan_in=hidden_size, variance=output_variance)

    def __call__(self, xs: Float[Array, "t d"]) -> Float[Array, "t d"]:
        """Each token on its own."""
        return (jax.nn.silu(xs @ self.gate) * (xs @ self.hidden)) @ self.output


class RootMeanSquareNorm(eqx.Module):
    r"""Each token divided by the root of its mean square, then scaled by learned numbers (RMSNorm).

    $$y = s \odot x / \sqrt{\overline{x^2} + \epsilon}$$

    **Reference:** Zhang and Sennrich (2019), arXiv 1910.07467.

    **Errors:** `ValueError` for a width below one or an `epsilon` below zero.
    """

    scale: Float[Array, "d"]
    epsilon: float = eqx.field(static=True)

    def __init__(self, width: int, *, epsilon: float = 1e-6):
        """**Arguments:**

        - `width`: the size of a token.
        - `epsilon`: added to the mean square.
        """
        require(width >= 1, f"width must be at least 1, not {width}")
        require(epsilon >= 0, f"epsilon must not be negative, but is {epsilon}")
        self.scale, self.epsilon = jnp.ones((width,)), epsilon

    def __call__(self, xs: Float[Array, "*t d"]) -> Float[Array, "*t d"]:
        """Each token on its own, in float32 at least."""
        precise = xs.astype(at_least_float32(xs.dtype))
        normed = precise * jax.lax.rsqrt(jnp.mean(precise**2, axis=-1, keepdims=True) + self.epsilon)
        scale = self.scale.astype(precise.dtype).reshape((1,) * (xs.ndim - 1) + self.scale.shape)
        return (scale * normed).astype(xs.dtype)


class LayerNorm(eqx.Module):
    r"""Each token shifted and scaled to mean zero and variance one, then by learned numbers.

    $$y = s \odot (x - \bar x) / \sqrt{\mathrm{var}(x) + \epsilon} + b$$

    **Reference:** Ba, Kiros and Hinton (2016), arXiv 1607.06450, equation 4.

    **Errors:** `ValueError` for a width below one or an `epsilon` below zero.
    """

    scale: Float[Array, "d"]
    offset: Float[Array, "d"]
    epsilon: float = eqx.field(static=True)

    def __init__(self, width: int, *, epsilon: float = 1e-5):
        """**Arguments:**

        - `width`: the size of a token.
        - `epsilon`: added to the variance.
        """
        require(width >= 1, f"width must be at least 1, not {width}")
        require(epsilon >= 0, f"epsilon must not be negative, but is {epsilon}")
        self.scale, self.offset, self.epsilon = jnp.ones((width,)), jnp.zeros((width,)), epsilon

    def __call__(self, xs: Float[Array, "t d"]) -> Float[Array, "t d"]:
        """Each token on its own."""
        centred = xs - jnp.mean(xs, axis=-1, keepdims=True)
        variance = jnp.mean(centred**2, axis=-1, keepdims=True)
        return self.scale[None] * centred * jax.lax.rsqrt(variance + self.epsilon) + self.offset[None]
