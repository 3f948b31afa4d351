"""Parity: whether the number of ones so far is odd."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Key

from ..core.errors import require
from .task import Example, Split
from .tokens import IGNORE, AbstractTokenTask, below, draw_bits, example_key


class Parity(AbstractTokenTask):
    r"""Random bits, and at each of them (or at the last) the parity of all bits up to it.

    $$y_t = \Big(\sum_{s \le t} x_s\Big) \bmod 2$$

    A recurrence of diagonal or scalar gates in $[0, 1]$ cannot keep this up at any length; one with gates in
    $[-1, 1]$ can. Train at one length, and ask an instance with a larger one.

    ```python
    >>> import jax, innerloop as il
    >>> inputs, target = il.tasks.Parity(length=6).sample(jax.random.key(0))
    >>> inputs.tolist(), target.tolist()
    ([0, 1, 0, 0, 0, 0], [0, 1, 1, 1, 1, 1])

    ```

    **Arguments:**

    - `length`: $T$; with `min_length`, the largest length.
    - `min_length`: when given, each sequence has $U\{\text{min\_length}..T\}$ bits, then padding with id 2.
    - `only_last`: whether only the last bit has a target.
    - `num_examples`, `seed`: size and seed of a finite training set; see `tokens.example_key`.

    **Reference:** Grazzi et al. (2024), arXiv 2411.12537.

    **Errors:** `ValueError` for lengths below 1 or out of order.
    """

    length: int = eqx.field(static=True, default=40)
    min_length: int | None = eqx.field(static=True, default=None)
    only_last: bool = eqx.field(static=True, default=False)
    num_examples: int | None = eqx.field(static=True, default=None)
    seed: int = 0
    vocabulary: int = eqx.field(static=True, default=3, init=False)

    def __check_init__(self):
        require(self.length >= 1, f"length must be at least 1, not {self.length}")
        if self.min_length is not None:
            require(
                1 <= self.min_length <= self.length,
                f"min_length must lie between 1 and length = {self.length}, not {self.min_length}",
            )

    def sample(self, key: Key[Array, ""], split: Split = "train") -> Example:
        """Bits and parities."""
        key = example_key(key, split, num_examples=self.num_examples, seed=self.seed)
        bits, length_bits = draw_bits(key, (self.length,), ())
        shortest = self.length if self.min_length is None else self.min_length
        length = shortest + below(length_bits, self.length - shortest + 1)
        inputs, index = below(bits, 2), jnp.arange(self.length, dtype=jnp.int32)
        parity = jnp.cumsum(inputs, dtype=jnp.int32) % 2
        asked = index == length - 1 if self.only_last else index < length
        return Example(jnp.where(index < length, inputs, 2), jnp.where(asked, parity, IGNORE))
