"""What one agent lives through in many copies of a world, and what it learns from: the data of A2C and PPO."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from ...core.errors import require
from ...core.tree import trainable
from ...envs.environment import AbstractEnvironment
from ..policy import AbstractPolicy, PolicyOutput
from ..rollout import RolloutState, select, start_rollout
from .losses import choices
from .returns import Scalar, generalised_advantages


class Episodes(NamedTuple):
    """Returns and lengths of the episodes of each world."""

    return_so_far: Float[Array, "e"]
    length_so_far: Int[Array, "e"]
    last_return: Float[Array, "e"]  # of the last episode that ended; zero before any has
    last_length: Int[Array, "e"]


class Learner(eqx.Module):
    """What training carries: a policy, its optimiser, and the worlds where they stopped."""

    policy: AbstractPolicy
    optimiser_state: PyTree
    worlds: RolloutState  # leading axis: worlds
    episodes: Episodes


class Experience(NamedTuple):
    """What happened: time first, worlds second."""

    observation: Array  # [t e ...]
    action: Int[Array, "t e"]
    reward: Float[Array, "t e"]
    first: Bool[Array, "t e"]  # whether the observation is the first of its episode
    terminated: Bool[Array, "t e"]
    truncated: Bool[Array, "t e"]
    log_probability: Float[Array, "t e"]  # of the action, when it was done
    value: Float[Array, "t e"]
    next_value: Float[Array, "t e"]  # of what the action led to, also where the episode was cut off there


class Batch(NamedTuple):
    """Sequences to learn from: leading axis sequences, then time."""

    observation: Array  # [u t ...]
    memory: PyTree  # before the first observation of each sequence
    first: Bool[Array, "u t"]
    action: Int[Array, "u t"]
    log_probability: Float[Array, "u t"]
    value: Float[Array, "u t"]
    advantage: Float[Array, "u t"]
    target: Float[Array, "u t"]


def start_learner(
    environment: AbstractEnvironment,
    policy: AbstractPolicy,
    optimiser: optax.GradientTransformation,
    key: Key[Array, ""],
    num_worlds: int,
) -> Learner:
    """A policy before training, in worlds that were just reset."""
    worlds = jax.vmap(lambda one: start_rollout(environment, (policy,), one))(jax.random.split(key, num_worlds))
    zeros, none = jnp.zeros_like(worlds.time_step.reward[:, 0]), jnp.zeros(num_worlds, jnp.int32)
    return Learner(policy, optimiser.init(trainable(policy)), worlds, Episodes(zeros, none, zeros, none))


def check_worlds(environment: AbstractEnvironment, num_worlds: int, num_steps: int) -> None:
    """Refuse worlds of several agents, and empty batches."""
    require(
        environment.num_agents == 1,
        f"one policy learns alone in its world, but {type(environment).__name__} has {environment.num_agents} agents",
    )
    for name, number in dict(num_worlds=num_worlds, num_steps=num_steps).items():
        require(number >= 1, f"{name} must be at least 1, not {number}")


def collect(
    environment: AbstractEnvironment,
    policy: AbstractPolicy,
    worlds: RolloutState,
    episodes: Episodes,
    key: Key[Array, ""],
    num_steps: int,
) -> tuple[Experience, RolloutState, Episodes]:
    """Act in all worlds at once, resetting those whose episode ends.

    The same as `rollout` over many worlds, but for what training does not need at every step: worlds are drawn anew,
    and the last observation of a truncated episode is valued, only in steps in which that happens somewhere.
    """
    num_worlds = worlds.first.shape[0]
    fresh_memory = jax.tree.map(lambda x: jnp.broadcast_to(x, (num_worlds, *x.shape)), policy.init_memory())

    def look(memory: PyTree, time_step: Any) -> tuple[Array, PyTree, PolicyOutput]:
        seen = jax.tree.map(lambda x: x[:, 0], time_step.observation)
        return seen, *jax.vmap(policy.look)(memory, seen)

    def advance(state: tuple[RolloutState, Episodes], key: Key[Array, ""]) -> tuple[Any, Experience]:
        worlds, episodes = state
        action_key, world_key, reset_key = jax.random.split(key, 3)
        seen, memory, output = look(worlds.memories[0], worlds.time_step)
        action = jax.random.categorical(action_key, output.logits).astype(jnp.int32)
        step_keys = jax.random.split(world_key, num_worlds)
        after = jax.vmap(environment.step)(step_keys, worlds.time_step.state, action[:, None])
        reward = after.reward[:, 0]
        memory = jax.vmap(policy.observe)(memory, seen, action, reward)
        ended, cut = after.terminated | after.truncated, after.truncated & ~after.terminated
        cut_value = jax.lax.cond(
            jnp.any(cut), lambda: look(memory, after)[2].value, lambda: jnp.zeros_like(output.value)
        )

        def renew() -> tuple:
            new = jax.vmap(environment.reset)(jax.random.split(reset_key, num_worlds))
            return jax.vmap(select)(ended, (new, fresh_memory), (after, memory))

        time_step, memory = jax.lax.cond(jnp.any(ended), renew, lambda: (after, memory))
        episodes = _count(episodes, reward, ended)
        log_probability, _ = choices(output.logits, action)
        lived = Experience(
            seen,
            action,
            reward,
            worlds.first,
            after.terminated,
            after.truncated,
            log_probability,
            output.value,
            next_value=cut_value,
        )
        return (RolloutState(time_step, ended, (memory,)), episodes), lived

    keys = jax.random.split(key, num_steps)
    (after, episodes), lived = jax.lax.scan(advance, (worlds, episodes), keys)
    last_value = look(after.memories[0], after.time_step)[2].value
    following = jnp.concatenate([lived.value[1:], last_value[None]])
    next_value = jnp.where(lived.truncated & ~lived.terminated, lived.next_value, following)
    return lived._replace(next_value=next_value), after, episodes


def make_batch(
    experience: Experience,
    memory: PyTree,
    *,
    discount: Scalar,
    trace_decay: Scalar,
) -> Batch:
    """Advantages and value targets, and the data as sequences that can be shuffled.

    A policy that remembers nothing learns from single moments, sequences of length one. One that remembers learns
    from the whole trajectory of a world, unrolled again from the memory with which it began.
    """

    def advantages(*columns: Array) -> Array:
        return generalised_advantages(*columns, discount=discount, trace_decay=trace_decay)

    advantage = jax.vmap(advantages, in_axes=1, out_axes=1)(
        experience.reward, experience.value, experience.next_value, experience.terminated, experience.truncated
    )
    remembers = bool(jax.tree.leaves(memory))

    def arrange(x: Array) -> Array:
        return jnp.swapaxes(x, 0, 1) if remembers else x.reshape(-1, 1, *x.shape[2:])

    arrays = (
        experience.action,
        experience.log_probability,
        experience.value,
        advantage,
        advantage + experience.value,
    )
    return Batch(arrange(experience.observation), memory, arrange(experience.first), *map(arrange, arrays))


def said(policy: AbstractPolicy, batch: Batch) -> PolicyOutput:
    """What a policy says about a batch: logits `[u t a]` and values `[u t]`."""
    num_sequences, length = batch.action.shape
    if not jax.tree.leaves(batch.memory):
        # Without memory all moments are one sequence: matrix products of two axes, twice as fast as of three.
        moments = batch.observation.reshape(-1, *batch.observation.shape[2:])
        output, _ = policy.unroll(moments, batch.memory)
        return jax.tree.map(lambda x: x.reshape(num_sequences, length, *x.shape[1:]), output)

    def unroll(observation: Array, memory: PyTree, first: Bool[Array, "t"]) -> PolicyOutput:
        return policy.unroll(observation, memory, resets=first)[0]

    return jax.vmap(unroll)(batch.observation, batch.memory, batch.first)


def summarise(experience: Experience, episodes: Episodes) -> dict[str, Float[Array, ""]]:
    """How well the policy did: the mean reward of a step, and the mean over worlds of the last whole episode."""
    return dict(
        reward=jnp.mean(experience.reward),
        episode_return=jnp.mean(episodes.last_return),
        episode_length=jnp.mean(episodes.last_length.astype(experience.reward.dtype)),
    )


def _count(episodes: Episodes, reward: Float[Array, "e"], ended: Bool[Array, "e"]) -> Episodes:
    total, length = episodes.return_so_far + reward, episodes.length_so_far + 1
    return Episodes(
        jnp.where(ended, jnp.zeros_like(total), total),
        jnp.where(ended, jnp.zeros_like(length), length),
        jnp.where(ended, total, episodes.last_return),
        jnp.where(ended, length, episodes.last_length),
    )
