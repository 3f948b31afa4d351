"""What tasks of discrete sequences share: ignored positions, loss and accuracy of logits, finite training sets."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from ..core.rng import named_key
from .task import AbstractTask, Example, split_key

IGNORE = -1
"""The target of a position at which nothing is asked."""


def counted(target: Int[Array, "t"]) -> Bool[Array, "t"]:
    """The positions at which something is asked: those with a target of at least 0."""
    return target >= 0


def cross_entropy(logits: Float[Array, "t v"], target: Int[Array, "t"]) -> Float[Array, ""]:
    r"""Mean cross-entropy in nats over the counted positions; 0 if there is none.

    $$-\frac{1}{|C|} \sum_{t \in C} \log \operatorname{softmax}(\ell_t)_{y_t}, \quad C = \{t : y_t \ge 0\}$$

    Computed in float32 at least, whatever the logits.

    ```python
    >>> import jax.numpy as jnp
    >>> from innerloop.tasks.tokens import IGNORE, cross_entropy
    >>> logits = jnp.log(jnp.array([[0.5, 0.5], [0.1, 0.9], [0.25, 0.75]]))
    >>> print(f"{cross_entropy(logits, jnp.array([0, IGNORE, 0])):.4f}")  # (log 2 + log 4) / 2
    1.0397

    ```
    """
    logits = logits.astype(_precision(logits))
    chosen = jnp.take_along_axis(logits, jnp.maximum(target, 0)[:, None], axis=1)[:, 0]
    return mean_over(counted(target), jax.nn.logsumexp(logits, axis=1) - chosen)


def accuracy(logits: Float[Array, "t v"], target: Int[Array, "t"]) -> Float[Array, ""]:
    """The fraction of counted positions at which the largest logit is the target's; 0 if there is none."""
    right = jnp.argmax(logits, axis=1).astype(target.dtype) == target
    return mean_over(counted(target), right.astype(_precision(logits)))


def mean_over(mask: Bool[Array, "t"], values: Float[Array, "t"]) -> Float[Array, ""]:
    """The mean of `values` where `mask` holds; 0 where it never does."""
    count = jnp.maximum(jnp.sum(mask), 1).astype(values.dtype)
    return jnp.sum(jnp.where(mask, values, 0.0)) / count


def certain_logits(target: Int[Array, "t"], vocabulary: int) -> Float[Array, "t v"]:
    """Logits that are right and sure of it: their `cross_entropy` is exactly 0, their `accuracy` 1."""
    return 1e6 * jax.nn.one_hot(target, vocabulary)


def example_key(
    key: Key[Array, ""], split: str, *, num_examples: int | None = None, seed: int | Int[Array, ""] = 0
) -> Key[Array, ""]:
    """The key an example is made of; with `num_examples`, one of as many keys for a training example.

    The training set is then finite: `key` draws an index $i < N$ uniformly, and the example is a function of
    `seed` and $i$ alone. The other splits are fresh for every key.
    """
    key = split_key(key, split)
    if split != "train" or num_examples is None:
        return key
    return named_key(seed, "training set", jax.random.randint(key, (), 0, num_examples))


class AbstractTokenTask(AbstractTask):
    """A task whose inputs are `int32[t]` tokens and whose target is `int32[t]`, negative where nothing is asked.

    A prediction is `float[t v]` logits. `sample` and `vocabulary` are left to define; tasks with other metrics
    or a richer target are an `AbstractTask` and use the functions of this file.
    """

    vocabulary: eqx.AbstractVar[int]
    """$v$: tokens lie in $[0, v)$, special ones included."""

    def loss(self, prediction: Float[Array, "t v"], example: Example) -> Float[Array, ""]:
        """Mean cross-entropy in nats over the counted positions."""
        return cross_entropy(prediction, example.target)

    def metrics(self, prediction: Float[Array, "t v"], example: Example) -> dict[str, Float[Array, ""]]:
        """`loss` and `accuracy` over the counted positions."""
        return {"loss": self.loss(prediction, example), "accuracy": accuracy(prediction, example.target)}


def _precision(logits: Float[Array, "t v"]):
    return jnp.float64 if logits.dtype == jnp.float64 else jnp.float32
