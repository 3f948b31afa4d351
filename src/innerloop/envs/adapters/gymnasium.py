"""Worlds to Gymnasium, and agents in Gymnasium's worlds."""

from typing import Any

import gymnasium
import jax
import numpy as np
from jaxtyping import Array, Key

from ...core.errors import require
from ..agent import AbstractAgent
from ..environment import AbstractEnvironment
from .host import Life, Player, Running, gymnasium_space, to_host


class GymnasiumFace(gymnasium.Env):
    """One of our worlds as Gymnasium sees it, made by `to_gymnasium`."""

    def __init__(self, world: AbstractEnvironment, seed: int | None):
        self.metadata = {"render_modes": []}
        self.observation_space = gymnasium_space(world.observation_space)
        self.action_space = gymnasium_space(world.action_space)
        self._running, self._seed = Running(world), seed

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode; after a reset with a seed all later ones follow from it too."""
        super().reset(seed=self._seed if seed is None else seed)
        self._seed = None
        now = self._running.reset(int(self.np_random.integers(2**31)))
        return self._seen(now.observation), jax.tree.map(np.asarray, now.info)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step."""
        now = self._running.step(np.asarray(action)[None])
        info = jax.tree.map(np.asarray, now.info)
        ends = bool(now.terminated), bool(now.truncated)
        return self._seen(now.observation), float(now.reward[0]), *ends, info

    def _seen(self, observation: Array) -> Any:
        return to_host(self._running.world.observation_space, observation[0])


def to_gymnasium(world: AbstractEnvironment, seed: int | None = None) -> GymnasiumFace:
    """One of our worlds as a `gymnasium.Env`.

    **Arguments:**

    - `world`: the world.
    - `seed`: of the first episode, if `reset` is given none.

    **Errors:** `ValueError` for a world of several agents, for which there is `to_pettingzoo`, and for a step after
    the end of an episode.
    """
    require(
        world.num_agents == 1,
        f"Gymnasium has one agent, but {type(world).__name__} has {world.num_agents}: use to_pettingzoo",
    )
    return GymnasiumFace(world, seed)


def play_gymnasium(
    environment: Any, agent: AbstractAgent, key: Key[Array, ""], *, max_steps: int = 1000, seed: int | None = None
) -> Life:
    """Let one of our agents play one episode in a world of Gymnasium.

    **Arguments:**

    - `environment`: a `gymnasium.Env` with `Discrete` or `Box` spaces; it is reset first.
    - `agent`: who plays; integers start at zero for it, whatever the `start` of the space is.
    - `key`: for what the agent does.
    - `max_steps`: after how many steps to stop, if the world does not.
    - `seed`: for the world.

    **Returns:** what the agent saw, did and earned; both ends are false if it was stopped.

    **Errors:** `ValueError` for other spaces.
    """
    player = Player(agent, key, environment.observation_space, environment.action_space, "the agent")
    observation, _ = environment.reset(seed=seed)
    player.see(observation)
    for _ in range(max_steps):
        observation, reward, terminated, truncated, _ = environment.step(player.act())
        player.earn(float(reward), observation, terminated, truncated)
        if terminated or truncated:
            break
    return player.life()
