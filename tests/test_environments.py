"""Worlds: the battery, which must fail what is wrong; every world conforms, and does what it did."""

import json
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import innerloop as il
from golden.transcripts import GOLDEN, golden_transcript
from innerloop.core.errors import UnknownNameError
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
        check_environment(Counting(mistake), num_steps=5, only=[words.partition(":")[0]])


def test_a_check_that_does_not_exist_is_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'layout'"):
        check_environment(Counting("none"), only=["layouts"])


def test_the_mistakes_are_the_only_reason():
    check_environment(Counting("none"), num_steps=5)


# ---- every world ----

WORLDS = {
    "prisoners-dilemma": lambda: il.IteratedMatrixGame(il.PRISONERS_DILEMMA, num_steps=5),
    "matching-pennies": lambda: il.IteratedMatrixGame(il.MATCHING_PENNIES, num_steps=5),
    "public-goods": lambda: il.PublicGoods(3, num_steps=5),
    "coin-game": lambda: il.CoinGame(num_steps=10),
    "coin-game-two-coins": lambda: il.CoinGame(num_steps=10, num_coins=2, may_stay=True),
    "clean-up": lambda: il.CleanUp(num_steps=10),
    "delayed-cue": lambda: il.DelayedCue(delay=2),
    "time-limit": lambda: il.TimeLimit(il.IteratedMatrixGame(il.CHICKEN, num_steps=100), 7),
}


@pytest.mark.parametrize("name", WORLDS)
def test_every_world_conforms(name):
    check_environment(WORLDS[name](), num_steps=12)


@pytest.mark.parametrize("name", WORLDS)
def test_what_happens_in_a_world_has_not_changed(name):
    """Raise `version` when it should, and write the transcripts anew: `python tests/golden/write.py`."""
    stored = json.loads((GOLDEN / f"{name}.json").read_text())
    world = WORLDS[name]()
    assert stored["version"] == world.version, "the stored transcript is of another version: write it anew"
    assert golden_transcript(world) == stored, "other dynamics: was that meant? Then raise the world's version"


# ---- public goods ----


def test_two_players_of_a_public_goods_game_play_a_matrix_game():
    game = il.PublicGoods(2, num_steps=3, multiplication=1.5, endowment=2.0)
    table = il.IteratedMatrixGame([[3.0, 1.5], [3.5, 2.0]], num_steps=3)
    for first in range(2):
        for second in range(2):
            action, key = jnp.asarray([first, second]), jax.random.key(0)
            given, wanted = (world.step(key, world.reset(key).state, action) for world in (game, table))
            np.testing.assert_allclose(given.reward, wanted.reward)
            np.testing.assert_array_equal(given.observation, wanted.observation)
    assert game.observation_space == table.observation_space


def test_public_goods_are_a_dilemma():
    """What one gains by keeping, all lose: e (1 - r / n) against e (r - 1)."""
    game = il.PublicGoods(4, num_steps=3, multiplication=1.6, endowment=5.0)
    start = game.reset(jax.random.key(0))

    def rewards(*action):
        after = game.step(jax.random.key(0), start.state, jnp.asarray(action))
        assert after.info["contributors"] == 4 - sum(action)
        return np.asarray(after.reward), after.observation.tolist()

    all_pay, seen = rewards(0, 0, 0, 0)
    np.testing.assert_allclose(all_pay, 8.0)
    assert seen == [1, 1, 1, 1]
    one_keeps, seen = rewards(0, 1, 0, 0)
    np.testing.assert_allclose(one_keeps, [6.0, 11.0, 6.0, 6.0])
    assert seen == [2, 5, 2, 2]
    none_pays, seen = rewards(1, 1, 1, 1)
    np.testing.assert_allclose(none_pays, 5.0)
    assert seen == [8, 8, 8, 8]
    factors = jnp.asarray([1.0, 2.0])
    shares = eqx.filter_vmap(
        lambda factor: (
            il.PublicGoods(2, num_steps=3, multiplication=factor)
            .step(jax.random.key(0), start.state, jnp.asarray([0, 1]))
            .reward
        )
    )(factors)
    np.testing.assert_allclose(shares, [[0.5, 1.5], [1.0, 2.0]])


# ---- time limits ----


def test_a_time_limit_truncates_and_leaves_termination_alone():
    for limit, terminated, truncated in ((2, [0, 0], [0, 1]), (3, [0, 0, 1], [0, 0, 0]), (9, [0, 0, 1], [0, 0, 0])):
        world = il.TimeLimit(il.IteratedMatrixGame(il.PRISONERS_DILEMMA, num_steps=3), limit)
        now, ends = world.reset(jax.random.key(0)), []
        for _ in terminated:
            now = world.step(jax.random.key(0), now.state, jnp.asarray([0, 1]))
            ends.append((int(now.terminated), int(now.truncated)))
        assert [list(each) for each in zip(*ends, strict=True)] == [terminated, truncated]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: il.PublicGoods(1, num_steps=3), "at least two players, not 1"),
        (lambda: il.PublicGoods(3, num_steps=0), "num_steps must be at least 1"),
        (lambda: il.TimeLimit(il.CoinGame(num_steps=3), 0), "num_steps must be at least 1"),
    ],
)
def test_refusals(make, words):
    with pytest.raises(ValueError, match=words):
        make()
