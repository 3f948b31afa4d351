"""The mixed pool: some episodes against other learners, some against random memory-one players."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from ...core.errors import require
from ...core.rng import named_key
from ...envs.agent import AbstractAgent
from ...envs.matrix_games import IteratedMatrixGame
from ..rollout import rollout
from ..strategies import MemoryOne
from .posterior import random_games
from .tabular_pool import TabularPool, identity_vector

IDENTITY_SIZE = 10


class Episodes(NamedTuple):
    """One player's own streams of many episodes, and whom it met, which only ablations may look at."""

    observations: Int[Array, "*n s"]  # one more than actions
    actions: Int[Array, "*n t"]
    rewards: Float[Array, "*n t"]
    identity: Float[Array, "*n i"]  # of the co-player: zeros for a learner
    with_learner: Bool[Array, "*n"]


MakeAgent = Callable[[Float[Array, "i"]], AbstractAgent]


class MixedPool(eqx.Module):
    r"""Who plays with whom: each learner against tabular players, and the two learners against each other.

    Nobody is told whom it meets. Both learners play `against_tabular` episodes with fresh tabular players of their
    own and share `against_learners` episodes.

    **Arguments:**

    - `game`: a game of two players with two actions.
    - `tabular`: the law of the tabular players.
    - `against_tabular`, `against_learners`: how many episodes of either kind each learner plays at a time.

    **Reference:** Weis et al. (2026), arXiv 2602.16301 (half and half).

    **Errors:** `ValueError` for a pool with nobody to play with, or for another game.
    """

    game: IteratedMatrixGame
    tabular: TabularPool
    against_tabular: int = eqx.field(static=True)
    against_learners: int = eqx.field(static=True)

    def __check_init__(self):
        require(self.game.num_actions == 2, f"the pool plays games of two actions, not {self.game.num_actions}")
        counts = (self.against_tabular, self.against_learners)
        require(min(counts) >= 0, f"against_tabular and against_learners must not be negative, but are {counts}")
        require(sum(counts) >= 1, "the pool has nobody to play with: against_tabular and against_learners are both 0")

    @property
    def num_episodes(self) -> int:
        """How many episodes each learner plays at a time."""
        return self.against_tabular + self.against_learners

    def play(self, key: Key[Array, ""], learners: tuple[MakeAgent, ...]) -> Episodes:
        """Let one or two learners play a round of episodes.

        **Arguments:**

        - `key`: a random key.
        - `learners`: for each, a function from the vector that tells who the co-player is to the agent that plays
            that episode. Agents without that privilege ignore it.

        **Returns:** the episodes of each learner, `[learners, episodes, ...]`; those against tabular players first.

        **Errors:** `ValueError` if learners are to meet and there are not two of them.
        """
        require(
            len(learners) == 2 or (len(learners) == 1 and self.against_learners == 0),
            f"learners play with each other in pairs: two are needed, not {len(learners)}",
        )
        first, second = jax.random.split(key)
        each: list[list[Episodes]] = [[] for _ in learners]
        if self.against_tabular:
            shape = (len(learners), self.against_tabular)
            keys = jax.random.split(named_key(first, "games"), shape)
            players = jax.vmap(jax.vmap(self.tabular.sample))(jax.random.split(named_key(first, "players"), shape))
            for mine, some, theirs, learner in zip(each, keys, players, learners, strict=True):
                mine.append(jax.vmap(lambda one, q, learner=learner: self.against_one(one, learner, q))(some, theirs))
        if self.against_learners:
            both = jax.vmap(lambda one: self._together(one, learners))(jax.random.split(second, self.against_learners))
            for mine, its in zip(each, both, strict=True):
                mine.append(its)
        joined = [jax.tree.map(lambda *parts: jnp.concatenate(parts), *mine) for mine in each]
        return jax.tree.map(lambda *parts: jnp.stack(parts), *joined)

    def against_one(
        self, key: Key[Array, ""], learner: MakeAgent, cooperation: Float[Array, "5"] | None = None
    ) -> Episodes:
        """One episode of a learner against one tabular player: a given one, or a fresh one of the pool."""
        first, second = jax.random.split(key)
        q = self.tabular.sample(first) if cooperation is None else cooperation
        identity = identity_vector(q)
        trajectory, _ = rollout(self.game, (learner(identity), MemoryOne(q)), second, self.game.num_steps)
        return _streams(trajectory, (identity,), learner=False)[0]

    def random_episodes(self, key: Key[Array, ""], num_episodes: int, *, uniform: bool = False) -> Episodes:
        """The first data: one side of games of two tabular players, or of two who act uniformly at random.

        The latter are what a learner starts from that shall know of no other players than learners.
        """
        pool = TabularPool(1e6) if uniform else self.tabular
        games = random_games(key, pool, num_games=num_episodes, num_rounds=self.game.num_steps)
        views, actions = games.views[:, :, 0], games.actions
        last = 1 + 2 * actions[:, -1:, 0] + actions[:, -1:, 1]
        rewards = self.game.payoffs[0][actions[:, :, 0], actions[:, :, 1]]
        identity = jax.vmap(identity_vector)(games.cooperation[:, 1])
        return Episodes(
            jnp.concatenate([views, last], axis=1),
            actions[:, :, 0],
            rewards,
            jnp.zeros_like(identity) if uniform else identity,
            jnp.zeros(num_episodes, bool),
        )

    def _together(self, key: Key[Array, ""], learners: tuple[MakeAgent, ...]) -> list[Episodes]:
        unknown = jnp.zeros(IDENTITY_SIZE)
        agents = tuple(learner(unknown) for learner in learners)
        trajectory, _ = rollout(self.game, agents, key, self.game.num_steps)
        return _streams(trajectory, (unknown, unknown), learner=True)


def _streams(trajectory, identities: tuple, *, learner: bool) -> list[Episodes]:
    """The streams of the first players of one episode."""
    return [
        Episodes(
            jnp.concatenate([trajectory.observation[:, i], trajectory.next_observation[-1:, i]]),
            trajectory.action[:, i],
            trajectory.reward[:, i],
            identity,
            jnp.asarray(learner),
        )
        for i, identity in enumerate(identities)
    ]
