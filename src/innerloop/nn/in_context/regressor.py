"""Regression in context: a stack of memory layers reads data and a query as tokens and predicts a label."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from ...core.errors import require
from ..attention.linear_attention import LinearSelfAttention
from ..attention.softmax_attention import SoftmaxSelfAttention
from ..feedforward import LayerNorm, MultilayerPerceptron
from ..initialise import truncated_normal
from ..projections import Projections
from ..sequence import AbstractMemoryLayer
from .residual_stack import ResidualStack


class InContextRegressor(eqx.Module):
    r"""Predicts the label of the last token from the data in the tokens before it.

    $$h_j = [\text{position}_j, \mathrm{mlp}(e_j A)], \quad
      \hat y = - \bigl(\mathrm{stack}(h)_{N+1}\bigr)_{\text{last } o}$$

    The prediction is **minus** the last coordinates of the query token, because the construction of gradient
    descent keeps residuals there: it subtracts from the query's label, zero at first, what it would predict.

    **Arguments:**

    - `stack`: the layers; the query token is never among their context.
    - `embedding`: an optional linear map of each token.
    - `perceptron`: an optional network, added to each embedded token.
    - `position_size`: the size of the sinusoidal encoding of the position, put before the embedded token so
      that the label coordinates stay last; 0 is none.
    - `outputs`: the size of a label.

    **Reference:** von Oswald et al. (2023), arXiv 2212.07677.

    **Errors:** `ValueError` for parts whose widths do not fit.
    """

    stack: ResidualStack
    embedding: Float[Array, "w d"] | None = None
    perceptron: MultilayerPerceptron | None = None
    position_size: int = eqx.field(static=True, default=0)
    outputs: int = eqx.field(static=True, default=1)

    def __check_init__(self):
        width = self.stack.width - self.position_size
        require(self.position_size >= 0, f"position_size must not be negative, but is {self.position_size}")
        require(
            1 <= self.outputs <= width,
            f"labels of size {self.outputs} do not fit into tokens of width {width} (positions apart)",
        )
        if self.embedding is not None:
            require(
                self.embedding.shape[1] == width,
                f"the embedding makes tokens of width {self.embedding.shape[1]}, but the stack reads {width}",
            )
        if self.perceptron is not None:
            for axis, size in enumerate((self.perceptron.hidden.shape[0], self.perceptron.output.shape[1])):
                side = ("reads", "makes")[axis]
                require(
                    size == width,
                    f"the perceptron {side} tokens of width {size}, but the stack reads {width}",
                )

    @property
    def token_width(self) -> int:
        """The size of one token before the embedding."""
        return self.stack.width - self.position_size if self.embedding is None else self.embedding.shape[0]

    def embed(self, tokens: Float[Array, "t w"]) -> Float[Array, "t d"]:
        """What the first layer of the stack sees."""
        require(
            tokens.ndim == 2 and tokens.shape[-1] == self.token_width,
            f"the model reads tokens [t {self.token_width}], not an array of shape {tokens.shape}",
        )
        hidden = tokens if self.embedding is None else tokens @ self.embedding
        if self.perceptron is not None:
            hidden = hidden + self.perceptron(hidden)
        if self.position_size:
            positions = sinusoidal_encoding(tokens.shape[0], self.position_size).astype(hidden.dtype)
            hidden = jnp.concatenate([positions, hidden], axis=-1)
        return hidden

    def __call__(self, tokens: Float[Array, "t w"]) -> Float[Array, "o"]:
        """The label predicted for the last token, which is the query; all others are the context."""
        return -self.stack.last_token(self.embed(tokens), tokens.shape[0] - 1)[-self.outputs :]

    def hidden_states(self, tokens: Float[Array, "t w"]) -> Float[Array, "l t d"]:
        """All tokens before the first layer and after each."""
        return self.stack.hidden_states(self.embed(tokens), tokens.shape[0] - 1)


def sinusoidal_encoding(length: int, size: int) -> Float[Array, "t p"]:
    r"""Sines (even coordinates) and cosines (odd ones) of the position at geometrically spaced frequencies.

    $$p_{t, 2i} = \sin(t / 10000^{2i / \text{size}}), \quad p_{t, 2i+1} = \cos(t / 10000^{2i / \text{size}})$$

    **Reference:** Vaswani et al. (2017), arXiv 1706.03762, section 3.5.
    """
    angles = np.arange(length)[:, None] * 10000.0 ** (-np.arange(0, size, 2) / size)
    encoding = np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(length, -1)[:, :size]
    return jnp.asarray(encoding, float)


def one_layer_regressor(
    dim: int,
    outputs: int = 1,
    *,
    num_heads: int = 1,
    key_size: int | None = None,
    use_bias: bool = False,
    variance: float | Float[Array, ""] = 0.002,
    key: Key[Array, ""],
) -> InContextRegressor:
    """One linear self-attention layer on joint tokens: the paper's model of one step of gradient descent.

    ```python
    >>> import jax, jax.numpy as jnp
    >>> from innerloop.nn import one_layer_regressor
    >>> model = one_layer_regressor(dim=3, key=jax.random.key(0))
    >>> model(jnp.ones((11, 4))).shape
    (1,)

    ```

    **Arguments:**

    - `dim`, `outputs`: the sizes of an input and of a label; a token is `[x, y]`.
    - `num_heads`, `key_size`: of the layer; a key is as wide as a token by default.
    - `use_bias`: whether the layer's maps have biases.
    - `variance`: of a weight, times its fan-in. At the paper's 0.002 training starts on a plateau; 0.1 leaves
      it much sooner.
    - `key`: a random key.
    """
    return deep_regressor(
        dim, 1, outputs, num_heads=num_heads, key_size=key_size, use_bias=use_bias, variance=variance, key=key
    )


def recurrent_regressor(
    dim: int,
    num_repeats: int,
    outputs: int = 1,
    *,
    num_heads: int = 1,
    key_size: int | None = None,
    use_bias: bool = False,
    use_norm: bool = False,
    variance: float | Float[Array, ""] | None = None,
    activation_clip: float | None = None,
    key: Key[Array, ""],
) -> InContextRegressor:
    """One linear self-attention layer applied `num_repeats` times with the same weights.

    Arguments as in `deep_regressor`; the default variance is `0.002 / num_repeats`.
    """
    require(num_repeats >= 1, f"num_repeats must be at least 1, not {num_repeats}")
    variance = 0.002 / num_repeats if variance is None else variance
    layer = _linear_layer(dim + outputs, num_heads, key_size, use_bias, variance, key)
    norms = (LayerNorm(dim + outputs),) if use_norm else None
    stack = ResidualStack((layer,), norms, num_repeats=num_repeats, activation_clip=activation_clip)
    return InContextRegressor(stack, outputs=outputs)


def deep_regressor(
    dim: int,
    num_layers: int,
    outputs: int = 1,
    *,
    num_heads: int = 1,
    key_size: int | None = None,
    use_bias: bool = False,
    use_norm: bool = False,
    variance: float | Float[Array, ""] | None = None,
    activation_clip: float | None = None,
    key: Key[Array, ""],
) -> InContextRegressor:
    """Linear self-attention layers with weights of their own.

    **Arguments:**

    - `dim`, `outputs`: the sizes of an input and of a label; a token is `[x, y]`.
    - `num_layers`: how many layers.
    - `num_heads`, `key_size`: of each layer; a key is as wide as a token by default.
    - `use_bias`, `use_norm`: whether the layers have biases, and each a `LayerNorm` before it.
    - `variance`: of a weight, times its fan-in; by default the paper's `0.002 / num_layers`.
    - `activation_clip`: the paper clips at 10 above three layers, and that is the default there.
    - `key`: a random key.
    """
    require(num_layers >= 1, f"num_layers must be at least 1, not {num_layers}")
    variance = 0.002 / num_layers if variance is None else variance
    if activation_clip is None and num_layers > 3:
        activation_clip = 10.0
    layers = tuple(
        _linear_layer(dim + outputs, num_heads, key_size, use_bias, variance, layer_key)
        for layer_key in jax.random.split(key, num_layers)
    )
    norms = tuple(LayerNorm(dim + outputs) for _ in layers) if use_norm else None
    return InContextRegressor(ResidualStack(layers, norms, activation_clip=activation_clip), outputs=outputs)


def interleaved_regressor(
    dim: int,
    num_context: int,
    outputs: int = 1,
    *,
    position_size: int = 10,
    num_heads: int = 1,
    key_size: int = 20,
    variance: float | Float[Array, ""] = 0.01,
    key: Key[Array, ""],
) -> InContextRegressor:
    """Two layers for inputs and labels in tokens of their own: softmax attention, then linear attention.

    **Arguments:**

    - `dim`, `outputs`: the sizes of an input and of a label; a token is one of them, padded to `dim`.
    - `num_context`: how many pairs; the cache of the softmax layer is made for twice as many tokens.
    - `position_size`: the size of the encoding of the position.
    - `num_heads`, `key_size`: of both layers.
    - `variance`: of a weight, times its fan-in; the paper's 0.02 over two layers.
    - `key`: a random key.
    """
    first, second = (
        Projections.random(dim + position_size, num_heads, key_size, variance=variance, key=layer_key)
        for layer_key in jax.random.split(key)
    )
    layers = (SoftmaxSelfAttention(first, capacity=2 * num_context), LinearSelfAttention(second))
    return InContextRegressor(ResidualStack(layers), position_size=position_size, outputs=outputs)


def sine_regressor(
    layer: AbstractMemoryLayer | None = None,
    *,
    dim: int = 1,
    outputs: int = 1,
    width: int = 40,
    hidden_size: int = 160,
    variance: float | Float[Array, ""] = 0.002,
    key: Key[Array, ""],
) -> InContextRegressor:
    """A linear embedding, a residual network and one attention layer: gradient descent on learned features.

    **Arguments:**

    - `layer`: the attention layer; by default a random linear one. The paper's comparator has the
      construction there, `gd_construction(width - outputs, outputs, ...)`, and learns the rest.
    - `dim`, `outputs`: the sizes of an input and of a label.
    - `width`: of the embedded tokens.
    - `hidden_size`: of the residual network.
    - `variance`: of a weight, times its fan-in.
    - `key`: a random key.
    """
    embedding_key, perceptron_key, layer_key = jax.random.split(key, 3)
    if layer is None:
        layer = _linear_layer(width, 1, None, False, variance, layer_key)
    return InContextRegressor(
        ResidualStack((layer,)),
        embedding=truncated_normal(embedding_key, (dim + outputs, width), fan_in=dim + outputs, variance=variance),
        perceptron=MultilayerPerceptron(width, hidden_size, variance=variance, key=perceptron_key),
        outputs=outputs,
    )


def _linear_layer(width, num_heads, key_size, use_bias, variance, key) -> LinearSelfAttention:
    key_size = width if key_size is None else key_size
    return LinearSelfAttention(
        Projections.random(width, num_heads, key_size, use_bias=use_bias, variance=variance, key=key)
    )
