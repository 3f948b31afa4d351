"""How `mesa-optimization` trains models and tunes what they are compared with."""

from collections.abc import Callable
from functools import cache
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
from ...nn.in_context.least_squares_predictors import least_squares_predictor
from ...nn.in_context.preconditioning import preconditioned, preconditioned_gd
from ...nn.in_context.sequence_gd import sequence_gd
from ...nn.in_context.step_size import line_search
from ...tasks.dynamics import LinearSystem
from ...tasks.task import AbstractTask
from ...train.supervised import Supervised, evaluate_on, sample_batch
from .configuration import Config, Training
from .models import LIMIT

RECORDS, EVALUATIONS = 100, 20  # points of a loss curve and of an evaluation curve
RIDGES = np.geomspace(1e-3, 3.0, 15)
STEP_SIZES = np.geomspace(1e-3, 0.3, 60)
STARTS = 4  # from how many places the coefficients of the preconditioned comparator are sought


def system(config: Config, regime: str = "full", **changes: Any) -> LinearSystem:
    """The study's law of sequences, with some settings changed."""
    systems = config.systems
    sizes = (systems.partial_state, systems.partial_size) if regime == "partial" else (systems.size, None)
    # Without a limit some of the nonlinear systems grow without bound, and those few make up all of the loss.
    network = {"network_size": systems.network_size, "state_limit": 2.0} if regime == "nonlinear" else {}
    settings = {"length": systems.length, "process_noise": systems.process_noise, **network, **changes}
    return LinearSystem(*sizes, **settings)


def mean_losses(predict: Callable[[Array], Array], task: Any, batch: Any) -> Float[Array, "t"]:
    """The mean loss at each position over a batch of examples, some at a time: thousands at once need gigabytes."""

    def of_example(example: Any) -> Float[Array, "t"]:
        return task.losses(predict(example.inputs), example)

    count = len(jax.tree.leaves(batch)[0])
    return jnp.mean(jax.lax.map(of_example, batch, batch_size=min(count, 250)), axis=0)


def make(cells: Cells, draw: Callable[[Key[Array, ""]], PyTree]) -> PyTree:
    """One freshly drawn model per seed; jitted, because eager initialisation compiles every little operation."""
    return eqx.filter_jit(eqx.filter_vmap(draw))(cells.keys("init"))


def optimiser_of(training: Training) -> optax.GradientTransformation:
    """AdamW with a clipped gradient norm and the training's learning rates."""
    if training.decay:
        rate = optax.warmup_cosine_decay_schedule(
            0.0 if training.warmup else training.learning_rate, training.learning_rate, training.warmup, training.steps
        )
    else:
        rate = training.learning_rate
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=training.weight_decay))


def train(
    cells: Cells,
    training: Training,
    task: AbstractTask,
    models: PyTree,
    *,
    curve_sequences: int,
    name: str = "train",
    learned: Callable[[PyTree], Any] | None = None,
) -> PyTree:
    """Train one model per seed; only the parts that `learned` selects, if it is given."""
    optimiser = optimiser_of(training)
    if learned is not None:
        frozen = jax.tree.map(lambda _: True, eqx.filter(models, eqx.is_inexact_array))
        frozen = eqx.tree_at(learned, frozen, jax.tree.map(lambda _: False, learned(frozen)))
        optimiser = optax.chain(optimiser, optax.masked(optax.set_to_zero(), frozen))
    step = Supervised(Backpropagation(), optimiser, task, training.batch_size)
    start = eqx.filter_jit(eqx.filter_vmap(step.init))(cells.keys(f"rule/{name}"), models)
    record_every = max(1, training.steps // RECORDS)
    evaluate_every = record_every * max(1, training.steps // (record_every * EVALUATIONS))
    result = cells.fit(
        step,
        start,
        steps=training.steps,
        name=name,
        record_every=record_every,
        evaluate=evaluate_on(task, batch_size=curve_sequences),
        evaluate_every=evaluate_every,
        one_by_one=True,
    )
    return result.carry.model


# ---- what they are compared with, tuned on validation sequences of its own ------------------------------------------


@cache
def validation(task: LinearSystem, count: int) -> Any:
    """Sequences on which comparators are tuned: the same for all seeds, apart from those of training and of tests."""
    return eqx.filter_jit(sample_batch)(task, named_key(0, "comparators"), count, split="validation")


def clipped(predictions: Float[Array, "t n"]) -> Float[Array, "t n"]:
    """The clip of the models on constructed tokens, which their comparators get too."""
    return jnp.clip(predictions, -LIMIT, LIMIT)


@cache
def tuned_step(task: LinearSystem, count: int, *, clip: bool = True) -> Float[Array, ""]:
    """The step size with which one step of gradient descent has the least loss on `count` sequences."""
    limit = clipped if clip else lambda predictions: predictions

    def loss_on(batch: Any, step: Float[Array, ""]) -> Float[Array, ""]:
        return jnp.mean(mean_losses(lambda observations: limit(sequence_gd(observations, step)), task, batch))

    loss = eqx.Partial(loss_on, validation(task, count))  # an argument, not a constant to be folded
    best: Any = line_search(loss, jnp.asarray(STEP_SIZES, jnp.float32)).best
    finer = jnp.asarray(np.geomspace(0.9, 1.1, len(STEP_SIZES)), jnp.float32)  # as many: compiled once
    finest: Any = line_search(loss, best * finer).best
    return finest


@cache
def tuned_ridge(task: LinearSystem, count: int, *, clip: bool = True, window: int = 1) -> Float[Array, ""]:
    """The ridge with which least squares has the least loss on `count` sequences."""
    limit = clipped if clip else lambda predictions: predictions

    def loss_on(batch: Any, ridge: Float[Array, ""]) -> Float[Array, ""]:
        def predict(observations: Array) -> Array:
            return limit(least_squares_predictor(observations, ridge, window=window))

        return jnp.mean(mean_losses(predict, task, batch))

    loss = eqx.Partial(loss_on, validation(task, count))
    best: Any = line_search(loss, jnp.asarray(RIDGES, jnp.float32)).best
    return best


class Coefficients(eqx.Module):
    """What of preconditioned gradient descent is tuned: one alpha and one beta per step, and three numbers more."""

    alphas: Float[Array, "k"]
    betas: Float[Array, "k"]
    step_size: Float[Array, ""]
    ridge: Float[Array, ""]
    start: Float[Array, ""]

    def iterates(self, observations: Float[Array, "t n"]) -> Float[Array, "i t n"]:
        """The observations, preconditioned more and more, with the clip of the models."""
        return preconditioned(
            observations, self.alphas, self.betas, ridge=self.ridge, start=self.start, limit=LIMIT
        )  # fmt: skip

    def predict(self, observations: Float[Array, "t n"]) -> Float[Array, "t n"]:
        """Preconditioned gradient descent with the clip of the models."""
        return preconditioned_gd(
            observations, self.alphas, self.betas, step_size=self.step_size, ridge=self.ridge, start=self.start,
            limit=LIMIT,
        )  # fmt: skip


@cache
def tuned_preconditioning(task: LinearSystem, depth: int, steps: int) -> Coefficients:
    """The coefficients of `depth - 1` steps of preconditioning and one of gradient descent of least loss.

    Descent on the logarithms (and on the betas as they are), from several places; the best end on validation
    sequences counts.
    """
    count = depth - 1
    first = jnp.asarray(np.geomspace(0.01, 0.1, STARTS), jnp.float32)
    rate = optax.cosine_decay_schedule(2e-2, steps)
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))

    def of_numbers(numbers: Coefficients) -> Coefficients:
        positive = jax.tree.map(jnp.exp, numbers)
        return eqx.tree_at(lambda coefficients: coefficients.betas, positive, numbers.betas)

    def loss(numbers: Coefficients, batch: Any) -> Float[Array, ""]:
        return jnp.mean(mean_losses(of_numbers(numbers).predict, task, batch))

    def descend(alpha: Float[Array, ""]) -> tuple[Coefficients, Float[Array, ""]]:
        numbers = Coefficients(
            jnp.full((count,), jnp.log(alpha)), jnp.zeros((count,)), jnp.log(alpha), jnp.log(0.1 + 0 * alpha), 0 * alpha
        )

        def advance(carry, key):
            numbers, state = carry
            gradient = jax.grad(loss)(numbers, sample_batch(task, key, 128, split="validation"))
            with jax.numpy_dtype_promotion("standard"):
                updates, state = optimiser.update(gradient, state)
            return (eqx.apply_updates(numbers, updates), state), None

        keys = jax.random.split(named_key(0, "coefficients"), steps)
        numbers, _ = jax.lax.scan(advance, (numbers, optimiser.init(numbers)), keys)[0]  # pyright: ignore
        return of_numbers(numbers), loss(
            numbers, sample_batch(task, named_key(1, "coefficients"), 2000, split="validation")
        )

    found, losses = eqx.filter_jit(jax.vmap(descend))(first)
    losses = jnp.where(jnp.isfinite(losses), losses, jnp.inf)
    return jax.tree.map(lambda values: values[jnp.argmin(losses)], found)
