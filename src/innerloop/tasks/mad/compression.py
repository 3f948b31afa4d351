"""Compression: a whole sequence through the hidden state of one token."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Key

from ...core.errors import require
from ..task import Example, Split
from ..tokens import AbstractTokenTask, below, draw_bits, example_key


class Compression(AbstractTokenTask):
    r"""Random tokens and a last one that says: all of that, from your state here.

    $$x_1 x_2 \dots x_{T-1} \bullet, \quad x_t \sim U\{0, \dots, v - 2\}, \quad \bullet = v - 1$$

    The target is the sequence itself, and a model must make its logits for all places from the hidden state
    of the last token, as `innerloop.nn.language.Reconstruction` does; nothing in the task hinders a model
    from cheating. As in the official benchmark $\bullet$ counts as a target too, so that $1/T$ of the
    accuracy is free.

    ```python
    >>> import jax, innerloop as il
    >>> inputs, target = il.tasks.Compression(length=8).sample(jax.random.key(0))
    >>> inputs.shape, int(inputs[-1]), bool((inputs == target).all())
    ((8,), 15, True)

    ```

    **Arguments:**

    - `vocabulary`: $v$, everything included.
    - `length`: $T$.
    - `num_examples`, `seed`: size and seed of a finite training set; see `tokens.example_key`.

    **Reference:** Poli et al. (2024), arXiv 2403.17844.

    **Errors:** `ValueError` for sizes below 2.
    """

    vocabulary: int = eqx.field(static=True, default=16)
    length: int = eqx.field(static=True, default=32)
    num_examples: int | None = eqx.field(static=True, default=None)
    seed: int = 0

    def __check_init__(self):
        require(self.length >= 2, f"length must be at least 2, not {self.length}")
        require(self.vocabulary >= 2, f"a vocabulary has at least 2 ids, not {self.vocabulary}")

    def sample(self, key: Key[Array, ""], split: Split = "train") -> Example:
        """One sequence, twice."""
        key = example_key(key, split, num_examples=self.num_examples, seed=self.seed)
        (bits,) = draw_bits(key, (self.length - 1,))
        tokens = jnp.append(below(bits, self.vocabulary - 1), jnp.int32(self.vocabulary - 1))
        return Example(tokens, tokens)
