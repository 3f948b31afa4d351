"""The mesa memory: read with the linear map that fits all keys to all values best, in the sense of ridge regression."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ...core.errors import require
from ..sequence import Form, check_form
from .chunks import decays, join_blocks, memories_before, split_blocks, with_signs
from .covariance import (
    AbstractSolver,
    BlockCovariance,
    ConjugateGradients,
    DenseCovariance,
    initial_regulariser,
    read_blocks,
    solve,
)
from .rule import AbstractMemoryRule, MemoryInputs, check_inputs, check_memory

_PRECISION = jax.lax.Precision.HIGHEST


class MesaState(NamedTuple):
    r"""What a mesa memory holds: $G_t = \gamma_t G_{t-1} + \beta_t k_t v_t^\top$ and $H_t$, the same of the keys."""

    key_value: Float[Array, "h k v"]
    key_key: Float[Array, "h k k"]


class MesaInfo(NamedTuple):
    """How the query of each token and head was solved for.

    - `iterations`: steps of conjugate gradients; 0 for a direct solve.
    - `residual`: the norm of what is missing in the equation.
    - `converged`: whether that is as little as the solver was asked for.
    """

    iterations: Int[Array, "t h"]
    residual: Float[Array, "t h"]
    converged: Bool[Array, "t h"]


def mesa_memory(
    query: Float[Array, "t h k"],
    key: Float[Array, "t h k"],
    value: Float[Array, "t h v"],
    log_gate: Float[Array, "t h"] | None = None,
    strength: Float[Array, "t h"] | None = None,
    regulariser: Float[Array, "h k"] | None = None,
    *,
    negative: Bool[Array, "t h"] | None = None,
    state: MesaState | None = None,
    form: Form = "chunk",
    chunk_size: int = 32,
    solver: AbstractSolver | None = None,
) -> tuple[Float[Array, "t h v"], MesaState, MesaInfo]:
    r"""Read with the solution of a ridge regression of all values on all keys so far, recent ones weighing more.

    $$\Phi_t = \arg\min_\Phi \tfrac12 \sum_{i \le t} \zeta_{ti} \beta_i \|v_i - \Phi k_i\|^2
      + \tfrac12 \operatorname{tr}(\Phi \Lambda \Phi^\top), \qquad \zeta_{ti} = \prod_{s=i+1}^{t} \gamma_s$$

    $$o_t^\top = (\Phi_t q_t)^\top = q_t^\top (H_t + \Lambda)^{-1} G_t$$

    $G$ and $H$ are additive memories of values and of keys. Every product of $H_t$ with a vector is one read of
    gated linear attention, so that conjugate gradients solve for all tokens together. Gradients are those of
    the solution of the equation: one more solve, whatever the solver and the number of its steps.

    **Arguments:** see `MemoryInputs` and `AbstractMemoryRule`, and

    - `regulariser`: the diagonal of $\Lambda$, positive, per head and key channel; one by default.
    - `negative`: where gates are negative. $H$ may then have eigenvalues below zero, and the regulariser must be
        larger than these: 50, bounded below by 49, in the paper.
    - `chunk_size`: how many tokens make a block of the chunk form.
    - `solver`: `ConjugateGradients()` by default.

    **Returns:** what is read, the memory after the last token, and how the solver fared.

    **Reference:** von Oswald et al. (2025), arXiv 2506.05233; von Oswald et al. (2023), arXiv 2309.05858.

    **Errors:** `ValueError` for arrays that do not fit together.
    """
    check_form(form)
    require(chunk_size >= 1, f"chunk_size must be at least 1, not {chunk_size}")
    inputs = MemoryInputs(query, key, value, log_gate, strength, negative=negative)
    check_inputs("mesa_memory", inputs, negative_gates=True)
    length, heads, key_size = query.shape
    value_size, dtype = value.shape[-1], value.dtype
    memory = state
    if memory is None:
        memory = _empty(heads, key_size, value_size, dtype)
    check_memory("mesa_memory", memory, jax.eval_shape(lambda: _empty(heads, key_size, value_size, dtype)))
    if regulariser is None:
        regulariser = jnp.ones((heads, key_size), dtype)
    require(
        regulariser.shape == (heads, key_size),
        f"mesa_memory: the regulariser has axes 'h k' {regulariser.shape}, not {(heads, key_size)}",
    )
    regulariser = regulariser.astype(dtype)
    solver = ConjugateGradients() if solver is None else solver
    if length == 0:
        nothing = jnp.zeros((0, heads), dtype)
        info = MesaInfo(nothing.astype(jnp.int32), nothing, nothing.astype(bool))
        return jnp.zeros((0, heads, value_size), dtype), memory, info
    if form == "recurrent":
        return _recurrent(inputs, regulariser, memory, solver)

    size = min(chunk_size, length) if form == "chunk" else length
    q, k, v = (split_blocks(part, size) for part in (query, key, value))
    fade = decays(split_blocks(jnp.zeros((length, heads), dtype) if log_gate is None else log_gate, size))
    if negative is not None:
        fade = with_signs(fade, split_blocks(negative, size))
    weight, to_end = fade.within, fade.to_end
    if strength is not None:
        strengths = split_blocks(strength, size)
        weight, to_end = weight * strengths[:, :, None], to_end * strengths
    written = k * to_end[..., None]
    before_k, final_k = _memories(memory.key_key, fade.whole, written, k)
    before_v, final_v = _memories(memory.key_value, fade.whole, written, v)
    if state is None and q.shape[0] == 1:
        before_k = before_v = None  # one block from the empty memory: nothing to read before it
    covariance = BlockCovariance(k, weight, fade.from_start, before_k, regulariser)
    solution, info = solve(covariance, q, solver)
    outputs = read_blocks(solution, covariance.transposed_key, weight, v, fade.from_start, before_v)
    final = MesaState(final_v, final_k)
    return join_blocks(outputs, length), final, MesaInfo(*(join_blocks(part, length) for part in info))


def _memories(state, whole, key, value):
    """The memories before each block and after the last, of what is written from key to value."""
    return memories_before(state, whole, jnp.einsum("nhik,nhiv->nhkv", key, value, precision=_PRECISION))


def _recurrent(tokens, regulariser, memory, solver):
    """Token by token, with the covariance of one token at a time."""
    diagonal = regulariser[:, :, None] * jnp.eye(regulariser.shape[-1], dtype=regulariser.dtype)[None]

    def advance(memory, token):
        query, key, value, log_gate, strength, _, negative = token
        written = key if strength is None else strength[:, None] * key
        gate = jnp.ones_like(regulariser[:, 0]) if log_gate is None else jnp.exp(log_gate)
        gate = gate if negative is None else jnp.where(negative, -gate, gate)
        memory = jax.tree.map(lambda m: gate[:, None, None] * m, memory)
        key_value = memory.key_value + written[:, :, None] * value[:, None, :]
        key_key = memory.key_key + written[:, :, None] * key[:, None, :]
        solution, info = solve(DenseCovariance(key_key + diagonal), query, solver)
        outputs = jnp.einsum("hk,hkv->hv", solution, key_value, precision=_PRECISION)
        return MesaState(key_value, key_key), (outputs, MesaInfo(*info))

    memory, (outputs, info) = jax.lax.scan(advance, memory, tokens)
    return outputs, memory, info


def _empty(heads, key_size, value_size, dtype) -> MesaState:
    return MesaState(jnp.zeros((heads, key_size, value_size), dtype), jnp.zeros((heads, key_size, key_size), dtype))


def limit_forget_gate(
    log_gate: Float[Array, "t h"], strength: Float[Array, "t h"], largest: float = 0.9975
) -> Float[Array, "t h"]:
    r"""Forget a little whenever much is written, or a token that repeats makes the covariance nearly singular.

    $$\gamma \leftarrow \gamma \, (1 - (1 - \gamma_{\max}) \beta^2)$$

    **Reference:** von Oswald et al. (2025), arXiv 2506.05233, of the language models.

    **Errors:** `ValueError` for a `largest` outside (0, 1].
    """
    require(0 < largest <= 1, f"the largest gate must be in (0, 1], not {largest}")
    return log_gate + jnp.log1p(-(1 - largest) * jnp.square(strength))


class MesaMemory(AbstractMemoryRule):
    r"""The rule of the mesa layer: each token reads from the best memory of all tokens so far.

    $$o_t^\top = q_t^\top (H_t + \Lambda)^{-1} G_t,
      \qquad \Lambda = \text{lower} + \operatorname{softplus}(\tilde\lambda)$$

    Keys should have length one. What was stored once is recalled nearly without error as long as there are
    fewer keys than channels; gates and the regulariser decide how the rest is forgotten.

    ```python
    >>> import jax.numpy as jnp
    >>> from innerloop.nn.memory.mesa import MesaMemory
    >>> from innerloop.nn.memory.rule import MemoryInputs
    >>> keys, values = jnp.eye(3)[:, None], jnp.asarray([[[1.0]], [[2.0]], [[4.0]]])
    >>> rule = MesaMemory(num_heads=1, key_size=3)
    >>> outputs, state = rule(MemoryInputs(keys, keys, values))
    >>> outputs[:, 0, 0].round(3).tolist()  # each value over 1 + lambda
    [0.5, 1.0, 2.0]

    ```

    **Arguments:**

    - `num_heads`, `key_size`: the regulariser has one number for each channel of each head.
    - `regulariser`: its initial value; 1 in the paper, 50 with gates below zero.
    - `lower`: below which it cannot be learned; 0.25 in the paper, 49 with gates below zero.
    - `solver`: `ConjugateGradients()`, or `DirectSolve()` for short sequences.
    - `chunk_size`: how many tokens the chunk form takes at once.

    **Reference:** von Oswald et al. (2025), arXiv 2506.05233.

    **Errors:** `ValueError` for sizes or a `chunk_size` below one, a negative `lower`, or a regulariser not above it.
    """

    raw_regulariser: Float[Array, "h k"]
    solver: AbstractSolver
    lower: float
    chunk_size: int = eqx.field(static=True)

    def __init__(
        self,
        num_heads: int,
        key_size: int,
        *,
        regulariser: float = 1.0,
        lower: float = 0.25,
        solver: AbstractSolver | None = None,
        chunk_size: int = 32,
    ):
        require(chunk_size >= 1, f"chunk_size must be at least 1, not {chunk_size}")
        self.raw_regulariser = initial_regulariser(num_heads, key_size, regulariser, lower)
        self.solver = ConjugateGradients() if solver is None else solver
        self.lower = lower
        self.chunk_size = chunk_size

    @property
    def regulariser(self) -> Float[Array, "h k"]:
        r"""The diagonal of $\Lambda$."""
        return self.lower + jax.nn.softplus(self.raw_regulariser)

    def init_state(self, num_heads: int, key_size: int, value_size: int, dtype: jnp.dtype) -> MesaState:
        """The empty memory."""
        own = self.raw_regulariser.shape
        require(
            (num_heads, key_size) == own,
            f"MesaMemory has a regulariser of (heads, key size) {own}, not {(num_heads, key_size)}",
        )
        return _empty(num_heads, key_size, value_size, dtype)

    def __call__(
        self, inputs: MemoryInputs, state: MesaState | None = None, *, form: Form = "chunk"
    ) -> tuple[Float[Array, "t h v"], MesaState]:
        """Write and read; see `AbstractMemoryRule`."""
        return self.with_info(inputs, state, form=form)[:2]

    def with_info(
        self, inputs: MemoryInputs, state: MesaState | None = None, *, form: Form = "chunk"
    ) -> tuple[Float[Array, "t h v"], MesaState, MesaInfo]:
        """Write and read, and say how the solver fared at each token."""
        check_inputs("MesaMemory", inputs, negative_gates=True)
        query, key, value, log_gate, strength, _, negative = inputs
        return mesa_memory(
            query, key, value, log_gate, strength, self.regulariser.astype(value.dtype),
            negative=negative, state=state, form=form, chunk_size=self.chunk_size, solver=self.solver,
        )  # fmt: skip

    def condition_numbers(self, state: MesaState) -> Float[Array, "h"]:
        r"""The condition number of $H + \Lambda$ per head: its square root bounds the steps that are needed."""
        dtype = state.key_key.dtype
        diagonal = self.regulariser.astype(dtype)[:, :, None] * jnp.eye(state.key_key.shape[-1], dtype=dtype)[None]
        values = jnp.linalg.eigvalsh(state.key_key + diagonal)
        return values[:, -1] / values[:, 0]
