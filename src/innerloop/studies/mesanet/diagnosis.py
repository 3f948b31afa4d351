"""What conjugate gradients do in a trained model: steps, losses by steps, condition numbers, gates."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from ...nn.language import Block, LanguageModel
from ...nn.memory.covariance import AbstractSolver
from ...nn.memory.mesa import MesaMemory, MesaState
from ...nn.memory.multi_head import MultiHeadMemory
from ...tasks.tokens import cross_entropy
from .layers import solver_of, with_solver

STEPS = (0, 1, 2, 3, 4, 5, 7, 10, 15, 20, 30)
TOLERANCES = (1.0, 3e-1, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
MANY = 30  # steps: what the paper trains with, and the limit wherever a tolerance stops
PAPER_TOLERANCE = 1e-4


def diagnose(models: PyTree, inputs: Any, target: Any) -> dict[str, np.ndarray]:
    """What the mesa layers of language models (one per seed) do on sequences `[n, t]`, as arrays with a seed axis."""
    inputs, target = (jnp.asarray(part, jnp.int32) for part in (inputs, target))
    curves = {
        "loss_by_steps": [losses(models, inputs, target, solver_of(steps)) for steps in STEPS],
        "loss_by_tolerance": [losses(models, inputs, target, solver_of(MANY, one)) for one in TOLERANCES],
    }
    found = {name: np.stack([np.asarray(value) for value in values], axis=1) for name, values in curves.items()}
    solver = solver_of(MANY, PAPER_TOLERANCE)
    weak = solver_of(10 * MANY, PAPER_TOLERANCE)
    looks = {name: np.asarray(value) for name, value in look(models, inputs, solver, _number(1.0)).items()}
    tiny = look(models, inputs, weak, _number(1e-3))
    return {**found, **looks, "steps_of_weak_regulariser": np.asarray(tiny["steps_at"])}


@eqx.filter_jit
def losses(
    models: PyTree, inputs: Int[Array, "n t"], target: Int[Array, "n t"], solver: AbstractSolver
) -> Float[Array, "s"]:
    """The mean loss of each seed's model, when its mesa layers use this solver."""

    def of_one(model: LanguageModel) -> Float[Array, ""]:
        model = with_solver(model, solver)
        each = jax.lax.map(lambda pair: cross_entropy(model(pair[0])[0], pair[1]), (inputs, target), batch_size=16)
        return jnp.mean(each)

    return _for_each(of_one, models)


@eqx.filter_jit
def look(
    models: PyTree, inputs: Int[Array, "n t"], solver: AbstractSolver, weakened: Float[Array, ""]
) -> dict[str, Float[Array, "s ..."]]:
    """Per seed, layer and head: steps at each position, gates, and condition numbers at the end of each sequence.

    With `weakened` below one the regulariser of the inspected layer is so much smaller.
    """

    def of_one(model: LanguageModel) -> dict[str, Array]:
        model = with_solver(model, solver)
        return jax.lax.map(lambda tokens: _look_at(model, tokens, weakened), inputs, batch_size=16)

    found = _for_each(of_one, models)
    return {
        "steps_at": found["steps"].mean(axis=1),  # [s, layers, t, heads]
        "unfinished": found["unfinished"].mean(axis=1),  # [s, layers, heads]
        "gate": found["gate"].mean(axis=1),  # [s, layers, heads]
        "log_condition": jnp.moveaxis(found["log_condition"], 1, 2),  # [s, layers, n, heads]
    }


def _look_at(model: LanguageModel, tokens: Int[Array, "t"], weakened: Float[Array, ""]) -> dict[str, Array]:
    hidden = model.hidden_states(tokens)[0]
    found = []
    for xs, block in zip(hidden, model.stack.layers, strict=False):
        if not (isinstance(block, Block) and isinstance(block.layer, MultiHeadMemory)):
            raise TypeError(f"a mesa layer is looked into, not a {type(block).__name__}")
        layer, rule = block.layer, block.layer.rule
        if not isinstance(rule, MesaMemory):
            raise TypeError(f"a mesa memory is looked into, not a {type(rule).__name__}")
        rule = _weaken(rule, weakened)
        inputs = layer.inputs(block.normed(xs))
        _, state, info = rule.with_info(inputs)
        gate = jnp.exp(inputs.log_gate) if inputs.log_gate is not None else jnp.ones_like(info.residual)
        found.append(
            {
                "steps": info.iterations.astype(jnp.float32),
                "unfinished": jnp.mean(1.0 - info.converged.astype(jnp.float32), axis=0),
                "gate": jnp.mean(gate, axis=0),
                "log_condition": jnp.log10(rule.condition_numbers(MesaState(*state))),
            }
        )
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *found)


def _weaken(rule: MesaMemory, factor: Float[Array, ""]) -> MesaMemory:
    """The same memory with its regulariser times a factor."""
    wanted = factor * rule.regulariser
    raw = wanted + jnp.log(-jnp.expm1(-wanted))  # the inverse of softplus
    return eqx.tree_at(lambda rule: (rule.raw_regulariser, rule.lower), rule, (raw, 0.0))


def _for_each(function: Any, models: PyTree) -> Any:
    """A function of one seed's model, for all seeds one after the other."""
    arrays, static = eqx.partition(models, eqx.is_array)
    return jax.lax.map(lambda own: function(eqx.combine(own, static)), arrays)


def _number(value: float) -> Float[Array, ""]:
    return jnp.asarray(value, jnp.float32)
