"""The students of `rnn-attention`: one sequence in, the outputs at all positions or a prediction for the last."""

import equinox as eqx
import jax
from jaxtyping import Array, Float, Key

from ...nn.attention.linear_attention import LinearSelfAttention
from ...nn.attention.softmax_attention import SoftmaxSelfAttention
from ...nn.feedforward import GatedPerceptron
from ...nn.initialise import truncated_normal
from ...nn.projections import Projections
from ...nn.recurrent.gated_linear_rnn import GatedLinearRNN
from ...nn.recurrent.gru import GRU
from ...nn.recurrent.lru import LRULayer
from ...nn.recurrent.lstm import LSTM
from ...nn.sequence import AbstractSequenceLayer


class Student(eqx.Module):
    """A sequence layer, its state left out; with `last` only the outputs at the last token."""

    layer: AbstractSequenceLayer
    last: bool = eqx.field(static=True, default=False)

    def __call__(self, xs: Float[Array, "t d"]) -> Float[Array, "..."]:
        # On a CPU, for some dozens of tokens, one scan over them is the fastest form of a diagonal recurrence.
        recurrent = isinstance(self.layer, GatedLinearRNN)
        outputs, _ = self.layer(xs, form="recurrent" if recurrent else "parallel")
        return outputs[-1] if self.last else outputs


class StackedLRU(eqx.Module):
    r"""Two blocks of a linear recurrent unit and a gated perceptron, each added to its input, between linear maps."""

    embedding: Float[Array, "d w"]
    layers: tuple[tuple[LRULayer, GatedPerceptron], ...]
    output: Float[Array, "w e"]
    last: bool = eqx.field(static=True, default=False)

    @classmethod
    def random(
        cls, width: int, hidden_size: int, output_width: int, *, last: bool = False, key: Key[Array, ""]
    ) -> "StackedLRU":
        first, final, *keys = jax.random.split(key, 6)
        layers = tuple(
            (
                LRULayer(hidden_size, hidden_size, min_radius=0.0, max_radius=0.999, key=keys[2 * i]),
                GatedPerceptron(hidden_size, 2 * hidden_size, key=keys[2 * i + 1]),
            )
            for i in range(2)
        )
        embedding = truncated_normal(first, (width, hidden_size), fan_in=width)
        output = truncated_normal(final, (hidden_size, output_width), fan_in=hidden_size)
        return cls(embedding, layers, output, last)

    def __call__(self, xs: Float[Array, "t d"]) -> Float[Array, "..."]:
        hidden = xs @ self.embedding
        for recurrent, perceptron in self.layers:
            hidden = hidden + recurrent(hidden, form="recurrent")[0]
            hidden = hidden + perceptron(hidden)
        outputs = hidden @ self.output
        return outputs[-1] if self.last else outputs


def architecture(
    name: str, width: int, hidden_size: int, output_width: int, length: int, *, last: bool = False, key: Key[Array, ""]
) -> Student | StackedLRU:
    """An untrained model of another kind than the gated network, by its name."""
    if name == "stacked-lru":
        return StackedLRU.random(width, hidden_size, output_width, last=last, key=key)
    if name == "lstm":
        return Student(LSTM(width, hidden_size, output_width, key=key), last)
    if name == "gru":
        return Student(GRU(width, hidden_size, output_width, key=key), last)
    heads = 1 if name == "linear-attention" else 4
    projections = Projections.random(width, heads, width, output_width=output_width, key=key)
    if name == "linear-attention":
        return Student(LinearSelfAttention(projections), last)
    return Student(SoftmaxSelfAttention(projections, capacity=length), last)
