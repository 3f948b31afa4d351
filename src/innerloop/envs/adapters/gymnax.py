"""Worlds from and to gymnax, version 1.0 or later."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment as gymnax_environment
from gymnax.environments import spaces as gymnax_spaces
from jaxtyping import Array, Key, PyTree

from ...core.errors import require
from ..environment import AbstractEnvironment, TimeStep
from ..spaces import AbstractSpace, Box, Discrete
from .foreign import flat, like, nothing_yet, space_of, strong, their_promotion


class GymnaxWorld(AbstractEnvironment):
    """A world of gymnax with one agent, made by `from_gymnax`."""

    environment: Any = eqx.field(static=True)
    params: PyTree
    observations: AbstractSpace
    actions: AbstractSpace

    @property
    def num_agents(self) -> int:
        """One."""
        return 1

    @property
    def observation_space(self) -> AbstractSpace:
        """That of the parameters with which the world was made."""
        return self.observations

    @property
    def action_space(self) -> AbstractSpace:
        """That of the parameters with which the world was made."""
        return self.actions

    def reset(self, key: Key[Array, ""]) -> TimeStep:
        """The start of an episode."""
        with their_promotion():
            observation, state = self.environment.reset_env(key, self.params)
            action = jnp.zeros(self.actions.shape, self.actions.dtype)
            after = jax.eval_shape(self.environment.step_env, key, state, action, self.params)
            info = nothing_yet(after[4])
        no = jnp.asarray(False)
        return TimeStep(strong(state), self._seen(observation), jnp.zeros(1), no, no, info)

    def step(self, key: Key[Array, ""], state: PyTree, action: Array) -> TimeStep:
        """One step, without the reset that gymnax makes in its `step`: what is shown is what came of the action."""
        with their_promotion():
            after = self.environment.step_env(key, state, action[0], self.params)
            observation, following, reward, terminated, info = after
            truncated = self.environment.is_truncated(following, self.params)
        return TimeStep(
            like(following, state),
            self._seen(observation),
            jnp.asarray(reward, jnp.float32).reshape(1),
            jnp.asarray(terminated, bool).reshape(()),
            jnp.asarray(truncated, bool).reshape(()),
            strong(flat(info)),
        )

    def _seen(self, observation: Any) -> Array:
        return jnp.asarray(observation, self.observations.dtype)[None]


def from_gymnax(environment: Any, params: PyTree | None = None) -> GymnaxWorld:
    """A world of gymnax as one of ours, with one agent.

    Termination and truncation are what gymnax says they are, and the observation after the last action is that of
    the old episode. Arrays in `params` are leaves: several worlds with numbers of their own are a `jax.vmap`.

    **Arguments:**

    - `environment`: a world, as from `gymnax.make`.
    - `params`: its parameters; its own by default.

    **Errors:** `ValueError` for gymnax before 1.0, whose steps mix termination and time limits, and for spaces other
    than `Discrete` and `Box`; an action box must have the same bounds in every entry.
    """
    require(
        hasattr(environment, "is_truncated"),
        f"{type(environment).__name__} does not tell truncation from termination: gymnax 1.0 or later is needed",
    )
    params = environment.default_params if params is None else params
    with their_promotion():
        seen, done = environment.observation_space(params), environment.action_space(params)
    name = type(environment).__name__
    return GymnaxWorld(
        environment,
        params,
        space_of(seen, f"the observation space of {name}", exact=False),
        space_of(done, f"the action space of {name}", exact=True),
    )


@struct.dataclass
class WorldParams(gymnax_environment.EnvParams):
    """The world itself is the parameter, so that its numbers can be swept as those of any gymnax world."""

    max_steps_in_episode: Any = 1
    world: Any = None


@struct.dataclass
class WorldState(gymnax_environment.EnvState):
    """How many steps have been made, and what the world showed last."""

    time: Any  # arrays, and whatever else JAX's transformations put into trees
    now: Any


class GymnaxFace(gymnax_environment.Environment):
    """One of our worlds as gymnax sees it, made by `to_gymnax`."""

    def __init__(self, world: AbstractEnvironment):
        super().__init__()
        self._world = world

    @property
    def name(self) -> str:
        """The name of the world."""
        return type(self._world).__name__

    @property
    def default_params(self) -> WorldParams:
        """The world as it was given. Its time limit, if it has one, is its own: `max_steps_in_episode` says nothing."""
        return WorldParams(max_steps_in_episode=jnp.iinfo(jnp.int32).max, world=self._world)

    @property
    def num_actions(self) -> int:
        """How many actions there are."""
        space = self._world.action_space
        if not isinstance(space, Discrete):
            raise ValueError(f"{self.name} has no finite number of actions: {space}")
        return space.size

    def reset_env(self, key: Array, params: WorldParams) -> tuple[Array, WorldState]:
        """The start of an episode."""
        return _shown(jnp.asarray(0, jnp.int32), params.world.reset(key))

    def step_env(
        self, key: Array, state: WorldState, action: Any, params: WorldParams
    ) -> tuple[Array, WorldState, Array, Array, dict[str, Array]]:
        """One step, without a reset."""
        action = jnp.asarray(action, self._world.action_space.dtype)
        after = params.world.step(key, state.now.state, action[None])
        observation, following = _shown(state.time + 1, after)
        info = {**after.info, "discount": 1.0 - after.terminated.astype(jnp.float32)}
        return observation, following, after.reward[0], after.terminated, info

    def observe(self, key: Array, state: WorldState, action: Any, params: WorldParams) -> Array:
        """What was shown last."""
        return state.now.observation[0]

    def is_terminated(self, state: WorldState, params: WorldParams) -> Array:
        """Whether the episode has no future."""
        return state.now.terminated

    def is_truncated(self, state: WorldState, params: WorldParams) -> Array:
        """Whether the episode was cut off."""
        return state.now.truncated

    def action_space(self, params: WorldParams | None = None) -> gymnax_spaces.Space:
        """What the agent can do."""
        return _their_space(self._world.action_space)

    def observation_space(self, params: WorldParams | None = None) -> gymnax_spaces.Space:
        """What the agent sees."""
        return _their_space(self._world.observation_space)


def to_gymnax(world: AbstractEnvironment) -> GymnaxFace:
    """One of our worlds with gymnax's interface: `reset`, `step` with six values, spaces, parameters.

    As every gymnax world, it resets itself in `step`, and the last observation of the old episode is
    `info["final_observation"]`. `gymnax.wrappers.LegacyStepAPIWrapper` makes five values of the six.

    **Errors:** `ValueError` for a world of several agents, for which there is `to_jaxmarl`.
    """
    require(
        world.num_agents == 1,
        f"gymnax has one agent, but {type(world).__name__} has {world.num_agents}: use to_jaxmarl or to_pettingzoo",
    )
    return GymnaxFace(world)


def _shown(time: Array, now: TimeStep) -> tuple[Array, WorldState]:
    return now.observation[0], WorldState(time=time, now=now)


def _their_space(space: AbstractSpace) -> gymnax_spaces.Space:
    if isinstance(space, Discrete):
        return gymnax_spaces.Discrete(space.size)
    assert isinstance(space, Box)
    return gymnax_spaces.Box(space.low, space.high, space.shape, jnp.float32)
