"""The channel-gated memory: every key channel fades at its own rate, by gates as strong as one likes."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...core.errors import require
from ..sequence import Form, check_form
from .chunks import join_blocks, split_blocks
from .rule import AbstractMemoryRule, MemoryInputs, check_inputs, check_memory


def channel_gated_memory(
    query: Float[Array, "t h k"],
    key: Float[Array, "t h k"],
    value: Float[Array, "t h v"],
    log_gate: Float[Array, "t h k"] | Float[Array, "t h"] | None = None,
    strength: Float[Array, "t h"] | None = None,
    *,
    state: Float[Array, "h k v"] | None = None,
    form: Form = "chunk",
    chunk_size: int = 32,
) -> tuple[Float[Array, "t h v"], Float[Array, "h k v"]]:
    r"""Write outer products into a memory whose key channels fade at rates of their own, and read it.

    $$S_t = \mathrm{diag}(\gamma_t) S_{t-1} + \beta_t k_t v_t^\top, \qquad o_t = S_t^\top q_t$$

    The chunk form never divides by a gate and never takes the difference of cumulated gates: what a token keeps
    of an earlier one is a product of gates, see `channel_scores`. Gates of 0.01, of $10^{-30}$ and of zero are
    as exact as gates near one.

    **Arguments:** see `MemoryInputs` and `AbstractMemoryRule`. A gate per head serves all of its channels.
    `chunk_size` is the number of tokens that the chunk form takes at once, rounded up to a power of two.

    **Returns:** what is read, and the memory after the last token.

    **Reference:** Yang et al. (2024), arXiv 2312.06635; the order of the products is derived here.

    **Errors:** `ValueError` for arrays that do not fit together.
    """
    check_form(form)
    require(chunk_size >= 1, f"chunk_size must be at least 1, not {chunk_size}")
    check_inputs("channel_gated_memory", MemoryInputs(query, key, value, log_gate, strength), channel_gates=True)
    length, heads, key_size = key.shape
    empty = jax.ShapeDtypeStruct((heads, key_size, value.shape[-1]), value.dtype)
    if state is not None:
        check_memory("channel_gated_memory", state, empty)
    memory = jnp.zeros(empty.shape, empty.dtype) if state is None else state
    value = value if strength is None else strength[..., None] * value
    if log_gate is None:
        log_gate = jnp.zeros(key.shape, key.dtype)
    elif log_gate.ndim == 2:
        log_gate = jnp.broadcast_to(log_gate[..., None], key.shape)
    if form == "recurrent":
        return _recurrent(query, key, value, log_gate, memory)
    if length == 0:
        return jnp.zeros(value.shape, value.dtype), memory
    size = 1
    while size < min(chunk_size if form == "chunk" else length, length):
        size *= 2
    return _blocks(query, key, value, log_gate, memory, size)


def _recurrent(query, key, value, log_gate, memory):
    def advance(memory, token):
        q, k, v, gate = token
        memory = jnp.exp(gate)[:, :, None] * memory + k[:, :, None] * v[:, None, :]
        return memory, jnp.einsum("hk,hkv->hv", q, memory)

    final, outputs = jax.lax.scan(advance, memory, (query, key, value, log_gate))
    return outputs, final


def _blocks(query, key, value, log_gate, memory, size):
    q, k, v, gate = (split_blocks(part, size) for part in (query, key, value, log_gate))
    gate = jnp.exp(gate)  # one for the tokens that fill the last block
    scores, fade = channel_scores(q, k, gate)
    written = jnp.einsum("nhik,nhiv->nhkv", fade.to_end * k, v)

    def advance(memory, block):
        kept, added = block
        return kept[:, :, None] * memory + added, memory

    final, before = jax.lax.scan(advance, memory, (fade.whole, written))
    outputs = jnp.einsum("nhji,nhiv->nhjv", scores, v)
    outputs += jnp.einsum("nhjk,nhkv->nhjv", fade.from_start * q, before)
    return join_blocks(outputs, query.shape[0]), final


class ChannelDecays(NamedTuple):
    r"""What is kept, channel by channel, between the places of a block and its ends.

    - `from_start`: $\prod_{s \le j} \gamma_s$: what token $j$ sees of the memory before the block.
    - `to_end`: $\prod_{s > i} \gamma_s$: what is left of token $i$ after the block.
    - `whole`: $\prod_s \gamma_s$.
    """

    from_start: Float[Array, "*n c k"]
    to_end: Float[Array, "*n c k"]
    whole: Float[Array, "*n k"]


def channel_scores(
    query: Float[Array, "*n c k"], key: Float[Array, "*n c k"], gate: Float[Array, "*n c k"]
) -> tuple[Float[Array, "*n c c"], ChannelDecays]:
    r"""How strongly token $j$ of a block reads token $i \le j$: $\sum_d q_{jd} k_{id} \prod_{s=i+1}^{j} \gamma_{sd}$.

    Blocks of one token are joined to blocks of two, of four, and so on. When two halves are joined, a token of
    the right one reads a token of the left one through what is kept from the latter to the end of its half, and
    from the start of the right half to the former:

    $$\prod_{s=i+1}^{j} \gamma_s = \prod_{s=i+1}^{m} \gamma_s \prod_{s=m+1}^{j} \gamma_s$$

    Both factors are products of gates and belong to one token each, so that the scores between halves are one
    matrix product, and the joined block's own factors are products of the halves'. Nothing is divided and no
    factor exceeds one: this holds for any gates, zero included.

    **Arguments:** `c` is a power of two; `gate` holds gates, not their logarithms.
    """
    *lead, size, channels = query.shape
    scores = jnp.sum(query * key, axis=-1).reshape(*lead, size, 1, 1)
    from_start = gate.reshape(*lead, size, 1, channels)
    to_end = jnp.ones_like(from_start)
    whole = gate
    half = 1
    while half < size:
        readers = query.reshape(*lead, -1, half, channels)[..., 1::2, :, :]
        written = key.reshape(*lead, -1, half, channels)[..., 0::2, :, :]
        start_left, start_right = from_start[..., 0::2, :, :], from_start[..., 1::2, :, :]
        end_left, end_right = to_end[..., 0::2, :, :], to_end[..., 1::2, :, :]
        whole_left, whole_right = whole[..., 0::2, :], whole[..., 1::2, :]
        across = jnp.einsum("...jk,...ik->...ji", readers * start_right, written * end_left)
        left, right = scores[..., 0::2, :, :], scores[..., 1::2, :, :]
        top = jnp.concatenate([left, jnp.zeros_like(across)], axis=-1)
        scores = jnp.concatenate([top, jnp.concatenate([across, right], axis=-1)], axis=-2)
        from_start = jnp.concatenate([start_left, whole_left[..., None, :] * start_right], axis=-2)
        to_end = jnp.concatenate([end_left * whole_right[..., None, :], end_right], axis=-2)
        whole = whole_left * whole_right
        half *= 2
    return scores[..., 0, :, :], ChannelDecays(from_start[..., 0, :, :], to_end[..., 0, :, :], whole[..., 0, :])


class ChannelGatedMemory(AbstractMemoryRule):
    r"""The rule of gated linear attention as it was proposed: a gate for every key channel.

    $$S_t = \mathrm{diag}(\gamma_t) S_{t-1} + \beta_t k_t v_t^\top, \qquad o_t = S_t^\top q_t$$

    ```python
    >>> import jax.numpy as jnp
    >>> import innerloop as il
    >>> ones = jnp.ones((3, 1, 2))  # three tokens, one head, two key channels
    >>> values = jnp.asarray([[1.0], [2.0], [4.0]])[:, None]
    >>> log_gate = jnp.log(jnp.broadcast_to(jnp.asarray([1.0, 0.0]), (3, 1, 2)))  # keep one, forget the other
    >>> outputs, memory = il.ChannelGatedMemory()(il.MemoryInputs(ones, ones, values, log_gate))
    >>> memory[0, :, 0].tolist()
    [7.0, 4.0]

    ```

    **Arguments:**

    - `chunk_size`: how many tokens the chunk form takes at once, rounded up to a power of two.

    **Reference:** see `channel_gated_memory`.

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
        check_inputs("ChannelGatedMemory", inputs, channel_gates=True)
        query, key, value, log_gate, strength = inputs[:5]
        return channel_gated_memory(
            query, key, value, log_gate, strength, state=state, form=form, chunk_size=self.chunk_size
        )
