"""Softmax self-attention: its memory is a cache of keys and values."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ...core.errors import require
from .projections import Projections
from ..sequence import AbstractMemoryLayer, Form, check_form, check_state, check_width, scan_chunks


class KeyValueCache(NamedTuple):
    """The memory of softmax attention: the keys and values written so far, and how many they are."""

    keys: Float[Array, "h c k"]
    values: Float[Array, "h c v"]
    length: Int[Array, ""]


class SoftmaxSelfAttention(AbstractMemoryLayer):
    r"""Softmax attention, with an optional learned mixture of softmax and linear scores.

    $$a_{ij} = m \, \mathrm{softmax}_j(s \, q_i \cdot k_j) + (1 - m) \, q_i \cdot k_j, \qquad
      y_i = \sum_h \sum_j a_{h,ij} v_{h,j}^\top W^O_h$$

    with $m = \mathrm{sigmoid}(\text{mix})$, and $m = 1$ when there is no `mix`. The linear scores are not
    scaled. The state is a cache of `capacity` tokens. What is read from an empty cache is zero.

    ```python
    >>> import jax
    >>> from innerloop.nn import Projections, SoftmaxSelfAttention
    >>> layer = SoftmaxSelfAttention(Projections.random(5, 2, 3, key=jax.random.key(0)), capacity=8)
    >>> outputs, cache = layer(jax.random.normal(jax.random.key(1), (7, 5)))
    >>> outputs.shape, cache.keys.shape, int(cache.length)
    ((7, 5), (2, 8, 3), 7)

    ```

    **Arguments:**

    - `projections`: the weights.
    - `capacity`: the most tokens that the cache holds. `attend` keeps no cache and takes a context of any
      length.
    - `scale`: multiplies the scores in the softmax; by default the inverse square root of the key size.
    - `mix`: the logit of the share of softmax, learned; `None` is softmax alone.
    - `chunk_size`: how many queries the chunk form takes at once.

    **Reference:** von Oswald et al. (2023), arXiv 2212.07677, appendix on softmax and on the mixture.

    **Errors:** `ValueError` for sizes below one and for a sequence known to be longer than the capacity; a
    run-time error when a cache handed over overflows.
    """

    projections: Projections
    scale: float | Float[Array, ""]
    mix: Float[Array, ""] | None
    capacity: int = eqx.field(static=True)
    chunk_size: int = eqx.field(static=True)

    def __init__(
        self,
        projections: Projections,
        *,
        capacity: int,
        scale: float | Float[Array, ""] | None = None,
        mix: Float[Array, ""] | None = None,
        chunk_size: int = 64,
    ):
        require(capacity >= 1, f"capacity must be at least 1, not {capacity}")
        require(chunk_size >= 1, f"chunk_size must be at least 1, not {chunk_size}")
        self.projections, self.mix, self.capacity, self.chunk_size = projections, mix, capacity, chunk_size
        self.scale = projections.key_size**-0.5 if scale is None else scale

    @property
    def width(self) -> int:
        """The size of one input token."""
        return self.projections.width

    def init_state(self) -> KeyValueCache:
        """The empty cache."""
        p = self.projections
        return KeyValueCache(
            keys=jnp.zeros((p.num_heads, self.capacity, p.key_size), p.state_dtype),
            values=jnp.zeros((p.num_heads, self.capacity, p.value_size), p.state_dtype),
            length=jnp.zeros((), jnp.int32),
        )

    def write(self, state: KeyValueCache | None, xs: Float[Array, "t d"]) -> KeyValueCache:
        """Put the keys and values of all tokens behind those already there."""
        check_width(self, xs)
        return self._extend(state, *self._keys_and_values(xs))

    def read(self, state: KeyValueCache, xs: Float[Array, "t d"]) -> Float[Array, "t e"]:
        """Each token attends to all tokens of the cache."""
        check_width(self, xs)
        check_state(self, state)
        visible = jnp.broadcast_to(
            jnp.arange(self.capacity, dtype=jnp.int32) < state.length, (xs.shape[0], self.capacity)
        )
        return self.projections.merge(self._look_up(self._queries(xs), state.keys, state.values, visible))

    def attend(self, context: Float[Array, "n d"], tokens: Float[Array, "t d"]) -> Float[Array, "t e"]:
        """Every token attends to the whole context: write, then read, without a cache in between."""
        check_width(self, context, axes="n d")
        check_width(self, tokens)
        keys, values = self._keys_and_values(context)
        return self.projections.merge(self._look_up(self._queries(tokens), keys, values, None))

    def step(self, state: KeyValueCache, x: Float[Array, "d"]) -> tuple[KeyValueCache, Float[Array, "e"]]:
        """Write one token, then read it."""
        check_width(self, x, axes="d")
        state = self.write(state, x[None])
        return state, self.read(state, x[None])[0]

    def __call__(
        self, xs: Float[Array, "t d"], state: KeyValueCache | None = None, *, form: Form = "chunk"
    ) -> tuple[Float[Array, "t e"], KeyValueCache]:
        """A whole sequence, causally; see `AbstractSequenceLayer`."""
        check_form(form)
        check_width(self, xs)
        if form == "recurrent":
            self._check_capacity(xs.shape[0])
            first = self.init_state() if state is None else state
            check_state(self, first)
            cache, outputs = jax.lax.scan(lambda cache, x: self.step(cache, x), first, xs)
            return outputs, cache
        keys, values = self._keys_and_values(xs)
        cache = self._extend(state, keys, values)
        # From an empty cache the tokens attend to each other only: the unused rest of the cache is not
        # compared.
        start = jnp.zeros((), jnp.int32) if state is None else state.length
        keys, values = (keys, values) if state is None else (cache.keys, cache.values)
        positions = jnp.arange(keys.shape[1], dtype=jnp.int32)

        def some_queries(_, chunk):
            queries, times = chunk
            visible = positions[None, :] <= start + times[:, None]
            return None, jnp.swapaxes(self._look_up(jnp.swapaxes(queries, 0, 1), keys, values, visible), 0, 1)

        sequence = (jnp.swapaxes(self._queries(xs), 0, 1), jnp.arange(xs.shape[0], dtype=jnp.int32))
        if form == "chunk":
            _, heads = scan_chunks(some_queries, None, sequence, chunk_size=self.chunk_size)
        else:
            _, heads = some_queries(None, sequence)
        return self.projections.merge(jnp.swapaxes(heads, 0, 1)), cache

    def _queries(self, xs: Float[Array, "t d"]) -> Float[Array, "h t k"]:
        return self.projections.queries(xs).astype(self.projections.state_dtype)

    def _keys_and_values(self, xs: Float[Array, "n d"]) -> tuple[Float[Array, "h n k"], Float[Array, "h n v"]]:
        dtype = self.projections.state_dtype
        return self.projections.keys(xs).astype(dtype), self.projections.values(xs).astype(dtype)

    def _check_capacity(self, length: int) -> None:
        require(length <= self.capacity, f"{length} tokens do not fit into a cache of capacity {self.capacity}")

    def _extend(
        self, state: KeyValueCache | None, keys: Float[Array, "h t k"], values: Float[Array, "h t v"]
    ) -> KeyValueCache:
        length = keys.shape[1]
        self._check_capacity(length)
        if state is None:
            rest = [(0, 0), (0, self.capacity - length), (0, 0)]
            return KeyValueCache(jnp.pad(keys, rest), jnp.pad(values, rest), jnp.full((), length, jnp.int32))
        check_state(self, state)
        start = eqx.error_if(
            state.length,
            state.length + length > self.capacity,
            f"the key-value cache overflows: its capacity is {self.capacity} tokens",
        )
        place = (jnp.zeros((), start.dtype), start, jnp.zeros((), start.dtype))
        return KeyValueCache(
            keys=jax.lax.dynamic_update_slice(state.keys, keys, place),
            values=jax.lax.dynamic_update_slice(state.values, values, place),
            length=start + length,
        )

    def _look_up(
        self,
        queries: Float[Array, "h t k"],
        keys: Float[Array, "h n k"],
        values: Float[Array, "h n v"],
        visible: Bool[Array, "t n"] | None,
    ) -> Float[Array, "h t v"]:
        scores = jnp.einsum("htk,hnk->htn", queries, keys)
        weights = masked_softmax(self.scale * scores, None if visible is None else visible[None])
        if self.mix is not None:
            linear = scores if visible is None else jnp.where(visible[None], scores, 0.0)
            share = jax.nn.sigmoid(self.mix)
            weights = share * weights + (1.0 - share) * linear
        return jnp.einsum("htn,hnv->htv", weights, values)


def masked_softmax(scores: Float[Array, "h t n"], visible: Bool[Array, "1 t n"] | None = None) -> Float[Array, "h t n"]:
    """The softmax over the visible entries of the last axis, zero elsewhere and where nothing is visible."""
    if visible is None:
        # Zero as the largest of an empty row, so that a context of no tokens is allowed.
        largest = jnp.max(scores, axis=-1, keepdims=True, initial=-jnp.inf) if scores.shape[-1] else 0.0
        exponentials = jnp.exp(scores - jax.lax.stop_gradient(largest))
    else:
        largest = jnp.max(jnp.where(visible, scores, -jnp.inf), axis=-1, keepdims=True, initial=-jnp.inf)
        largest = jax.lax.stop_gradient(jnp.where(jnp.isfinite(largest), largest, 0.0))
        # Masked before the exponential, or an overflow there would make the gradient NaN.
        exponentials = jnp.where(visible, jnp.exp(jnp.where(visible, scores - largest, 0.0)), 0.0)
    total = jnp.sum(exponentials, axis=-1, keepdims=True)
    return exponentials / jnp.where(total > 0.0, total, 1.0)
