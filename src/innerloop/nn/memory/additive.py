"""The additive memory: what is written is added, what is there fades. Linear attention and its gated kin."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...core.errors import require
from ..sequence import Form, check_form
from .chunks import decays, join_blocks, memories_before, split_blocks
from .rule import AbstractMemoryRule, MemoryInputs, check_inputs, check_memory


def additive_memory(
    query: Float[Array, "t h k"],
    key: Float[Array, "t h k"],
    value: Float[Array, "t h v"],
    log_gate: Float[Array, "t h"] | None = None,
    strength: Float[Array, "t h"] | None = None,
    *,
    state: Float[Array, "h k v"] | None = None,
    form: Form = "chunk",
    chunk_size: int = 64,
) -> tuple[Float[Array, "t h v"], Float[Array, "h k v"]]:
    r"""Write outer products of keys and values into a memory that fades, and read it with queries.

    $$S_t = \gamma_t S_{t-1} + \beta_t k_t v_t^\top, \qquad o_t = S_t^\top q_t$$

    Linear attention without gates; RetNet, Mamba-2 and gated linear attention by the gates they use.

    **Arguments:** see `MemoryInputs` and `AbstractMemoryRule`; `chunk_size` is the number of tokens that the
    chunk form takes at once.

    **Returns:** what is read, and the memory after the last token.

    **Reference:** Katharopoulos et al. (2020), arXiv 2006.16236; the chunk form with gates: Yang et al. (2024),
    arXiv 2312.06635, and Dao and Gu (2024), arXiv 2405.21060.

    **Errors:** `ValueError` for arrays that do not fit together.
    """
    check_form(form)
    require(chunk_size >= 1, f"chunk_size must be at least 1, not {chunk_size}")
    check_inputs("additive_memory", MemoryInputs(query, key, value, log_gate, strength))
    length, heads, key_size = query.shape
    empty = jax.ShapeDtypeStruct((heads, key_size, value.shape[-1]), value.dtype)
    if state is not None:
        check_memory("additive_memory", state, empty)
    memory = jnp.zeros(empty.shape, empty.dtype) if state is None else state
    value = value if strength is None else strength[..., None] * value
    if form == "recurrent":
        return _recurrent(query, key, value, log_gate, memory)
    size = chunk_size if form == "chunk" else max(length, 1)
    if length == 0:
        return jnp.zeros((0, heads, value.shape[-1]), value.dtype), memory
    q, k, v = (split_blocks(part, size) for part in (query, key, value))
    gates = jnp.zeros((length, heads), value.dtype) if log_gate is None else log_gate
    fade = decays(split_blocks(gates, size))
    scores = jnp.einsum("nhjk,nhik->nhji", q, k) * fade.within
    written = jnp.einsum("nhik,nhiv->nhkv", k * fade.to_end[..., None], v)
    before, final = memories_before(memory, fade.whole, written)
    outputs = jnp.einsum("nhji,nhiv->nhjv", scores, v)
    outputs += jnp.einsum("nhjk,nhkv->nhjv", q * fade.from_start[..., None], before)
    return join_blocks(outputs, length), final


def _recurrent(query, key, value, log_gate, memory):
    def advance(memory, token):
        q, k, v, gate = token
        if gate is not None:
            memory = jnp.exp(gate)[:, None, None] * memory
        memory = memory + k[:, :, None] * v[:, None, :]
        return memory, jnp.einsum("hk,hkv->hv", q, memory)

    final, outputs = jax.lax.scan(advance, memory, (query, key, value, log_gate))
    return outputs, final


class AdditiveMemory(AbstractMemoryRule):
    r"""The rule of linear attention, RetNet, Mamba-2 and gated linear attention with one gate per head.

    $$S_t = \gamma_t S_{t-1} + \beta_t k_t v_t^\top, \qquad o_t = S_t^\top q_t$$

    ```python
    >>> import jax, jax.numpy as jnp
    >>> import innerloop as il
    >>> keys = jnp.eye(3)[:, None]  # three tokens, one head
    >>> values = jnp.asarray([[1.0], [2.0], [4.0]])[:, None]
    >>> query = jnp.ones((3, 1, 3))
    >>> outputs, memory = il.AdditiveMemory()(il.MemoryInputs(query, keys, values))
    >>> outputs[:, 0, 0].tolist()
    [1.0, 3.0, 7.0]

    ```

    **Arguments:**

    - `chunk_size`: how many tokens the chunk form takes at once.

    **Reference:** see `additive_memory`.

    **Errors:** `ValueError` for a `chunk_size` below one.
    """

    chunk_size: int = eqx.field(static=True, default=64)

    def __check_init__(self):
        require(self.chunk_size >= 1, f"chunk_size must be at least 1, not {self.chunk_size}")

    def init_state(self, num_heads: int, key_size: int, value_size: int, dtype: jnp.dtype) -> Float[Array, "h k v"]:
        """The empty memory."""
        return jnp.zeros((num_heads, key_size, value_size), dtype)

    def __call__(
        self, inputs: MemoryInputs, state: Float[Array, "h k v"] | None = None, *, form: Form = "chunk"
    ) -> tuple[Float[Array, "t h v"], Float[Array, "h k v"]]:
        """Write and read; see `AbstractMemoryRule`."""
        check_inputs("AdditiveMemory", inputs)
        query, key, value, log_gate, strength = inputs[:5]
        return additive_memory(
            query, key, value, log_gate, strength, state=state, form=form, chunk_size=self.chunk_size
        )
