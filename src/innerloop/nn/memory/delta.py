"""The delta rule: a token is written as the error of what the memory says of its key."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...core.errors import require
from ..sequence import Form, check_form
from .chunks import decays, join_blocks, split_blocks
from .rule import AbstractMemoryRule, MemoryInputs, check_inputs, check_memory


def delta_memory(
    query: Float[Array, "t h k"],
    key: Float[Array, "t h k"],
    value: Float[Array, "t h v"],
    log_gate: Float[Array, "t h"] | None = None,
    strength: Float[Array, "t h"] | None = None,
    *,
    state: Float[Array, "h k v"] | None = None,
    form: Form = "chunk",
    chunk_size: int = 32,
) -> tuple[Float[Array, "t h v"], Float[Array, "h k v"]]:
    r"""Correct what the memory says of each key, in a memory that fades, and read it with queries.

    $$S_t = \gamma_t S_{t-1} + \beta_t k_t (v_t - \gamma_t S_{t-1}^\top k_t)^\top, \qquad o_t = S_t^\top q_t$$

    One step of gradient descent on $\tfrac12 \|v_t - S^\top k_t\|^2$ per token, of size $\beta_t$. It is stable
    for $0 \le \beta_t \|k_t\|^2 \le 2$: keys of length one, and strengths between 0 and 1 (up to 2, where the
    memory is reflected in the key), are what layers use; this function does not normalise.

    In the chunk form the corrections $u_j = \beta_j (v_j - \gamma_j S_{j-1}^\top k_j)$ of a chunk solve a
    triangular system, as each depends on those before it:
    $(I + A) U = \beta V - \beta \bar\gamma K S_0$ with
    $A_{ji} = \beta_j (k_j^\top k_i) \prod_{s=i+1}^{j} \gamma_s$ for $i < j$. All chunks are solved at once, for
    the values and for the keys, before the memory is carried over them.

    **Arguments:** see `MemoryInputs` and `AbstractMemoryRule`; `chunk_size` is the number of tokens that the
    chunk form takes at once.

    **Returns:** what is read, and the memory after the last token.

    **Reference:** Schlag et al. (2021), arXiv 2102.11174; the chunk form: Yang et al. (2024), arXiv 2406.06484;
    with gates: Yang et al. (2024), arXiv 2412.06464.

    **Errors:** `ValueError` for arrays that do not fit together.
    """
    check_form(form)
    require(chunk_size >= 1, f"chunk_size must be at least 1, not {chunk_size}")
    check_inputs("delta_memory", MemoryInputs(query, key, value, log_gate, strength))
    length, heads, key_size = key.shape
    empty = jax.ShapeDtypeStruct((heads, key_size, value.shape[-1]), value.dtype)
    if state is not None:
        check_memory("delta_memory", state, empty)
    memory = jnp.zeros(empty.shape, empty.dtype) if state is None else state
    if form == "recurrent":
        return _recurrent(query, key, value, log_gate, strength, memory)
    if length == 0:
        return jnp.zeros(value.shape, value.dtype), memory
    return _blocks(query, key, value, log_gate, strength, memory, chunk_size if form == "chunk" else length)


def _recurrent(query, key, value, log_gate, strength, memory):
    def advance(memory, token):
        q, k, v, gate, strength = token
        if gate is not None:
            memory = jnp.exp(gate)[:, None, None] * memory
        error = v - jnp.einsum("hk,hkv->hv", k, memory)
        if strength is not None:
            error = strength[:, None] * error
        memory = memory + k[:, :, None] * error[:, None, :]
        return memory, jnp.einsum("hk,hkv->hv", q, memory)

    final, outputs = jax.lax.scan(advance, memory, (query, key, value, log_gate, strength))
    return outputs, final


def _blocks(query, key, value, log_gate, strength, memory, size):
    length, heads, _ = key.shape
    # Tokens that fill the last block have a key of zero: they correct nothing.
    gates = jnp.zeros((length, heads), value.dtype) if log_gate is None else log_gate
    strengths = jnp.ones((length, heads), value.dtype) if strength is None else strength
    q, k, v, gates, strengths = (split_blocks(part, size) for part in (query, key, value, gates, strengths))
    fade = decays(gates)
    overlaps = jnp.tril(strengths[..., None] * fade.within * jnp.einsum("nhjk,nhik->nhji", k, k), -1)
    scores = fade.within * jnp.einsum("nhjk,nhik->nhji", q, k)
    sides = strengths[..., None] * jnp.concatenate([v, fade.from_start[..., None] * k], axis=-1)
    corrections = solve_unit_lower(overlaps, sides)
    written, seen = corrections[..., : v.shape[-1]], corrections[..., v.shape[-1] :]

    def advance(memory, block):
        written, seen, key, kept = block
        correction = written - jnp.einsum("hck,hkv->hcv", seen, memory)
        after = kept[:, None, None] * memory + jnp.einsum("hck,hcv->hkv", key, correction)
        return after, (memory, correction)

    final, (before, correction) = jax.lax.scan(advance, memory, (written, seen, fade.to_end[..., None] * k, fade.whole))
    outputs = jnp.einsum("nhji,nhiv->nhjv", scores, correction)
    outputs += jnp.einsum("nhjk,nhkv->nhjv", fade.from_start[..., None] * q, before)
    return join_blocks(outputs, length), final


def solve_unit_lower(lower: Float[Array, "*n c c"], sides: Float[Array, "*n c d"]) -> Float[Array, "*n c d"]:
    r"""Solve $(I + L) X = B$ for many small systems with strictly lower triangular $L$.

    The inverse is formed once, from the inverses of halves, and serves the gradient too, which is one more
    product with it; nothing is differentiated through the inversion. Squaring $L$ repeatedly would be shorter,
    but its powers grow like binomial coefficients when keys resemble each other: float32 has no digit left at
    64 equal keys.
    """
    inverse = invert_unit_lower(jax.lax.stop_gradient(lower))
    return jax.lax.custom_linear_solve(
        lambda x: x + lower @ x,
        sides,
        solve=lambda _, b: inverse @ b,
        transpose_solve=lambda _, b: jnp.swapaxes(inverse, -1, -2) @ b,
    )


def invert_unit_lower(lower: Float[Array, "*n c c"]) -> Float[Array, "*n c c"]:
    r"""$(I + L)^{-1}$ for strictly lower triangular $L$, from blocks of one row to blocks of all rows.

    $$\begin{pmatrix} P & 0 \\ C & R \end{pmatrix}^{-1} =
    \begin{pmatrix} P^{-1} & 0 \\ -R^{-1} C P^{-1} & R^{-1} \end{pmatrix}$$
    """
    *lead, size, _ = lower.shape
    rows = 1
    while rows < size:
        rows *= 2
    lower = jnp.pad(lower, [(0, 0)] * len(lead) + [(0, rows - size)] * 2)
    inverse = jnp.ones((*lead, rows, 1, 1), lower.dtype)
    half = 1
    while half < rows:
        left, right = inverse[..., 0::2, :, :], inverse[..., 1::2, :, :]
        corners = [lower[..., s + half : s + 2 * half, s : s + half] for s in range(0, rows, 2 * half)]
        corner = jnp.stack(corners, axis=-3)
        corner = -corner if half == 1 else -(right @ corner @ left)
        top = jnp.concatenate([left, jnp.zeros_like(left)], axis=-1)
        inverse = jnp.concatenate([top, jnp.concatenate([corner, right], axis=-1)], axis=-2)
        half *= 2
    return inverse[..., 0, :size, :size]


class DeltaMemory(AbstractMemoryRule):
    r"""The rule of DeltaNet and, with gates, of gated DeltaNet: each token corrects what is read of its key.

    $$S_t = \gamma_t S_{t-1} + \beta_t k_t (v_t - \gamma_t S_{t-1}^\top k_t)^\top, \qquad o_t = S_t^\top q_t$$

    ```python
    >>> import jax.numpy as jnp
    >>> import innerloop as il
    >>> same_key = jnp.ones((3, 1, 1))  # three tokens, one head
    >>> values = jnp.asarray([[1.0], [2.0], [4.0]])[:, None]
    >>> outputs, memory = il.DeltaMemory()(il.MemoryInputs(same_key, same_key, values))
    >>> outputs[:, 0, 0].tolist()  # an additive memory would say 1, 3, 7
    [1.0, 2.0, 4.0]

    ```

    **Arguments:**

    - `chunk_size`: how many tokens the chunk form takes at once.

    **Reference:** see `delta_memory`.

    **Errors:** `ValueError` for a `chunk_size` below one.
    """

    chunk_size: int = eqx.field(static=True, default=32)

    def __check_init__(self):
        require(self.chunk_size >= 1, f"chunk_size must be at least 1, not {self.chunk_size}")

    def init_state(self, num_heads: int, key_size: int, value_size: int, dtype: jnp.dtype) -> Float[Array, "h k v"]:
        """The empty memory."""
        return jnp.zeros((num_heads, key_size, value_size), dtype)

    def __call__(
        self, inputs: MemoryInputs, state: Float[Array, "h k v"] | None = None, *, form: Form = "chunk"
    ) -> tuple[Float[Array, "t h v"], Float[Array, "h k v"]]:
        """Write and read; see `AbstractMemoryRule`."""
        check_inputs("DeltaMemory", inputs)
        query, key, value, log_gate, strength = inputs[:5]
        return delta_memory(query, key, value, log_gate, strength, state=state, form=form, chunk_size=self.chunk_size)
