"""The models of `mesa-optimization` on constructed tokens: linear self-attention of some depths, one mesa layer."""

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from ...core.rng import named_key
from ...lab.cells import Cells
from ...nn.in_context.least_squares_predictors import least_squares_predictor
from ...nn.in_context.sequence_gd import SequenceRegressor, sequence_gd
from ...nn.in_context.token_blocks import average_products, compress_blocks
from ...nn.probes import LinearProbes
from ...tasks.dynamics import LinearSystem, constructed_tokens
from ...train.supervised import sample_batch
from .configuration import Config, Training
from .models import linear_regressor, mesa_regressor
from .training import (
    clipped,
    make,
    mean_losses,
    system,
    train,
    tuned_preconditioning,
    tuned_ridge,
    tuned_step,
)

# The blocks that one step of gradient descent needs: compare working copy or observation with the observation before,
# move the observation to the prediction.
DESCENT = {"query_key": ((1, 3), (2, 3)), "value_output": ((1, 0), (2, 0))}


def measure_linear(config: Config, cells: Cells, depth: int) -> None:
    """Train linear self-attention and compare it with gradient descent, preconditioned or not, and least squares."""
    task = system(config)
    untrained, model = _trained(config, cells, system(config, tokens="constructed"), depth)
    count = config.tuning_sequences
    step, ridge = tuned_step(task, count), tuned_ridge(task, count)
    unclipped = tuned_step(task, count, clip=False)

    def descend(observations: Float[Array, "t n"]) -> Float[Array, "t n"]:
        return clipped(sequence_gd(observations, step))

    predictors = {
        "gd": descend,
        "gd_unclipped": lambda observations: sequence_gd(observations, unclipped),
        "least_squares": lambda observations: clipped(least_squares_predictor(observations, ridge)),
        "preconditioned": tuned_preconditioning(task, depth, config.tuning_steps).predict if depth > 1 else descend,
        "zero": jnp.zeros_like,
    }

    @eqx.filter_jit
    @eqx.filter_vmap
    def final(key: Key[Array, ""], model: PyTree, untrained: PyTree, other: PyTree) -> dict[str, Array]:
        batch = sample_batch(task, key, config.evaluation_sequences, split="test")
        models = {
            "": model,
            "untrained/": untrained,
            "compressed/": _compressed(model, config),
            "descent_blocks/": _compressed(model, config, **DESCENT),
            "interpolated/": _averaged(model, _compressed(model, config)),
            "interpolated_with_descent/": _averaged(model, _compressed(model, config, **DESCENT)),
            "interpolated_with_another/": _averaged(model, _compressed(other, config)),
            "interpolated_with_untrained/": _averaged(model, untrained),
        }
        losses = {f"{name}losses": mean_losses(_reads_observations(one), task, batch) for name, one in models.items()}
        losses |= {f"{name}_losses": mean_losses(predict, task, batch) for name, predict in predictors.items()}
        # Without a system behind the sequence: every observation drawn anew, as large as one of a system.
        noise = jax.random.normal(named_key(key, "noise"), batch.inputs.shape)
        unrelated = batch._replace(inputs=noise, target=jnp.concatenate([noise[:, 1:], noise[:, :1]], axis=1))
        losses["unrelated_losses"] = mean_losses(_reads_observations(model), task, unrelated)
        return losses

    other = jax.tree.map(lambda leaf: jnp.roll(leaf, 1, axis=0) if eqx.is_array(leaf) else leaf, model)
    curves = final(cells.keys("test"), model, untrained, other)
    _store(config, cells, curves, config.linear)
    tuned = {"step_size": step, "ridge": ridge}
    cells.record({name: jnp.broadcast_to(value, (len(cells.seeds),)) for name, value in tuned.items()}, phase="tuned")
    products = eqx.filter_jit(eqx.filter_vmap(_first_products))(model)
    cells.save(query_key=products[0], value_output=products[1])
    if depth > 1:
        cells.save(**_probed(config, cells, task, model, untrained, ridge))


def measure_fixed_system(config: Config, cells: Cells) -> None:
    """One layer trained on a single system: the control in which there is nothing to learn in context."""
    task = system(config, transition="fixed")
    _, model = _trained(config, cells, system(config, transition="fixed", tokens="constructed"), 1)
    step, ridge = (tune(task, config.tuning_sequences) for tune in (tuned_step, tuned_ridge))

    @eqx.filter_jit
    @eqx.filter_vmap
    def final(key: Key[Array, ""], model: PyTree) -> dict[str, Array]:
        batch = sample_batch(task, key, config.evaluation_sequences, split="test")
        return {
            "losses": mean_losses(_reads_observations(model), task, batch),
            "gd_losses": mean_losses(lambda observations: clipped(sequence_gd(observations, step)), task, batch),
            "least_squares_losses": mean_losses(
                lambda observations: clipped(least_squares_predictor(observations, ridge)), task, batch
            ),
        }

    _store(config, cells, final(cells.keys("test"), model), config.linear)


def measure_mesa(config: Config, cells: Cells) -> None:
    """One mesa layer against least squares."""
    task = system(config)
    untrained = make(
        cells,
        lambda key: mesa_regressor(config.systems.size, num_heads=2, deviation=config.mesa.deviation, key=key),
    )
    constructed = system(config, tokens="constructed")
    model = train(cells, config.mesa, constructed, untrained, curve_sequences=config.curve_sequences)
    ridge = tuned_ridge(task, config.tuning_sequences)

    @eqx.filter_jit
    @eqx.filter_vmap
    def final(key: Key[Array, ""], model: PyTree, untrained: PyTree) -> dict[str, Array]:
        batch = sample_batch(task, key, config.evaluation_sequences, split="test")
        return {
            "losses": mean_losses(_reads_observations(model), task, batch),
            "untrained/losses": mean_losses(_reads_observations(untrained), task, batch),
            "least_squares_losses": mean_losses(
                lambda observations: clipped(least_squares_predictor(observations, ridge)), task, batch
            ),
        }

    _store(config, cells, final(cells.keys("test"), model, untrained), config.mesa)


# ---- what they share -----------------------------------------------------------------------------------------------


def _trained(config: Config, cells: Cells, task: LinearSystem, depth: int) -> tuple[PyTree, PyTree]:
    untrained = make(
        cells,
        lambda key: linear_regressor(
            config.systems.size,
            depth,
            num_heads=2 if depth == 1 else 4,
            deviation=config.linear.deviation,
            length=config.systems.length,
            key=key,
        ),
    )
    return untrained, train(cells, config.linear, task, untrained, curve_sequences=config.curve_sequences)


def _store(config: Config, cells: Cells, curves: dict[str, Array], training: Training) -> None:
    """Losses by position as arrays, and their means as numbers."""
    cells.save(**{name.replace("/", "_"): values for name, values in curves.items()})
    means = {name.removesuffix("es"): jnp.mean(values, axis=1) for name, values in curves.items()}
    cells.record(means, step=training.steps)


def _reads_observations(model: SequenceRegressor) -> Any:
    return lambda observations: model(constructed_tokens(observations))


def _with_layers(model: SequenceRegressor, change: Any, *others: SequenceRegressor) -> SequenceRegressor:
    """The model with each attention layer replaced by a function of it, and of the same layers of other models."""

    def attentions(model: SequenceRegressor) -> list[Any]:
        return [block.layer.layer for block in model.stack.layers]  # pyright: ignore

    changed = [change(*layers) for layers in zip(attentions(model), *map(attentions, others), strict=True)]
    return eqx.tree_at(attentions, model, changed)


def _compressed(model: SequenceRegressor, config: Config, **blocks: Any) -> SequenceRegressor:
    return _with_layers(model, partial(compress_blocks, size=config.systems.size, **blocks))


def _averaged(first: SequenceRegressor, second: SequenceRegressor) -> SequenceRegressor:
    return _with_layers(first, average_products, second)


def _first_products(model: SequenceRegressor) -> tuple[Float[Array, "h d d"], Float[Array, "h d d"]]:
    return model.stack.layers[0].layer.layer.projections.products()  # pyright: ignore


def _probed(
    config: Config, cells: Cells, task: LinearSystem, model: PyTree, untrained: PyTree, ridge: Array
) -> dict[str, Array]:
    """Errors `[seeds, layers, positions]` of decoding the target and the preconditioned observation.

    The latter is solved for exactly, and once more approximated by six steps as in the paper: where the observations
    hardly span the space, the inverse is so large that few sequences make up all of its variance.
    """
    count = config.evaluation_sequences
    six = tuned_preconditioning(task, 7, config.tuning_steps)

    @eqx.filter_jit
    @eqx.filter_vmap
    def errors(key: Key[Array, ""], model: PyTree) -> dict[str, Array]:
        batch = sample_batch(task, key, 2 * count, split="test")
        hidden = jnp.stack(jax.vmap(lambda one: jnp.stack(model.hidden_states(constructed_tokens(one))))(batch.inputs))
        targets = {
            "target": batch.target,
            "preconditioning": jax.vmap(partial(_inverse, ridge))(batch.inputs),
            "six_steps": jax.vmap(lambda one: six.iterates(one)[-1])(batch.inputs),
        }

        def of_layer(activations: Float[Array, "b t d"]) -> dict[str, Float[Array, "t"]]:
            return {
                name: LinearProbes.fit(activations[:count], wanted[:count]).errors(activations[count:], wanted[count:])
                for name, wanted in targets.items()
            }

        return jax.lax.map(of_layer, jnp.swapaxes(hidden, 0, 1))

    keys = cells.keys("probes")
    return {
        f"{prefix}{name}_probes": values
        for prefix, one in (("", model), ("untrained_", untrained))
        for name, values in errors(keys, one).items()
    }


def _inverse(ridge: Float[Array, ""], observations: Float[Array, "t n"]) -> Float[Array, "t n"]:
    """Each observation multiplied with the inverse regularised second moment of those before it, solved for."""
    before = jnp.concatenate([jnp.zeros_like(observations[:1]), observations[:-1]])
    moments = jnp.cumsum(before[:, :, None] * before[:, None, :], axis=0)
    moments = moments + ridge * jnp.eye(observations.shape[1])[None]
    factors = jax.scipy.linalg.cho_factor(moments, lower=True)
    return jax.scipy.linalg.cho_solve(factors, observations[..., None])[..., 0]
