"""Gradient descent along a sequence: explicitly, and as a causal linear self-attention layer."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from ...core.errors import require
from ..attention.linear_attention import LinearSelfAttention
from ..language.block import Block, Stack
from ..projections import Projections
from ..sequence import AbstractSequenceLayer, Form, check_form, check_resets, check_width

BLOCKS = 4
"""How many blocks a constructed token has: prediction, working copy, observation, observation before."""


def before(observations: Float[Array, "t n"]) -> Float[Array, "t n"]:
    """Each observation's predecessor; zero for the first, which has none."""
    return jnp.concatenate([jnp.zeros_like(observations[:1]), observations[:-1]])


def causal_scores(queries: Float[Array, "t n"], keys: Float[Array, "t n"]) -> Float[Array, "t t"]:
    """Products of each query with the keys up to its own time, zero with later ones."""
    return jnp.tril(queries @ keys.T)


def sequence_gd(
    observations: Float[Array, "t n"],
    step_size: float | Float[Array, ""],
    *,
    start: Float[Array, "n n"] | None = None,
) -> Float[Array, "t n"]:
    r"""The prediction of each next observation after one step of gradient descent on all pairs seen so far.

    $$L_t(\Phi) = \tfrac12 \sum_{t' < t} \lVert s_{t'+1} - \Phi s_{t'} \rVert^2, \qquad
      \hat s_{t+1} = (\Phi_0 - \eta \nabla L_t(\Phi_0)) \, s_t$$

    The loss is a sum and not a mean: the step grows with the context.

    ```python
    >>> import jax.numpy as jnp
    >>> import innerloop as il
    >>> observations = jnp.asarray([[1.0], [2.0], [4.0]])
    >>> il.sequence_gd(observations, 0.1).tolist()  # 0, 0.1 (2 * 1) 2, 0.1 (2 * 1 + 4 * 2) 4
    [[0.0], [0.4000000059604645], [4.0]]

    ```

    **Arguments:**

    - `observations`: $s_1, \dots, s_T$.
    - `step_size`: $\eta$.
    - `start`: $\Phi_0$, zero by default.

    **Reference:** von Oswald et al. (2023), arXiv 2309.05858, proposition 1.
    """
    keys = before(observations)
    residuals = observations if start is None else observations - keys @ start.T
    # The very first residual has no input: its key is zero and it counts for nothing.
    moved = step_size * (causal_scores(observations, keys) @ residuals)
    return moved if start is None else observations @ start.T + moved


def sequence_gd_layer(
    size: int, step_size: float | Float[Array, ""], *, start: Float[Array, "n n"] | None = None
) -> LinearSelfAttention:
    r"""The causal linear self-attention layer that is one step of gradient descent on the sequence so far.

    On constructed tokens $e_t = [\Phi_0 s_t, s_t, s_t, s_{t-1}]$ (see `constructed_tokens`), keys are the
    observations before, queries the working copies, and values the residuals
    $\eta (s_t - \Phi_0 s_{t-1})$. Added to its input, the first block becomes the prediction of `sequence_gd`.

    ```python
    >>> import jax, jax.numpy as jnp
    >>> import innerloop as il
    >>> observations = jax.random.normal(jax.random.key(0), (7, 3))
    >>> tokens = il.constructed_tokens(observations)
    >>> outputs, _ = il.sequence_gd_layer(3, 0.1)(tokens)
    >>> bool(jnp.allclose((tokens + outputs)[:, :3], il.sequence_gd(observations, 0.1), atol=1e-6))
    True

    ```

    **Arguments:**

    - `size`: of an observation.
    - `step_size`: $\eta$; it may be traced.
    - `start`: $\Phi_0$, zero by default; the tokens must be made with the same.

    **Reference:** von Oswald et al. (2023), arXiv 2309.05858, proposition 1.

    **Errors:** `ValueError` for a size below one or a `start` of another shape.
    """
    require(size >= 1, f"size must be at least 1, not {size}")
    if start is not None:
        require(start.shape == (size, size), f"start must have shape {(size, size)}, not {start.shape}")
    identity = jnp.eye(size) if start is None else jnp.eye(size, dtype=start.dtype)
    values = {2: identity} if start is None else {2: identity, 3: -start.T}
    return LinearSelfAttention(
        Projections(
            query=block_rows(size, {1: identity})[None],
            key=block_rows(size, {3: identity})[None],
            value=jnp.asarray(step_size, identity.dtype) * block_rows(size, values)[None],
            output=block_rows(size, {0: identity}).T[None],
        )
    )


def block_rows(size: int, blocks: dict[int, Float[Array, "n n"]]) -> Float[Array, "w n"]:
    """A map from constructed tokens whose rows of each named block are given, and zero elsewhere."""
    zero = jnp.zeros_like(next(iter(blocks.values())))
    return jnp.concatenate([blocks.get(place, zero) for place in range(BLOCKS)])


class Clipped(AbstractSequenceLayer):
    r"""A layer whose outputs are kept in $[-c, c]$.

    Trained linear attention diverges without it. A comparison with gradient descent must clip both: at the
    paper's $c = 4$ the clip alone makes a step of gradient descent several percent better.

    **Arguments:**

    - `layer`: the layer, or block.
    - `limit`: $c$.

    **Reference:** von Oswald et al. (2023), arXiv 2309.05858 (experimental details).

    **Errors:** `ValueError` for a limit that is not above zero.
    """

    layer: AbstractSequenceLayer
    limit: float = eqx.field(static=True, default=4.0)

    def __check_init__(self):
        require(self.limit > 0, f"limit must be above 0, not {self.limit}")

    @property
    def width(self) -> int:
        """The size of one input token."""
        return self.layer.width

    def init_state(self) -> PyTree:
        """The state of the layer."""
        return self.layer.init_state()

    def step(self, state: PyTree, x: Float[Array, "d"]) -> tuple[PyTree, Float[Array, "e"]]:
        """One token: the state after it, and its clipped output."""
        state, y = self.layer.step(state, x)
        return state, jnp.clip(y, -self.limit, self.limit)

    def __call__(
        self,
        xs: Float[Array, "t d"],
        state: PyTree | None = None,
        *,
        form: Form = "chunk",
        resets: Bool[Array, "t"] | None = None,
    ) -> tuple[Float[Array, "t e"], PyTree]:
        """A whole sequence, causally; see `AbstractSequenceLayer`."""
        check_form(form)
        check_width(self, xs)
        check_resets(self, xs, resets)
        ys, state = self.layer(xs, state, form=form, resets=resets)
        return jnp.clip(ys, -self.limit, self.limit), state


class SequenceRegressor(eqx.Module):
    r"""Predicts the next observation at every token: a stack of layers, of whose tokens the first coordinates are read.

    **Arguments:**

    - `stack`: the layers, each with what it adds to (see `Block`).
    - `outputs`: the size of an observation.

    **Reference:** von Oswald et al. (2023), arXiv 2309.05858: the models on constructed tokens.

    **Errors:** `ValueError` for outputs that the tokens do not have.
    """

    stack: Stack
    outputs: int = eqx.field(static=True)

    def __check_init__(self):
        require(
            1 <= self.outputs <= self.stack.width,
            f"outputs must lie between 1 and the token width {self.stack.width}, not {self.outputs}",
        )

    @classmethod
    def of_layers(
        cls, layers: tuple[AbstractSequenceLayer, ...], outputs: int, *, limit: float | None = 4.0
    ) -> "SequenceRegressor":
        """Residual layers without norms, clipped to `limit` after each (`None` is no limit)."""
        blocks = [Block(layer) for layer in layers]
        return cls(Stack(tuple(blocks if limit is None else [Clipped(block, limit) for block in blocks])), outputs)

    def __call__(self, tokens: Float[Array, "t d"]) -> Float[Array, "t n"]:
        """What is predicted at each token."""
        return self.stack(tokens)[0][:, : self.outputs]

    def hidden_states(self, tokens: Float[Array, "t d"]) -> list[Float[Array, "t d"]]:
        """The tokens before the first layer and after each."""
        return self.stack.hidden_states(tokens)[0]
