"""The models that `mesa-optimization` trains: on constructed tokens, and on observations as they come."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from ...nn.attention.linear_attention import LinearSelfAttention
from ...nn.attention.softmax_attention import KeyValueCache, SoftmaxSelfAttention
from ...nn.feedforward import LayerNorm, MultilayerPerceptron
from ...nn.in_context.regressor import sinusoidal_encoding
from ...nn.in_context.sequence_gd import BLOCKS, SequenceRegressor
from ...nn.language.block import Block, Stack
from ...nn.language.models import OutputsOnly, VectorSequenceModel
from ...nn.memory.covariance import DirectSolve
from ...nn.memory.mesa import MesaMemory
from ...nn.memory.multi_head import MultiHeadMemory
from ...nn.projections import Projections
from ...nn.sequence import AbstractSequenceLayer, Form

LIMIT = 4.0  # the largest magnitude of an activation of the models on constructed tokens, and of their comparators


def normal_projections(
    width: int, num_heads: int, key_size: int, *, deviation: float, output_width: int | None = None, key
) -> Projections:
    """All weights from one normal law, whatever the fan-in, as in the paper."""
    output_width = width if output_width is None else output_width
    shapes = [(num_heads, width, key_size)] * 3 + [(num_heads, key_size, output_width)]
    keys = jax.random.split(key, 4)
    return Projections(*[deviation * jax.random.normal(one, shape) for one, shape in zip(keys, shapes, strict=True)])


def linear_regressor(size: int, depth: int, *, num_heads: int, deviation: float, length: int, key) -> SequenceRegressor:
    """Layers of causal linear self-attention on constructed tokens, a sequence of `length` at once."""
    return SequenceRegressor.of_layers(
        tuple(
            LinearSelfAttention(
                normal_projections(BLOCKS * size, num_heads, 2 * size, deviation=deviation, key=one),
                chunk_size=length,
            )
            for one in jax.random.split(key, depth)
        ),
        size,
        limit=LIMIT,
    )


def mesa_regressor(size: int, *, num_heads: int, deviation: float, key) -> SequenceRegressor:
    """One mesa layer on constructed tokens."""
    layer = mesa_layer(BLOCKS * size, num_heads, 2 * size, deviation=deviation, key=key)
    return SequenceRegressor.of_layers((layer,), size, limit=LIMIT)


def mesa_layer(width: int, num_heads: int, key_size: int, *, deviation: float, key) -> MultiHeadMemory:
    """The mesa layer of the paper: no gates, no convolution, no norms; the regulariser is learned, one at first."""
    rule = MesaMemory(num_heads, key_size, regulariser=1.0, lower=1e-3, solver=DirectSolve(), chunk_size=64)
    layer = MultiHeadMemory(
        width, num_heads=num_heads, key_size=key_size, rule=rule, convolution=None, normalise=False, output_norm=False,
        key=key,
    )  # fmt: skip
    drawn = normal_projections(width, num_heads, key_size, deviation=deviation, key=key)
    return eqx.tree_at(lambda layer: layer.projections, layer, drawn)


class PositionedAttention(AbstractSequenceLayer):
    """Softmax attention whose tokens carry a sinusoidal code of their position, beside what they are.

    **Arguments:**

    - `attention`: reads tokens with the code behind them.
    - `position_size`: the size of the code.
    """

    attention: SoftmaxSelfAttention
    position_size: int = eqx.field(static=True)

    @property
    def width(self) -> int:
        """The size of one input token, without the code."""
        return self.attention.width - self.position_size

    def init_state(self) -> KeyValueCache:
        """The empty cache, whose length is the position."""
        return self.attention.init_state()

    def step(self, state: KeyValueCache, x: Float[Array, "d"]) -> tuple[KeyValueCache, Float[Array, "e"]]:
        """One token: the state after it, and its output."""
        return self.attention.step(state, self.positioned(x[None], state)[0])

    def __call__(
        self,
        xs: Float[Array, "t d"],
        state: KeyValueCache | None = None,
        *,
        form: Form = "chunk",
        resets: Bool[Array, "t"] | None = None,
    ) -> tuple[Float[Array, "t e"], KeyValueCache]:
        """A whole sequence, causally; see `AbstractSequenceLayer`. Positions are counted in each segment."""
        return self.attention(self.positioned(xs, state, resets), state, form=form, resets=resets)

    def positioned(
        self,
        xs: Float[Array, "t d"],
        state: KeyValueCache | None = None,
        resets: Bool[Array, "t"] | None = None,
    ) -> Float[Array, "t e"]:
        """The tokens with the codes of their positions behind them."""
        places = jnp.arange(xs.shape[0], dtype=jnp.int32)
        here = places if state is None else places + state.length - state.start
        if resets is not None:
            began = jax.lax.cummax(jnp.where(resets, places, -1))
            here = jnp.where(began >= 0, places - began, here)
        codes = sinusoidal_encoding(self.attention.capacity, self.position_size).astype(xs.dtype)
        return jnp.concatenate([xs, codes[here]], axis=-1)


def observation_model(
    size: int,
    layers: tuple[str, ...],
    *,
    width: int,
    num_heads: int,
    key_size: int,
    position_size: int,
    hidden_size: int,
    capacity: int,
    deviation: float,
    key: Key[Array, ""],
) -> OutputsOnly:
    """Pre-norm blocks on observations as they come; `layers` names each block's layer, `softmax` or `mesa`.

    The first layer sees positions. A `hidden_size` of 0 is attention only.
    """
    keys = jax.random.split(key, len(layers) + 2)

    def softmax(number: int, key) -> AbstractSequenceLayer:
        extra = 0 if number else position_size
        drawn = normal_projections(
            width + extra, num_heads, key_size, deviation=deviation, output_width=width, key=key
        )  # fmt: skip
        attention = SoftmaxSelfAttention(drawn, capacity=capacity, chunk_size=capacity)
        return attention if number else PositionedAttention(attention, position_size)

    def block(number: int, kind: str) -> Block:
        layer_key, perceptron_key = jax.random.split(keys[number])
        layer = (
            softmax(number, layer_key)
            if kind == "softmax"
            else mesa_layer(width, num_heads, key_size, deviation=deviation, key=layer_key)
        )
        if not hidden_size:
            return Block(layer, LayerNorm(width))
        perceptron = MultilayerPerceptron(width, hidden_size, key=perceptron_key)
        first, second = (
            deviation * jax.random.normal(one, shape)
            for one, shape in zip(
                jax.random.split(perceptron_key), ((width, hidden_size), (hidden_size, width)), strict=True
            )
        )
        perceptron = eqx.tree_at(lambda p: (p.hidden, p.output), perceptron, (first, second))
        return Block(layer, LayerNorm(width), perceptron, LayerNorm(width))

    blocks = tuple(block(number, kind) for number, kind in enumerate(layers))
    return OutputsOnly(
        VectorSequenceModel(
            Stack(blocks),
            deviation * jax.random.normal(keys[-2], (size, width)),
            deviation * jax.random.normal(keys[-1], (width, size)),
        )
    )
