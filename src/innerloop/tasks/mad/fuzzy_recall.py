"""Fuzzy recall: keys and values of several tokens."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Key, UInt32

from ...core.errors import require
from ..task import Example, Split
from ..tokens import AbstractTokenTask, below, distinct_below, draw_bits, example_key, next_token


class FuzzyRecall(AbstractTokenTask):
    r"""In-context recall where keys and values are motifs of one to $m$ different tokens.

    Pairs follow each other until the sequence is nearly full; a repeated key has the value of its first
    appearance. A key-value pair chosen beforehand is placed at a random pair boundary, unless its key came
    up by itself, and is repeated at the end. Shorter sequences are padded on the left. In training all
    motif sizes up to $m$ are equally likely; in the other splits keys have size $m$.

    A training example asks for every next token, padding included; the other splits for the values of keys seen
    before. Inputs have length $T$.

    | tokens | ids |
    |---|---|
    | keys | the first half of $0, \dots, v - 2$ (rounded down) |
    | values | the second half |
    | padding | $v - 1$ |

    ```python
    >>> import jax, innerloop as il
    >>> example = il.tasks.FuzzyRecall(length=32).sample(jax.random.key(0))
    >>> example.inputs.shape
    (32,)

    ```

    **Arguments:**

    - `vocabulary`: $v$, everything included.
    - `length`: $T$.
    - `motif_size`: $m$, of keys and values.
    - `num_examples`, `seed`: size and seed of a finite training set; see `tokens.example_key`.

    **Reference:** Poli et al. (2024), arXiv 2403.17844. The official generator may choose a place for the
    pair that the sequence never reaches, and then asks for a value that was not shown; here the place is
    always reached.

    **Errors:** `ValueError` for too few tokens for a motif, or a length too short for three pairs.
    """

    vocabulary: int = eqx.field(static=True, default=16)
    length: int = eqx.field(static=True, default=128)
    motif_size: int = eqx.field(static=True, default=3)
    num_examples: int | None = eqx.field(static=True, default=None)
    seed: int = 0

    def __check_init__(self):
        require(self.motif_size >= 1, f"motif_size must be at least 1, not {self.motif_size}")
        require(
            self.num_keys >= self.motif_size,
            f"{self.vocabulary} ids hold {self.num_keys} key tokens, too few for motifs of {self.motif_size}",
        )
        require(
            self.length > 6 * self.motif_size,
            f"length must be above 6 * motif_size = {6 * self.motif_size}, not {self.length}",
        )

    @property
    def num_keys(self) -> int:
        """The ids from here on are values, those below are keys."""
        return (self.vocabulary - 1) // 2

    def sample(self, key: Key[Array, ""], split: Split = "train") -> Example:
        """One sequence, with its next tokens or its questions."""
        m, num_keys = self.motif_size, self.num_keys
        shortest = 2 if split == "train" else m + 1
        # Candidate 0 is the pair that is asked for in the end; so many others fill any sequence.
        n = 2 + self.length // shortest
        key_bits, value_bits, size_bits, place_bits = draw_bits(
            example_key(key, split, num_examples=self.num_examples, seed=self.seed), (n, m), (n, m), (2, n), ()
        )
        drawn_sizes = 1 + below(size_bits, m)
        key_size = drawn_sizes[0] if split == "train" else jnp.full(n, m, jnp.int32)
        keys = _motifs(key_bits, key_size, num_keys)
        values = num_keys + jax.vmap(lambda bits: distinct_below(bits, self.vocabulary - 1 - num_keys))(value_bits)

        # A key has the value of its first candidate.
        same = _same(keys)
        first = jnp.argmax(same, axis=1)
        values, value_size = values[first], drawn_sizes[1][first]
        sizes = key_size + value_size

        limit = self.length - sizes[0] - 2 * m
        place = (place_bits % (limit - 2 * m + 1).astype(jnp.uint32)).astype(jnp.int32)
        slot = 1 + jnp.argmax(_starts(sizes[1:]) >= place).astype(jnp.int32)
        index = jnp.arange(n, dtype=jnp.int32)
        by_itself = jnp.any(same[0] & (index > 0) & (index < slot))
        pair = jnp.where((index == slot) & ~by_itself, 0, index).at[0].set(0)

        # From here on: the pairs as they stand in the sequence, the last one in place 0.
        keys, values, key_size, value_size = keys[pair], values[pair], key_size[pair], value_size[pair]
        earlier = (index[None] < index[:, None]) & (index[None] > 0)
        seen = jnp.any(_same(keys) & earlier, axis=1).at[0].set(True)
        sizes = key_size + value_size
        starts = _starts(sizes[1:])
        inside = starts < limit
        body = jnp.sum(jnp.where(inside, sizes[1:], 0), dtype=jnp.int32)
        padding = self.length + 1 - body - sizes[0]
        starts = padding + jnp.concatenate([body[None], jnp.where(inside, starts, self.length + 1)])

        token = jnp.arange(m, dtype=jnp.int32)[None]
        outside = self.length + 1
        key_at = jnp.where(token < key_size[:, None], starts[:, None] + token, outside)
        value_at = jnp.where(token < value_size[:, None], (starts + key_size)[:, None] + token, outside)
        at = jnp.concatenate([key_at, value_at])
        tokens = jnp.full(self.length + 1, self.vocabulary - 1, jnp.int32)
        tokens = tokens.at[at].set(jnp.concatenate([keys, values]), mode="drop")
        asked = jnp.zeros(self.length + 1, bool).at[value_at].set(jnp.broadcast_to(seen[:, None], (n, m)), mode="drop")
        return next_token(tokens, asked, split)


def _motifs(bits: UInt32[Array, "n m"], size: Int[Array, "n"], limit: int) -> Int[Array, "n m"]:
    """Motifs of different tokens in `[0, limit)`, with -1 beyond their size."""
    motifs = jax.vmap(lambda bits: distinct_below(bits, limit))(bits)
    return jnp.where(jnp.arange(bits.shape[1], dtype=jnp.int32)[None] < size[:, None], motifs, -1)


def _same(keys: Int[Array, "n m"]) -> Bool[Array, "n n"]:
    return jnp.all(keys[:, None] == keys[None], axis=-1)


def _starts(sizes: Int[Array, "n"]) -> Int[Array, "n"]:
    return jnp.cumsum(sizes, dtype=jnp.int32) - sizes
