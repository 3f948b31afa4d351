"""Prompts for a trained sequence model: learned tokens that make it do few-shot regression."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ...core.errors import require


class PromptedRegression(eqx.Module):
    r"""A frozen model of sequences, asked for labels: prefix, $x_1, y_1$, separator, $x_2, y_2$, separator, ...

    The prediction after the token $x_i$ is taken for $y_i$. Without a separator the model also sees the spurious
    pairs $(y_i, x_{i+1})$, from which nothing can be learned: at first, more examples make it worse. Prefix and
    separator are learned; no gradient reaches the model.

    ```python
    >>> import jax
    >>> import innerloop as il
    >>> model = lambda observations: il.least_squares_predictor(observations, 0.1)
    >>> prompted = il.PromptedRegression.random(model, 3, prefix=2, separator=True, key=jax.random.key(0))
    >>> pairs = il.RegressionSequence(3, num_pairs=5).sample(jax.random.key(1)).inputs
    >>> prompted.tokens(pairs).shape, prompted(pairs).shape
    ((17, 3), (5, 3))

    ```

    **Arguments:**

    - `model`: from observations to the prediction at each.
    - `prefix`: tokens before the first pair; `None` is none.
    - `separator`: the token after each pair; `None` is none.

    **Reference:** von Oswald et al. (2023), arXiv 2309.05858 (prompt tuning, EOS token).
    """

    model: Callable[[Float[Array, "t n"]], Float[Array, "t n"]]
    prefix: Float[Array, "p n"] | None = None
    separator: Float[Array, "n"] | None = None

    @classmethod
    def random(
        cls,
        model: Callable[[Float[Array, "t n"]], Float[Array, "t n"]],
        size: int,
        *,
        prefix: int = 0,
        separator: bool = True,
        key: Key[Array, ""],
    ) -> "PromptedRegression":
        """Tokens drawn from a standard normal law.

        **Errors:** `ValueError` for a negative number of tokens.
        """
        require(prefix >= 0, f"prefix must not be negative, but is {prefix}")
        prefix_key, separator_key = jax.random.split(key)
        return cls(
            model,
            jax.random.normal(prefix_key, (prefix, size)) if prefix else None,
            jax.random.normal(separator_key, (size,)) if separator else None,
        )

    def tokens(self, pairs: Float[Array, "i 2 n"]) -> Float[Array, "t n"]:
        """The sequence that the model sees."""
        if self.separator is not None:
            separator = jnp.broadcast_to(self.separator, (pairs.shape[0], 1, pairs.shape[2]))
            pairs = jnp.concatenate([pairs, separator.astype(pairs.dtype)], axis=1)
        sequence = pairs.reshape(-1, pairs.shape[2])
        return sequence if self.prefix is None else jnp.concatenate([self.prefix.astype(pairs.dtype), sequence])

    def __call__(self, pairs: Float[Array, "i 2 n"]) -> Float[Array, "i n"]:
        """The label predicted for each input."""
        arrays, rest = eqx.partition(self.model, eqx.is_inexact_array)
        model = eqx.combine(jax.lax.stop_gradient(arrays), rest)
        first = 0 if self.prefix is None else self.prefix.shape[0]
        period = 2 if self.separator is None else 3
        return model(self.tokens(pairs))[first::period]
