"""Softmax self-attention: its memory is a cache of keys and values."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ...core.errors import require
from ..projections import Projections
from ..sequence import AbstractMemoryLayer, Form, check_form, check_resets, check_state, check_width, scan_chunks


class KeyValueCache(NamedTuple):
    """The memory of softmax attention: the keys and values written so far.

    `length` is how many they are, and `start` is where the present segment begins: what stands before it is not
    seen any more.
    """

    keys: Float[Array, "h c k"]
    values: Float[Array, "h c v"]
    length: Int[Array, ""]
    start: Int[Array, ""]


class SoftmaxSelfAttention(AbstractMemoryLayer):
    r"""Softmax attention, with an optional learned mixture of softmax and linear scores.

    $$a_{ij} = m \, \mathrm{softmax}_j(s \, q_i \cdot k_j) + (1 - m) \, q_i \cdot k_j, \qquad
      y_i = \sum_h \sum_j a_{h,ij} v_{h,j}^\top W^O_h$$

    with $m = \mathrm{sigmoid}(\text{mix})$, and $m = 1$ when there is no `mix`. The linear scores are not
    scaled. The state is a cache of `capacity` tokens. What is read from an empty cache is zero. With rotary
    positions queries and keys are turned by their place in the sequence; `read` and `attend` turn all queries
    as if they stood where the last written token stands.

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
    - `rotary_base`: the base of the wavelengths of rotary positions, usually 10000; `None` is no positions.
    - `chunk_size`: how many queries the chunk form takes at once.

    **Reference:** von Oswald et al. (2023), arXiv 2212.07677, appendix on softmax and on the mixture; rotary
    positions: Su et al. (2021), arXiv 2104.09864.

    **Errors:** `ValueError` for sizes below one and for a sequence known to be longer than the capacity; a
    run-time error when a cache handed over overflows.
    """

    projections: Projections
    scale: float | Float[Array, ""]
    mix: Float[Array, ""] | None
    capacity: int = eqx.field(static=True)
    rotary_base: float | None = eqx.field(static=True)
    chunk_size: int = eqx.field(static=True)

    def __init__(
        self,
        projections: Projections,
        *,
        capacity: int,
        scale: float | Float[Array, ""] | None = None,
        mix: Float[Array, ""] | None = None,
        rotary_base: float | None = None,
        chunk_size: int = 64,
    ):
        if rotary_base is not None:
            require(rotary_base > 0, f"rotary_base must be above 0, not {rotary_base}")
            require(
                projections.key_size % 2 == 0, f"rotary positions need an even key size, not {projections.key_size}"
            )
        self.rotary_base = rotary_base
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
            start=jnp.zeros((), jnp.int32),
        )

    def write(self, state: KeyValueCache | None, xs: Float[Array, "t d"]) -> KeyValueCache:
        """Put the keys and values of all tokens behind those already there."""
        check_width(self, xs)
        return self._extend(state, *self._keys_and_values(xs, state))

    def read(self, state: KeyValueCache, xs: Float[Array, "t d"]) -> Float[Array, "t e"]:
        """Each token attends to all tokens of the cache's present segment."""
        check_width(self, xs)
        check_state(self, state)
        places = jnp.arange(self.capacity, dtype=jnp.int32)
        visible = jnp.broadcast_to((places >= state.start) & (places < state.length), (xs.shape[0], self.capacity))
        queries = self._queries(xs, jnp.broadcast_to(state.length - 1, xs.shape[:1]))
        return self.projections.merge(self._look_up(queries, state.keys, state.values, visible))

    def attend(self, context: Float[Array, "n d"], tokens: Float[Array, "t d"]) -> Float[Array, "t e"]:
        """Every token attends to the whole context: write, then read, without a cache in between."""
        check_width(self, context, axes="n d")
        check_width(self, tokens)
        keys, values = self._keys_and_values(context, None)
        queries = self._queries(tokens, jnp.full(tokens.shape[:1], context.shape[0] - 1, jnp.int32))
        return self.projections.merge(self._look_up(queries, keys, values, None))

    def step(self, state: KeyValueCache, x: Float[Array, "d"]) -> tuple[KeyValueCache, Float[Array, "e"]]:
        """Write one token, then read it."""
        check_width(self, x, axes="d")
        state = self.write(state, x[None])
        return state, self.read(state, x[None])[0]

    def __call__(
        self,
        xs: Float[Array, "t d"],
        state: KeyValueCache | None = None,
        *,
        form: Form = "chunk",
        resets: Bool[Array, "t"] | None = None,
    ) -> tuple[Float[Array, "t e"], KeyValueCache]:
        """A whole sequence, causally; see `AbstractSequenceLayer`.

        A new segment does not free the places of the old one in the cache.
        """
        check_form(form)
        check_width(self, xs)
        check_resets(self, xs, resets)
        if form == "recurrent":
            self._check_capacity(xs.shape[0])
            first = self.init_state() if state is None else state
            check_state(self, first)

            def advance(cache, token):
                x, reset = token
                if reset is not None:
                    cache = cache._replace(start=jnp.where(reset, cache.length, cache.start))
                return self.step(cache, x)

            cache, outputs = jax.lax.scan(advance, first, (xs, resets))
            return outputs, cache
        keys, values = self._keys_and_values(xs, state)
        cache = self._extend(state, keys, values)
        # From an empty cache the tokens attend to each other only: the unused rest of the cache is not
        # compared.
        zero = jnp.zeros((), jnp.int32)
        before, start = (zero, zero) if state is None else (state.length, state.start)
        keys, values = (keys, values) if state is None else (cache.keys, cache.values)
        places = before + jnp.arange(xs.shape[0], dtype=jnp.int32)
        starts = jnp.broadcast_to(start, places.shape)
        if resets is not None:
            starts = jnp.maximum(starts, jax.lax.cummax(jnp.where(resets, places, zero)))
            # The segment that the state goes on with is the one of the last token.
            cache = cache._replace(start=jnp.max(starts, initial=start))
        positions = jnp.arange(keys.shape[1], dtype=jnp.int32)

        def some_queries(_, chunk):
            queries, places, starts = chunk
            visible = (positions[None, :] <= places[:, None]) & (positions[None, :] >= starts[:, None])
            return None, jnp.swapaxes(self._look_up(jnp.swapaxes(queries, 0, 1), keys, values, visible), 0, 1)

        sequence = (jnp.swapaxes(self._queries(xs, places), 0, 1), places, starts)
        if form == "chunk":
            _, heads = scan_chunks(some_queries, None, sequence, chunk_size=self.chunk_size)
        else:
            _, heads = some_queries(None, sequence)
        return self.projections.merge(jnp.swapaxes(heads, 0, 1)), cache

    def _queries(self, xs: Float[Array, "t d"], places: Int[Array, "t"]) -> Float[Array, "h t k"]:
        return self._turned(self.projections.queries(xs).astype(self.projections.state_dtype), places)

    def _keys_and_values(
        self, xs: Float[Array, "n d"], state: KeyValueCache | None
    ) -> tuple[Float[Array, "h n k"], Float[Array, "h n v"]]:
        dtype = self.projections.state_dtype
        places = jnp.arange(xs.shape[0], dtype=jnp.int32)
        if state is not None:
            check_state(self, state)
            places = places + state.length
        return self._turned(self.projections.keys(xs).astype(dtype), places), self.projections.values(xs).astype(dtype)

    def _turned(self, xs: Float[Array, "h t k"], places: Int[Array, "t"]) -> Float[Array, "h t k"]:
        return xs if self.rotary_base is None else rotate(xs, places, self.rotary_base)

    def _check_capacity(self, length: int) -> None:
        require(length <= self.capacity, f"{length} tokens do not fit into a cache of capacity {self.capacity}")

    def _extend(
        self, state: KeyValueCache | None, keys: Float[Array, "h t k"], values: Float[Array, "h t v"]
    ) -> KeyValueCache:
        length = keys.shape[1]
        self._check_capacity(length)
        if state is None:
            rest = [(0, 0), (0, self.capacity - length), (0, 0)]
            zero = jnp.zeros((), jnp.int32)
            return KeyValueCache(jnp.pad(keys, rest), jnp.pad(values, rest), zero + length, zero)
        check_state(self, state)
        end = eqx.error_if(
            state.length,
            state.length + length > self.capacity,
            f"the key-value cache overflows: its capacity is {self.capacity} tokens",
        )
        place = (jnp.zeros((), end.dtype), end, jnp.zeros((), end.dtype))
        return KeyValueCache(
            keys=jax.lax.dynamic_update_slice(state.keys, keys, place),
            values=jax.lax.dynamic_update_slice(state.values, values, place),
            length=end + length,
            start=state.start,
        )

    def _look_up(
        self,
        queries: Float[Array, "h t k"],
        keys: Float[Array, "h n k"],
        values: Float[Array, "h n v"],
        visible: Bool[Array, "t n"] | None,
    ) -> Float[Array, "h t v"]:
        scores = jnp.einsum("htk,hnk->htn", queries, keys)
        weights = masked_softmax(
            jnp.asarray(self.scale, scores.dtype) * scores, None if visible is None else visible[None]
        )
        if self.mix is not None:
            linear = scores if visible is None else jnp.where(visible[None], scores, 0.0)
            share = jax.nn.sigmoid(self.mix).astype(weights.dtype)
            weights = share * weights + (1.0 - share) * linear
        return jnp.einsum("htn,hnv->htv", weights, values)


def rotate(xs: Float[Array, "h t k"], places: Int[Array, "t"], base: float) -> Float[Array, "h t k"]:
    r"""Rotary positions: each pair of channels turned by an angle that grows with the place.

    $$(x_i, x_{i + k/2}) \mapsto \text{rotation by } p \, b^{-2i/k}$$

    Products of two rotated vectors depend on the distance of their places alone.

    **Reference:** Su et al. (2021), arXiv 2104.09864.
    """
    half = xs.shape[-1] // 2
    frequencies = base ** (-jnp.arange(half, dtype=xs.dtype) / half)
    angles = places.astype(xs.dtype)[:, None] * frequencies[None]
    cosine, sine = jnp.cos(angles)[None], jnp.sin(angles)[None]
    first, second = xs[..., :half], xs[..., half:]
    return jnp.concatenate([first * cosine - second * sine, first * sine + second * cosine], axis=-1)


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
