"""Pools: learning-aware agents and naive learners who meet, and the step that trains all agents of a pool at once."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree

from ...core.errors import require
from ...core.rng import named_key
from ...core.tree import pick
from ..policy import AbstractPolicy
from .meta_episode import MetaEpisode, MetaTrajectory
from .update import LearningAwareUpdate

Info = dict[str, Float[Array, ""]]


class Pool(eqx.Module):
    """Who may meet whom: agents `[p ...]` who learn about learners, and where naive learners begin `[j ...]`.

    Both are stacked policies, one architecture each (`stack_policies`, or `eqx.filter_vmap` of whatever makes one).
    """

    agents: AbstractPolicy
    naive: AbstractPolicy

    @property
    def num_agents(self) -> int:
        """How many agents there are."""
        return count_stacked(self.agents)

    @property
    def num_naive(self) -> int:
        """How many beginnings of naive learners there are."""
        return count_stacked(self.naive)

    def agent(self, index: int | Int[Array, ""]) -> AbstractPolicy:
        """One agent."""
        return pick(self.agents, index)


class Population(eqx.Module):
    """What training a pool carries: everything, so that a training that was killed goes on as if it had not been."""

    pool: Pool
    optimiser_states: PyTree  # stacked; a tuple with one per agent where each has an update of its own


class PopulationStep(eqx.Module):
    r"""A training step `(key, population) -> (population, info)` for `fit`: every agent of a pool learns at once.

    Each agent meets `num_opponents` co-players: a fraction `naive_fraction` of them are naive learners, whose
    beginnings are drawn uniformly; the others are other agents of the pool, drawn with replacement, never itself.
    All act with the policies from before the step. The fraction is met exactly in every step, which changes no
    expectation and lets both kinds of games run without computing the other.

    ```python
    >>> import jax, optax
    >>> import innerloop as il
    >>> game = il.IteratedMatrixGame(il.PRISONERS_DILEMMA, num_steps=5)
    >>> episode = il.MetaEpisode(game, il.NaiveReinforce(), batch_size=4, num_episodes=3)
    >>> update = il.LearningAwareUpdate(optax.adam(0.02), inner_length=5)
    >>> step = il.PopulationStep(episode, update, num_opponents=8, naive_fraction=0.75)
    >>> tabular = il.TabularPolicy.uniform(5, 2)
    >>> pool = il.Pool(agents=il.stack_policies([tabular, tabular]), naive=il.stack_policies([tabular]))
    >>> result = il.fit(step, step.init(pool), steps=2)
    >>> result.history("train", "reward_against_learners").shape
    (2,)

    ```

    **Arguments:**

    - `episode`: the game and how naive learners learn.
    - `updates`: how agents learn: all alike, or one update per agent.
    - `num_opponents`: how many co-players each agent meets in a step.
    - `naive_fraction`: how many of these are naive learners.
    - `dynamic_naive`: whether naive learners begin, in each step, as copies of agents drawn at random: for worlds in
        which learning from nothing takes too long. Needs one architecture for all.

    **Returns:** `info` has means over the agents, and for pools of several also each agent's own.

    **Reference:** Meulemans et al. (2024), arXiv 2410.18636, appendix B.2.

    **Errors:** `ValueError` if `naive_fraction * num_opponents` is not whole; at `init` for a pool with nobody to play
    or with other numbers or kinds of policies.
    """

    episode: MetaEpisode
    updates: LearningAwareUpdate | tuple[LearningAwareUpdate, ...]
    num_opponents: int = eqx.field(static=True)
    naive_fraction: float = eqx.field(static=True, default=1.0)
    dynamic_naive: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        require(self.num_opponents >= 1, f"num_opponents must be at least 1, not {self.num_opponents}")
        require(
            0.0 <= self.naive_fraction <= 1.0, f"naive_fraction lies between 0 and 1, not at {self.naive_fraction:g}"
        )
        whole = self.naive_fraction * self.num_opponents
        require(
            abs(whole - round(whole)) < 1e-6,
            f"a fraction of {self.naive_fraction:g} of {self.num_opponents} co-players is {whole:g}, which is not a "
            "whole number: choose another num_opponents",
        )

    @property
    def num_learners(self) -> int:
        """How many of an agent's co-players are naive learners."""
        return round(self.naive_fraction * self.num_opponents)

    def init(self, pool: Pool) -> Population:
        """The state at the start of training a pool."""
        self._check(pool)
        if isinstance(self.updates, tuple):
            return Population(pool, tuple(update.init(pool.agent(i)) for i, update in enumerate(self.updates)))
        return Population(pool, eqx.filter_vmap(self.updates.init)(pool.agents))

    def __call__(self, key: Key[Array, ""], population: Population) -> tuple[Population, Info]:
        pool = population.pool
        num_agents = pool.num_agents
        if self.dynamic_naive:
            drawn = jax.random.randint(named_key(key, "naive"), (pool.num_naive,), 0, num_agents)
            pool = Pool(pool.agents, pick(pool.agents, drawn))
        if isinstance(self.updates, tuple):
            pairs = enumerate(zip(population.optimiser_states, self.updates, strict=True))
            learned = [self._learn(key, pool, i, state, update) for i, (state, update) in pairs]
            agents, states, infos = zip(*learned, strict=True)
            after, states = stack_policies(agents), tuple(states)
            infos = {name: jnp.stack([one[name] for one in infos]) for name in infos[0]}
        else:
            # One after the other: the same program for each agent, whose matrix products are fast on a CPU.
            after, states, infos = self._learn_in_turn(key, pool, population.optimiser_states, self.updates)
        info = {name: jnp.mean(values) for name, values in infos.items()}
        if num_agents > 1:
            info |= {f"agent_{i}/{name}": values[i] for i in range(num_agents) for name, values in infos.items()}
        return Population(Pool(after, pool.naive), states), info

    def _learn(
        self, key: Key[Array, ""], pool: Pool, index: int | Int[Array, ""], state: PyTree, update: LearningAwareUpdate
    ) -> tuple[AbstractPolicy, PyTree, Info]:
        """One agent plays and learns; the policies of the others are those from before the step."""
        learns = jnp.arange(self.num_opponents) < self.num_learners
        trajectories = self.play(named_key(key, "play", index), pool, index)
        agent, state, info = update(named_key(key, "update", index), pool.agent(index), state, trajectories, learns)
        return agent, state, {**self._rewards(trajectories), **info}

    def _learn_in_turn(
        self, key: Key[Array, ""], pool: Pool, states: PyTree, update: LearningAwareUpdate
    ) -> tuple[AbstractPolicy, PyTree, dict[str, Float[Array, "p"]]]:
        arrays, static = eqx.partition(states, eqx.is_array)
        rest = eqx.filter(pool.agents, eqx.is_array, inverse=True)

        def one(turn: tuple[Array, PyTree]) -> tuple[PyTree, PyTree, Info]:
            index, state = turn
            agent, state, info = self._learn(key, pool, index, eqx.combine(state, static), update)
            return eqx.filter(agent, eqx.is_array), eqx.filter(state, eqx.is_array), info

        agents, arrays, infos = jax.lax.map(one, (jnp.arange(pool.num_agents), arrays))
        return eqx.combine(agents, rest), eqx.combine(arrays, static), infos

    def play(self, key: Key[Array, ""], pool: Pool, index: int | Int[Array, ""]) -> MetaTrajectory:
        """One agent's meta-trajectories of a step: against learners first, then against other agents."""
        ego, parts = pool.agent(index), []
        num_others = self.num_opponents - self.num_learners
        if self.num_learners:
            drawn = jax.random.randint(named_key(key, "learners"), (self.num_learners,), 0, pool.num_naive)
            parts.append(
                eqx.filter_vmap(lambda key, naive: self.episode.against_learner(key, ego, naive)[0])(
                    jax.random.split(named_key(key, "against learners"), self.num_learners), pick(pool.naive, drawn)
                )
            )
        if num_others:
            drawn = draw_others(named_key(key, "agents"), index, pool.num_agents, num_others)
            parts.append(
                eqx.filter_vmap(lambda key, other: self.episode.against_agent(key, ego, other))(
                    jax.random.split(named_key(key, "against agents"), num_others), pick(pool.agents, drawn)
                )
            )
        return jax.tree.map(lambda *each: jnp.concatenate(each), *parts) if len(parts) > 1 else parts[0]

    def _rewards(self, trajectories: MetaTrajectory) -> Info:
        info, split = {}, self.num_learners
        own, others = trajectories.ego.reward, trajectories.other.reward
        if split:
            info |= dict(reward_against_learners=jnp.mean(own[:split]), reward_of_learners=jnp.mean(others[:split]))
        if split < self.num_opponents:
            info |= dict(reward_against_agents=jnp.mean(own[split:]))
        return info

    def _check(self, pool: Pool) -> None:
        p, j = pool.num_agents, pool.num_naive
        require(p >= 1, "a pool needs at least one agent to train")
        require(
            self.num_learners == 0 or j >= 1,
            f"nobody to play: naive_fraction={self.naive_fraction:g} asks for naive learners, of which there are none",
        )
        require(
            self.num_learners == self.num_opponents or p >= 2,
            f"nobody to play: naive_fraction={self.naive_fraction:g} asks for other agents, but the pool has one, and "
            "agents do not play themselves; add agents or set naive_fraction to 1",
        )
        if isinstance(self.updates, tuple):
            require(len(self.updates) == p, f"{len(self.updates)} updates were given for {p} agents")
        if self.dynamic_naive:
            require(
                jax.tree.structure(pool.naive) == jax.tree.structure(pool.agents),
                "dynamic_naive makes naive learners of agents: both need one architecture",
            )


def draw_others(key: Key[Array, ""], index: int | Int[Array, ""], num_agents: int, count: int) -> Int[Array, "n"]:
    """Indices of agents other than `index`, uniform, with replacement."""
    drawn = jax.random.randint(key, (count,), 0, num_agents - 1)
    return drawn + (drawn >= index).astype(drawn.dtype)


def stack_policies(policies: Sequence[AbstractPolicy]) -> Any:
    """Policies of one architecture as one with a leading axis.

    **Errors:** `ValueError` if there are none, or of different architectures.
    """
    require(len(policies) >= 1, "give at least one policy")
    parts = [eqx.partition(policy, eqx.is_array) for policy in policies]
    shapes = [jax.tree.map(jnp.shape, arrays) for arrays, _ in parts]
    alike = all(shape == shapes[0] for shape in shapes) and all(eqx.tree_equal(one, parts[0][1]) for _, one in parts)
    require(alike, "policies of different architectures cannot be stacked: a pool's agents have one architecture")
    return eqx.combine(jax.tree.map(lambda *each: jnp.stack(each), *(arrays for arrays, _ in parts)), parts[0][1])


def count_stacked(stacked: PyTree) -> int:
    """How many policies are stacked."""
    leaves = jax.tree.leaves(eqx.filter(stacked, eqx.is_array))
    return leaves[0].shape[0] if leaves else 0
