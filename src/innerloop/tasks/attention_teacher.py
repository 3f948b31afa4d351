"""Imitating attention: the target is what a fixed linear self-attention layer makes of random tokens."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ..core.errors import require
from .task import AbstractTask, Example, Split, split_key


class AttentionTeacher(AbstractTask):
    r"""Standard normal tokens, and what a teacher, linear self-attention, makes of them.

    $$x_t \sim \mathcal N(0, I), \quad y_t = \frac1T \sum_{s \le t} (x_t W^Q \cdot x_s W^K) \; x_s W^V$$

    ```python
    >>> import jax
    >>> from innerloop.tasks import AttentionTeacher
    >>> task = AttentionTeacher.random(4, length=32, key=jax.random.key(0))
    >>> example = task.sample(jax.random.key(1))
    >>> example.inputs.shape, example.target.shape
    ((32, 4), (32, 4))

    ```

    **Arguments:**

    - `query`, `key`, `value`: the teacher's weights; leaves, so that each seed can have a teacher of its own.
    - `length`: $T$.

    **Reference:** Zucchet et al. (2023), arXiv 2309.01775.

    **Errors:** `ValueError` for sizes below one.
    """

    query: Float[Array, "d k"]
    key: Float[Array, "d k"]
    value: Float[Array, "d v"]
    length: int = eqx.field(static=True)

    def __check_init__(self):
        require(self.length >= 1, f"length must be at least 1, not {self.length}")

    @classmethod
    def random(cls, dim: int, length: int, *, key: Key[Array, ""]) -> "AttentionTeacher":
        r"""A teacher whose three matrices have entries $\mathcal N(0, 1/d)$."""
        require(dim >= 1, f"dim must be at least 1, not {dim}")
        query, keys, value = jax.random.normal(key, (3, dim, dim)) / dim**0.5
        return cls(query, keys, value, length)

    @property
    def dim(self) -> int:
        """The size of a token."""
        return self.key.shape[0]

    def sample(self, key: Key[Array, ""], split: Split = "train") -> Example:
        """One sequence, and the teacher's outputs at all its positions."""
        xs = jax.random.normal(split_key(key, split), (self.length, self.dim))
        return Example(xs, self.teach(xs))

    def teach(self, xs: Float[Array, "t d"]) -> Float[Array, "t v"]:
        """The teacher's outputs."""
        scores = jnp.tril((xs @ self.query) @ (xs @ self.key).T) / self.length
        return scores @ (xs @ self.value)

    def loss(self, prediction: Float[Array, "t v"], example: Example) -> Float[Array, ""]:
        """The mean squared error over all positions and outputs."""
        return jnp.mean((prediction - example.target) ** 2)

    def metrics(self, prediction: Float[Array, "t v"], example: Example) -> dict[str, Float[Array, ""]]:
        """`loss`, and `power`, the mean square of the target: their means' ratio is the relative error."""
        return {"loss": self.loss(prediction, example), "power": jnp.mean(example.target**2)}
