"""Worlds from and to JaxMARL."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from flax import struct
from jaxmarl.environments import spaces as jaxmarl_spaces
from jaxmarl.environments.multi_agent_env import MultiAgentEnv
from jaxtyping import Array, Key, PyTree

from ...core.errors import require
from ..environment import AbstractEnvironment, TimeStep
from ..spaces import AbstractSpace, Box, Discrete
from .foreign import flat, like, nothing_yet, space_of, strong, their_promotion

_EVERYBODY = "__all__"


class JaxMARLWorld(AbstractEnvironment):
    """A world of JaxMARL, made by `from_jaxmarl`; agents are in the order of its `agents`."""

    environment: Any = eqx.field(static=True)
    cut_off: Callable[[Any], Any] | None = eqx.field(static=True)
    observations: AbstractSpace
    actions: AbstractSpace

    @property
    def num_agents(self) -> int:
        """As many as in the world."""
        return len(self.environment.agents)

    @property
    def observation_space(self) -> AbstractSpace:
        """What each agent sees."""
        return self.observations

    @property
    def action_space(self) -> AbstractSpace:
        """What each agent can do."""
        return self.actions

    def reset(self, key: Key[Array, ""]) -> TimeStep:
        """The start of an episode."""
        with their_promotion():
            observation, state = self.environment.reset(key)
            action = self._by_name(jnp.zeros((self.num_agents, *self.actions.shape), self.actions.dtype))
            after = jax.eval_shape(self.environment.step_env, key, state, action)
            info = nothing_yet(after[4])
        no = jnp.asarray(False)
        everybody = jnp.zeros(self.num_agents, bool)
        return TimeStep(
            strong(state), self._seen(observation), jnp.zeros(self.num_agents), no, no, {**info, "done": everybody}
        )

    def step(self, key: Key[Array, ""], state: PyTree, action: Array) -> TimeStep:
        """One step, without the reset that JaxMARL makes in its `step`."""
        with their_promotion():
            after = self.environment.step_env(key, state, self._by_name(action))
            observation, following, reward, done, info = after
            over = jnp.asarray(done[_EVERYBODY], bool).reshape(())
            cut = jnp.asarray(False if self.cut_off is None else self.cut_off(following), bool).reshape(())
            rewards = jnp.stack([jnp.asarray(reward[name], jnp.float32).reshape(()) for name in self._names])
            gone = jnp.stack([jnp.asarray(done[name], bool).reshape(()) for name in self._names])
        return TimeStep(
            like(following, state),
            self._seen(observation),
            rewards,
            over & ~cut,
            over & cut,
            {**strong(flat(info)), "done": gone},
        )

    @property
    def _names(self) -> list[Any]:
        return list(self.environment.agents)

    def _by_name(self, values: Array) -> dict[Any, Array]:
        return {name: values[i] for i, name in enumerate(self._names)}

    def _seen(self, observation: dict[Any, Any]) -> Array:
        return jnp.stack([jnp.asarray(observation[name], self.observations.dtype) for name in self._names])


def from_jaxmarl(environment: Any, *, cut_off: Callable[[Any], Any] | None = None) -> JaxMARLWorld:
    """A world of JaxMARL as one of ours.

    JaxMARL says only that an episode is over, not why. `cut_off` says which ends are none: with
    `cut_off=lambda state: state.step > 25` an episode that is over after so many steps is truncated, and its last
    observation still has a value. Without it every end is a termination. When single agents are done before the
    others is in `info["done"]`.

    **Arguments:**

    - `environment`: a world, as from `jaxmarl.make`.
    - `cut_off`: from the state after a step: if the episode is over, was it only the time?

    **Errors:** `ValueError`, which names the agent and its space, unless all agents have the same spaces, `Discrete`
    or `Box`.
    """
    name = type(environment).__name__
    spaces: dict[str, AbstractSpace] = {}
    for what in ("observation", "action"):
        agents = list(environment.agents)
        theirs = [
            space_of(_space(environment, what, agent), f"the {what} space of agent {agent!r}", exact=what == "action")
            for agent in agents
        ]
        for agent, space in zip(agents, theirs, strict=True):
            require(
                space == theirs[0],
                f"the agents of {name} must have the same spaces, but the {what} space of agent {agent!r} is {space}, "
                f"and that of agent {agents[0]!r} is {theirs[0]}",
            )
        spaces[what] = theirs[0]
    return JaxMARLWorld(environment, cut_off, spaces["observation"], spaces["action"])


def _space(environment: Any, what: str, agent: Any) -> Any:
    """The space of one agent. Some worlds of JaxMARL take no name in `observation_space`, some number their spaces."""
    table = getattr(environment, f"{what}_spaces", None) or {}
    if agent in table:
        return table[agent]
    try:
        return getattr(environment, f"{what}_space")(agent)
    except KeyError:
        return table[list(environment.agents).index(agent)]


@struct.dataclass
class WorldState:
    """Whether the episode is over, how many steps have been made, and what the world showed last."""

    done: Any  # arrays, and whatever else JAX's transformations put into trees
    step: Any
    now: Any


class JaxMARLFace(MultiAgentEnv):
    """One of our worlds as JaxMARL sees it, made by `to_jaxmarl`."""

    def __init__(self, world: AbstractEnvironment):
        super().__init__(num_agents=world.num_agents)
        self._world = world
        self.observation_spaces = {name: _their_space(world.observation_space) for name in self.agents}
        self.action_spaces = {name: _their_space(world.action_space) for name in self.agents}

    @property
    def name(self) -> str:
        """The name of the world."""
        return type(self._world).__name__

    @property
    def agent_classes(self) -> dict[str, list[str]]:
        """All agents are of one kind."""
        return {"agents": self.agents}

    def reset(self, key: Array) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The start of an episode."""
        state = _state(jnp.asarray(0, jnp.int32), self._world.reset(key))
        return self.get_obs(state), state

    def step_env(self, key: Array, state: Any, actions: dict[str, Any]) -> Any:
        """One step, without a reset."""
        chosen = jnp.stack([jnp.asarray(actions[name], self._world.action_space.dtype) for name in self.agents])
        after = self._world.step(key, state.now.state, chosen)
        following = _state(state.step + 1, after)
        observation = self.get_obs(following)
        rewards = {name: after.reward[i] for i, name in enumerate(self.agents)}
        dones = {name: after.ended for name in [*self.agents, _EVERYBODY]}
        ends = dict(terminated=after.terminated, truncated=after.truncated, final_observation=observation)
        return observation, following, rewards, dones, {**after.info, **ends}

    def get_obs(self, state: Any) -> dict[str, Array]:
        """What everybody was shown last."""
        return {name: state.now.observation[i] for i, name in enumerate(self.agents)}

    def get_avail_actions(self, state: Any) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """All actions are always possible."""
        space = self._world.action_space
        if not isinstance(space, Discrete):
            raise ValueError(f"{self.name} has no finite number of actions: {space}")
        return {name: jnp.ones(space.size, bool) for name in self.agents}


def to_jaxmarl(world: AbstractEnvironment) -> JaxMARLFace:
    """One of our worlds with JaxMARL's interface; agents are `agent_0`, `agent_1`, and so on.

    As every world of JaxMARL, it resets itself in `step`. Why an episode is over, and its last observations, are in
    the infos: `terminated`, `truncated` and `final_observation`.
    """
    return JaxMARLFace(world)


def _state(step: Array, now: TimeStep) -> WorldState:
    return WorldState(done=now.ended, step=step, now=now)  # pyright: ignore[reportCallIssue]


def _their_space(space: AbstractSpace) -> Any:
    if isinstance(space, Discrete):
        return jaxmarl_spaces.Discrete(space.size)
    assert isinstance(space, Box)
    return jaxmarl_spaces.Box(space.low, space.high, space.shape, jnp.float32)
