"""Queries, keys, values and the way back: the four linear maps every attention layer is made of."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ..core.errors import require
from .initialise import truncated_normal
from .precision import at_least_float32


class Projections(eqx.Module):
    r"""The weights of multi-head attention, one block per head.

    $$q_h = x W^Q_h, \quad k_h = x W^K_h, \quad v_h = x W^V_h, \quad y = \sum_h r_h W^O_h$$

    for token row vectors $x$ and whatever $r_h$ head $h$ has read. Build it from explicit arrays, or draw one
    with `Projections.random`. Absent biases are `None`.

    **Reference:** von Oswald et al. (2023), arXiv 2212.07677.

    **Errors:** `ValueError` if the arrays do not fit together.
    """

    query: Float[Array, "h d k"]
    key: Float[Array, "h d k"]
    value: Float[Array, "h d v"]
    output: Float[Array, "h v e"]
    query_bias: Float[Array, "h k"] | None = None
    key_bias: Float[Array, "h k"] | None = None
    value_bias: Float[Array, "h v"] | None = None
    output_bias: Float[Array, "e"] | None = None

    def __check_init__(self):
        require(
            self.query.shape == self.key.shape,
            f"queries and keys need weights of one shape, not {self.query.shape} and {self.key.shape}",
        )
        require(
            self.value.shape[:2] == self.key.shape[:2],
            f"axes 'h d' of the value weights are {self.value.shape[:2]}, those of the key weights "
            f"{self.key.shape[:2]}",
        )
        require(
            self.output.shape[:2] == (self.value.shape[0], self.value.shape[2]),
            f"axes 'h v' of the output weights are {self.output.shape[:2]}, but the values have "
            f"{(self.value.shape[0], self.value.shape[2])}",
        )

    @classmethod
    def random(
        cls,
        width: int,
        num_heads: int,
        key_size: int,
        value_size: int | None = None,
        *,
        output_width: int | None = None,
        use_bias: bool = False,
        variance: float | Float[Array, ""] = 1.0,
        output_variance: float | Float[Array, ""] | None = None,
        key: Key[Array, ""],
    ) -> "Projections":
        r"""Weights drawn from a truncated normal law with fan-in variance, biases zero.

        **Arguments:**

        - `width`: the size of a token.
        - `num_heads`: the number of heads.
        - `key_size`: the size of a query and of a key, per head.
        - `value_size`: the size of a value, per head; by default the key size.
        - `output_width`: the size of an output token; by default `width`.
        - `use_bias`: whether all four maps have a bias.
        - `variance`: of a weight, times its fan-in. The paper's setting is `0.002 / num_layers`.
        - `output_variance`: the same of the output map alone; by default `variance`.
        - `key`: a random key.

        **Errors:** `ValueError` for a size below one.
        """
        value_size = key_size if value_size is None else value_size
        output_width = width if output_width is None else output_width
        sizes = dict(width=width, num_heads=num_heads, key_size=key_size, value_size=value_size)
        for name, size in (sizes | {"output_width": output_width}).items():
            require(size >= 1, f"{name} must be at least 1, not {size}")
        keys = jax.random.split(key, 4)
        return cls(
            query=truncated_normal(keys[0], (num_heads, width, key_size), fan_in=width, variance=variance),
            key=truncated_normal(keys[1], (num_heads, width, key_size), fan_in=width, variance=variance),
            value=truncated_normal(keys[2], (num_heads, width, value_size), fan_in=width, variance=variance),
            # The output map sees all heads side by side.
            output=truncated_normal(
                keys[3],
                (num_heads, value_size, output_width),
                fan_in=num_heads * value_size,
                variance=variance if output_variance is None else output_variance,
            ),
            query_bias=jnp.zeros((num_heads, key_size)) if use_bias else None,
            key_bias=jnp.zeros((num_heads, key_size)) if use_bias else None,
            value_bias=jnp.zeros((num_heads, value_size)) if use_bias else None,
            output_bias=jnp.zeros((output_width,)) if use_bias else None,
        )

    @property
    def num_heads(self) -> int:
        """The number of heads."""
        return self.query.shape[0]

    @property
    def width(self) -> int:
        """The size of an input token."""
        return self.query.shape[1]

    @property
    def key_size(self) -> int:
        """The size of a query and of a key, per head."""
        return self.query.shape[2]

    @property
    def value_size(self) -> int:
        """The size of a value, per head."""
        return self.value.shape[2]

    @property
    def output_width(self) -> int:
        """The size of an output token."""
        return self.output.shape[2]

    @property
    def state_dtype(self) -> jnp.dtype:
        """The dtype of a memory: a sum over time, hence float32 at least, whatever the weights are."""
        return at_least_float32(self.key.dtype)

    @property
    def has_biases(self) -> bool:
        """Whether any of the four maps has a bias."""
        biases = (self.query_bias, self.key_bias, self.value_bias, self.output_bias)
        return any(bias is not None for bias in biases)

    def queries(self, xs: Float[Array, "t d"]) -> Float[Array, "h t k"]:
        """The queries of all tokens."""
        return _project(xs, self.query, self.query_bias)

    def keys(self, xs: Float[Array, "t d"]) -> Float[Array, "h t k"]:
        """The keys of all tokens."""
        return _project(xs, self.key, self.key_bias)

    def values(self, xs: Float[Array, "t d"]) -> Float[Array, "h t v"]:
        """The values of all tokens."""
        return _project(xs, self.value, self.value_bias)

    def merge(self, heads: Float[Array, "h t v"]) -> Float[Array, "t e"]:
        """What the heads have read, as output tokens: the sum over heads."""
        merged = jnp.einsum("htv,hve->te", heads.astype(self.output.dtype), self.output)
        return merged if self.output_bias is None else merged + self.output_bias[None]

    def products(self) -> tuple[Float[Array, "h d d"], Float[Array, "h d e"]]:
        r"""Per head $W^Q (W^K)^\top$ and $W^V W^O$: all that linear attention without biases depends on."""
        return (
            jnp.einsum("hdk,hek->hde", self.query, self.key),
            jnp.einsum("hdv,hve->hde", self.value, self.output),
        )


def _project(
    xs: Float[Array, "t d"], weights: Float[Array, "h d k"], bias: Float[Array, "h k"] | None
) -> Float[Array, "h t k"]:
    projected = jnp.einsum("td,hdk->htk", xs, weights)
    return projected if bias is None else projected + bias[:, None]
