"""Meta-episodes: many inner episodes in a row, between which the co-player learns and the agent remembers."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree

from ...core.errors import require
from ...core.rng import named_key
from ...envs.agent import AbstractAgent
from ...envs.environment import AbstractEnvironment
from ..gradient.losses import choices
from ..policy import AbstractPolicy, PolicyOutput
from .naive import AbstractNaiveLearner, InnerEpisodes, NaiveState


class Moves(NamedTuple):
    """What one player saw, did and earned over a meta-episode; time runs on over inner episodes."""

    observation: Array  # [b l ...]
    action: Int[Array, "b l"]
    reward: Float[Array, "b l"]


class MetaTrajectory(NamedTuple):
    """A meta-episode of `b` parallel copies and `l = m t` steps."""

    ego: Moves  # of the agent who remembers
    other: Moves  # of its co-player
    log_probability: Float[Array, "b l"]  # of the agent's actions, when they were done
    value: Float[Array, "b l"]  # what the agent expected
    info: dict[str, Array]  # of the world after each step: [b l ...]


class MetaEpisode(eqx.Module):
    r"""The game that a learning-aware agent plays: `num_episodes` inner episodes of `num_steps` steps.

    `batch_size` copies of the game go on in parallel against **one** co-player. The world is reset at the start of
    each inner episode. The agent remembers the whole meta-episode, each copy its own; it has the first place.

    - `against_learner`: the co-player learns. Its policy is the same in all copies and during an episode, its memory
        starts empty in each, and after each episode it is updated on all copies of it.
    - `against_agent`: the co-player does not learn, and remembers as the agent does.

    Independent co-players are a `jax.vmap`. The world's own end of an episode is not looked at: an inner episode
    always has `num_steps` steps.

    ```python
    >>> import jax
    >>> import innerloop as il
    >>> game = il.IteratedMatrixGame(il.PRISONERS_DILEMMA, num_steps=10)
    >>> episode = il.MetaEpisode(game, il.NaiveReinforce(), batch_size=16, num_episodes=20)
    >>> agent = co_player = il.TabularPolicy.uniform(5, 2)
    >>> trajectory, learned = episode.against_learner(jax.random.key(0), agent, co_player)
    >>> trajectory.ego.reward.shape
    (16, 200)
    >>> bool(learned.policy.logits[0, 1] > learned.policy.logits[0, 0])  # it has learned to defect
    True

    ```

    **Arguments:**

    - `environment`: any world of two agents.
    - `learner`: how co-players learn.
    - `batch_size`: how many copies.
    - `num_episodes`: how many inner episodes.
    - `num_steps`: how long each is; by default as the world's own.

    **Reference:** Meulemans et al. (2024), arXiv 2410.18636, section 3: the batched co-player-shaping POMDP.

    **Errors:** `ValueError` for worlds that are not for two, for inner episodes longer than the world's own, and for a
    learner whose minibatch is not `batch_size`.
    """

    environment: AbstractEnvironment
    learner: AbstractNaiveLearner
    batch_size: int = eqx.field(static=True)
    num_episodes: int = eqx.field(static=True)
    num_steps: int = eqx.field(static=True)

    def __init__(
        self,
        environment: AbstractEnvironment,
        learner: AbstractNaiveLearner,
        *,
        batch_size: int,
        num_episodes: int,
        num_steps: int | None = None,
    ):
        own = getattr(environment, "num_steps", None)
        name = type(environment).__name__
        require(
            environment.num_agents == 2,
            f"a meta-episode is a game of two, but {name} has {environment.num_agents} agents",
        )
        num_steps = own if num_steps is None else num_steps
        if num_steps is None:
            raise ValueError(f"{name} has no num_steps of its own: give num_steps")
        self.environment = environment
        self.learner = learner
        self.batch_size = batch_size
        self.num_episodes = num_episodes
        self.num_steps = num_steps
        for field in ("batch_size", "num_episodes", "num_steps"):
            require(getattr(self, field) >= 1, f"{field} must be at least 1, not {getattr(self, field)}")
        require(
            own is None or self.num_steps <= own,
            f"inner episodes of {self.num_steps} steps would go on after the end of {name}, which has {own}",
        )
        require(
            learner.batch_size in (None, batch_size),
            f"the co-player learns from minibatches of {learner.batch_size} episodes, but batch_size={batch_size} "
            "copies are played against it: both must be the same",
        )

    @property
    def length(self) -> int:
        """The number of steps of a meta-episode."""
        return self.num_episodes * self.num_steps

    def against_learner(
        self, key: Key[Array, ""], ego: AbstractPolicy, initial: AbstractPolicy
    ) -> tuple[MetaTrajectory, NaiveState]:
        """Play against a co-player who starts with the policy `initial` and learns.

        **Returns:** what happened, and what the co-player has become, which nobody keeps in training.
        """
        fresh = self._fresh_memories(initial)

        def learn(key: Key[Array, ""], state: tuple[PyTree, NaiveState]) -> tuple[Any, MetaTrajectory]:
            memories, learned = state
            (memories, _), episode = self._inner_episode(key, ego, learned.policy, (memories, fresh))
            lived = InnerEpisodes(*jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), episode.other))
            return (memories, self.learner.update(learned, lived)), episode

        start = (self._fresh_memories(ego), self.learner.init(named_key(key, "learner"), initial))
        (_, learned), trajectory = self._inner_episodes(key, learn, start)
        return trajectory, learned

    def against_agent(self, key: Key[Array, ""], ego: AbstractPolicy, other: AbstractAgent) -> MetaTrajectory:
        """Play against an agent who does not learn; both remember the whole meta-episode."""

        def play(key: Key[Array, ""], memories: tuple[PyTree, PyTree]) -> tuple[Any, MetaTrajectory]:
            return self._inner_episode(key, ego, other, memories)

        start = (self._fresh_memories(ego), self._fresh_memories(other))
        return self._inner_episodes(key, play, start)[1]

    def by_episode(self, per_step: Float[Array, "*batch l"]) -> Float[Array, "*batch m"]:
        """Means over each inner episode, of rewards for example."""
        return per_step.reshape(*per_step.shape[:-1], self.num_episodes, self.num_steps).mean(-1)

    def _fresh_memories(self, agent: AbstractAgent) -> PyTree:
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (self.batch_size, *jnp.shape(x))), agent.init_memory())

    def _inner_episodes(self, key: Key[Array, ""], play: Callable, start: PyTree) -> tuple[PyTree, MetaTrajectory]:
        arrays, static = eqx.partition(start, eqx.is_array)

        def advance(arrays: PyTree, key: Key[Array, ""]) -> tuple[PyTree, MetaTrajectory]:
            state, episode = play(key, eqx.combine(arrays, static))
            return eqx.filter(state, eqx.is_array), episode

        keys = jax.random.split(named_key(key, "play"), self.num_episodes)
        arrays, episodes = jax.lax.scan(advance, arrays, keys)
        # [m t b ...] -> [b m*t ...]
        trajectory = jax.tree.map(
            lambda x: jnp.moveaxis(x, 2, 0).reshape(self.batch_size, self.length, *x.shape[3:]), episodes
        )
        return eqx.combine(arrays, static), trajectory

    def _inner_episode(
        self, key: Key[Array, ""], ego: AbstractPolicy, other: AbstractAgent, memories: tuple[PyTree, PyTree]
    ) -> tuple[tuple[PyTree, PyTree], MetaTrajectory]:
        """All copies of one inner episode: time first, copies second."""
        first = jax.vmap(self.environment.reset)(jax.random.split(named_key(key, "reset"), self.batch_size))

        def advance(state: tuple, key: Key[Array, ""]) -> tuple[tuple, MetaTrajectory]:
            world, observation, (own_memory, other_memory) = state
            own_key, other_key, world_key = jax.random.split(key, 3)
            mine, theirs = (jax.tree.map(lambda x, i=i: x[:, i], observation) for i in range(2))
            own_memory, action, output = _choose(own_key, ego, own_memory, mine)
            if isinstance(other, AbstractPolicy):
                other_memory, reply, _ = _choose(other_key, other, other_memory, theirs)
            else:
                keys = jax.random.split(other_key, self.batch_size)
                other_memory, reply = jax.vmap(other.act)(keys, other_memory, theirs)
            both = jnp.stack([action, reply], axis=1)
            after = jax.vmap(self.environment.step)(jax.random.split(world_key, self.batch_size), world, both)
            rewards = after.reward[:, 0], after.reward[:, 1]
            own_memory = jax.vmap(ego.observe)(own_memory, mine, action, rewards[0])
            other_memory = jax.vmap(other.observe)(other_memory, theirs, reply, rewards[1])
            log_probability = choices(output.logits, action)[0]
            step = MetaTrajectory(
                Moves(mine, action, rewards[0]),
                Moves(theirs, reply, rewards[1]),
                log_probability,
                output.value,
                after.info,
            )
            return (after.state, after.observation, (own_memory, other_memory)), step

        start = (first.state, first.observation, memories)
        keys = jax.random.split(named_key(key, "steps"), self.num_steps)
        (_, _, memories), steps = jax.lax.scan(advance, start, keys)
        return memories, steps


def _choose(
    key: Key[Array, ""], policy: AbstractPolicy, memory: PyTree, observation: Array
) -> tuple[PyTree, Int[Array, "b"], PolicyOutput]:
    """Look at one observation in each copy, and draw an action from each distribution."""
    memory, output = jax.vmap(policy.look)(memory, observation)
    # One uniform number per action and a count, in place of Gumbel noise for every possible action.
    passed = jnp.cumsum(jax.nn.softmax(output.logits), axis=-1)[:, :-1]
    number = jax.random.uniform(key, output.value.shape, passed.dtype)
    return memory, jnp.sum(number[:, None] >= passed, axis=-1, dtype=jnp.int32), output
