"""Agents that shape naive learners in the sampled prisoner's dilemma: tabular and recurrent, with each estimator."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Key

from ....core.rng import named_key
from ....envs.matrix_games import PRISONERS_DILEMMA, IteratedMatrixGame
from ....lab.cells import Cells
from ....rl.gradient.shaping import ShapingEstimator
from ....rl.learning_aware import (
    EvolutionStrategy,
    LearningAwareUpdate,
    MetaEpisode,
    NaiveReinforce,
    Pool,
    PopulationStep,
    stack_policies,
)
from ....rl.policy import AbstractPolicy, TabularPolicy
from ....rl.sequence_policy import SequencePolicy
from ...agent_layers import make_agent_layer
from ..configuration import AgentSettings, Config
from .configuration import Game

ESTIMATORS = {
    "coala": ShapingEstimator.COALA,
    "m-fos": ShapingEstimator.M_FOS,
    "unaware": ShapingEstimator.BATCH_UNAWARE,
    "frozen": ShapingEstimator.COALA,
}
BEGINNINGS = 1024  # of naive learners: so many that hardly any is met twice
REWARD_SCALE = 0.05
MAX_NORM = 1.0


def measure_shaping(config: Config, cells: Cells) -> None:
    """Train one agent against naive learners, then let it meet fresh ones. Claim 1."""
    kind, method = cells.variant.split("-", 1)
    settings = config.sampled
    recurrent = kind == "recurrent"
    training = settings.recurrent if recurrent else settings.tabular
    episode = meta_episode(settings.game)
    # The control: co-players who do not learn while the agent is trained; all are measured with those who do.
    trained_with = eqx.tree_at(lambda e: e.learner.learning_rate, episode, 0.0) if method == "frozen" else episode

    def agent(key: Key[Array, ""]) -> AbstractPolicy:
        return recurrent_agent(config.agent, key) if recurrent else TabularPolicy.uniform(5, 2)

    if method == "evolution":
        chosen = settings.evolution
        evolution = EvolutionStrategy(
            trained_with,
            optax.adam(chosen.learning_rate),
            num_pairs=chosen.pairs,
            num_opponents=chosen.co_players,
            deviation=chosen.deviation,
        )
        step: Any = evolution

        def start(key: Key[Array, ""]) -> Any:
            return evolution.init(agent(named_key(key, "agent")), beginnings(settings.game, named_key(key, "naive")))
    else:
        update = recurrent_update(settings.game, training.learning_rate, ESTIMATORS[method])
        if not recurrent:
            update = tabular_update(settings.game, training.learning_rate, ESTIMATORS[method])
        population = PopulationStep(trained_with, update, num_opponents=training.co_players)
        step = population

        def start(key: Key[Array, ""]) -> Any:
            one = stack_policies([agent(named_key(key, "agent"))])
            return population.init(Pool(one, beginnings(settings.game, named_key(key, "naive"))))

    carry = eqx.filter_jit(eqx.filter_vmap(start))(cells.keys("init"))
    every = max(1, training.iterations // 80)
    result = cells.fit(step, carry, steps=training.iterations, record_every=every, one_by_one=recurrent)
    agents = result.carry.policy if method == "evolution" else eqx.filter_vmap(lambda c: c.pool.agent(0))(result.carry)
    record_meeting(config, cells, agents, step=training.iterations)


def record_meeting(config: Config, cells: Cells, agents: AbstractPolicy, *, step: int) -> None:
    """What finished agents and fresh naive learners earn in each inner episode."""
    settings = config.sampled
    episode = meta_episode(settings.game)

    def judge(key: Key[Array, ""], agent: AbstractPolicy) -> Array:
        naive = beginnings(settings.game, named_key(key, "naive"), settings.evaluation_co_players)
        keys = jax.random.split(named_key(key, "play"), settings.evaluation_co_players)
        played = eqx.filter_vmap(lambda key, naive: episode.against_learner(key, agent, naive)[0])(keys, naive)
        rewards = jnp.stack([played.ego.reward, played.other.reward])
        return episode.by_episode(rewards).mean(axis=(1, 2))

    curves = np.asarray(eqx.filter_jit(eqx.filter_vmap(judge))(cells.keys("evaluation"), agents))
    numbers = {}
    for i, who in enumerate(("ego", "naive")):
        numbers[who] = curves[:, i].mean(axis=1)
        numbers[f"last_{who}"] = curves[:, i, -1]
    cells.record(numbers, step=step)
    cells.save(curves=curves)
    if isinstance(agents, TabularPolicy):
        cells.save(cooperation=np.asarray(jax.nn.softmax(agents.logits)[..., 0]))


def meta_episode(game: Game) -> MetaEpisode:
    """The game: a learner's step on both logits of a state is half of one on the logit of cooperation."""
    return MetaEpisode(
        IteratedMatrixGame(PRISONERS_DILEMMA, num_steps=game.steps),
        NaiveReinforce(learning_rate=game.naive_rate / 2),
        batch_size=game.copies,
        num_episodes=game.episodes,
    )


def beginnings(game: Game, key: Key[Array, ""], count: int = BEGINNINGS) -> TabularPolicy:
    """Naive learners before they learn: normally distributed logits of cooperation."""
    logits = game.naive_deviation * jax.random.normal(key, (count, 5))
    return jax.vmap(lambda row: TabularPolicy(jnp.stack([row, jnp.zeros_like(row)], -1), jnp.zeros_like(row)))(logits)


def tabular_update(game: Game, learning_rate: float, estimator: ShapingEstimator) -> LearningAwareUpdate:
    """A plain policy gradient whose baseline is the mean over co-players and copies at each step of each episode.

    Adam's step on both logits of a state is half of one on the logit of cooperation.
    """
    return LearningAwareUpdate(
        optax.adam(learning_rate / 2),
        inner_length=game.steps,
        estimator=estimator,
        value_coefficient=0.0,
        num_epochs=1,
        num_minibatches=1,
    )


def recurrent_update(game: Game, learning_rate: float, estimator: ShapingEstimator) -> LearningAwareUpdate:
    """An actor-critic, one step per batch of meta-trajectories."""
    return LearningAwareUpdate(
        optax.chain(optax.clip_by_global_norm(MAX_NORM), optax.adam(learning_rate, eps=1e-5)),
        inner_length=game.steps,
        estimator=estimator,
        reward_scale=REWARD_SCALE,
        num_epochs=1,
        num_minibatches=1,
    )


def recurrent_agent(
    agent: AgentSettings, key: Key[Array, ""], *, observation_size: int = 5, num_actions: int = 2
) -> SequencePolicy:
    """The agent of the paper, whose memory is any sequence layer."""
    return SequencePolicy.random(
        observation_size,
        num_actions,
        make_agent_layer(agent.layer, agent.width, agent.num_heads),
        num_layers=agent.num_layers,
        hidden_size=agent.hidden_size,
        form="recurrent",
        key=key,
    )
