"""Rollouts: agents in a world, one scan, with a reset wherever an episode ends."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, PyTree

from ..core.errors import require
from ..envs.agent import AbstractAgent
from ..envs.environment import AbstractEnvironment, TimeStep


class Trajectory(NamedTuple):
    """What happened, with a leading time axis; agents come second."""

    observation: PyTree[Array]  # what each agent saw before acting: [t n ...]
    action: PyTree[Array]  # [t n ...]
    reward: Float[Array, "t n"]
    first: Bool[Array, "t"]  # whether the observation is the first of its episode
    terminated: Bool[Array, "t"]  # whether the episode ended for good with this action
    truncated: Bool[Array, "t"]  # whether it was cut off after this action
    next_observation: PyTree[Array]  # what followed the action, never the first of another episode: [t n ...]
    info: dict[str, Array]  # of the world after the action


class RolloutState(NamedTuple):
    """Where a rollout stopped and the next one goes on."""

    time_step: TimeStep
    first: Bool[Array, ""]
    memories: tuple[PyTree, ...]


def start_rollout(
    environment: AbstractEnvironment, agents: Sequence[AbstractAgent], key: Key[Array, ""]
) -> RolloutState:
    """A reset world and agents with empty memories; one agent per place, and the same one may take several."""
    require(
        len(agents) == environment.num_agents,
        f"{type(environment).__name__} has places for {environment.num_agents} agents, but {len(agents)} were given",
    )
    return RolloutState(environment.reset(key), jnp.asarray(True), tuple(agent.init_memory() for agent in agents))


def rollout(
    environment: AbstractEnvironment,
    agents: Sequence[AbstractAgent],
    key: Key[Array, ""],
    num_steps: int,
    state: RolloutState | None = None,
    *,
    keep_memories: bool = False,
) -> tuple[Trajectory, RolloutState]:
    """Let agents act for `num_steps` steps.

    When an episode ends, the world is reset and so are the memories; the trajectory keeps the last observation of
    the old episode in `next_observation`, so that a truncated episode can be bootstrapped.

    ```python
    >>> import jax
    >>> import innerloop as il
    >>> game = il.IteratedMatrixGame(il.PRISONERS_DILEMMA, num_steps=10)
    >>> agents = (il.TabularPolicy.uniform(5, 2), il.TabularPolicy.uniform(5, 2))
    >>> trajectory, state = il.rollout(game, agents, jax.random.key(0), 25)
    >>> trajectory.reward.shape, int(trajectory.first.sum())
    ((25, 2), 3)

    ```

    **Arguments:**

    - `environment`: one world; batches of rollouts are `jax.vmap` over keys.
    - `agents`: one per place.
    - `key`: a random key.
    - `num_steps`: how many steps.
    - `state`: where to go on from; `None` starts anew.
    - `keep_memories`: whether agents remember earlier episodes, as agents that learn across episodes do.

    **Errors:** `ValueError` if there are more or fewer agents than places.
    """
    start_key, scan_key = jax.random.split(key)
    fresh = start_rollout(environment, agents, start_key)
    state = fresh if state is None else state

    def advance(state: RolloutState, key: Key[Array, ""]) -> tuple[RolloutState, Trajectory]:
        world_key, reset_key, agents_key = jax.random.split(key, 3)
        observation = state.time_step.observation
        seen = [jax.tree.map(lambda x, i=i: x[i], observation) for i in range(len(agents))]
        keys = jax.random.split(agents_key, len(agents))
        turns = [
            agent.act(one, memory, view)
            for agent, one, memory, view in zip(agents, keys, state.memories, seen, strict=True)
        ]
        action = jax.tree.map(lambda *each: jnp.stack(each), *[action for _, action in turns])
        after = environment.step(world_key, state.time_step.state, action)
        memories = tuple(
            agent.observe(memory, view, chosen, after.reward[i])
            for i, (agent, (memory, chosen), view) in enumerate(zip(agents, turns, seen, strict=True))
        )
        step = Trajectory(
            observation,
            action,
            after.reward,
            state.first,
            after.terminated,
            after.truncated,
            after.observation,
            after.info,
        )
        ended = after.ended
        world = select(ended, environment.reset(reset_key), after)
        memories = memories if keep_memories else select(ended, fresh.memories, memories)
        return RolloutState(world, ended, memories), step

    state, trajectory = jax.lax.scan(advance, state, jax.random.split(scan_key, num_steps))
    return trajectory, state


def select(condition: Bool[Array, ""], if_true: PyTree, if_false: PyTree) -> PyTree:
    """One of two pytrees of the same structure."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), if_true, if_false)
