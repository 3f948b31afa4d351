"""The memory of mLSTM: additive, with exponential write strengths and a normaliser."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...core.errors import require
from ..sequence import Form, check_form
from .additive import additive_memory
from .rule import AbstractMemoryRule, MemoryInputs, check_inputs, check_memory

# The maximum of a memory into which nothing was written: exp of it is zero, and sums with it stay finite,
# which minus infinity's do not.
EMPTY = -1e30


class NormalisedState(NamedTuple):
    """A memory and its normaliser, both divided by the exponential of a running maximum.

    What they stand for is `exp(maximum) * memory` and `exp(maximum) * normaliser`, which may be too large for any
    floating-point number. In an empty memory the maximum is `-1e30`.
    """

    memory: Float[Array, "h k v"]
    normaliser: Float[Array, "h k"]
    maximum: Float[Array, "h"]


def mlstm_memory(
    query: Float[Array, "t h k"],
    key: Float[Array, "t h k"],
    value: Float[Array, "t h v"],
    log_gate: Float[Array, "t h"] | None = None,
    strength: Float[Array, "t h"] | None = None,
    log_strength: Float[Array, "t h"] | None = None,
    *,
    state: NormalisedState | None = None,
    form: Form = "chunk",
    chunk_size: int = 64,
) -> tuple[Float[Array, "t h v"], NormalisedState]:
    r"""Write outer products with strengths of any size into a memory that fades, and read a weighted mean.

    $$S_t = f_t S_{t-1} + i_t k_t v_t^\top, \qquad z_t = f_t z_{t-1} + i_t k_t, \qquad
      o_t = \frac{S_t^\top q_t}{\max(|z_t^\top q_t|, 1)}$$

    The strength $i_t$ is given itself or as its logarithm, which may be large: $S$ and $z$ are kept divided by
    $e^{m_t}$, with $m_t = \max(\log f_t + m_{t-1}, \log i_t)$, a running maximum that is found for all tokens at
    once. What is left is an additive memory with gates $f_t e^{m_{t-1} - m_t}$ and strengths $i_t e^{-m_t}$, both
    at most one, and the normaliser is one more value channel of it. The outputs do not depend on $m$, so it is
    held fixed in their gradients.

    **Arguments:** see `MemoryInputs` and `AbstractMemoryRule`; of `strength` and `log_strength` give at most one.
    `chunk_size` is the number of tokens that the chunk form takes at once.

    **Returns:** what is read, and the memory after the last token. The divisor is at least the square of the
    number format's resolution: a product $z^\top q$ that small is rounding.

    **Reference:** Beck et al. (2024), arXiv 2405.04517.

    **Errors:** `ValueError` for arrays that do not fit together.
    """
    check_form(form)
    require(chunk_size >= 1, f"chunk_size must be at least 1, not {chunk_size}")
    inputs = MemoryInputs(query, key, value, log_gate, strength, log_strength)
    check_inputs("mlstm_memory", inputs, log_strengths=True)
    length, heads, key_size = key.shape
    dtype = value.dtype
    empty = empty_state(heads, key_size, value.shape[-1], dtype)
    if state is not None:
        check_memory("mlstm_memory", state, empty)
    start = empty if state is None else state
    log_gate = jnp.zeros((length, heads), dtype) if log_gate is None else log_gate
    log_strength = jnp.zeros((length, heads), dtype) if log_strength is None else log_strength

    maximum = running_maximum(log_gate, log_strength, start.maximum)
    held = jax.lax.stop_gradient(maximum)
    before, now = jnp.concatenate([maximum[:1], held[1:]])[:-1], held[1:]
    fading = log_gate + before - now
    fading = fading - jax.lax.stop_gradient(jnp.maximum(fading, jnp.zeros((), dtype)))  # at most 0 but for rounding
    written = jnp.exp(log_strength - now)
    read, joint = additive_memory(
        query,
        key,
        jnp.concatenate([value, jnp.ones((length, heads, 1), dtype)], axis=-1),
        fading,
        written if strength is None else strength * written,
        state=jnp.concatenate([start.memory, start.normaliser[..., None]], axis=-1),
        form=form,
        chunk_size=chunk_size,
    )
    divisor = jnp.maximum(jnp.abs(read[..., -1]), jnp.exp(-now))
    divisor = jnp.maximum(divisor, jnp.asarray(jnp.finfo(dtype).eps ** 2, dtype))
    # One, with the derivative that the maximum has in what the state stands for.
    joint = jnp.exp(held[-1] - maximum[-1])[:, None, None] * joint
    return read[..., :-1] / divisor[..., None], NormalisedState(joint[..., :-1], joint[..., -1], maximum[-1])


def running_maximum(
    log_gate: Float[Array, "t h"], log_strength: Float[Array, "t h"], start: Float[Array, "h"]
) -> Float[Array, "t+1 h"]:
    r"""$m_t = \max(\log f_t + m_{t-1}, \log i_t)$ from `start`, which comes first, by an associative scan."""
    empty = jnp.asarray(EMPTY, start.dtype)

    def join(earlier, later):
        return earlier[0] + later[0], jnp.maximum(earlier[1] + later[0], later[1])

    gates = jnp.concatenate([jnp.zeros_like(start)[None], log_gate])
    strengths = jnp.concatenate([start[None], jnp.maximum(log_strength, empty)])
    return jax.lax.associative_scan(join, (gates, strengths))[1]


def empty_state(num_heads: int, key_size: int, value_size: int, dtype: jnp.dtype) -> NormalisedState:
    """Nothing was written yet."""
    return NormalisedState(
        jnp.zeros((num_heads, key_size, value_size), dtype),
        jnp.zeros((num_heads, key_size), dtype),
        jnp.full((num_heads,), EMPTY, dtype),
    )


class NormalisedMemory(AbstractMemoryRule):
    r"""The rule of mLSTM: strengths of any size, and what is read is a weighted mean.

    $$S_t = f_t S_{t-1} + i_t k_t v_t^\top, \qquad z_t = f_t z_{t-1} + i_t k_t, \qquad
      o_t = \frac{S_t^\top q_t}{\max(|z_t^\top q_t|, 1)}$$

    ```python
    >>> import jax.numpy as jnp
    >>> import innerloop as il
    >>> same_key = jnp.ones((3, 1, 1))  # three tokens, one head
    >>> values = jnp.asarray([[1.0], [2.0], [6.0]])[:, None]
    >>> inputs = il.MemoryInputs(same_key, same_key, values, log_strength=jnp.full((3, 1), 200.0))
    >>> il.NormalisedMemory()(inputs)[0][:, 0, 0].tolist()  # means, though exp(200) is no float32
    [1.0, 1.5, 3.0]

    ```

    **Arguments:**

    - `chunk_size`: how many tokens the chunk form takes at once.

    **Reference:** see `mlstm_memory`.

    **Errors:** `ValueError` for a `chunk_size` below one.
    """

    chunk_size: int = eqx.field(static=True, default=64)

    def __check_init__(self):
        require(self.chunk_size >= 1, f"chunk_size must be at least 1, not {self.chunk_size}")

    def init_state(self, num_heads: int, key_size: int, value_size: int, dtype: jnp.dtype) -> NormalisedState:
        """The empty memory."""
        return empty_state(num_heads, key_size, value_size, dtype)

    def __call__(
        self, inputs: MemoryInputs, state: NormalisedState | None = None, *, form: Form = "chunk"
    ) -> tuple[Float[Array, "t h v"], NormalisedState]:
        """Write and read; see `AbstractMemoryRule`."""
        check_inputs("NormalisedMemory", inputs, log_strengths=True)
        return mlstm_memory(*inputs[:6], state=state, form=form, chunk_size=self.chunk_size)
