"""Policies without memory for observations that are arrays: two perceptrons, one acts and one values."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from ..core.errors import require
from .policy import AbstractPolicy, PolicyOutput


class TanhPerceptron(eqx.Module):
    r"""Affine maps with hyperbolic tangents in between: $x \leftarrow \tanh(W_i x + b_i)$, the last without.

    Weights are random orthogonal matrices, times $\sqrt 2$ in hidden layers and `output_scale` in the last.
    """

    weights: tuple[Float[Array, "_ _"], ...]
    biases: tuple[Float[Array, "_"], ...]

    def __init__(self, sizes: Sequence[int], *, output_scale: float = 1.0, key: Key[Array, ""]):
        """**Arguments:**

        - `sizes`: of the input, the hidden layers and the output.
        - `output_scale`: of the last map.
        - `key`: a random key.
        """
        require(len(sizes) >= 2 and min(sizes) >= 1, f"sizes are at least two positive integers, not {tuple(sizes)}")
        keys = jax.random.split(key, len(sizes) - 1)
        scales = [*[2.0**0.5] * (len(sizes) - 2), output_scale]
        self.weights = tuple(
            jax.nn.initializers.orthogonal(scale)(one, (after, before))
            for one, scale, before, after in zip(keys, scales, sizes[:-1], sizes[1:], strict=True)
        )
        self.biases = tuple(jnp.zeros(size) for size in sizes[1:])

    def __call__(self, xs: Float[Array, "t d"]) -> Float[Array, "t e"]:
        """Each input on its own."""
        columns = xs.T  # inputs as columns: a sixth faster on a CPU, whose last axis is then long in every layer
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            columns = weight @ columns + bias[:, None]
            columns = jnp.tanh(columns) if number < len(self.weights) - 1 else columns
        return columns.T


class PerceptronPolicy(AbstractPolicy):
    """Two perceptrons of one shape: logits and value. The first logits are small: almost a uniform choice.

    Observations are arrays, which are flattened, or indices, which become unit vectors.

    ```python
    >>> import jax
    >>> import innerloop as il
    >>> policy = il.PerceptronPolicy.random(4, 2, key=jax.random.key(0))
    >>> output, _ = policy.unroll(jax.numpy.ones((3, 4)))
    >>> output.logits.shape, output.value.shape
    ((3, 2), (3,))

    ```
    """

    actor: TanhPerceptron
    critic: TanhPerceptron

    @classmethod
    def random(
        cls,
        observation_size: int,
        num_actions: int,
        *,
        hidden_sizes: Sequence[int] = (64, 64),
        key: Key[Array, ""],
    ) -> "PerceptronPolicy":
        """**Arguments:**

        - `observation_size`: the size of a flattened observation, or how many indices there are.
        - `num_actions`: how many actions there are.
        - `hidden_sizes`: of both perceptrons.
        - `key`: a random key.
        """
        first, second = jax.random.split(key)
        sizes = (observation_size, *hidden_sizes)
        return cls(
            TanhPerceptron((*sizes, num_actions), output_scale=0.01, key=first),
            TanhPerceptron((*sizes, 1), key=second),
        )

    def init_memory(self) -> None:
        """There is nothing to remember."""
        return None

    def look(self, memory: None, observation: Array) -> tuple[None, PolicyOutput]:
        """One observation."""
        return None, jax.tree.map(lambda x: x[0], self.unroll(observation[None])[0])

    def unroll(
        self, observations: Array, memory: None = None, *, resets: Bool[Array, "t"] | None = None
    ) -> tuple[PolicyOutput, None]:
        """Each observation on its own."""
        if jnp.issubdtype(observations.dtype, jnp.integer):
            inputs = jax.nn.one_hot(observations, self.actor.weights[0].shape[1])
        else:
            inputs = observations.reshape(observations.shape[0], -1)
        return PolicyOutput(self.actor(inputs), self.critic(inputs)[:, 0]), None
