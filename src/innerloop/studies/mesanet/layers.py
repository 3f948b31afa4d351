"""The layers that are compared, in models of as many parameters, and solvers that are numbers."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree

from ...nn.families import mesa_layer, softmax_attention_layer
from ...nn.language import LanguageModel
from ...nn.memory.covariance import AbstractCovariance, AbstractSolver
from ...nn.memory.mesa import ConjugateGradients
from ...nn.recurrent import HawkLayer
from ...nn.sequence import AbstractSequenceLayer
from ...solve.conjugate_gradients import SolveInfo, conjugate_gradients
from ..agent_layers import FAMILIES
from .configuration import Sizes

LABELS = {
    "mesa": "mesa",
    "gla": "gated linear attention",
    "delta": "DeltaNet",
    "gated-delta": "gated DeltaNet",
    "hawk": "Hawk",
    "softmax": "softmax attention",
    "mlstm": "mLSTM",
    "mamba2": "Mamba-2",
    "retention": "RetNet",
    "linear": "linear attention",
}


def make_layer(name: str, sizes: Sizes, length: int) -> Callable[[Key[Array, ""]], AbstractSequenceLayer]:
    """What draws a layer of this name from a random key, for sequences of up to `length` tokens."""
    if name == "hawk":
        return lambda key: HawkLayer(sizes.width, num_heads=sizes.num_heads, chunk_size=sizes.chunk_size, key=key)
    common = dict(num_heads=sizes.num_heads, key_size=sizes.key_size, chunk_size=sizes.chunk_size)
    if name == "softmax":
        return lambda key: softmax_attention_layer(sizes.width, capacity=length, key=key, **common)
    if name == "mesa":
        solver = ConjugateGradients(max_steps=sizes.max_steps, tolerance=sizes.tolerance)
        return lambda key: mesa_layer(sizes.width, solver=solver, key=key, **common)
    return lambda key: FAMILIES[name](sizes.width, key=key, **common)


def make_model(name: str, sizes: Sizes, vocabulary: int, length: int) -> Callable[[Key[Array, ""]], LanguageModel]:
    """What draws a language model around a layer of this name, as large as the one around the mesa layer."""

    def build(name: str, hidden_size: int) -> Callable[[Key[Array, ""]], LanguageModel]:
        make = make_layer(name, sizes, length)
        return lambda key: LanguageModel(
            vocabulary, sizes.width, sizes.num_layers, make, hidden_size=hidden_size, key=key
        )

    def count(name: str, hidden_size: int) -> int:
        return count_parameters(eqx.filter_eval_shape(build(name, hidden_size), jax.random.key(0)))

    missing = count("mesa", sizes.hidden_size) - count(name, sizes.hidden_size)
    per_unit = count(name, sizes.hidden_size + 1) - count(name, sizes.hidden_size)
    return build(name, max(1, sizes.hidden_size + round(missing / per_unit)))


def count_parameters(model: PyTree) -> int:
    """How many numbers of a model are trained; shapes are enough."""
    leaves = jax.tree.leaves(eqx.filter(model, lambda leaf: hasattr(leaf, "dtype")))
    return sum(leaf.size for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.inexact))


class StepsAndTolerance(AbstractSolver):
    """Conjugate gradients whose settings are numbers, so that one compiled program serves them all.

    No steps at all leave the start: the query over the diagonal of the covariance, which makes the layer linear
    attention with a preconditioner.
    """

    max_steps: Int[Array, ""]
    tolerance: Float[Array, ""]

    def __call__(
        self, covariance: AbstractCovariance, right_hand_side: Float[Array, "*n k"]
    ) -> tuple[Float[Array, "*n k"], SolveInfo]:
        """The solutions of all systems, and how they were reached."""
        return conjugate_gradients(
            covariance,
            right_hand_side,
            start=right_hand_side / covariance.diagonal(),
            max_steps=self.max_steps,
            tolerance=self.tolerance,
        )


def solver_of(max_steps: int, tolerance: float = 0.0) -> StepsAndTolerance:
    """At most so many steps, up to a tolerance; 0 takes all steps."""
    return StepsAndTolerance(jnp.asarray(max_steps, jnp.int32), jnp.asarray(tolerance, jnp.float32))


def with_solver(model: PyTree, solver: AbstractSolver) -> PyTree:
    """The same model, whose mesa layers solve in another way; models without such layers stay as they are."""
    found: Any = lambda node: isinstance(node, AbstractSolver)  # noqa: E731
    return jax.tree.map(lambda node: solver if found(node) else node, model, is_leaf=found)
