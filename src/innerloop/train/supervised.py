"""The usual training step: examples from a task, updates from a learning rule, an Optax optimiser."""

from typing import Any

import equinox as eqx
import jax
import optax
from jaxtyping import Array, Float, Key, PyTree

from ..core.errors import require
from ..core.optimise import apply_gradients
from ..core.rng import named_key
from ..core.tree import trainable
from ..learn.rule import AbstractLearningRule
from ..tasks.task import AbstractTask, Split
from .loop import Evaluate


class Trainee(eqx.Module):
    """What supervised training carries from step to step."""

    model: PyTree
    optimiser_state: PyTree
    rule_state: PyTree


class Supervised(eqx.Module):
    """A training step `(key, trainee) -> (trainee, info)` for `fit`, with fresh examples at every step.

    ```python
    >>> import jax, optax
    >>> import innerloop as il
    >>> task = il.LinearRegression(dim=3, num_context=5)
    >>> step = il.Supervised(il.Backpropagation(), optax.adam(1e-3), task, batch_size=8)
    >>> model = il.one_layer_regressor(dim=3, key=jax.random.key(0))
    >>> result = il.fit(step, step.init(jax.random.key(1), model), steps=4)
    >>> result.history("train", "loss").shape
    (4,)

    ```
    """

    rule: AbstractLearningRule
    optimiser: optax.GradientTransformation = eqx.field(static=True)
    task: AbstractTask
    batch_size: int = eqx.field(static=True)

    def __check_init__(self):
        require(self.batch_size >= 1, f"batch_size must be at least 1, not {self.batch_size}")

    def init(self, key: Key[Array, ""], model: PyTree) -> Trainee:
        """The state at the start of training `model`."""
        return Trainee(model, self.optimiser.init(trainable(model)), self.rule.init(key, model))

    def __call__(self, key: Key[Array, ""], trainee: Trainee) -> tuple[Trainee, dict[str, Float[Array, ""]]]:
        batch = sample_batch(self.task, named_key(key, "batch"), self.batch_size)
        updates, rule_state, info = self.rule.update(
            named_key(key, "rule"), trainee.rule_state, trainee.model, batch, self.task.loss
        )
        info = {**info, "update_norm": optax.tree.norm(updates)}
        model, optimiser_state = apply_gradients(trainee.model, self.optimiser, trainee.optimiser_state, updates)
        return Trainee(model, optimiser_state, rule_state), info


def sample_batch(task: AbstractTask, key: Key[Array, ""], batch_size: int, *, split: Split = "train") -> Any:
    """`batch_size` independent examples of a task, stacked along a leading axis."""
    return jax.vmap(lambda one: task.sample(one, split))(jax.random.split(key, batch_size))


def evaluate_on(task: AbstractTask, *, batch_size: int, split: Split = "test") -> Evaluate:
    """An evaluation `(key, trainee) -> metrics` for `fit`: means of `task.metrics` over held-out examples."""

    def evaluate(key: Key[Array, ""], trainee: Trainee) -> dict[str, Float[Array, ""]]:
        batch = sample_batch(task, key, batch_size, split=split)
        metrics = jax.vmap(lambda example: task.metrics(trainee.model(example.inputs), example))(batch)
        return jax.tree.map(lambda values: values.mean(0), metrics)

    return evaluate
