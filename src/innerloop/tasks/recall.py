"""Associative recall: a sequence names values for keys, and asks for them again."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ..core.errors import require
from .task import Example, Split
from .tokens import IGNORE, AbstractTokenTask, below, distinct_below, draw_bits, example_key, fraction, next_token


class InContextRecall(AbstractTokenTask):
    r"""Key-value pairs in which keys come again, each always with the value of its first appearance.

    $$k_1 v_1 k_2 v_2 \dots k_{n} v_{n}, \quad n = T / 2$$

    Keys are drawn with replacement, a fresh map of keys to values for each sequence; the last key is one of
    those presented before. With `noise`, pairs are replaced by two tokens that mean nothing, but for one
    pair that is protected. This is the in-context and the noisy in-context recall of MAD.

    A training example asks for every next token, the other splits for the values of keys seen before. Inputs
    have length $T - 1$.

    | tokens | ids |
    |---|---|
    | keys | the first half of the symbols (rounded down) |
    | values | the second half |
    | noise | the `noise_symbols` ids after them |
    | copy prefix | the last id, only with `multi_query=False` |

    ```python
    >>> import jax, innerloop as il
    >>> task = il.tasks.InContextRecall(vocabulary=8, length=12)
    >>> example = task.sample(jax.random.key(0), "test")
    >>> example.inputs.shape, example.target.shape
    ((11,), (11,))

    ```

    **Arguments:**

    - `vocabulary`: $v$, everything included.
    - `length`: $T$, even.
    - `noise`: the probability with which a pair is noise.
    - `noise_symbols`: the number of ids for noise.
    - `multi_query`: whether every repeated key is asked for; if not, only the last one, after a copy prefix.
    - `num_examples`, `seed`: size and seed of a finite training set; see `tokens.example_key`.

    **Reference:** Poli et al. (2024), arXiv 2403.17844. The official generator may protect a pair that is not
    there, and then fails when all pairs are noise; here a protected pair always exists.

    **Errors:** `ValueError` for sizes that leave no key or no value, an odd length, noise without ids.
    """

    vocabulary: int = eqx.field(static=True, default=16)
    length: int = eqx.field(static=True, default=128)
    noise: float | Float[Array, ""] = 0.0
    noise_symbols: int = eqx.field(static=True, default=0)
    multi_query: bool = eqx.field(static=True, default=True)
    num_examples: int | None = eqx.field(static=True, default=None)
    seed: int = 0

    def __check_init__(self):
        require(self.length >= 4 and self.length % 2 == 0, f"length must be even and at least 4, not {self.length}")
        require(self.noise_symbols >= 0, f"noise_symbols must be at least 0, not {self.noise_symbols}")
        require(
            self.num_keys >= 1, f"a vocabulary of {self.vocabulary} leaves {self.num_symbols} symbols; 2 are needed"
        )
        if isinstance(self.noise, int | float):
            require(0 <= self.noise < 1, f"noise must lie in [0, 1), not {self.noise}")
            require(self.noise == 0 or self.noise_symbols > 0, f"noise {self.noise} needs noise_symbols above 0")

    @property
    def num_symbols(self) -> int:
        """Keys and values together."""
        return self.vocabulary - self.noise_symbols - (not self.multi_query)

    @property
    def num_keys(self) -> int:
        """The ids from here on are values, those below are keys."""
        return self.num_symbols // 2

    def sample(self, key: Key[Array, ""], split: Split = "train") -> Example:
        """One sequence, with its next tokens or its questions."""
        n, num_keys = self.length // 2 - 1, self.num_keys
        key_bits, value_bits, last_bits, noise_bits = draw_bits(
            example_key(key, split, num_examples=self.num_examples, seed=self.seed),
            (n,),
            (num_keys,),
            (num_keys,),
            (3 * n + 1,) if self.noise_symbols else (0,),
        )
        index = jnp.arange(n, dtype=jnp.int32)
        keys, values = below(key_bits, num_keys), num_keys + below(value_bits, self.num_symbols - num_keys)
        pairs, noisy = jnp.stack([keys, values[keys]], axis=1), jnp.zeros(n, bool)
        if self.noise_symbols:
            noisy = fraction(noise_bits[:n]) < jnp.asarray(self.noise, jnp.float32)
            noisy = noisy & (index != below(noise_bits[-1], n))
            noise = self.num_symbols + below(noise_bits[n : 3 * n].reshape(n, 2), self.noise_symbols)
            pairs = jnp.where(noisy[:, None], noise, pairs)
        first = jnp.full(num_keys, n, jnp.int32).at[keys].min(jnp.where(noisy, n, index))
        # Uniform among the keys presented: the one with the largest of as many random numbers.
        last = jnp.argmax(jnp.where(first < n, fraction(last_bits), -1.0)).astype(jnp.int32)
        seen = ~noisy & (first[keys] < index)
        asked = jnp.stack([jnp.zeros(n, bool), seen & self.multi_query], axis=1)
        end, end_asked = [last, values[last]], [False, True]
        if not self.multi_query:
            end, end_asked = [jnp.int32(self.vocabulary - 1), *end], [False, *end_asked]
        tokens = jnp.concatenate([pairs.reshape(-1), jnp.stack(end)])
        return next_token(tokens, jnp.concatenate([asked.reshape(-1), jnp.array(end_asked)]), split)


class MultiQueryRecall(AbstractTokenTask):
    r"""Multi-query associative recall: all pairs first, then each key once more, at gaps of a power law.

    $$k_1 v_1 \dots k_n v_n \; \cdot \cdot k_{3} \cdot \cdot \cdot k_{1} \cdot \dots, \qquad
      p(g) \propto g^{a - 1}, \quad g = 1, \dots, \tfrac{T - 2 n}{2}$$

    The target stands at the key that is asked for, in all splits. Keys are different from each other, and so
    are values; places are drawn one after the other without replacement, all of them even. Everywhere else
    there is filler: random tokens of any kind, or 0, which is no key.

    ```python
    >>> import jax, innerloop as il
    >>> task = il.tasks.MultiQueryRecall(vocabulary=64, length=32, num_pairs=4)
    >>> int((task.sample(jax.random.key(0)).target >= 0).sum())
    4

    ```

    **Arguments:**

    - `vocabulary`: $v$; keys are $1, \dots, v/2 - 1$, values $v/2, \dots, v - 1$.
    - `length`: $T$, even.
    - `num_pairs`: $n$.
    - `gap_power`: $a$; small numbers put questions early, 1 makes all gaps equally likely.
    - `random_filler`: whether the filler is random, or 0.
    - `num_examples`, `seed`: size and seed of a finite training set; see `tokens.example_key`.

    **Reference:** Arora et al. (2023), arXiv 2312.04927.

    **Errors:** `ValueError` for an odd length or for pairs that do not fit into length or vocabulary.
    """

    vocabulary: int = eqx.field(static=True, default=8192)
    length: int = eqx.field(static=True, default=64)
    num_pairs: int = eqx.field(static=True, default=4)
    gap_power: float | Float[Array, ""] = 0.01
    random_filler: bool = eqx.field(static=True, default=True)
    num_examples: int | None = eqx.field(static=True, default=None)
    seed: int = 0

    def __check_init__(self):
        require(self.length % 2 == 0, f"length must be even, not {self.length}")
        require(
            self.num_pairs >= 1 and 4 * self.num_pairs <= self.length,
            f"num_pairs must lie between 1 and length / 4 = {self.length // 4}, not {self.num_pairs}",
        )
        require(
            self.vocabulary // 2 - 1 >= self.num_pairs,
            f"{self.vocabulary} ids hold {self.vocabulary // 2 - 1} keys, too few for {self.num_pairs} pairs",
        )
        if isinstance(self.gap_power, int | float):
            require(self.gap_power > 0, f"gap_power must be above 0, not {self.gap_power}")

    def sample(self, key: Key[Array, ""], split: Split = "train") -> Example:
        """One sequence: pairs, then questions among filler."""
        n, half = self.num_pairs, self.vocabulary // 2
        places = (self.length - 2 * n) // 2
        key_bits, value_bits, gap_bits, filler_bits = draw_bits(
            example_key(key, split, num_examples=self.num_examples, seed=self.seed),
            (n,),
            (n,),
            (places,),
            (self.length - 2 * n,) if self.random_filler else (0,),
        )
        keys = 1 + distinct_below(key_bits, half - 1)
        values = half + distinct_below(value_bits, self.vocabulary - half)
        # Drawing by weight without replacement is taking the largest of log-weights plus Gumbel noise.
        noise = -jnp.log(-jnp.log(fraction(gap_bits) + 2.0**-26))
        power = jnp.asarray(self.gap_power, jnp.float32) - 1.0
        log_weight = power * jnp.log(jnp.arange(1, places + 1, dtype=jnp.float32))
        query = 2 * jax.lax.top_k(log_weight + noise, n)[1]
        filler = below(filler_bits, self.vocabulary) if self.random_filler else jnp.zeros(2 * places, jnp.int32)
        pairs = jnp.stack([keys, values], axis=1).reshape(-1)
        target = jnp.full(self.length, IGNORE, jnp.int32).at[2 * n + query].set(values)
        return Example(jnp.concatenate([pairs, filler.at[query].set(keys)]), target)
