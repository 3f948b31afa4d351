"""What `rnn-attention` trains and records: one function per group of variants."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key, PyTree

from ...lab.cells import Cells
from ...learn.backpropagation import Backpropagation
from ...nn.recurrent.gated_linear_rnn import GatedLinearRNN
from ...nn.recurrent.identification import round_multipliers
from ...tasks.attention_teacher import AttentionTeacher
from ...tasks.regression import LinearRegression
from ...tasks.task import AbstractTask
from ...train.supervised import Supervised, Trainee, sample_batch
from .configuration import Config
from .exact import construction_errors
from .models import Student, architecture
from .reading import agreement_with_gd, algorithm, sorted_weights

RECORDS, EVALUATIONS = 100, 25  # points of a loss curve and of an evaluation curve


def measure(config: Config, cells: Cells) -> None:
    """Train one variant and record what its claims read."""
    variant = cells.variant
    if variant == "construction":
        _construction(config, cells)
    elif variant.startswith("regression-"):
        _regression(config, cells, variant.removeprefix("regression-"))
    else:
        _imitation(config, cells)


# ---- the three groups -----------------------------------------------------------------------------------------------


def _construction(config: Config, cells: Cells) -> None:
    errors = construction_errors(cells.seeds, config.exact_dims, config.imitation.length)
    cells.record({name: values.max(axis=1) for name, values in errors.items()})
    cells.save(**errors)


def _imitation(config: Config, cells: Cells) -> None:
    imitation = config.imitation
    dim, length = imitation.dim, imitation.length
    teachers = _each(lambda key: AttentionTeacher.random(dim, length, key=key), cells.keys("teacher"))
    name, _, size = cells.variant.partition("-")
    gates = cells.variant in ("no-input-gate", "no-output-gate")
    if gates or name == "neurons":
        rate, neurons = imitation.rates.gated, imitation.generic if gates else int(size)

        def make(key: Key[Array, ""]) -> Any:
            layer = GatedLinearRNN.random(
                dim,
                neurons,
                imitation.num_products,
                input_gate=cells.variant != "no-input-gate",
                output_gate=cells.variant != "no-output-gate",
                variance=imitation.init_variance,
                key=key,
            )
            return Student(layer)
    else:
        rate = imitation.rates.of(cells.variant)

        def make(key: Key[Array, ""]) -> Any:
            return architecture(cells.variant, dim, config.hidden_size, dim, length, key=key)

    untrained = _each(make, cells.keys("init"))
    model = _train(config, cells, teachers, untrained, imitation.steps, rate, imitation.batch_size)
    models = {"": model, "untrained/": untrained}
    if name == "neurons":
        rounded = eqx.tree_at(lambda model: model.layer, model, jax.vmap(round_multipliers)(model.layer))
        models["rounded/"] = rounded
        models["refit/"] = _train(
            config, cells, teachers, rounded, imitation.refit_steps, 0.2 * rate, imitation.batch_size, name="refit"
        )
    errors = _each(
        lambda key, teacher, models: {
            f"{prefix}relative_error": relative_error(model, teacher, key, config.evaluation_sequences)
            for prefix, model in models.items()
        },
        cells.keys("test"),
        teachers,
        models,
    )
    cells.record(errors, step=imitation.steps)
    if name == "neurons":
        others = jax.tree.map(lambda leaf: jnp.roll(leaf, 1, axis=0), teachers)
        layers = {prefix: models[prefix].layer for prefix in ("", "untrained/", "refit/")}
        found = _each(algorithm, cells.keys("identify"), layers, teachers, others)
        numbers = {name: value for name, value in found.items() if value.ndim == 1}
        cells.record(numbers, step=imitation.steps)
        arrays = {name: value for name, value in found.items() if value.ndim > 1}
        cells.save(**arrays, **_each(sorted_weights, cells.keys("identify"), model.layer, teachers))


def _regression(config: Config, cells: Cells, name: str) -> None:
    regression = config.regression
    task = regression_task(config, shuffle_labels=name == "shuffled")
    width, gated = regression.dim + regression.outputs, name.isdigit() or name == "shuffled"
    if gated:
        rate, neurons = regression.rates.gated, int(name) if name.isdigit() else regression.special

        def make(key: Key[Array, ""]) -> Any:
            sizes = (width, neurons, regression.num_products, regression.outputs)
            layer = GatedLinearRNN.random(*sizes, variance=regression.init_variance, key=key)
            return Student(layer, last=True)
    else:
        rate, length = regression.rates.of(name), regression.num_context + 1

        def make(key: Key[Array, ""]) -> Any:
            return architecture(name, width, config.hidden_size, regression.outputs, length, last=True, key=key)

    untrained = _each(make, cells.keys("init"))
    tasks = _each(lambda _: jax.tree.map(jnp.asarray, task), cells.keys("task"))
    model = _train(config, cells, tasks, untrained, regression.steps, rate, regression.batch_size)
    test = regression_task(config)
    found = _each(
        lambda key, model, untrained: {
            **agreement_with_gd(model, test, key, config.evaluation_sequences),
            **{
                f"untrained/{name}": value
                for name, value in agreement_with_gd(untrained, test, key, config.evaluation_sequences).items()
            },
        },
        cells.keys("test"),
        model,
        untrained,
    )
    cells.record({name: value for name, value in found.items() if value.ndim == 1}, step=regression.steps)
    cells.save(**{name: value for name, value in found.items() if value.ndim > 1})


# ---- what they share ------------------------------------------------------------------------------------------------


class TaskOfItsOwn(eqx.Module):
    """A supervised step in which each seed carries the task it learns beside what it trains."""

    optimiser: optax.GradientTransformation = eqx.field(static=True)
    batch_size: int = eqx.field(static=True)

    def init(self, key: Key[Array, ""], model: PyTree, task: AbstractTask) -> tuple[Trainee, AbstractTask]:
        """The state at the start of training."""
        return self._step(task).init(key, model), task

    def __call__(
        self, key: Key[Array, ""], carry: tuple[Trainee, AbstractTask]
    ) -> tuple[tuple[Trainee, AbstractTask], dict[str, Float[Array, ""]]]:
        trainee, task = carry
        trainee, info = self._step(task)(key, trainee)
        return (trainee, task), info

    def _step(self, task: AbstractTask) -> Supervised:
        return Supervised(Backpropagation(), self.optimiser, task, self.batch_size)


def regression_task(config: Config, **changes: Any) -> LinearRegression:
    """In-context regression with inputs of variance one."""
    regression = config.regression
    return LinearRegression(
        regression.dim, regression.num_context, regression.outputs, input_range=2 * 3**0.5, **changes
    )


def relative_error(model: PyTree, task: AbstractTask, key: Key[Array, ""], count: int) -> Float[Array, ""]:
    """The mean loss on held-out sequences, relative to the mean square of the target."""
    batch = sample_batch(task, key, count, split="test")
    losses = jax.vmap(lambda example: task.loss(model(example.inputs), example))(batch)
    return jnp.mean(losses) / jnp.mean(batch.target**2)


def _each(function: Callable[..., Any], *arguments: Any) -> Any:
    """A function of one seed for all seeds, in one compiled program."""
    return eqx.filter_jit(eqx.filter_vmap(function))(*arguments)


def _train(
    config: Config,
    cells: Cells,
    tasks: AbstractTask,
    models: PyTree,
    steps: int,
    learning_rate: float,
    batch_size: int,
    *,
    name: str = "train",
) -> PyTree:
    """Train one model per seed by Adam on the seed's own task; in `refit` the multipliers stay as they are."""
    rise = max(1, round(config.warmup * steps))
    schedule = optax.warmup_cosine_decay_schedule(0.0, learning_rate, rise, max(steps, rise + 1))
    optimiser = optax.chain(optax.clip_by_global_norm(config.clip_norm), optax.adam(schedule))
    if name == "refit":
        mask = jax.tree.map(lambda _: False, eqx.filter(models, eqx.is_inexact_array))
        mask = eqx.tree_at(lambda model: model.layer.rate, mask, True)
        optimiser = optax.chain(optimiser, optax.masked(optax.set_to_zero(), mask))
    step = TaskOfItsOwn(optimiser, batch_size)
    record_every = max(1, steps // RECORDS)

    def evaluate(key: Key[Array, ""], carry: tuple[Trainee, AbstractTask]) -> dict[str, Float[Array, ""]]:
        trainee, task = carry
        batch = sample_batch(task, key, config.curve_sequences, split="test")
        losses = jax.vmap(lambda example: task.loss(trainee.model(example.inputs), example))(batch)
        return {"loss": jnp.mean(losses), "relative_error": jnp.mean(losses) / jnp.mean(batch.target**2)}

    result = cells.fit(
        step,
        _each(step.init, cells.keys("rule"), models, tasks),
        steps=steps,
        name=name,
        record_every=record_every,
        evaluate=evaluate,
        evaluate_every=record_every * max(1, steps // (record_every * EVALUATIONS)),
    )
    return result.carry[0].model
