"""The learning-rule interface: an alternative to `jax.grad` whose updates an Optax optimiser eats."""

import abc
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import equinox as eqx
from jaxtyping import Array, Float, Key, PyTree

RuleState = TypeVar("RuleState")
Loss = Callable[[PyTree, Any], Float[Array, ""]]  # (prediction, example) -> scalar, for one example


class AbstractLearningRule(eqx.Module, Generic[RuleState]):
    """Turns a batch into an update of a model.

    A rule has a state of its own (feedback weights, traces, importances; `None` for rules without), which is
    carried, and reports an info, which is not. Models are callables of one example's inputs; the rule batches them
    with `vmap`.
    """

    @abc.abstractmethod
    def init(self, key: Key[Array, ""], model: PyTree) -> RuleState:
        """The rule's state at the start of learning `model`."""

    @abc.abstractmethod
    def update(
        self, key: Key[Array, ""], state: RuleState, model: PyTree, batch: Any, loss: Loss
    ) -> tuple[PyTree, RuleState, dict[str, Float[Array, ""]]]:
        """One update from one batch.

        **Arguments:**

        - `key`: for whatever is random in the rule.
        - `state`: the rule's state.
        - `model`: a callable `inputs -> prediction` of one example.
        - `batch`: an example (with fields `inputs` and `target`) whose arrays have a leading batch axis.
        - `loss`: `(prediction, example) -> scalar` of one example, such as `task.loss`.

        **Returns:** `(updates, state, info)`. `updates` has the structure of the model's floating-point arrays
        (`None` elsewhere) and the **sign of a gradient**; `info` holds scalars, `"loss"` among them.
        """
