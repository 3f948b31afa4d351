"""The sequence-layer interface: one sequence in, one sequence out, a state handed over between calls.

Two abstract classes. `AbstractSequenceLayer` has three forms of one operator: *recurrent* (token by token,
memory constant in time), *chunk* (blocks of tokens, for training on long sequences) and *parallel* (all
tokens at once). `AbstractMemoryLayer` is a sequence layer whose state is a memory that can be written and
read apart.
"""

import abc
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, PyTree

from ..core.errors import UnknownNameError, require

# Type checkers see the three names. At run time the alias is `str`, so that a fourth name reaches
# `check_form`, which knows the nearest one, and not a run-time type checker, which does not.
if TYPE_CHECKING:
    Form = Literal["recurrent", "chunk", "parallel"]
else:
    Form = str

FORMS: tuple[Form, ...] = ("recurrent", "chunk", "parallel")

State = TypeVar("State")


class AbstractSequenceLayer(eqx.Module):
    """Maps one sequence to one sequence; batching is `jax.vmap`.

    The state is a pytree of float32 arrays (float64 for a layer with float64 weights) and integers whose size
    does not depend on time. Running over a sequence in one call or in two with the state handed over is the
    same.
    """

    @property
    @abc.abstractmethod
    def width(self) -> int:
        """The size of one input token."""

    @abc.abstractmethod
    def init_state(self) -> PyTree:
        """The state before the first token."""

    @abc.abstractmethod
    def step(self, state: PyTree, x: Float[Array, "d"]) -> tuple[PyTree, Float[Array, "e"]]:
        """One token: the state after it, and its output."""

    @abc.abstractmethod
    def __call__(
        self,
        xs: Float[Array, "t d"],
        state: PyTree | None = None,
        *,
        form: Form = "chunk",
        resets: Bool[Array, "t"] | None = None,
    ) -> tuple[Float[Array, "t e"], PyTree]:
        """A whole sequence, causally.

        **Arguments:**

        - `xs`: the tokens.
        - `state`: where to go on from; `None` is the initial state, known to be empty already while tracing.
        - `form`: `"recurrent"`, `"chunk"` or `"parallel"`: how it is computed, never what.
        - `resets`: where a new segment begins: such a token, and those after it, see nothing of what came before.
          Several sequences packed into one are so the same as each on its own.

        **Returns:** the outputs and the state after the last token.

        **Errors:** `ValueError` for tokens of another width or a state of another size, `UnknownNameError`
        for an unknown form.
        """


class AbstractMemoryLayer(AbstractSequenceLayer):
    """A sequence layer whose state is a memory: tokens write into it and read from it, apart.

    The causal layer reads each token after writing it, so a token sees itself: `step(state, x)` is
    `read(write(state, x), x)`. Other orders are free: `attend` writes a context and reads with other tokens.
    """

    @abc.abstractmethod
    def write(self, state: PyTree | None, xs: Float[Array, "t d"]) -> PyTree:
        """The memory after the tokens have been written, one after the other; `None` is the empty memory."""

    @abc.abstractmethod
    def read(self, state: PyTree, xs: Float[Array, "t d"]) -> Float[Array, "t e"]:
        """What each token reads from the memory, which does not change."""

    @abc.abstractmethod
    def attend(self, context: Float[Array, "n d"], tokens: Float[Array, "t d"]) -> Float[Array, "t e"]:
        """What each of `tokens` reads from an empty memory into which `context` was written.

        Not causal: every token sees the whole context, and itself only if it is in there. The definition is
        `read(write(None, context), tokens)`; a layer may know a faster order of the same products.
        """


def check_form(form: str) -> None:
    """Refuse an unknown form, with the nearest known one."""
    if form not in FORMS:
        raise UnknownNameError("form", form, FORMS)


def check_width(layer: AbstractSequenceLayer, xs: Array, *, axes: str = "t d") -> None:
    """Refuse tokens which the layer cannot read, naming the axis."""
    name, rank = type(layer).__name__, len(axes.split())
    require(
        xs.ndim == rank,
        f"{name} takes tokens [{axes}], not an array of shape {xs.shape}; batching is jax.vmap",
    )
    require(
        xs.shape[-1] == layer.width,
        f"{name} reads tokens of width {layer.width}, but axis 'd' of the input has size {xs.shape[-1]}",
    )
    if not isinstance(xs, Tracer):  # under jit nothing is known yet: `Checked` looks at run time
        bad = np.argwhere(~np.isfinite(np.asarray(xs, np.float64)))
        if len(bad):
            place = ", ".join(f"{axis}={index}" for axis, index in zip(axes.split(), bad[0], strict=True))
            raise ValueError(f"{name} reads finite tokens, but the input has {xs[tuple(bad[0])]} at {place}")


def check_resets(layer: AbstractSequenceLayer, xs: Array, resets: Array | None) -> None:
    """Refuse marks of segments that are not one truth value per token."""
    if resets is not None:
        require(
            resets.shape == xs.shape[:1] and resets.dtype == jnp.bool_,
            f"{type(layer).__name__}: resets is one truth value per token, [{xs.shape[0]}], "
            f"not {resets.dtype}{list(resets.shape)}",
        )


def check_state(layer: AbstractSequenceLayer, state: Any) -> None:
    """Refuse a state of another structure or size than the layer's own."""
    name, expected = type(layer).__name__, jax.eval_shape(layer.init_state)
    require(
        jax.tree.structure(state) == jax.tree.structure(expected),
        f"{name} has a state of structure {jax.tree.structure(expected)}, not {jax.tree.structure(state)}",
    )
    leaves: Any = jax.tree_util.tree_flatten_with_path(expected)[0]
    for (path, wanted), given in zip(leaves, jax.tree.leaves(state), strict=True):
        place = jax.tree_util.keystr(path)
        require(
            jnp.shape(given) == wanted.shape,
            f"{name} has a state{place} of shape {wanted.shape}, not {jnp.shape(given)}",
        )


def scan_chunks(
    function: Callable[[State, PyTree], tuple[State, PyTree]], state: State, xs: PyTree, *, chunk_size: int
) -> tuple[State, PyTree]:
    """Carry a state over a sequence, `chunk_size` tokens at a time.

    The last, shorter chunk is a call of its own: shapes are known while tracing, so nothing is padded or
    masked.

    **Arguments:**

    - `function`: `(state, chunk) -> (state, outputs)` for a chunk of any length, zero included.
    - `state`: the state before the first token.
    - `xs`: arrays with a leading time axis.
    - `chunk_size`: how many tokens make a chunk.

    **Returns:** the state after the last token and the outputs, joined along time.
    """
    length = jax.tree.leaves(xs)[0].shape[0]
    whole = length // chunk_size
    if whole == 0:
        return function(state, xs)
    split = whole * chunk_size
    blocks = jax.tree.map(lambda x: x[:split].reshape(whole, chunk_size, *x.shape[1:]), xs)
    state, outputs = jax.lax.scan(function, state, blocks)
    outputs = jax.tree.map(lambda y: y.reshape(split, *y.shape[2:]), outputs)
    if split < length:
        state, rest = function(state, jax.tree.map(lambda x: x[split:], xs))
        outputs = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), outputs, rest)
    return state, outputs
