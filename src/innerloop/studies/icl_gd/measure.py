"""What `icl-gd` trains and records: one function per group of variants."""

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key, PyTree

from ...core.rng import named_key
from ...lab.cells import Cells
from ...learn.backpropagation import Backpropagation
from ...nn.in_context.alignment import alignment, copy_shares, interpolate_attention
from ...nn.in_context.gradient_descent import gd_construction, gd_model
from ...nn.in_context.regressor import (
    InContextRegressor,
    interleaved_regressor,
    one_layer_regressor,
    recurrent_regressor,
    sine_regressor,
)
from ...nn.in_context.residual_stack import ResidualStack
from ...nn.in_context.step_size import candidate_grid, line_search
from ...tasks.regression import INPUT_LAWS, LinearRegression, SineRegression
from ...tasks.task import AbstractTask
from ...train.supervised import Supervised, Trainee, evaluate_on, sample_batch
from .configuration import Config, Training

RECORDS, EVALUATIONS = 100, 25  # points of a loss curve and of an evaluation curve
ALPHAS = np.arange(0.5, 2.01, 0.125)  # ranges of the inputs, in units of the training range
WEIGHT_SCALES = np.asarray([0.5, 1.0, 2.0, 3.0, 4.0, 5.0])


def measure(config: Config, cells: Cells) -> None:
    """Train one variant and record what its claims read."""
    groups = {
        "one-layer": partial(_one_layer, shuffle_labels=False),
        "shuffled-labels": partial(_one_layer, shuffle_labels=True),
        "two-layers": _two_layers,
        "interleaved": _interleaved,
    }
    groups.get(cells.variant, _sine)(config, cells)


# ---- the four groups -----------------------------------------------------------------------------------------------


def _one_layer(config: Config, cells: Cells, *, shuffle_labels: bool) -> None:
    task = linear_task(config)
    reference = tuned_gd(config, steps=1)
    untrained = _make(
        cells, lambda key: one_layer_regressor(config.task.dim, variance=config.one_layer.init_variance, key=key)
    )

    def evaluate(key: Key[Array, ""], trainee: Trainee) -> dict[str, Float[Array, ""]]:
        return _agreement(trainee.model, reference, task, key, config.curve_tasks)

    model = _train(cells, config.one_layer, linear_task(config, shuffle_labels=shuffle_labels), untrained, evaluate)
    halved_step = eqx.tree_at(lambda model: model.stack.layers[0].projections.output, reference, replace_fn=_halve)
    # Models of one shape, measured by one compiled function: what is compared differs in its numbers alone.
    prefixes = ("", "untrained/", "halved_step/", "interpolated/")

    @eqx.filter_jit
    @eqx.filter_vmap
    def final(key: Key[Array, ""], model: PyTree, untrained: PyTree) -> dict[str, Float[Array, ""]]:
        models = (model, untrained, halved_step, _interpolated(model, reference))
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[eqx.filter(one, eqx.is_array) for one in models])
        together = jax.lax.map(
            lambda arrays: _agreement(
                eqx.combine(arrays, eqx.filter(model, eqx.is_array, inverse=True)),
                reference,
                task,
                key,
                config.evaluation_tasks,
            ),
            stacked,
        )
        return {f"{prefix}{name}": values[i] for i, prefix in enumerate(prefixes) for name, values in together.items()}

    keys = cells.keys("test")
    cells.record(final(keys, model, untrained), step=config.one_layer.steps)
    cells.save(**_out_of_distribution(config, keys, model, reference), **_weight_products(model, reference))


def _two_layers(config: Config, cells: Cells) -> None:
    task = linear_task(config)
    variance = config.two_layers.init_variance
    untrained = _make(cells, lambda key: recurrent_regressor(config.task.dim, 2, variance=variance, key=key))
    evaluate = evaluate_on(task, batch_size=config.curve_tasks)
    model = _train(cells, config.two_layers, task, untrained, evaluate)
    learners = {"gd_loss": tuned_gd(config, steps=2), "gd_plus_plus_loss": tuned_gd_plus_plus(config, steps=2)}
    _record_losses(config, cells, task, config.two_layers.steps, {"loss": model}, learners)


def _sine(config: Config, cells: Cells) -> None:
    task = SineRegression(num_context=config.task.num_context)
    fixed = cells.variant == "sine-gradient-descent"

    def make(key: Key[Array, ""]) -> InContextRegressor:
        layer = gd_construction(39, 1, config.task.num_context, 1.0) if fixed else None
        model = sine_regressor(layer, variance=config.sine.init_variance, key=key)
        if cells.variant == "sine-without-network":
            model = eqx.tree_at(lambda model: model.perceptron, model, None)
        return model

    untrained = _make(cells, make)
    frozen = (lambda model: model.stack) if fixed else None
    evaluate = evaluate_on(task, batch_size=config.curve_tasks)
    model = _train(cells, config.sine, task, untrained, evaluate, frozen=frozen, one_by_one=True)
    _record_losses(config, cells, task, config.sine.steps, {"loss": model}, {"raw_input_gd_loss": _raw_sine_gd(config)})

    @eqx.filter_jit
    @eqx.filter_vmap
    def curve(key: Key[Array, ""], model: InContextRegressor) -> dict[str, Array]:
        example = task.sample(key, "test")
        data = task.data(example)
        queries = jnp.linspace(-5.0, 5.0, 101)
        predictions = jax.vmap(lambda query: model(example.inputs.at[-1, 0].set(query))[0])(queries)
        return {"sine_queries": queries, "sine_predictions": predictions, "sine_x": data.x, "sine_y": data.y}

    cells.save(**curve(cells.keys("example"), model))


def _interleaved(config: Config, cells: Cells) -> None:
    task = linear_task(config, layout="interleaved")
    training = config.interleaved
    sizes = (config.task.dim, config.task.num_context)
    untrained = _make(
        cells, lambda key: interleaved_regressor(*sizes, num_heads=2, variance=training.init_variance, key=key)
    )

    def shares(key: Key[Array, ""], model: InContextRegressor, count: int) -> dict[str, Float[Array, ""]]:
        batch = sample_batch(task, key, count, split="test")
        return {f"{name}_share": share for name, share in copy_shares(model, batch.inputs)._asdict().items()}

    def evaluate(key: Key[Array, ""], trainee: Trainee) -> dict[str, Float[Array, ""]]:
        losses = evaluate_on(task, batch_size=config.curve_tasks)(key, trainee)
        return {**losses, **shares(key, trainee.model, 50)}

    model = _train(cells, training, task, untrained, evaluate, one_by_one=True)
    _record_losses(config, cells, task, training.steps, {"loss": model, "untrained/loss": untrained}, {})
    both = eqx.filter_jit(
        eqx.filter_vmap(
            lambda key, model, untrained: {
                **shares(key, model, 500),
                **{f"untrained/{name}": share for name, share in shares(key, untrained, 500).items()},
            }
        )
    )
    cells.record(both(cells.keys("test"), model, untrained), step=training.steps, phase="copying")


# ---- what they share -----------------------------------------------------------------------------------------------


def linear_task(config: Config, **changes: Any) -> LinearRegression:
    """The study's linear regression task, with some settings changed."""
    task = config.task
    return LinearRegression(task.dim, task.num_context, **{"input_range": task.input_range, **changes})


def mean_loss(model: PyTree, task: AbstractTask, batch: Any) -> Float[Array, ""]:
    """The mean loss over a batch of examples."""
    return jnp.mean(jax.vmap(lambda example: task.loss(model(example.inputs), example))(batch))


def _make(cells: Cells, make: Callable[[Key[Array, ""]], PyTree]) -> PyTree:
    """One freshly drawn model per seed; jitted, because eager initialisation compiles every little operation."""
    return eqx.filter_jit(eqx.filter_vmap(make))(cells.keys("init"))


def _halve(array: Array) -> Array:
    return 0.5 * array


def _train(
    cells: Cells,
    training: Training,
    task: AbstractTask,
    models: PyTree,
    evaluate: Any,
    *,
    frozen: Any = None,
    one_by_one: bool = False,
) -> PyTree:
    """Train one model per seed; `frozen` selects a part that stays as it is, `one_by_one` is for wide models."""
    falling = optax.cosine_decay_schedule(training.learning_rate, training.steps)
    rate = falling if training.decay else training.learning_rate
    optimiser = optax.chain(optax.clip_by_global_norm(training.clip_norm), optax.adam(rate, b1=0.9, b2=0.98))
    if frozen is not None:
        mask = jax.tree.map(lambda _: False, eqx.filter(models, eqx.is_inexact_array))
        mask = eqx.tree_at(frozen, mask, jax.tree.map(lambda _: True, frozen(mask)))
        optimiser = optax.chain(optimiser, optax.masked(optax.set_to_zero(), mask))
    step = Supervised(Backpropagation(), optimiser, task, training.batch_size)
    start = eqx.filter_jit(eqx.filter_vmap(step.init))(cells.keys("rule"), models)
    record_every = max(1, training.steps // RECORDS)
    evaluate_every = record_every * max(1, training.steps // (record_every * EVALUATIONS))
    result = cells.fit(
        step,
        start,
        steps=training.steps,
        record_every=record_every,
        evaluate=evaluate,
        evaluate_every=evaluate_every,
        one_by_one=one_by_one,
    )
    return result.carry.model


def _record_losses(
    config: Config, cells: Cells, task: AbstractTask, steps: int, models: dict[str, PyTree], learners: dict[str, PyTree]
) -> None:
    """Record the test loss of models (one per seed) and of learners (the same for all) on the same tasks."""

    @eqx.filter_jit
    @eqx.filter_vmap
    def final(key: Key[Array, ""], models: dict[str, PyTree]) -> dict[str, Float[Array, ""]]:
        batch = sample_batch(task, key, config.evaluation_tasks, split="test")
        return {name: mean_loss(model, task, batch) for name, model in {**models, **learners}.items()}

    cells.record(final(cells.keys("test"), models), step=steps)


def _agreement(
    model: PyTree, reference: PyTree, task: LinearRegression, key: Key[Array, ""], count: int
) -> dict[str, Float[Array, ""]]:
    """Losses of a model and of the reference on the same tasks, and how well the two are aligned."""
    batch = sample_batch(task, key, count, split="test")
    metrics = alignment(model, reference, batch.inputs)._asdict()
    return {"loss": mean_loss(model, task, batch), "reference_loss": mean_loss(reference, task, batch), **metrics}


def _interpolated(model: InContextRegressor, reference: InContextRegressor) -> InContextRegressor:
    first, second = model.stack.layers[0], reference.stack.layers[0]
    return InContextRegressor(ResidualStack((interpolate_attention(first, second),)))  # pyright: ignore[reportArgumentType]


# ---- gradient descent, tuned on tasks of its own -------------------------------------------------------------------


def _search(loss: Any, low: float, high: float, *more: tuple[float, float], rounds: int = 3) -> Any:
    """A grid search on a log scale, each round finer around the best of the one before."""
    axes = [(low, high), *more]
    points = 60 if len(axes) == 1 else 16
    best: Any = None
    for _ in range(rounds):
        grid = candidate_grid(*[jnp.asarray(np.geomspace(start, end, points), jnp.float32) for start, end in axes])
        best = line_search(loss, grid).best
        ratio = [(end / start) ** (1.5 / (points - 1)) for start, end in axes]
        axes = [(float(value) / step, float(value) * step) for value, step in zip(best, ratio, strict=True)]
    return best


def tuned_gd(config: Config, *, steps: int) -> InContextRegressor:
    """Gradient descent with the step size that is best on validation tasks."""
    task = linear_task(config)
    batch = sample_batch(task, named_key(0, "step size"), config.evaluation_tasks, split="validation")
    shape = (config.task.dim, 1, config.task.num_context)
    (rate,) = _search(lambda c: mean_loss(gd_model(*shape, c[0], steps=steps), task, batch), 0.1, 100.0)
    return gd_model(*shape, rate, steps=steps)


def tuned_gd_plus_plus(config: Config, *, steps: int) -> InContextRegressor:
    """GD++ with the step size and the input transformation that are best on validation tasks."""
    task = linear_task(config)
    batch = sample_batch(task, named_key(0, "step size"), config.evaluation_tasks, split="validation")
    shape = (config.task.dim, 1, config.task.num_context)
    best = _search(
        lambda c: mean_loss(gd_model(*shape, c[0], steps=steps, gamma=c[1]), task, batch), 1.0, 60.0, (0.01, 1.0)
    )
    return gd_model(*shape, best[0], steps=steps, gamma=best[1])


def _raw_sine_gd(config: Config) -> InContextRegressor:
    """One step of gradient descent on the raw input of the sine task, with its best step size."""
    task = SineRegression(num_context=config.task.num_context)
    batch = sample_batch(task, named_key(0, "step size"), config.evaluation_tasks, split="validation")
    (rate,) = _search(lambda c: mean_loss(gd_model(1, 1, config.task.num_context, c[0]), task, batch), 1e-4, 1.0)
    return gd_model(1, 1, config.task.num_context, rate)


# ---- arrays behind the figures -------------------------------------------------------------------------------------


def _out_of_distribution(
    config: Config, keys: Key[Array, " seeds"], models: PyTree, reference: PyTree
) -> dict[str, np.ndarray]:
    """Losses `[seeds, settings, (model, gradient descent)]` where the test tasks are unlike the training tasks."""

    width = config.task.input_range

    def losses(key: Key[Array, ""], model: PyTree, task: LinearRegression) -> Float[Array, "2"]:
        batch = sample_batch(task, key, config.evaluation_tasks, split="test")
        return jnp.stack([mean_loss(model, task, batch), mean_loss(reference, task, batch)])

    # The settings that are numbers go through one compiled program, one after the other.
    count = config.task.num_context
    ranges = np.concatenate([ALPHAS, np.ones(len(WEIGHT_SCALES) + count + 1)])
    scales = np.concatenate([np.ones(len(ALPHAS)), WEIGHT_SCALES, np.ones(count + 1)])
    noise = np.concatenate([np.zeros(len(ALPHAS) + len(WEIGHT_SCALES), int), np.arange(count + 1)])
    settings = (
        jnp.asarray(width * ranges, jnp.float32),
        jnp.asarray(scales, jnp.float32),
        jnp.asarray(noise, jnp.int32),
    )

    @eqx.filter_jit
    @eqx.filter_vmap(in_axes=(0, eqx.if_array(0), None))
    def all_losses(key: Key[Array, ""], model: PyTree, settings: Any) -> tuple[Array, Array]:
        def one(setting: Any) -> Float[Array, "2"]:
            input_range, weight_scale, noisy_labels = setting
            changed = {"input_range": input_range, "weight_scale": weight_scale, "noisy_labels": noisy_labels}
            return losses(key, model, linear_task(config, **changed))

        laws = [losses(key, model, linear_task(config, input_law=law)) for law in INPUT_LAWS]
        return jax.lax.map(one, settings), jnp.stack(laws)

    numbers, laws = all_losses(keys, models, settings)
    ends = np.cumsum([len(ALPHAS), len(WEIGHT_SCALES)])
    by_range, by_scale, by_noise = np.split(np.asarray(numbers), ends, axis=1)
    return {
        "input_range_losses": by_range,
        "weight_scale_losses": by_scale,
        "noisy_label_losses": by_noise,
        "input_law_losses": np.asarray(laws),
    }


def _weight_products(models: InContextRegressor, reference: InContextRegressor) -> dict[str, Array]:
    """The two products a layer depends on, query-key scaled to a mean diagonal of one over the inputs."""

    def products(model: InContextRegressor) -> Float[Array, "2 width width"]:
        compare, move = (product[0] for product in model.stack.layers[0].projections.products())  # pyright: ignore
        size = jnp.mean(jnp.diagonal(compare)[:-1])
        return jnp.stack([compare / size, size * move])

    own = eqx.filter_jit(eqx.filter_vmap(products))(models)
    return {"products": own, "reference_products": jnp.broadcast_to(products(reference), own.shape)}
