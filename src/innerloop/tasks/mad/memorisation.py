"""Memorisation: facts that are the same in every sequence, so that they must be kept in the weights."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from ...core.errors import require
from ...core.rng import named_key
from ..task import Example, Split
from ..tokens import IGNORE, AbstractTokenTask, below, draw_bits, example_key


class Memorisation(AbstractTokenTask):
    r"""Keys, each followed by a place to fill in its value; one map of keys to values for all sequences.

    $$k_1 \square\, k_2 \square \dots k_{T/2} \square$$

    The target stands at $\square$, in all splits; which keys stand in a sequence is what the splits differ in.
    Different keys have different values.

    | tokens | ids |
    |---|---|
    | keys | the first half of $0, \dots, v - 2$ (rounded down) |
    | values | the second half |
    | $\square$ | $v - 1$ |

    ```python
    >>> import jax, innerloop as il
    >>> task = il.tasks.Memorisation(vocabulary=16, length=4)
    >>> inputs, target = task.sample(jax.random.key(0))
    >>> bool(target[1] == task.facts()[inputs[0]])
    True

    ```

    **Arguments:**

    - `vocabulary`: $v$, everything included.
    - `length`: $T$, even.
    - `facts_seed`: of the map.
    - `num_examples`, `seed`: size and seed of a finite training set; see `tokens.example_key`.

    **Reference:** Poli et al. (2024), arXiv 2403.17844.

    **Errors:** `ValueError` for an odd length or a vocabulary without keys.
    """

    vocabulary: int = eqx.field(static=True, default=256)
    length: int = eqx.field(static=True, default=32)
    facts_seed: int = 0
    num_examples: int | None = eqx.field(static=True, default=None)
    seed: int = 0

    def __check_init__(self):
        require(self.length >= 2 and self.length % 2 == 0, f"length must be even and at least 2, not {self.length}")
        require(self.vocabulary >= 3, f"a vocabulary has at least 3 ids, not {self.vocabulary}")

    @property
    def num_keys(self) -> int:
        """The ids from here on are values, those below are keys."""
        return (self.vocabulary - 1) // 2

    def facts(self) -> Int[Array, "k"]:
        """The value of each key."""
        num_values = self.vocabulary - 1 - self.num_keys
        order = jax.random.permutation(named_key(self.facts_seed, "facts"), num_values)
        return self.num_keys + order[: self.num_keys].astype(jnp.int32)

    def sample(self, key: Key[Array, ""], split: Split = "train") -> Example:
        """One sequence of keys and places, and the values that belong there."""
        key = example_key(key, split, num_examples=self.num_examples, seed=self.seed)
        (bits,) = draw_bits(key, (self.length // 2,))
        keys = below(bits, self.num_keys)
        inputs = jnp.stack([keys, jnp.full_like(keys, self.vocabulary - 1)], axis=1)
        target = jnp.stack([jnp.full_like(keys, IGNORE), self.facts()[keys]], axis=1)
        return Example(inputs.reshape(-1), target.reshape(-1))
