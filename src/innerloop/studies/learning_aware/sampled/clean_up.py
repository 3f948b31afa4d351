"""Two agents in a small CleanUp, with COALA-PG and with the batch-unaware estimator."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Key

from ....core.rng import named_key
from ....envs.grids.clean_up import CleanUp
from ....lab.cells import Cells
from ....rl.learning_aware import (
    LearningAwareUpdate,
    MetaEpisode,
    NaiveActorCritic,
    Pool,
    PopulationStep,
    stack_policies,
)
from ..configuration import Config
from .configuration import CleanUpGame
from .shaping import ESTIMATORS, MAX_NORM, recurrent_agent

REWARD_SCALE = 0.1
MEETINGS = 8  # of the two finished agents, each of all copies


def measure_clean_up(config: Config, cells: Cells) -> None:
    """Train a pool of two; record how they fare with each other. Claim 8."""
    settings = config.sampled.clean_up
    method = cells.variant.removeprefix("clean-up-")
    episode = clean_up_episode(settings)
    world = episode.environment
    update = LearningAwareUpdate(
        optax.chain(optax.clip_by_global_norm(MAX_NORM), optax.adam(settings.learning_rate, eps=1e-5)),
        inner_length=settings.steps,
        estimator=ESTIMATORS[method],
        reward_scale=REWARD_SCALE,
        scale=True,
        num_epochs=1,
        num_minibatches=1,
    )
    step = PopulationStep(
        episode,
        update,
        num_opponents=settings.co_players,
        naive_fraction=settings.naive_fraction,
        dynamic_naive=True,
    )

    def start(key: Key[Array, ""]) -> Any:
        agents = stack_policies(
            [
                recurrent_agent(
                    config.agent,
                    named_key(key, "agent", i),
                    observation_size=world.observation_space.shape[0],
                    num_actions=6,
                )
                for i in range(2)
            ]
        )
        return step.init(Pool(agents, agents))

    carry = eqx.filter_jit(eqx.filter_vmap(start))(cells.keys("init"))
    every = max(1, settings.iterations // 50)
    result = cells.fit(step, carry, steps=settings.iterations, record_every=every, one_by_one=True)

    def judge(key: Key[Array, ""], pool: Pool) -> tuple[dict[str, Array], dict[str, Array]]:
        keys = jax.random.split(key, MEETINGS)
        played = jax.vmap(lambda one: episode.against_agent(one, pool.agent(0), pool.agent(1)))(keys)
        info = {name: value.astype(jnp.float32) for name, value in played.info.items()}
        cleaned = info["cleaned"].mean(axis=(0, 1, 2))
        numbers = dict(
            reward=(played.ego.reward.mean() + played.other.reward.mean()) / 2,
            zaps=info["zapped"].mean(),
            discrepancy=jnp.abs(cleaned[0] - cleaned[1]),
            cleaned=cleaned.mean(),
            pollution=info["dirt"].mean(),
            apples=info["apples"].mean(),
        )
        # The last inner episode of one copy, for a picture.
        last = jax.tree.map(lambda x: x[0, 0, -settings.steps :], played)
        seen = jnp.stack([last.ego.observation, last.other.observation], axis=1)
        return numbers, dict(seen=seen.astype(jnp.int8), zapped=last.info["zapped"].astype(jnp.int8))

    measured = eqx.filter_jit(eqx.filter_vmap(judge))
    untrained, _ = measured(cells.keys("evaluation"), carry.pool)
    numbers, film = measured(cells.keys("evaluation"), result.carry.pool)
    numbers |= {f"untrained/{name}": value for name, value in untrained.items()}
    cells.record({name: np.asarray(value) for name, value in numbers.items()}, step=settings.iterations)
    cells.save(**film)


def clean_up_episode(settings: CleanUpGame) -> MetaEpisode:
    """The meta-episode; naive learners are actor-critics that take plain gradient steps."""
    world = CleanUp(num_steps=settings.steps, height=settings.height, width=settings.width)
    learner = NaiveActorCritic(
        optimiser=optax.chain(optax.clip_by_global_norm(MAX_NORM), optax.sgd(settings.naive_rate)),
        discount=1.0,
        reward_scale=REWARD_SCALE,
        normalise=False,
    )
    return MetaEpisode(world, learner, batch_size=settings.copies, num_episodes=settings.episodes)
