"""Worlds: the battery, which must fail what is wrong, and every world that conforms."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import innerloop as il
from innerloop.envs import AbstractEnvironment, Box, Discrete, TimeStep
from innerloop.testing.environment import check_environment

# ---- the battery ----


class Count(NamedTuple):
    """What the counting world remembers."""

    time: Any
    total: Any


class Counting(AbstractEnvironment):
    """Two agents add up numbers for three steps; with one mistake, such as a newcomer may make."""

    mistake: str = eqx.field(static=True)
    noise: jax.Array
    scratch: Any

    def __init__(self, mistake):
        self.mistake = mistake
        self.noise = jnp.asarray(0.5)
        self.scratch = np.zeros(2, np.float32)

    @property
    def num_agents(self):
        return 0 if self.mistake == "a world for nobody" else 2

    @property
    def observation_space(self):
        return Box(-4.0, 4.0, (2,))

    @property
    def action_space(self):
        return Discrete(2)

    def reset(self, key):
        time = 0 if self.mistake == "a Python number" else jnp.asarray(0, jnp.int32)
        reward = jnp.zeros(2)
        match self.mistake:
            case "rewarded reset":
                reward += 1
            case "split of raw keys":
                jax.random.wrap_key_data(jax.random.key_data(key), impl="threefry2x32")
        total = jnp.zeros(())
        state = Count(time, total)
        if self.mistake == "changes its state":
            state = {"time": time, "total": total}
        info = {} if self.mistake == "new names" else {"total": total}
        over = jnp.asarray(self.mistake == "over at once")
        return TimeStep(state, jnp.tile(total, (2, 2)), reward, over, over, info)

    def step(self, key, state, action):
        if self.mistake == "changes its state":
            state["time"] += 1
            time, total = state["time"], state["total"]
        else:
            time, total = state.time + 1, state.total
        noise = self.noise
        match self.mistake:
            case "Python's own randomness":
                noise = noise * next(COUNTER)
            case "a number of Python's":
                noise = jnp.asarray(float(self.noise))
            case "changes itself":
                if not isinstance(action, jax.core.Tracer):
                    self.scratch[0] += 1.0
            case "a clock of floats":
                time = time.astype(jnp.float32)
            case "scalars only":
                total = total if float(jnp.sum(action)) > 0 else -total
        total = total / 2 + noise * jax.random.uniform(key)
        observation = jnp.tile(total, (2, 2))
        reward = action.astype(jnp.float32)
        ended = time >= 3
        terminated, truncated = ended, jnp.asarray(False)
        info = {"total": total}
        match self.mistake:
            case "resets itself":
                time, total = jnp.where(ended, 0, time), jnp.where(ended, 0.0, total)
            case "silent end":
                time, terminated = jnp.where(ended, 0, time), jnp.asarray(False)
                total = jnp.where(ended, 0.0, total)
            case "no agent axis":
                observation = observation[0]
            case "one reward":
                reward = reward[:1]
            case "other dtype":
                observation = observation.astype(jnp.int32)
            case "out of bounds":
                observation = observation + 10
            case "infinite":
                reward = reward / 0
            case "whole rewards":
                reward = action
            case "Python's truth":
                terminated = False
            case "numbers for ends":
                terminated = terminated.astype(jnp.float32)
            case "ends per agent":
                terminated = jnp.tile(terminated, 2)
        if self.mistake == "changes its state":
            return TimeStep(dict(state, total=total), observation, reward, terminated, truncated, info)
        return TimeStep(Count(time, total), observation, reward, terminated, truncated, info)


COUNTER = iter(range(1, 10**6))


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ("a clock of floats", "layout: .*state: float32.* after a step, int32"),
        ("ends per agent", "layout: .*terminated"),
        ("no agent axis", "layout: .*observation"),
        ("one reward", r"agents: .*a reward of shape \(1,\) for 2 agents"),
        ("a world for nobody", "agents: .*num_agents is 0"),
        ("other dtype", "observations: .*int32, not float32"),
        ("out of bounds", "observations: .*agent 0 is not in Box"),
        ("infinite", "rewards: .*a reward of"),
        ("whole rewards", "rewards: .*int32"),
        ("rewarded reset", "rewards: .*after a reset"),
        ("numbers for ends", "ends: .*not a boolean scalar"),
        ("Python's truth", "ends: .*not a boolean scalar"),
        ("over at once", "ends: .*before it begins"),
        ("new names", "info: .*step 0"),
        ("resets itself", "never_resets: .*step 2 ends an episode and resets"),
        ("silent end", "never_resets: .*step 2 starts anew"),
        ("Python's own randomness", "determinism: .*without jit"),
        ("split of raw keys", "keys: "),
        ("scalars only", "vmap_over_keys: "),
        ("a number of Python's", "vmap_over_numbers: "),
        ("changes its state", "inputs_are_kept: .*changes the state"),
        ("changes itself", "inputs_are_kept: .*in place"),
        ("a Python number", "one_trace: .*traced [23] times"),
    ],
)
def test_a_wrong_world_fails(mistake, words):
    with pytest.raises(AssertionError, match=f"(?s){words}"):
        check_environment(Counting(mistake), num_steps=5)


def test_the_mistakes_are_the_only_reason():
    check_environment(Counting("none"), num_steps=5)


# ---- every world ----

WORLDS = {
    "prisoner's dilemma": lambda: il.IteratedMatrixGame(il.PRISONERS_DILEMMA, num_steps=5),
}


@pytest.mark.parametrize("name", WORLDS)
def test_every_world_conforms(name):
    check_environment(WORLDS[name](), num_steps=12)
