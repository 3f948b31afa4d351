"""A2C and PPO: what is collected, what is unrolled again, and that they learn."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import innerloop as il
from innerloop.rl.gradient.experience import collect, make_batch, said
from innerloop.testing import check_environment
from oracles import returns as oracle

GOAL, LIMIT = 4, 6


class WalkState(NamedTuple):
    place: jax.Array


class Walk(il.AbstractEnvironment):
    """From place 0 to place 4, where the walk ends; action 1 goes on, action 0 stays."""

    num_agents = property(lambda self: 1)
    observation_space = property(lambda self: il.Discrete(GOAL + 1))
    action_space = property(lambda self: il.Discrete(2))

    def reset(self, key):
        no = jnp.asarray(False)
        return il.TimeStep(WalkState(jnp.asarray(0, jnp.int32)), jnp.zeros(1, jnp.int32), jnp.zeros(1), no, no, {})

    def step(self, key, state, action):
        place = state.place + action[0]
        there = place == GOAL
        reward = jnp.where(there, 1.0, 0.0)[None]
        return il.TimeStep(WalkState(place), place[None], reward, there, jnp.asarray(False), {})


WORLD = il.TimeLimit(Walk(), LIMIT)
SGD = optax.sgd(0.1)


@eqx.filter_jit
def collect_twice(policy, num_worlds, num_steps):
    """Two rounds, so that the second begins in the middle of episodes."""
    learner = il.AdvantageActorCritic(WORLD, SGD, num_worlds, num_steps).init(jax.random.key(0), policy)
    worlds, episodes = learner.worlds, learner.episodes
    rounds = []
    for number in range(2):
        memory = worlds.memories[0]
        experience, worlds, episodes = collect(WORLD, policy, worlds, episodes, jax.random.key(number + 1), num_steps)
        rounds.append((experience, make_batch(experience, memory, discount=0.9, trace_decay=0.8)))
    return rounds, episodes


@pytest.fixture(scope="module")
def tabular():
    policy = il.TabularPolicy(jnp.tile(jnp.asarray([0.3, 0.0]), (GOAL + 1, 1)), jnp.asarray([0.1, 0.5, -0.7, 2.0, 9.0]))
    return policy, *collect_twice(policy, 5, 20)


def test_what_is_collected_is_what_happened(tabular):
    policy, rounds, episodes = tabular
    lived = jax.tree.map(lambda a, b: np.concatenate([a, b]), rounds[0][0], rounds[1][0])
    place, action = lived.observation, lived.action
    np.testing.assert_array_equal(lived.terminated, place + action == GOAL)
    np.testing.assert_array_equal(lived.reward, lived.terminated)
    ended = lived.terminated | lived.truncated
    assert lived.terminated.any() and lived.truncated.any()
    assert not (lived.terminated & lived.truncated).any()
    np.testing.assert_array_equal(lived.first[1:], ended[:-1])
    assert lived.first[0].all()
    np.testing.assert_array_equal(place[1:], np.where(ended, 0, place + action)[:-1])
    for world in range(5):
        starts = np.flatnonzero(np.append(lived.first[:, world], ended[-1, world]))
        for start, end in zip(starts[:-1], starts[1:] - 1, strict=True):
            assert lived.truncated[end, world] == (end - start + 1 == LIMIT and not lived.terminated[end, world])
        assert episodes.last_length[world] == starts[-1] - starts[-2]
        assert episodes.last_return[world] == lived.reward[starts[-2] : starts[-1], world].sum()
    expected = il.log_probability(policy.logits[place], jnp.asarray(action))
    np.testing.assert_allclose(lived.log_probability, expected, rtol=1e-6)


def test_a_cut_episode_is_valued_at_its_own_last_observation(tabular):
    """Never at the first of the next, and at the end of the trajectory at what comes then."""
    policy, rounds, _ = tabular
    for lived, batch in rounds:
        np.testing.assert_allclose(lived.value, policy.values[lived.observation], rtol=1e-6)
        expected = policy.values[lived.observation + lived.action]
        alive = ~lived.terminated
        np.testing.assert_allclose(lived.next_value[alive], expected[alive], rtol=1e-6)
        for world in range(5):
            columns = (lived.reward, lived.value, expected, lived.terminated, lived.truncated)
            one = oracle.advantages(*(np.asarray(x[:, world]) for x in columns), discount=0.9, decay=0.8)
            np.testing.assert_allclose(batch.advantage.reshape(20, 5)[:, world], one, atol=1e-5)
        np.testing.assert_allclose(batch.target, batch.advantage + batch.value, atol=1e-6)


@eqx.filter_jit
def recurrent_policy(key, num_observations=GOAL + 1, width=8):
    """Random in every weight, the heads too."""
    policy = il.SequencePolicy.random(num_observations, 2, lambda key: il.GRU(width, width, key=key), key=key)
    random = np.random.default_rng(0)
    return jax.tree.map(lambda x: x + jnp.asarray(0.5 * random.normal(size=x.shape), x.dtype), policy)


def test_unrolling_again_gives_what_was_said(tabular):
    """From the memory with which the trajectory began, and with a fresh one after each end."""
    policy = recurrent_policy(jax.random.key(5))
    for lived, batch in collect_twice(policy, 3, 16)[0]:
        assert batch.action.shape == (3, 16)
        output = eqx.filter_jit(said)(policy, batch)
        np.testing.assert_allclose(output.value, batch.value, rtol=1e-4, atol=1e-5)
        again = il.log_probability(output.logits, batch.action)
        np.testing.assert_allclose(again, batch.log_probability, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(batch.value, lived.value.T)
    unroll = eqx.filter_jit(policy.unroll)
    seen = 0
    for time, world in np.argwhere(np.asarray(lived.truncated)):  # of the second round, if the episode is whole
        start = max(np.flatnonzero(np.asarray(lived.first[: time + 1, world])), default=None)
        if start is None:
            continue
        observations = lived.observation[start : time + 1, world]
        last = observations[-1] + lived.action[time, world]
        value = unroll(jnp.append(observations, last))[0].value[-1]
        np.testing.assert_allclose(lived.next_value[time, world], value, rtol=1e-4, atol=1e-5)
        seen += 1
    assert seen > 0


@eqx.filter_jit
def perceptrons(key):
    return il.PerceptronPolicy.random(4, 2, hidden_sizes=(8, 8), key=key)


def test_perceptrons_are_affine_maps_and_tangents():
    """Arrays are flattened, and an index is a unit vector."""
    policy = perceptrons(jax.random.key(0))
    inputs = np.random.default_rng(0).normal(size=(3, 2, 2)).astype(np.float32)

    def by_hand(network, x):
        *hidden, (weight, bias) = zip(network.weights, network.biases, strict=True)
        for w, b in hidden:
            x = np.tanh(np.asarray(w) @ x + np.asarray(b))
            np.testing.assert_allclose(
                w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w, 2 * np.eye(min(w.shape)), atol=1e-5
            )
        return np.asarray(weight) @ x + np.asarray(bias)

    output, _ = policy.unroll(jnp.asarray(inputs))
    for x, logits, value in zip(inputs, *output, strict=True):
        np.testing.assert_allclose(logits, by_hand(policy.actor, x.ravel()), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(value, by_hand(policy.critic, x.ravel())[0], rtol=1e-4, atol=1e-6)
    _, one = policy.look(None, jnp.asarray(2))
    np.testing.assert_allclose(one.logits, by_hand(policy.actor, np.eye(4)[2]), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("remembers", [pytest.param(False, marks=pytest.mark.slow), True])
def test_one_pass_of_ppo_is_a_step_of_a2c(remembers):
    world = il.DelayedCue(delay=1)
    policy = recurrent_policy(jax.random.key(0), 4) if remembers else perceptrons(jax.random.key(0))
    plain = il.AdvantageActorCritic(world, SGD, 6, 5, entropy_coefficient=0.1)
    proximal = il.ProximalPolicyOptimisation(
        world, SGD, 6, 5, num_epochs=1, num_minibatches=1, entropy_coefficient=0.1, normalise=False
    )
    start, key = eqx.filter_jit(plain.init)(jax.random.key(1), policy), jax.random.key(2)
    (a, info_a), (b, info_b) = (eqx.filter_jit(step)(key, start) for step in (plain, proximal))
    for x, y in zip(*(jax.tree.leaves(learner.policy) for learner in (a, b)), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6)
    moved = [np.abs(x - y).max() for x, y in zip(*map(jax.tree.leaves, (a.policy, policy)), strict=True)]
    assert max(moved) > 1e-3
    np.testing.assert_allclose(info_a["value_loss"], info_b["value_loss"], rtol=1e-4)
    np.testing.assert_array_equal(a.worlds.time_step.observation, b.worlds.time_step.observation)


@pytest.mark.parametrize(
    "kind", [pytest.param(il.AdvantageActorCritic, marks=pytest.mark.slow), il.ProximalPolicyOptimisation]
)
def test_a_tiny_world_is_solved(kind):
    """A walk of four steps, of which a random walker makes 1/3 in time (22 of 64 ways)."""
    adam = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(0.05))
    step = kind(WORLD, adam, 32, 12)
    policy = il.TabularPolicy.uniform(GOAL + 1, 2)
    result = il.fit(step, eqx.filter_jit(step.init)(jax.random.key(1), policy), steps=60)
    returns = result.history("train", "episode_return")
    assert returns[0] < 0.5 and returns[-1] > 0.95
    lengths = result.history("train", "episode_length")
    assert lengths[-1] < 4.5


@pytest.mark.slow
def test_seeds_learn_side_by_side():
    step = il.ProximalPolicyOptimisation(il.DelayedCue(delay=0), optax.adam(0.01), 16, 4)

    def make(seed):
        return step.init(il.named_key(seed, "worlds"), il.PerceptronPolicy.random(4, 2, key=il.named_key(seed, "init")))

    carry = eqx.filter_vmap(make)(jnp.arange(2))
    result = il.fit(step, carry, steps=40, seeds=(0, 1), record_every=10)
    returns = result.history("train", "episode_return")
    assert returns.shape == (4, 2) and np.all(returns[-1] > 0.9)


def test_what_cannot_be_trained_is_refused():
    game = il.IteratedMatrixGame(il.PRISONERS_DILEMMA, num_steps=3)
    with pytest.raises(ValueError, match="IteratedMatrixGame has 2 agents"):
        il.AdvantageActorCritic(game, SGD, 4, 4)
    with pytest.raises(ValueError, match="num_steps must be at least 1, not 0"):
        il.ProximalPolicyOptimisation(WORLD, SGD, 4, 0)
    step = il.ProximalPolicyOptimisation(WORLD, SGD, 6, 4, num_minibatches=4)
    step.init(jax.random.key(0), il.TabularPolicy.uniform(GOAL + 1, 2))
    with pytest.raises(ValueError, match="6 worlds do not make 4 minibatches"):
        step.init(jax.random.key(0), recurrent_policy(jax.random.key(1)))


def test_a_cue_is_shown_once_and_asked_for_later():
    world = il.DelayedCue(delay=2, num_cues=3)
    check_environment(world, num_steps=8)
    for seed in range(4):
        now = world.reset(jax.random.key(seed))
        cue = int(now.observation[0])
        for expected, answer in ((3, 0), (4, 1), (None, cue if seed % 2 else (cue + 1) % 3)):
            now = world.step(jax.random.key(seed), now.state, jnp.asarray([answer]))
            assert bool(now.terminated) == (expected is None) and (expected in (None, int(now.observation[0])))
            assert float(now.reward[0]) == (expected is None and seed % 2)
    with pytest.raises(ValueError, match="num_cues must be at least 2, not 1"):
        il.DelayedCue(delay=1, num_cues=1)


@pytest.mark.slow
def test_only_a_memory_answers_a_cue_of_the_past():
    world = il.DelayedCue(delay=4)
    adam = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(5e-3))
    step = il.ProximalPolicyOptimisation(world, adam, 64, 20, discount=1.0)
    policies = dict(
        memory=il.SequencePolicy.random(4, 2, lambda key: il.GRU(16, 16, key=key), key=jax.random.key(0)),
        none=il.PerceptronPolicy.random(4, 2, key=jax.random.key(0)),
    )
    returns = {}
    for name, policy in policies.items():
        result = il.fit(step, step.init(jax.random.key(1), policy), steps=150, record_every=25)
        returns[name] = result.history("train", "reward")[-1] * 5  # an episode has five steps
    assert returns["memory"] > 0.95
    assert abs(returns["none"] - 0.5) < 0.05
