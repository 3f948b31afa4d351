"""Models around a stack of sequence layers: of discrete sequences, and of sequences of vectors."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from ...core.errors import require
from ..feedforward import RootMeanSquareNorm
from ..initialise import truncated_normal
from ..sequence import AbstractSequenceLayer, Form
from .block import Stack, make_blocks


class LanguageModel(eqx.Module):
    r"""Predicts the next token of a sequence of integers: embedding, blocks, norm, tied output.

    $$\ell = c \tanh\bigl(\mathrm{norm}(\mathrm{blocks}(E_{x})) E^\top / c\bigr)$$

    ```python
    >>> import jax, jax.numpy as jnp
    >>> import innerloop as il
    >>> model = il.LanguageModel(
    ...     11, 8, 2, lambda key: il.mesa_layer(8, num_heads=2, key_size=4, key=key), key=jax.random.key(0)
    ... )
    >>> logits, state = model(jnp.asarray([3, 1, 4, 1, 5]))
    >>> logits.shape
    (5, 11)

    ```

    **Reference:** von Oswald et al. (2025), arXiv 2506.05233, whose backbone this is for all layers alike.

    **Errors:** `ValueError` for sizes below one, or a layer of another width.
    """

    embedding: Float[Array, "v d"]
    stack: Stack
    norm: RootMeanSquareNorm
    logit_cap: float | None = eqx.field(static=True)

    def __init__(
        self,
        vocabulary_size: int,
        width: int,
        num_layers: int,
        make_layer: Callable[[Key[Array, ""]], AbstractSequenceLayer],
        *,
        hidden_size: int | None = None,
        logit_cap: float | None = 30.0,
        key: Key[Array, ""],
    ):
        """**Arguments:**

        - `vocabulary_size`: how many different tokens there are.
        - `width`: the size of an embedded token.
        - `num_layers`: the number of blocks.
        - `make_layer`: draws the sequence layer of a block from a random key.
        - `hidden_size`: of the perceptrons; by default three times the width.
        - `logit_cap`: $c$, the largest magnitude of a logit; `None` is no limit.
        - `key`: a random key.
        """
        require(vocabulary_size >= 1, f"vocabulary_size must be at least 1, not {vocabulary_size}")
        require(width >= 1, f"width must be at least 1, not {width}")
        first, second = jax.random.split(key)
        self.embedding = truncated_normal(first, (vocabulary_size, width), fan_in=width)
        self.stack = make_blocks(make_layer, num_layers, hidden_size=hidden_size, key=second)
        require(self.stack.width == width, f"the layers are {self.stack.width} wide, not {width}")
        self.norm, self.logit_cap = RootMeanSquareNorm(width), logit_cap

    @property
    def vocabulary_size(self) -> int:
        """How many different tokens there are."""
        return self.embedding.shape[0]

    def init_state(self) -> PyTree:
        """The states of all blocks before the first token."""
        return self.stack.init_state()

    def step(self, state: PyTree, token: Int[Array, ""]) -> tuple[PyTree, Float[Array, "v"]]:
        """One token: the state after it, and the logits of the next."""
        state, x = self.stack.step(state, self.embedding[token])
        return state, self.logits(x[None])[0]

    def __call__(
        self,
        tokens: Int[Array, "t"],
        state: PyTree | None = None,
        *,
        form: Form = "chunk",
        resets: Bool[Array, "t"] | None = None,
    ) -> tuple[Float[Array, "t v"], PyTree]:
        """The logits of the token after each, and the state after the last."""
        xs, state = self.stack(self._embedded(tokens), state, form=form, resets=resets)
        return self.logits(xs), state

    def hidden_states(
        self,
        tokens: Int[Array, "t"],
        state: PyTree | None = None,
        *,
        form: Form = "chunk",
        resets: Bool[Array, "t"] | None = None,
    ) -> tuple[list[Float[Array, "t d"]], PyTree]:
        """The embedded tokens before the first block and after each, and the state after the last token."""
        return self.stack.hidden_states(self._embedded(tokens), state, form=form, resets=resets)

    def _embedded(self, tokens: Int[Array, "t"]) -> Float[Array, "t d"]:
        require(tokens.ndim == 1, f"a language model takes tokens [t], not of shape {tokens.shape}; use jax.vmap")
        if not isinstance(tokens, Tracer):  # an index out of range would silently be another token
            given = np.asarray(tokens)
            bad = np.flatnonzero((given < 0) | (given >= self.vocabulary_size))
            if len(bad):
                raise ValueError(f"tokens are 0 to {self.vocabulary_size - 1}, but {given[bad[0]]} at t={bad[0]}")
        return self.embedding[tokens]

    def logits(self, xs: Float[Array, "t d"]) -> Float[Array, "t v"]:
        """The logits that the tokens after the last block stand for."""
        logits = self.norm(xs) @ self.embedding.T
        return logits if self.logit_cap is None else self.logit_cap * jnp.tanh(logits / self.logit_cap)


class VectorSequenceModel(eqx.Module):
    """Maps a sequence of vectors to one: a linear map in, layers, a norm, and a linear map out.

    **Arguments:**

    - `stack`: the layers.
    - `read_in`, `read_out`: the linear maps; `None` leaves the vectors as they are.
    - `norm`: before the map out; `None` is none.
    """

    stack: Stack
    read_in: Float[Array, "o d"] | None = None
    read_out: Float[Array, "d p"] | None = None
    norm: RootMeanSquareNorm | None = None

    @classmethod
    def random(
        cls,
        input_width: int,
        width: int,
        output_width: int,
        num_layers: int,
        make_layer: Callable[[Key[Array, ""]], AbstractSequenceLayer],
        *,
        hidden_size: int | None = None,
        key: Key[Array, ""],
    ) -> "VectorSequenceModel":
        """Pre-norm blocks of random weights between two random linear maps."""
        keys = jax.random.split(key, 3)
        return cls(
            make_blocks(make_layer, num_layers, hidden_size=hidden_size, key=keys[0]),
            truncated_normal(keys[1], (input_width, width), fan_in=input_width),
            truncated_normal(keys[2], (width, output_width), fan_in=width),
            RootMeanSquareNorm(width),
        )

    def init_state(self) -> PyTree:
        """The states of all layers before the first vector."""
        return self.stack.init_state()

    def __call__(
        self,
        xs: Float[Array, "t o"],
        state: PyTree | None = None,
        *,
        form: Form = "chunk",
        resets: Bool[Array, "t"] | None = None,
    ) -> tuple[Float[Array, "t p"], PyTree]:
        """The output sequence, and the state after the last vector."""
        hidden, state = self.hidden_states(xs, state, form=form, resets=resets)
        ys = hidden[-1] if self.norm is None else self.norm(hidden[-1])
        return ys if self.read_out is None else ys @ self.read_out, state

    def hidden_states(
        self,
        xs: Float[Array, "t o"],
        state: PyTree | None = None,
        *,
        form: Form = "chunk",
        resets: Bool[Array, "t"] | None = None,
    ) -> tuple[list[Float[Array, "t _"]], PyTree]:
        """The tokens before the first layer and after each, and the state after the last vector."""
        xs = xs if self.read_in is None else xs @ self.read_in
        return self.stack.hidden_states(xs, state, form=form, resets=resets)


class OutputsOnly(eqx.Module):
    """A model as a plain function of its inputs: it starts from the initial state and drops the final one.

    Training steps and learning rules take models of one argument.

    **Arguments:**

    - `model`: called as `model(inputs)`, returns `(outputs, state)`.
    """

    model: Any

    def __call__(self, inputs: PyTree) -> PyTree:
        """The outputs alone."""
        return self.model(inputs)[0]
