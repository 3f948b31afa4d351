"""What tasks of discrete sequences share: ignored positions, loss and accuracy of logits, finite training sets."""

import functools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, UInt32

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


def next_token(tokens: Int[Array, "n"], asked: Bool[Array, "n"], split: str) -> Example:
    """Next-token prediction: every next token in training, otherwise only those that are `asked`."""
    target = tokens[1:]
    return Example(tokens[:-1], target if split == "train" else jnp.where(asked[1:], target, IGNORE))


def draw_bits(key: Key[Array, ""], *shapes: tuple[int, ...]) -> list[UInt32[Array, "..."]]:
    """Random bits for several arrays in one draw, which costs far less than one draw each."""
    sizes = [math.prod(shape) for shape in shapes]
    bits = jax.random.bits(key, (sum(sizes),), jnp.uint32)
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [bits[a : a + n].reshape(shape) for a, n, shape in zip(starts, sizes, shapes, strict=True)]


def below(bits: UInt32[Array, "*n"], limit: int) -> Int[Array, "*n"]:
    """Uniform integers in `[0, limit)`."""
    return (bits % jnp.uint32(limit)).astype(jnp.int32)


def fraction(bits: UInt32[Array, "*n"]) -> Float[Array, "*n"]:
    """Uniform numbers in `[0, 1)`: the upper 24 bits, which float32 holds exactly."""
    return (bits >> 8).astype(jnp.float32) * 2.0**-24


@functools.partial(jax.jit, static_argnames="limit")
def distinct_below(bits: UInt32[Array, "n"], limit: int) -> Int[Array, "n"]:
    """Uniform integers in `[0, limit)`, all different: the first `n` steps of a Fisher-Yates shuffle.

    The shuffled array is never made: an entry is its own index unless an earlier swap put something there.
    """
    size = bits.shape[0]
    index = jnp.arange(size, dtype=jnp.int32)
    other = index + (bits % (jnp.uint32(limit) - index.astype(jnp.uint32))).astype(jnp.int32)

    def swap(put, i):
        def entry(place):
            last = jnp.max(jnp.where((other == place) & (index < i), index, -1))
            return jnp.where(last < 0, place, put[last])

        return put.at[i].set(entry(i)), entry(other[i])

    return jax.lax.scan(swap, jnp.zeros_like(index), index)[1]


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
