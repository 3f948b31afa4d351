"""Blocks: a sequence layer and a perceptron, each added to the tokens it reads; stacks of blocks."""

import jax
from jaxtyping import Array, Bool, Float, PyTree

from ...core.errors import require
from ..feedforward import GatedPerceptron, LayerNorm, MultilayerPerceptron, RootMeanSquareNorm
from ..sequence import AbstractSequenceLayer, Form, check_form, check_resets, check_state, check_width

Norm = RootMeanSquareNorm | LayerNorm
Perceptron = GatedPerceptron | MultilayerPerceptron


class Block(AbstractSequenceLayer):
    r"""A sequence layer, then a perceptron, each reading normalised tokens and adding to them.

    $$x \leftarrow x + \mathrm{layer}(\mathrm{norm}_1(x)), \qquad
      x \leftarrow x + \mathrm{perceptron}(\mathrm{norm}_2(x))$$

    `random` makes the usual one, with root-mean-square norms and a gated perceptron.

    **Arguments:**

    - `layer`: mixes tokens over time; its output is as wide as its input.
    - `norm`: before the layer; `None` is none.
    - `perceptron`: acts on each token; `None` is none.
    - `perceptron_norm`: before the perceptron; `None` is none.

    **Reference:** von Oswald et al. (2025), arXiv 2506.05233; before it Xiong et al. (2020), arXiv 2002.04745.
    """

    layer: AbstractSequenceLayer
    norm: Norm | None = None
    perceptron: Perceptron | None = None
    perceptron_norm: Norm | None = None

    @classmethod
    def random(
        cls,
        layer: AbstractSequenceLayer,
        *,
        hidden_size: int | None = None,
        output_variance: float | Float[Array, ""] = 1.0,
        key,
    ) -> "Block":
        """A pre-norm block around `layer` with a gated perceptron of `hidden_size` (three times the width)."""
        width = layer.width
        perceptron = GatedPerceptron(
            width, 3 * width if hidden_size is None else hidden_size, output_variance=output_variance, key=key
        )
        return cls(layer, RootMeanSquareNorm(width), perceptron, RootMeanSquareNorm(width))

    @property
    def width(self) -> int:
        """The size of one input token."""
        return self.layer.width

    def init_state(self) -> PyTree:
        """The state of the layer."""
        return self.layer.init_state()

    def step(self, state: PyTree, x: Float[Array, "d"]) -> tuple[PyTree, Float[Array, "d"]]:
        """One token: the state after it, and its output."""
        check_width(self, x, axes="d")
        state, read = self.layer.step(state, self.normed(x[None])[0])
        return state, self._finish(x[None], read[None])[0]

    def __call__(
        self,
        xs: Float[Array, "t d"],
        state: PyTree | None = None,
        *,
        form: Form = "chunk",
        resets: Bool[Array, "t"] | None = None,
    ) -> tuple[Float[Array, "t d"], PyTree]:
        """A whole sequence, causally; see `AbstractSequenceLayer`."""
        check_form(form)
        check_width(self, xs)
        check_resets(self, xs, resets)
        read, state = self.layer(self.normed(xs), state, form=form, resets=resets)
        return self._finish(xs, read), state

    def normed(self, xs: Float[Array, "t d"]) -> Float[Array, "t d"]:
        """The tokens as the layer reads them."""
        return xs if self.norm is None else self.norm(xs)

    def _finish(self, xs: Float[Array, "t d"], read: Float[Array, "t d"]) -> Float[Array, "t d"]:
        require(
            read.shape == xs.shape,
            f"the layer of a block returns tokens as wide as it reads ({xs.shape[-1]}), not {read.shape[-1]}",
        )
        xs = xs + read.astype(xs.dtype)
        if self.perceptron is None:
            return xs
        return xs + self.perceptron(xs if self.perceptron_norm is None else self.perceptron_norm(xs))


class Stack(AbstractSequenceLayer):
    """Sequence layers (usually blocks) one after the other; the state is a tuple of theirs.

    **Arguments:**

    - `layers`: at least one; each reads what the one before has returned.

    **Errors:** `ValueError` for an empty tuple.
    """

    layers: tuple[AbstractSequenceLayer, ...]

    def __check_init__(self):
        require(len(self.layers) >= 1, "a stack needs at least one layer")

    @property
    def width(self) -> int:
        """The size of one input token."""
        return self.layers[0].width

    def init_state(self) -> tuple[PyTree, ...]:
        """The states of all layers."""
        return tuple(layer.init_state() for layer in self.layers)

    def step(self, state: tuple[PyTree, ...], x: Float[Array, "d"]) -> tuple[tuple[PyTree, ...], Float[Array, "e"]]:
        """One token: the states after it, and its output."""
        check_width(self, x, axes="d")
        states = []
        for layer, before in zip(self.layers, state, strict=True):
            after, x = layer.step(before, x)
            states.append(after)
        return tuple(states), x

    def __call__(
        self,
        xs: Float[Array, "t d"],
        state: tuple[PyTree, ...] | None = None,
        *,
        form: Form = "chunk",
        resets: Bool[Array, "t"] | None = None,
    ) -> tuple[Float[Array, "t e"], tuple[PyTree, ...]]:
        """A whole sequence, causally; see `AbstractSequenceLayer`."""
        hidden, states = self.hidden_states(xs, state, form=form, resets=resets)
        return hidden[-1], states

    def hidden_states(
        self,
        xs: Float[Array, "t d"],
        state: tuple[PyTree, ...] | None = None,
        *,
        form: Form = "chunk",
        resets: Bool[Array, "t"] | None = None,
    ) -> tuple[list[Float[Array, "t _"]], tuple[PyTree, ...]]:
        """The tokens before the first layer and after each, and the states after the last token."""
        check_form(form)
        check_width(self, xs)
        check_resets(self, xs, resets)
        if state is not None:
            check_state(self, state)
        hidden, states = [xs], []
        for number, layer in enumerate(self.layers):
            before = None if state is None else state[number]
            ys, after = layer(hidden[-1], before, form=form, resets=resets)
            hidden.append(ys)
            states.append(after)
        return hidden, tuple(states)


def make_blocks(make_layer, num_layers: int, *, hidden_size: int | None = None, key) -> Stack:
    """A stack of pre-norm blocks around layers that `make_layer(key)` draws.

    Output weights of the perceptrons have variance `2 / num_layers` over their fan-in, so that the tokens do not grow
    with depth; give the layers the same.
    """
    require(num_layers >= 1, f"num_layers must be at least 1, not {num_layers}")
    blocks = []
    for one in jax.random.split(key, num_layers):
        layer_key, perceptron_key = jax.random.split(one)
        block = Block.random(
            make_layer(layer_key), hidden_size=hidden_size, output_variance=2 / num_layers, key=perceptron_key
        )
        blocks.append(block)
    return Stack(tuple(blocks))
