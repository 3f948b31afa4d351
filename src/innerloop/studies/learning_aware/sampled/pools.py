"""A COALA-PG agent and an M-FOS agent in one pool, with and without naive learners."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from ....core.rng import named_key
from ....lab.cells import Cells
from ....rl.learning_aware import Pool, PopulationStep, stack_policies
from ....rl.policy import AbstractPolicy
from ..configuration import Config
from .shaping import ESTIMATORS, beginnings, meta_episode, recurrent_agent, recurrent_update, tabular_update

AGENTS = ("coala", "m-fos")


def measure_pool(config: Config, cells: Cells) -> None:
    """Train both agents together; record what they earn from each other. Claim 7."""
    settings, chosen = config.sampled, config.sampled.pool
    episode = meta_episode(settings.game)
    make_update = recurrent_update if chosen.recurrent else tabular_update
    updates = tuple(make_update(settings.game, chosen.learning_rate, ESTIMATORS[name]) for name in AGENTS)
    mixed = cells.variant == "pool-mixed"
    step = PopulationStep(
        episode,
        updates,
        num_opponents=chosen.co_players,
        naive_fraction=chosen.naive_fraction if mixed else 0.0,
    )

    def start(key: Key[Array, ""]) -> Any:
        agents: AbstractPolicy = beginnings(settings.game, named_key(key, "agents"), len(AGENTS))
        if chosen.recurrent:
            one = lambda i: recurrent_agent(config.agent, named_key(key, "agents", i))  # noqa: E731
            agents = stack_policies([one(i) for i in range(len(AGENTS))])
        return step.init(Pool(agents, beginnings(settings.game, named_key(key, "naive"))))

    carry = eqx.filter_jit(eqx.filter_vmap(start))(cells.keys("init"))
    every = max(1, chosen.iterations // 100)
    result = cells.fit(step, carry, steps=chosen.iterations, record_every=every, one_by_one=chosen.recurrent)

    def judge(key: Key[Array, ""], pool: Pool) -> Array:
        keys = jax.random.split(key, settings.evaluation_co_players)

        def meet(key: Key[Array, ""], one: AbstractPolicy, other: AbstractPolicy) -> Array:
            played = episode.against_agent(key, one, other)
            return jnp.stack([played.ego.reward.mean(), played.other.reward.mean()])

        return jax.vmap(lambda key: meet(key, pool.agent(0), pool.agent(1)))(keys).mean(0)

    earned = np.asarray(eqx.filter_jit(eqx.filter_vmap(judge))(cells.keys("evaluation"), result.carry.pool))
    cells.record({name: earned[:, i] for i, name in enumerate(AGENTS)}, step=chosen.iterations)
