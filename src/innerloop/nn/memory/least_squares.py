"""Recursive least squares: the memory of the first mesa layer, which carries an inverse instead of solving for it."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...core.errors import require
from ..sequence import Form, check_form
from .chunks import join_blocks, split_blocks
from .covariance import initial_regulariser
from .rule import AbstractMemoryRule, MemoryInputs, check_inputs, check_memory

_PRECISION = jax.lax.Precision.HIGHEST


class LeastSquaresState(NamedTuple):
    r"""What the memory holds: $G_t = \sum k v^\top$ and $R_t = (\Lambda + \sum k k^\top)^{-1}$."""

    key_value: Float[Array, "h k v"]
    inverse: Float[Array, "h k k"]


def update_inverse(
    inverse: Float[Array, "*n k k"], key: Float[Array, "*n k"], gate: Float[Array, "*n"], strength: Float[Array, "*n"]
) -> Float[Array, "*n k k"]:
    r"""The inverse after one more key, by the formula of Sherman and Morrison.

    $$R_t^{-1} = \gamma R_{t-1}^{-1} + \beta k k^\top, \qquad
      R_t = \gamma^{-1} \Big( R_{t-1} - \frac{\beta R_{t-1} k k^\top R_{t-1}}{\gamma + \beta k^\top R_{t-1} k} \Big)$$

    With a gate below one, directions that no key excites grow like $\prod \gamma^{-1}$.
    """
    product = jnp.einsum("...kl,...l->...k", inverse, key, precision=_PRECISION)
    share = strength / (gate + strength * jnp.sum(key * product, axis=-1))
    removed = share[..., None, None] * product[..., :, None] * product[..., None, :]
    return (inverse - removed) / gate[..., None, None]


def undo_update(
    inverse: Float[Array, "*n k k"], key: Float[Array, "*n k"], gate: Float[Array, "*n"], strength: Float[Array, "*n"]
) -> Float[Array, "*n k k"]:
    r"""The inverse before the last key: `update_inverse` backwards.

    $$R_{t-1} = \gamma \Big( R_t + \frac{\beta R_t k k^\top R_t}{1 - \beta k^\top R_t k} \Big)$$
    """
    product = jnp.einsum("...kl,...l->...k", inverse, key, precision=_PRECISION)
    share = strength / (1 - strength * jnp.sum(key * product, axis=-1))
    return gate[..., None, None] * (inverse + share[..., None, None] * product[..., :, None] * product[..., None, :])


def recursive_least_squares(
    query: Float[Array, "t h k"],
    key: Float[Array, "t h k"],
    value: Float[Array, "t h v"],
    log_gate: Float[Array, "t h"] | None = None,
    strength: Float[Array, "t h"] | None = None,
    regulariser: Float[Array, "h k"] | None = None,
    *,
    state: LeastSquaresState | None = None,
) -> tuple[Float[Array, "t h v"], LeastSquaresState]:
    r"""Ridge regression of all values on all keys so far, its inverse updated token by token.

    $$o_t^\top = q_t^\top R_t G_t, \qquad R_t^{-1} = \gamma_t R_{t-1}^{-1} + \beta_t k_t k_t^\top, \qquad
      R_0 = \Lambda^{-1}$$

    Gates let the **regulariser fade with the tokens**, and $R$ then grows without bound in directions that no
    key excites: in float32 it breaks after some hundred tokens. It is here as the reference which that
    failure is measured on; `mesa_memory` keeps the regulariser. A log gate of `-inf` begins anew with $R_0$.

    **Arguments:** see `MemoryInputs`, and `regulariser`, the diagonal of $\Lambda$, one by default.

    **Returns:** what is read, and the memory after the last token.

    **Reference:** von Oswald et al. (2023), arXiv 2309.05858, of the first mesa layer.

    **Errors:** `ValueError` for arrays that do not fit together.
    """
    check_inputs("recursive_least_squares", MemoryInputs(query, key, value, log_gate, strength))
    first, state = _prepare("recursive_least_squares", key, value, regulariser, state)
    per_head = key.shape[:2]
    gates = jnp.zeros(per_head, value.dtype) if log_gate is None else log_gate
    strengths = jnp.ones(per_head, value.dtype) if strength is None else strength

    def advance(state, token):
        query, key, value, log_gate, strength = token
        reset = jnp.isneginf(log_gate)
        gate = jnp.exp(jnp.where(reset, jnp.zeros_like(log_gate), log_gate))
        key_value, inverse = (jnp.where(reset[:, None, None], new, old) for old, new in zip(state, first, strict=True))
        written = (strength[:, None] * key)[:, :, None] * value[:, None, :]
        state = LeastSquaresState(
            gate[:, None, None] * key_value + written, update_inverse(inverse, key, gate, strength)
        )
        solution = jnp.einsum("hk,hkl->hl", query, state.inverse, precision=_PRECISION)
        return state, jnp.einsum("hk,hkv->hv", solution, state.key_value, precision=_PRECISION)

    final, outputs = jax.lax.scan(advance, state, (query, key, value, gates, strengths))
    return outputs, final


def least_squares_memory(
    query: Float[Array, "t h k"],
    key: Float[Array, "t h k"],
    value: Float[Array, "t h v"],
    log_gate: Float[Array, "t h"] | None = None,
    strength: Float[Array, "t h"] | None = None,
    regulariser: Float[Array, "h k"] | None = None,
    *,
    state: LeastSquaresState | None = None,
    form: Form = "chunk",
    chunk_size: int = 64,
) -> tuple[Float[Array, "t h v"], LeastSquaresState]:
    r"""Ridge regression of all values on all keys so far, exactly and without iterations; nothing is forgotten.

    In the chunk form the updates of a chunk are $R_j = R_0 - \sum_{i \le j} w_i w_i^\top$ with
    $W = L^{-1} \sqrt{\beta} K R_0$ and $L L^\top = I + \sqrt{\beta} K R_0 K^\top \sqrt{\beta}$: the factor of a
    leading block is the leading block of the factor, so that one factorisation serves all tokens.

    **Arguments:** as of `recursive_least_squares`, but `log_gate` is 0 or `-inf`: a segment goes on, or begins.
    The derivative by a `strength` of exactly zero is zero in the chunk and parallel forms.

    **Returns:** what is read, and the memory after the last token.

    **Reference:** von Oswald et al. (2023), arXiv 2309.05858; the chunk form is derived here.

    **Errors:** `ValueError` for arrays that do not fit together; a run-time error for gates other than 0 or `-inf`.
    """
    check_form(form)
    require(chunk_size >= 1, f"chunk_size must be at least 1, not {chunk_size}")
    check_inputs("least_squares_memory", MemoryInputs(query, key, value, log_gate, strength))
    if log_gate is not None:
        marks = jax.lax.stop_gradient(log_gate)  # they say where a segment begins, which has no derivative
        log_gate = eqx.error_if(
            marks,
            (marks != 0) & ~jnp.isneginf(marks),
            "least_squares_memory forgets everything or nothing (log gates of -inf or 0); mesa_memory forgets slowly",
        )
    length = key.shape[0]
    if form == "recurrent" or length == 0:
        return recursive_least_squares(query, key, value, log_gate, strength, regulariser, state=state)
    first, state = _prepare("least_squares_memory", key, value, regulariser, state)
    size = min(chunk_size, length) if form == "chunk" else length
    resets = jnp.zeros(key.shape[:2], bool) if log_gate is None else jnp.isneginf(log_gate)
    strengths = jnp.ones(key.shape[:2], value.dtype) if strength is None else strength
    blocks = tuple(split_blocks(part, size) for part in (query, key, value, resets, strengths))
    final, outputs = jax.lax.scan(lambda state, block: _block(first, state, *block), state, blocks)
    return join_blocks(outputs, length), final


def _block(first, state, query, key, value, resets, strength):
    """One block of tokens, heads first: the memory after it and what its tokens read."""
    dtype = value.dtype
    segment = jnp.cumsum(resets, axis=-1, dtype=jnp.int32)
    old = segment == 0
    causal = jnp.tril(jnp.ones((key.shape[1],) * 2, bool))[None]
    alike = segment[:, :, None] == segment[:, None, :]
    zero, one = jnp.zeros((), dtype), jnp.ones((), dtype)

    def product(a, b):
        return jnp.matmul(a, b, precision=_PRECISION)

    def before(vectors, matrix, fresh):
        """Rows times the memory that each token's segment began with."""
        return jnp.where(old[..., None], product(vectors, matrix), product(vectors, fresh))

    root = jnp.where(strength > 0, jnp.sqrt(jnp.where(strength > 0, strength, one)), zero)[..., None] * key
    changed = before(root, state.inverse, first.inverse)
    system = jnp.where(alike, product(root, jnp.swapaxes(changed, -1, -2)), zero)
    factor = jnp.linalg.cholesky(system + jnp.eye(key.shape[1], dtype=dtype)[None], symmetrize_input=False)
    rows = jax.lax.linalg.triangular_solve(factor, changed, left_side=True, lower=True)

    seen = (causal & alike).astype(dtype)
    scores = seen * product(query, jnp.swapaxes(rows, -1, -2))
    solution = before(query, state.inverse, first.inverse) - product(scores, rows)
    scores = seen * product(solution, jnp.swapaxes(key, -1, -2))
    written = strength[..., None] * value
    outputs = before(solution, state.key_value, first.key_value) + product(scores, written)

    last = alike[:, -1].astype(dtype)[..., None]
    key_value, inverse = (jnp.where(old[:, -1, None, None], mine, new) for mine, new in zip(state, first, strict=True))
    key_value = key_value + product(jnp.swapaxes(key * last, -1, -2), written)
    return LeastSquaresState(key_value, inverse - product(jnp.swapaxes(rows * last, -1, -2), rows)), outputs


def _prepare(name, key, value, regulariser, state):
    """The memory before any token, and the one to go on from."""
    _, heads, size = key.shape
    if regulariser is None:
        regulariser = jnp.ones((heads, size), value.dtype)
    require(
        regulariser.shape == (heads, size),
        f"{name}: the regulariser has axes 'h k' {regulariser.shape}, not {(heads, size)}",
    )
    first = _first(regulariser.astype(value.dtype), value.shape[-1])
    if state is None:
        return first, first
    check_memory(name, state, first)
    # Forms differ in how they use that it is symmetric: derivatives by it are those of its symmetric part.
    return first, LeastSquaresState(state.key_value, (state.inverse + jnp.swapaxes(state.inverse, -1, -2)) / 2)


def _first(regulariser, value_size) -> LeastSquaresState:
    identity = jnp.eye(regulariser.shape[-1], dtype=regulariser.dtype)
    return LeastSquaresState(
        jnp.zeros((*regulariser.shape, value_size), regulariser.dtype), identity[None] / regulariser[:, :, None]
    )


class LeastSquaresMemory(AbstractMemoryRule):
    r"""The rule of the first mesa layer: ridge regression without forgetting, by recursive least squares.

    $$o_t^\top = q_t^\top R_t G_t, \qquad R_t = \Big( \Lambda + \sum_{i \le t} \beta_i k_i k_i^\top \Big)^{-1}, \qquad
      \Lambda = \text{lower} + \operatorname{softplus}(\tilde\lambda)$$

    ```python
    >>> import jax.numpy as jnp
    >>> from innerloop.nn.memory.least_squares import LeastSquaresMemory
    >>> from innerloop.nn.memory.rule import MemoryInputs
    >>> keys, values = jnp.eye(3)[:, None], jnp.asarray([[[1.0]], [[2.0]], [[4.0]]])
    >>> outputs, state = LeastSquaresMemory(num_heads=1, key_size=3)(MemoryInputs(keys, keys, values))
    >>> outputs[:, 0, 0].round(3).tolist()  # each value over 1 + lambda
    [0.5, 1.0, 2.0]

    ```

    **Arguments:**

    - `num_heads`, `key_size`: the regulariser has one number for each channel of each head.
    - `regulariser`: its initial value; 1 in the paper, which calls its inverse $\lambda$.
    - `lower`: below which it cannot be learned.
    - `chunk_size`: how many tokens the chunk form takes at once.

    **Reference:** von Oswald et al. (2023), arXiv 2309.05858.

    **Errors:** `ValueError` for sizes or a `chunk_size` below one, a negative `lower`, or a regulariser not above
    it; a run-time error for gates that forget slowly.
    """

    raw_regulariser: Float[Array, "h k"]
    lower: float
    chunk_size: int = eqx.field(static=True)

    def __init__(
        self,
        num_heads: int,
        key_size: int,
        *,
        regulariser: float = 1.0,
        lower: float = 0.0,
        chunk_size: int = 64,
    ):
        require(chunk_size >= 1, f"chunk_size must be at least 1, not {chunk_size}")
        self.raw_regulariser = initial_regulariser(num_heads, key_size, regulariser, lower)
        self.lower = lower
        self.chunk_size = chunk_size

    @property
    def regulariser(self) -> Float[Array, "h k"]:
        r"""The diagonal of $\Lambda$."""
        return self.lower + jax.nn.softplus(self.raw_regulariser)

    def init_state(self, num_heads: int, key_size: int, value_size: int, dtype: jnp.dtype) -> LeastSquaresState:
        """The memory before any token, which holds the regulariser."""
        own = self.raw_regulariser.shape
        require(
            (num_heads, key_size) == own,
            f"LeastSquaresMemory has a regulariser of (heads, key size) {own}, not {(num_heads, key_size)}",
        )
        return _first(self.regulariser.astype(dtype), value_size)

    def __call__(
        self, inputs: MemoryInputs, state: LeastSquaresState | None = None, *, form: Form = "chunk"
    ) -> tuple[Float[Array, "t h v"], LeastSquaresState]:
        """Write and read; see `AbstractMemoryRule`."""
        check_inputs("LeastSquaresMemory", inputs)
        query, key, value, log_gate, strength = inputs[:5]
        return least_squares_memory(
            query, key, value, log_gate, strength, self.regulariser, state=state, form=form, chunk_size=self.chunk_size
        )
