"""Worlds to PettingZoo (parallel), and agents in PettingZoo's worlds."""

from collections.abc import Mapping
from typing import Any

import gymnasium
import jax
import numpy as np
from jaxtyping import Array, Key
from pettingzoo import ParallelEnv

from ...core.errors import UnknownNameError, require
from ..agent import AbstractAgent
from ..environment import AbstractEnvironment, TimeStep
from .host import Life, Player, Running, gymnasium_space, to_host


class PettingZooFace(ParallelEnv):
    """One of our worlds as PettingZoo sees it, made by `to_pettingzoo`."""

    def __init__(self, world: AbstractEnvironment, seed: int):
        self.metadata = {"name": type(world).__name__, "render_modes": []}
        self.possible_agents = [f"agent_{i}" for i in range(world.num_agents)]
        self.agents: list[str] = []
        self.observation_spaces = {name: gymnasium_space(world.observation_space) for name in self.possible_agents}
        self.action_spaces = {name: gymnasium_space(world.action_space) for name in self.possible_agents}
        self._running, self._random = Running(world), np.random.default_rng(seed)

    def observation_space(self, agent: str) -> gymnasium.spaces.Space:
        """What an agent sees."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> gymnasium.spaces.Space:
        """What an agent can do."""
        return self.action_spaces[agent]

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        """Start an episode; after a reset with a seed all later ones follow from it too."""
        if seed is not None:
            self._random = np.random.default_rng(seed)
        self.agents = list(self.possible_agents)
        now = self._running.reset(int(self._random.integers(2**31)))
        return self._seen(now), self._info(now)

    def step(self, actions: dict[str, Any]) -> tuple[dict, dict, dict, dict, dict]:
        """One step of everybody at once."""
        for name in actions:
            if name not in self.possible_agents:
                raise UnknownNameError("agent", name, self.possible_agents)
        missing = [name for name in self.agents if name not in actions]
        require(not missing, f"everybody acts at once, but there is no action of {', '.join(missing)}")
        now = self._running.step(np.stack([np.asarray(actions[name]) for name in self.agents] or [np.zeros(0)]))
        rewards = {name: float(now.reward[i]) for i, name in enumerate(self.agents)}
        terminated = dict.fromkeys(self.agents, bool(now.terminated))
        truncated = dict.fromkeys(self.agents, bool(now.truncated))
        result = self._seen(now), rewards, terminated, truncated, self._info(now)
        if now.ended:
            self.agents = []
        return result

    def _seen(self, now: TimeStep) -> dict[str, Any]:
        space = self._running.world.observation_space
        return {name: to_host(space, now.observation[i]) for i, name in enumerate(self.agents)}

    def _info(self, now: TimeStep) -> dict[str, dict[str, Any]]:
        return {name: jax.tree.map(np.asarray, now.info) for name in self.agents}


def to_pettingzoo(world: AbstractEnvironment, seed: int = 0) -> PettingZooFace:
    """One of our worlds as a `pettingzoo.ParallelEnv`; agents are `agent_0`, `agent_1`, and so on.

    **Arguments:**

    - `world`: the world.
    - `seed`: of the first episode and those that follow, if `reset` is given none.

    **Errors:** `ValueError` for a step in which somebody does not act, or after the end of an episode;
    `UnknownNameError` for actions of nobody.
    """
    return PettingZooFace(world, seed)


def play_pettingzoo(
    environment: Any,
    agents: Mapping[Any, AbstractAgent],
    key: Key[Array, ""],
    *,
    max_steps: int = 1000,
    seed: int | None = None,
) -> dict[Any, Life]:
    """Let our agents play one episode in a parallel world of PettingZoo.

    **Arguments:**

    - `environment`: a `pettingzoo.ParallelEnv` with `Discrete` or `Box` spaces, which may differ between agents; it
        is reset first.
    - `agents`: who plays, by the names of `environment.possible_agents`, one for each.
    - `key`: for what the agents do.
    - `max_steps`: after how many steps to stop, if the world does not.
    - `seed`: for the world.

    **Returns:** what each of them saw, did and earned; some may leave before others.

    **Errors:** `ValueError` for other spaces; `UnknownNameError` for an agent that the world does not know or that is
    not among `agents`.
    """
    for name in environment.possible_agents:
        if name not in agents:
            raise UnknownNameError("agent", str(name), map(str, agents), hint="the world asks for it")
    for name in agents:
        if name not in environment.possible_agents:
            raise UnknownNameError("agent", str(name), map(str, environment.possible_agents))
    keys = jax.random.split(key, len(agents))
    players = {
        name: Player(
            agents[name], one, environment.observation_space(name), environment.action_space(name), f"agent {name!r}"
        )
        for name, one in zip(environment.possible_agents, keys, strict=True)
    }
    observations, _ = environment.reset(seed=seed)
    alive = list(environment.agents)
    for name in alive:
        players[name].see(observations[name])
    for _ in range(max_steps):
        if not alive:
            break
        observations, rewards, terminated, truncated, _ = environment.step(
            {name: players[name].act() for name in alive}
        )
        for name in alive:
            players[name].earn(float(rewards[name]), observations[name], terminated[name], truncated[name])
        alive = list(environment.agents)
        for name in alive:
            if not players[name].present:
                players[name].see(observations[name])
    return {name: player.life() for name, player in players.items() if player.present}
