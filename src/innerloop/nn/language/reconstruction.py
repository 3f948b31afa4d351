"""Auto-encoding: the whole sequence read off the hidden state of its last token."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from ...core.errors import require
from ..feedforward import RootMeanSquareNorm
from ..initialise import truncated_normal
from ..sequence import Form
from .models import LanguageModel


def sinusoidal_positions(length: int, width: int) -> Float[Array, "t d"]:
    r"""Sines and cosines of a position at $d / 2$ frequencies, from 1 down to $10^{-4}$.

    $$p_t = [\sin(\omega_i t)]_i \oplus [\cos(\omega_i t)]_i, \quad \omega_i = 10^{-4 i / (d / 2 - 1)}$$

    **Reference:** Vaswani et al. (2017), arXiv 1706.03762.

    **Errors:** `ValueError` for an odd width, or one below 4.
    """
    require(width >= 4 and width % 2 == 0, f"width must be even and at least 4, not {width}")
    half = width // 2
    frequencies = jnp.exp(-math.log(1e4) / (half - 1) * jnp.arange(half, dtype=float))
    angles = jnp.arange(length, dtype=float)[:, None] * frequencies[None]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=1)


class Reconstruction(eqx.Module):
    r"""From one vector to the logits of every token of a sequence.

    $$z_t = h + p_t, \quad z \leftarrow \mathrm{gelu}(\mathrm{norm}(z) W_i + b_i) \text{ for } i = 1, 2, \quad
      \ell_t = \mathrm{norm}(z_t) W_3 + b_3$$

    with the sinusoidal position $p_t$ of the token asked for.

    **Reference:** Poli et al. (2024), arXiv 2403.17844: the decoder of its compression task.

    **Errors:** `ValueError` for an odd width, one below 4, or an empty vocabulary.
    """

    norms: tuple[RootMeanSquareNorm, ...]
    weights: tuple[Float[Array, "d _"], ...]
    biases: tuple[Float[Array, "_"], ...]

    def __init__(self, width: int, vocabulary_size: int, *, key: Key[Array, ""]):
        """**Arguments:**

        - `width`: the size of the vector.
        - `vocabulary_size`: how many different tokens there are.
        - `key`: a random key.
        """
        require(width >= 4 and width % 2 == 0, f"width must be even and at least 4, not {width}")
        require(vocabulary_size >= 1, f"vocabulary_size must be at least 1, not {vocabulary_size}")
        sizes = (width, width, vocabulary_size)
        keys = jax.random.split(key, 3)
        self.norms = tuple(RootMeanSquareNorm(width) for _ in sizes)
        self.weights = tuple(
            truncated_normal(key, (width, size), fan_in=width) for key, size in zip(keys, sizes, strict=True)
        )
        self.biases = tuple(jnp.zeros((size,)) for size in sizes)

    def __call__(self, hidden: Float[Array, "d"], length: int) -> Float[Array, "t v"]:
        """The logits of `length` tokens."""
        z = hidden[None] + sinusoidal_positions(length, hidden.shape[0]).astype(hidden.dtype)
        for layer, (norm, weight, bias) in enumerate(zip(self.norms, self.weights, self.biases, strict=True)):
            z = norm(z) @ weight + bias[None]
            z = jax.nn.gelu(z) if layer < 2 else z
        return z


class AutoEncoder(eqx.Module):
    """A language model whose last hidden state says what the sequence was.

    Called like the model, it returns logits of the tokens themselves, not of the next ones.

    ```python
    >>> import jax, jax.numpy as jnp
    >>> import innerloop as il
    >>> first, second = jax.random.split(jax.random.key(0))
    >>> model = il.LanguageModel(
    ...     11, 8, 1, lambda key: il.linear_attention_layer(8, num_heads=2, key_size=4, key=key), key=first
    ... )
    >>> coder = il.AutoEncoder(model, il.Reconstruction(8, 11, key=second))
    >>> coder(jnp.asarray([3, 1, 4, 1, 5]))[0].shape
    (5, 11)

    ```

    **Arguments:**

    - `model`: its embedding and blocks are used, its own output is not.
    - `head`: from the hidden state of the last token to logits.
    """

    model: LanguageModel
    head: Reconstruction

    def __call__(
        self,
        tokens: Int[Array, "t"],
        state: PyTree | None = None,
        *,
        form: Form = "chunk",
        resets: Bool[Array, "t"] | None = None,
    ) -> tuple[Float[Array, "t v"], PyTree]:
        """The logits of all tokens, and the state after the last."""
        require(tokens.shape[0] >= 1, "an auto-encoder needs at least one token")
        hidden, state = self.model.hidden_states(tokens, state, form=form, resets=resets)
        return self.head(hidden[-1][-1], tokens.shape[0]), state
