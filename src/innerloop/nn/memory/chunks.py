"""What the chunk forms of matrix memories share: blocks of tokens, decays inside them, memories between them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped


class Decays(NamedTuple):
    r"""What is kept of a token between two places of a block of `c` tokens.

    - `within`: entry `(j, i)` is $\prod_{s=i+1}^{j} \gamma_s$ for $i \le j$, else 0.
    - `from_start`: $\prod_{s \le j} \gamma_s$: what token $j$ sees of the memory before the block.
    - `to_end`: $\prod_{s > i} \gamma_s$: what is left of token $i$ after the block.
    - `whole`: $\prod_s \gamma_s$.
    """

    within: Float[Array, "*n c c"]
    from_start: Float[Array, "*n c"]
    to_end: Float[Array, "*n c"]
    whole: Float[Array, "*n"]


def split_blocks(x: Shaped[Array, "t h *d"], size: int) -> Shaped[Array, "n h c *d"]:
    """A sequence as blocks of `size` tokens, heads before tokens; zeros fill the last block."""
    length, heads, *rest = x.shape
    count = -(-length // size)
    x = jnp.pad(x, [(0, count * size - length), *[(0, 0)] * (x.ndim - 1)])
    return jnp.swapaxes(x.reshape(count, size, heads, *rest), 1, 2)


def join_blocks(x: Shaped[Array, "n h c *d"], length: int) -> Shaped[Array, "t h *d"]:
    """The first `length` tokens of the sequence that `split_blocks` has cut."""
    count, heads, size, *rest = x.shape
    return jnp.swapaxes(x, 1, 2).reshape(count * size, heads, *rest)[:length]


def decays(log_gate: Float[Array, "*n c"]) -> Decays:
    """All decays of blocks; a log gate of `-inf` forgets everything, and its derivative is zero.

    Sums of gates are formed for every pair of places, not as differences of cumulated sums, which lose digits
    where a strong gate comes before weak ones.
    """
    size, dtype = log_gate.shape[-1], log_gate.dtype
    zero, one = jnp.zeros((), dtype), jnp.ones((), dtype)
    reset = jnp.isneginf(log_gate)
    gate = jnp.where(reset, zero, log_gate)
    segment = jnp.cumsum(reset, axis=-1, dtype=jnp.int32)
    lower = jnp.tril(jnp.ones((size, size), bool))
    later = jnp.tril(lower, -1).reshape((1,) * (log_gate.ndim - 1) + lower.shape)
    # A product with ones is twice as fast on a CPU as a cumulated sum along an axis of a matrix.
    sums = jnp.einsum(
        "js,...si->...ji",
        lower.astype(dtype),
        jnp.where(later, gate[..., :, None], zero),
        precision=jax.lax.Precision.HIGHEST,
    )
    visible = (segment[..., :, None] == segment[..., None, :]) & lower.reshape(later.shape)
    within = jnp.where(visible, jnp.exp(jnp.where(visible, sums, zero)), zero)
    from_start = jnp.where(segment == 0, jnp.exp(jnp.cumsum(gate, axis=-1)), zero)
    return Decays(within, from_start, within[..., -1, :], from_start[..., -1] if size else one)


def with_signs(fade: Decays, negative: Bool[Array, "*n c"]) -> Decays:
    """The same decays by gates some of which are negative: each decay has the sign of the product of its gates."""
    one = jnp.ones((), fade.whole.dtype)
    sign = jnp.where(jnp.cumsum(negative, axis=-1, dtype=jnp.int32) % 2 == 1, -one, one)
    last = sign[..., -1]
    return Decays(
        fade.within * sign[..., :, None] * sign[..., None, :],
        fade.from_start * sign,
        fade.to_end * last[..., None] * sign,
        fade.whole * last,
    )


def memories_before(
    state: Float[Array, "h k v"], whole: Float[Array, "n h"], written: Float[Array, "n h k v"]
) -> tuple[Float[Array, "n h k v"], Float[Array, "h k v"]]:
    """The memory before each block, and the one after the last, of what every block keeps and writes."""

    def advance(memory, block):
        kept, added = block
        return kept[:, None, None] * memory + added, memory

    final, before = jax.lax.scan(advance, state, (whole, written))
    return before, final
