"""Agents that learn to infer: predictive policy improvement in a pool, and a sequence model by itself."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key, PyTree

from ...core.optimise import apply_gradients
from ...core.rng import named_key
from ...core.tree import trainable
from ...envs.agent import AbstractAgent
from ...envs.matrix_games import PRISONERS_DILEMMA, IteratedMatrixGame
from ...lab.cells import Cells
from ...rl.coplayer import (
    MixedPool,
    PredictivePolicy,
    PredictivePolicyImprovement,
    SequenceModel,
    TabularPool,
    identity_vector,
    paper_optimiser,
    predictive_losses,
    swap_view,
)
from ...rl.coplayer.mixed_pool import IDENTITY_SIZE
from ..agent_layers import make_agent_layer
from .configuration import Config, Improvement
from .exact import against, opponents, record_curves

RECORDS = 60  # points of a training curve


class Forgetful(AbstractAgent):
    """Another agent whose memory is wiped before every round: it sees the last round and nothing else."""

    agent: AbstractAgent

    def init_memory(self) -> PyTree:
        """That of the agent."""
        return self.agent.init_memory()

    def act(self, key: Key[Array, ""], memory: PyTree, observation: Array) -> tuple[PyTree, Array]:
        """Act as if this were all that was ever seen."""
        return self.agent.act(key, self.agent.init_memory(), observation)


def improvement(config: Config, variant: str) -> PredictivePolicyImprovement:
    """What a variant trains by predictive policy improvement."""
    settings: Improvement = config.tabular if variant == "tabular" else config.mixed
    tabular = {"tabular": settings.episodes, "learners": 0}.get(variant, settings.episodes // 2)
    game = IteratedMatrixGame(PRISONERS_DILEMMA, num_steps=settings.rounds)
    pool = MixedPool(game, TabularPool(config.concentration), tabular, settings.episodes - tabular)
    identities = variant == "identified"
    layer = make_agent_layer(
        config.agent.layer,
        config.agent.width,
        config.agent.num_heads,
        capacity=2 * (settings.rounds + settings.horizon) + 1,
    )

    def model(key: Key[Array, ""]) -> SequenceModel:
        return SequenceModel.random(5, 2, layer, identity_size=IDENTITY_SIZE if identities else 0, key=key)

    def agent(model: Any) -> PredictivePolicy:
        return PredictivePolicy(model, beta=settings.beta, horizon=settings.horizon, num_samples=settings.samples)

    return PredictivePolicyImprovement(
        pool,
        model,
        agent,
        paper_optimiser(settings.learning_rate),
        num_learners=1 if variant == "tabular" else 2,
        num_first=settings.first_episodes,
        num_phases=settings.phases,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        uniform_first=variant == "learners",
        identities=identities,
    )


def measure_improvement(config: Config, cells: Cells) -> None:
    """Train two learners (one, with tabular co-players only) and see what they do with each other and with others."""
    step = improvement(config, cells.variant)
    start = eqx.filter_jit(eqx.filter_vmap(step.init))(cells.keys("init"))
    result = cells.fit(
        step, start, steps=step.num_steps, record_every=max(1, step.num_steps // RECORDS), one_by_one=True
    )
    models, rounds = result.carry.models, step.pool.game.num_steps

    @eqx.filter_jit
    def test(models: SequenceModel, keys: Key[Array, " n"]) -> Any:
        arrays, static = eqx.partition(models, eqx.is_array)

        def one(inputs: tuple) -> Any:
            key, arrays = inputs
            models = eqx.combine(arrays, static)
            episodes, played = step.play(named_key(key, "play"), models)
            make = step.agents(models)[0]

            def told(table: Float[Array, "5"]) -> AbstractAgent:
                return make(identity_vector(table))  # who is not told ignores it

            fixed = against(told, opponents(), rounds, config.test_games, named_key(key, "fixed"))
            wiped = against(
                lambda table: Forgetful(told(table)), opponents(), rounds, config.test_games, named_key(key, "fixed")
            )
            together = jnp.where(episodes.with_learner, 1.0, 0.0)[..., None]
            count = jnp.maximum(together.sum(axis=(0, 1)), 1.0)
            cooperation = (together * jnp.where(episodes.actions == 0, 1.0, 0.0)).sum(axis=(0, 1)) / count
            each = (together * episodes.rewards).mean(axis=2).sum(axis=1) / jnp.maximum(together[..., 0].sum(axis=1), 1)
            return played, fixed, wiped, cooperation, each

        return jax.lax.map(one, (keys, arrays))

    played, fixed, wiped, cooperation, each = test(models, cells.keys("test"))
    cells.record(dict(played), step=step.num_steps)
    cells.save(mutual_cooperation=cooperation, mutual_rewards=each)
    record_curves(cells, {"learned": fixed, "forgetful": wiped}, step=step.num_steps)


# ---- a sequence model by itself ----


class PredictionState(eqx.Module):
    """What the training of a sequence model on random games carries."""

    model: SequenceModel
    optimiser_state: PyTree


class PredictionStep(eqx.Module):
    """A training step on fresh games of two uniformly random tabular players."""

    optimiser: optax.GradientTransformation = eqx.field(static=True)
    rounds: int = eqx.field(static=True)
    batch_size: int = eqx.field(static=True)

    def init(self, model: SequenceModel) -> PredictionState:
        """The state at the start."""
        return PredictionState(model, self.optimiser.init(trainable(model)))

    def __call__(
        self, key: Key[Array, ""], state: PredictionState
    ) -> tuple[PredictionState, dict[str, Float[Array, ""]]]:
        batch = streams(key, self.batch_size, self.rounds)

        def loss(model: SequenceModel) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
            losses = jax.vmap(model.losses)(*batch[:3])
            parts = {f"{name}_loss": value.mean() for name, value in losses._asdict().items()}
            return sum(parts.values(), jnp.zeros(())), parts

        (_, info), gradient = eqx.filter_value_and_grad(loss, has_aux=True)(state.model)
        return PredictionState(*apply_gradients(state.model, self.optimiser, state.optimiser_state, gradient)), info


def streams(key: Key[Array, ""], count: int, rounds: int) -> tuple[Array, Array, Array, Array]:
    """Observations, actions and rewards of one side of random games; the ideal predictor's losses of both sides."""
    pool = MixedPool(IteratedMatrixGame(PRISONERS_DILEMMA, num_steps=rounds), TabularPool(1.0), 1, 0)
    episodes = pool.random_episodes(key, count)
    others = (episodes.observations[:, 1:] - 1) % 2
    swapped = swap_view(episodes.observations[:, :-1])
    own = jax.vmap(predictive_losses)(episodes.observations[:, :-1], episodes.actions)
    other = jax.vmap(predictive_losses)(swapped, others)
    return episodes.observations, episodes.actions, episodes.rewards, jnp.stack([own, other], axis=1)


def measure_prediction(config: Config, cells: Cells) -> None:
    """Train a sequence model on random games and compare its losses with the least possible ones."""
    settings = config.prediction
    layer = make_agent_layer(
        config.agent.layer, settings.width, config.agent.num_heads, capacity=2 * settings.rounds + 1
    )
    models = eqx.filter_jit(eqx.filter_vmap(lambda key: SequenceModel.random(5, 2, layer, key=key)))(cells.keys("init"))
    rate = optax.cosine_decay_schedule(settings.learning_rate, settings.steps, 0.02)
    step = PredictionStep(
        optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate)), settings.rounds, settings.batch_size
    )
    start = eqx.filter_jit(eqx.filter_vmap(step.init))(models)
    every = max(1, settings.steps // RECORDS)
    result = cells.fit(step, start, steps=settings.steps, record_every=every, one_by_one=True)

    @eqx.filter_jit
    def test(models: SequenceModel, keys: Key[Array, " n"]) -> tuple[Array, Array]:
        arrays, static = eqx.partition(models, eqx.is_array)

        def one(inputs: tuple) -> tuple[Array, Array]:
            key, arrays = inputs
            model = eqx.combine(arrays, static)
            *stream, floor = streams(key, settings.games, settings.rounds)
            losses = jax.vmap(model.losses)(*stream)
            return jnp.stack([losses.action.mean(axis=0), losses.observation.mean(axis=0)]), floor.mean(axis=0)

        return jax.lax.map(one, (keys, arrays))

    trained, floor = test(result.carry.model, cells.keys("test"))
    untrained, _ = test(models, cells.keys("test"))
    numbers = {}
    for number, name in enumerate(("own", "other")):
        numbers[f"{name}_loss"] = np.asarray(trained)[:, number].mean(axis=1)
        numbers[f"{name}_floor"] = np.asarray(floor)[:, number].mean(axis=1)
        numbers[f"{name}_untrained_loss"] = np.asarray(untrained)[:, number].mean(axis=1)
    cells.record(numbers, step=settings.steps)
    cells.save(losses=trained, floor=floor)
