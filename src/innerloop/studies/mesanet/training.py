"""Training one model per task and seed, all by one compiled program, after a pilot that chooses learning rates."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key, PyTree, UInt8

from ...core.rng import named_key
from ...core.tree import trainable
from ...lab.cells import Cells
from ...nn.memory.covariance import AbstractSolver
from ...tasks.tokens import cross_entropy
from ...train.loop import fit
from .configuration import Training
from .layers import with_solver

PILOT_SEED = 100
RECORDS = 10  # points of a loss curve

Apply = Callable[..., Float[Array, "t v"]]
"""`(model, inputs, number of the task, resets) -> logits`; resets are `None` in training."""


class Sequences(NamedTuple):
    """The examples of several tasks: `[tasks, examples, tokens]`, a target of 255 where nothing is asked."""

    inputs: UInt8[Array, "k n t"]
    target: UInt8[Array, "k n t"]


class Learners(eqx.Module):
    """Models of several tasks while they learn; every array has a leading axis of tasks, but the last two."""

    models: PyTree
    optimiser_state: PyTree
    rates: Float[Array, "k"]
    time: Int[Array, ""]
    horizon: Int[Array, ""]
    """After how many steps the learning rate has fallen to a tenth."""


class Lessons(eqx.Module):
    """A training step of `Learners` for `fit`: the tasks one after the other, a batch of each."""

    names: tuple[str, ...] = eqx.field(static=True)
    apply: Apply = eqx.field(static=True)
    training: Training = eqx.field(static=True)
    data: Sequences

    @property
    def optimiser(self) -> optax.GradientTransformation:
        """AdamW for a learning rate of one; what has one axis, and the regulariser, do not decay."""
        return optax.chain(
            optax.clip_by_global_norm(1.0),
            optax.scale_by_adam(b1=0.9, b2=0.98),
            optax.add_decayed_weights(self.training.weight_decay, mask=_decays),
        )

    def init(self, models: PyTree, rates: Float[Array, "k"], horizon: Int[Array, ""]) -> Learners:
        """The start of training one model per task."""
        state = eqx.filter_vmap(lambda model: self.optimiser.init(trainable(model)))(models)
        return Learners(models, state, rates, jnp.zeros((), jnp.int32), horizon)

    def __call__(self, key: Key[Array, ""], learners: Learners) -> tuple[Learners, dict[str, Float[Array, ""]]]:
        numbers = jnp.arange(len(self.names), dtype=jnp.int32)
        arrays, static = eqx.partition((learners.models, learners.optimiser_state), eqx.is_array)
        factor = _schedule(learners.time, learners.horizon)

        def one(argument: Any) -> tuple[PyTree, Float[Array, ""]]:
            number, rate, own = argument
            model, state = eqx.combine(own, static)
            size = (self.training.batch_size,)
            index = jax.random.randint(jax.random.fold_in(key, number), size, 0, self.data.inputs.shape[1])
            inputs, target = (_as_tokens(part[number, index]) for part in self.data)

            @eqx.filter_value_and_grad
            def objective(model: PyTree) -> Float[Array, ""]:
                logits = jax.vmap(lambda tokens: self.apply(model, tokens, number, None))(inputs)
                return jnp.mean(jax.vmap(cross_entropy)(logits, target))

            loss, gradient = objective(model)
            # Optax mixes Python floats with integer counters, which strict promotion (if asked for) refuses.
            with jax.numpy_dtype_promotion("standard"):
                updates, state = self.optimiser.update(gradient, state, trainable(model))
            updates = jax.tree.map(lambda update: -rate * factor * update, updates)
            return eqx.filter((eqx.apply_updates(model, updates), state), eqx.is_array), loss

        arrays, losses = jax.lax.map(one, (numbers, learners.rates, arrays))
        models, state = eqx.combine(arrays, static)
        info = {f"loss/{name}": losses[number] for number, name in enumerate(self.names)}
        return Learners(models, state, learners.rates, learners.time + 1, learners.horizon), info


def train(cells: Cells, lessons: Lessons, make: Callable[[Key[Array, ""]], PyTree]) -> tuple[PyTree, PyTree]:
    """Choose learning rates on a pilot, then train: the models before and after, `[seeds, tasks, ...]`.

    The pilot trains one model per rate on a seed of its own, for fewer steps; per task, the rate with the lowest
    training loss at its end is used for all seeds.
    """
    training = lessons.training
    count = len(lessons.names)
    rates, losses = _pilot(cells, lessons, make)
    cells.save(
        rates=np.broadcast_to(rates, (len(cells.seeds), count)),
        pilot_losses=np.broadcast_to(losses, (len(cells.seeds), *losses.shape)),
    )
    models = _draw_models(make, list(cells.keys("init")), count)
    chosen = jnp.asarray(np.broadcast_to(rates, (len(cells.seeds), count)), jnp.float32)
    start = _start(lessons, models, chosen, training.steps)
    result = cells.fit(lessons, start, steps=training.steps, record_every=_record_every(training), one_by_one=True)
    return models, result.carry.models


def _pilot(
    cells: Cells, lessons: Lessons, make: Callable[[Key[Array, ""]], PyTree]
) -> tuple[Float[np.ndarray, "k"], Float[np.ndarray, "r k"]]:
    training, count = lessons.training, len(lessons.names)
    grid = np.asarray(training.rates, np.float32)
    if len(grid) == 1:
        return np.full(count, grid[0]), np.full((1, count), np.nan)
    models = _draw_models(make, [named_key(PILOT_SEED, "init")] * len(grid), count)
    rates = jnp.asarray(np.broadcast_to(grid[:, None], (len(grid), count)))
    calls: list[Any] = []

    def stop(metrics: dict[str, np.ndarray]) -> bool:
        calls.append(metrics)
        return len(calls) == 2  # the first call is before the first step

    # As many steps as the training has, but ended early: where there are as many rates as seeds, this is the same
    # program as the training's, and compiled once.
    result = fit(
        lessons,
        _start(lessons, models, rates, _pilot_steps(training)),
        steps=training.steps,
        seeds=(PILOT_SEED,) * len(grid),
        record_every=_record_every(training),
        evaluate=lambda key, learners: {"time": learners.time},
        evaluate_every=_pilot_steps(training),
        stop=stop,
        on_progress=cells.on_progress,
        one_by_one=True,
    )
    last = [record for record in result.records if record.phase == "train"][-1].values
    losses = np.stack([last[f"loss/{name}"] for name in lessons.names], axis=1)
    return grid[np.argmin(np.where(np.isfinite(losses), losses, np.inf), axis=0)], losses


def _draw_models(make: Callable[[Key[Array, ""]], PyTree], keys: Sequence[Key[Array, ""]], count: int) -> PyTree:
    """One model per key and task, `[keys, tasks, ...]`.

    Drawn one by one: as a program that draws them all, each layer would compile for longer than this takes.
    """
    models = [make(one) for key in keys for one in jax.random.split(key, count)]

    def stack(*leaves: Any) -> Any:
        if not eqx.is_array(leaves[0]):
            return leaves[0]
        together = np.stack([np.asarray(leaf) for leaf in leaves])
        return jnp.asarray(together.reshape(len(keys), count, *together.shape[1:]))

    return jax.tree.map(stack, *models)


def _start(lessons: Lessons, models: PyTree, rates: Float[Array, "s k"], horizon: int) -> Learners:
    horizons = jnp.full(rates.shape[:1], horizon, jnp.int32)
    return eqx.filter_jit(eqx.filter_vmap(lessons.init))(models, rates, horizons)


def _record_every(training: Training) -> int:
    return max(1, training.steps // RECORDS)


def _pilot_steps(training: Training) -> int:
    """A whole number of records, near to what was asked for."""
    every = _record_every(training)
    return every * max(1, round(training.pilot_steps / every))


def _schedule(time: Int[Array, ""], horizon: Int[Array, ""]) -> Float[Array, ""]:
    """Linear warm-up over a tenth of the training, then a cosine to a tenth of the rate."""
    done = (time.astype(jnp.float32) + 1.0) / horizon.astype(jnp.float32)
    return jnp.minimum(1.0, 10.0 * done) * (0.55 + 0.45 * jnp.cos(jnp.pi * jnp.minimum(done, 1.0)))


def _decays(params: PyTree) -> PyTree:
    def decays(path: Any, leaf: Any) -> bool:
        return leaf.ndim > 1 and "regulariser" not in jax.tree_util.keystr(path)

    return jax.tree_util.tree_map_with_path(decays, params)


def _as_tokens(values: UInt8[Array, "n t"]) -> Int[Array, "n t"]:
    tokens = values.astype(jnp.int32)
    return jnp.where(tokens == 255, -1, tokens)


def as_sequences(batches: Sequence[tuple[Any, Any]]) -> Sequences:
    """Pairs of inputs and targets `[n, t]`, one per task, as one array each."""
    inputs, targets = zip(*batches, strict=True)
    return Sequences(
        *(
            jnp.asarray(np.stack([np.asarray(part) for part in parts]).astype(np.uint8))
            for parts in (inputs, [np.where(np.asarray(target) < 0, 255, np.asarray(target)) for target in targets])
        )
    )


def read(
    apply: Apply,
    models: PyTree,
    inputs: UInt8[Array, "k n t"],
    *,
    forget: bool = False,
    solver: AbstractSolver | None = None,
) -> np.ndarray:
    """The logits `[seeds, tasks, n, t, v]` of trained models.

    With `forget` nothing but the token itself is known; `solver` takes the place of the mesa layers' own.
    """
    # By way of the host, so that it does not matter on which devices the models were trained.
    models = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)) if eqx.is_array(leaf) else leaf, models)
    return np.asarray(_read(apply, models, inputs, jnp.full(inputs.shape[-1:], forget), solver))


@eqx.filter_jit
def _read(
    apply: Apply, models: PyTree, inputs: UInt8[Array, "k n t"], resets: Array, solver: AbstractSolver | None
) -> Float[Array, "s k n t v"]:
    arrays, static = eqx.partition(models, eqx.is_array)

    def one(argument: Any) -> Float[Array, "n t v"]:
        number, own, tokens = argument
        model = eqx.combine(own, static)
        model = model if solver is None else with_solver(model, solver)
        return jax.lax.map(lambda one: apply(model, one, number, resets), tokens.astype(jnp.int32), batch_size=16)

    numbers = jnp.arange(inputs.shape[0], dtype=jnp.int32)
    return jax.lax.map(lambda own: jax.lax.map(one, (numbers, own, inputs)), arrays)
