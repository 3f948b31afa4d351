"""Backpropagation as a learning rule: the reference that every other rule is compared with."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from .rule import AbstractLearningRule, Loss


class Backpropagation(AbstractLearningRule[None]):
    r"""The exact gradient of the mean loss, $\nabla_\theta \frac1B \sum_b \ell(f_\theta(x_b), y_b)$.

    ```python
    >>> import equinox as eqx, jax, jax.numpy as jnp
    >>> import innerloop as il
    >>> rule, model = il.Backpropagation(), eqx.nn.Linear(2, 1, key=jax.random.key(0))
    >>> batch = il.Example(inputs=jnp.ones((3, 2)), target=jnp.zeros((3, 1)))
    >>> square = lambda prediction, example: jnp.sum((prediction - example.target) ** 2)
    >>> updates, _, info = rule.update(jax.random.key(1), rule.init(jax.random.key(2), model), model, batch, square)
    >>> updates.weight.shape
    (1, 2)

    ```

    ??? cite "Reference"
        D. E. Rumelhart, G. E. Hinton, R. J. Williams. Learning representations by back-propagating errors.
        Nature 323, 1986.
    """

    def init(self, key: Key[Array, ""], model: PyTree) -> None:
        return None

    def update(
        self, key: Key[Array, ""], state: None, model: PyTree, batch: Any, loss: Loss
    ) -> tuple[PyTree, None, dict[str, Float[Array, ""]]]:
        @eqx.filter_value_and_grad
        def objective(model):
            return jnp.mean(jax.vmap(lambda example: loss(model(example.inputs), example))(batch))

        value, gradient = objective(model)
        return gradient, None, {"loss": value}
