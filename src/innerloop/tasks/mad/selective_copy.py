"""Selective copying: tokens among blanks, to be given back in order."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Key

from ...core.errors import require
from ..task import Example, Split
from ..tokens import IGNORE, AbstractTokenTask, below, draw_bits, example_key


class SelectiveCopy(AbstractTokenTask):
    r"""Tokens with blanks at random places before each, a token that asks for them, and blanks to answer at.

    $$\cdot\, x_1 x_2 \cdot\cdot\, x_3 \dots x_n \,\triangleright\, \cdot_1 \dots \cdot_n, \quad
      x_i \sim U\{0, \dots, v - 3\}, \quad \cdot = v - 2, \quad \triangleright = v - 1$$

    Each of the $T - 2n - 1$ blanks chooses one of the $n$ places before a token, uniformly. The target at the
    $i$th of the last blanks is $x_i$; nothing else is asked, in any split.

    ```python
    >>> import jax, innerloop as il
    >>> inputs, target = il.tasks.SelectiveCopy(length=16, num_copied=4).sample(jax.random.key(0))
    >>> data = inputs[inputs < 14]
    >>> bool((target[-4:] == data).all())
    True

    ```

    **Arguments:**

    - `vocabulary`: $v$, everything included.
    - `length`: $T$.
    - `num_copied`: $n$.
    - `num_examples`, `seed`: size and seed of a finite training set; see `tokens.example_key`.

    **Reference:** Poli et al. (2024), arXiv 2403.17844. The official generator draws the places of blanks
    from a global generator, so that its data are not a function of its seed.

    **Errors:** `ValueError` for a length that does not hold $2n + 1$ tokens, or a vocabulary without data.
    """

    vocabulary: int = eqx.field(static=True, default=16)
    length: int = eqx.field(static=True, default=256)
    num_copied: int = eqx.field(static=True, default=16)
    num_examples: int | None = eqx.field(static=True, default=None)
    seed: int = 0

    def __check_init__(self):
        require(self.vocabulary >= 3, f"a vocabulary has at least 3 ids, not {self.vocabulary}")
        require(self.num_copied >= 1, f"num_copied must be at least 1, not {self.num_copied}")
        require(
            self.length > 2 * self.num_copied,
            f"length must be at least 2 * num_copied + 1 = {2 * self.num_copied + 1}, not {self.length}",
        )

    def sample(self, key: Key[Array, ""], split: Split = "train") -> Example:
        """One sequence, and what is to be said at its end."""
        n, num_blanks = self.num_copied, self.length - 2 * self.num_copied - 1
        data_bits, place_bits = draw_bits(
            example_key(key, split, num_examples=self.num_examples, seed=self.seed), (n,), (num_blanks,)
        )
        data, index = below(data_bits, self.vocabulary - 2), jnp.arange(n, dtype=jnp.int32)
        blanks_before = jnp.sum(below(place_bits, n)[None] <= index[:, None], axis=1, dtype=jnp.int32)
        inputs = jnp.full(self.length, self.vocabulary - 2, jnp.int32)
        inputs = inputs.at[index + blanks_before].set(data).at[n + num_blanks].set(self.vocabulary - 1)
        target = jnp.concatenate([jnp.full(self.length - n, IGNORE, jnp.int32), data])
        return Example(inputs, target)
