"""Co-players that are played with: pools, planners, sequence models, and the loop of predictive policy improvement."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import innerloop as il
from innerloop.rl.coplayer import (
    BayesPlanner,
    GameModel,
    IdentifiedPolicy,
    MixedPool,
    MixedPoolActorCritic,
    MixtureModel,
    Planning,
    PredictivePolicy,
    PredictivePolicyImprovement,
    SequenceModel,
    TabularPool,
    identity_vector,
    predictive_losses,
    random_games,
    swap_view,
)
from oracles import coplayer as oracle

TIT_FOR_TAT, ALL_C, ALL_D, GRIM = ([1, 1, 0, 1, 0], [1] * 5, [0] * 5, [1, 1, 0, 0, 0])
PAVLOV = [1, 1, 0, 0, 1]
GAME = il.IteratedMatrixGame(il.PRISONERS_DILEMMA, num_steps=6)


def table(entries):
    return jnp.asarray(entries, jnp.zeros(()).dtype)


# ---- views and pools ----


def test_views_of_both_sides_agree():
    assert swap_view(jnp.arange(5)).tolist() == [oracle.other_view(s) for s in range(5)] == [0, 1, 3, 2, 4]
    agents = tuple(il.MemoryOne(table([0.5] * 5)) for _ in range(2))
    trajectory, _ = il.rollout(GAME, agents, jax.random.key(0), 12)
    views, actions = np.asarray(trajectory.next_observation), np.asarray(trajectory.action)
    np.testing.assert_array_equal(swap_view(jnp.asarray(views[:, 0])), views[:, 1])
    for player in (0, 1):
        expected = [oracle.REWARD[tuple(oracle.VIEWS[view - 1])] for view in views[:, player]]
        np.testing.assert_array_equal(trajectory.reward[:, player], expected)
        np.testing.assert_array_equal((views[:, player] - 1) // 2, actions[:, player])


def test_identity_vectors():
    vector = identity_vector(table([0.0, 0.3, 0.5, 0.9, 1.0]))
    assert vector.shape == (10,)
    np.testing.assert_allclose(np.exp(np.asarray(vector)).reshape(5, 2).sum(axis=1), 1, atol=1e-6)
    assert float(jnp.exp(vector[2])) == pytest.approx(0.3, abs=1e-6)


def test_a_mixed_pool_deals_the_episodes_it_says():
    pool = MixedPool(GAME, TabularPool(1.0), against_tabular=3, against_learners=2)
    always = il.MemoryOne(table(ALL_C))
    episodes = jax.jit(lambda key: pool.play(key, (lambda _: always, lambda _: il.MemoryOne(table(ALL_D)))))(
        jax.random.key(0)
    )
    assert episodes.observations.shape == (2, 5, 7) and episodes.actions.shape == (2, 5, 6)
    assert episodes.with_learner.tolist() == [[False] * 3 + [True] * 2] * 2
    assert not np.any(np.asarray(episodes.identity)[:, 3:]) and np.all(np.asarray(episodes.identity)[:, :3] < 0)
    np.testing.assert_array_equal(episodes.actions[0], 0)
    np.testing.assert_array_equal(episodes.rewards[:, 3:].mean(axis=(1, 2)), [-1.0, 2.0])
    # The stream of the loser and of the winner of one game are two views of it.
    np.testing.assert_array_equal(swap_view(episodes.observations[0, 3:]), episodes.observations[1, 3:])
    for observations, rewards in zip(episodes.observations[0], episodes.rewards[0], strict=True):
        expected = [oracle.REWARD[tuple(oracle.VIEWS[view - 1])] for view in observations[1:].tolist()]
        np.testing.assert_array_equal(rewards, expected)
    first = jax.jit(lambda key: pool.random_episodes(key, 400, uniform=True))(jax.random.key(1))
    assert np.asarray(first.actions).mean() == pytest.approx(0.5, abs=0.05) and not np.any(first.identity)


def test_bad_pools_are_refused():
    with pytest.raises(ValueError, match="nobody to play with"):
        MixedPool(GAME, TabularPool(1.0), 0, 0)
    with pytest.raises(ValueError, match="concentration must be above 0"):
        TabularPool(0.0)
    with pytest.raises(ValueError, match="two are needed"):
        MixedPool(GAME, TabularPool(1.0), 0, 2).play(jax.random.key(0), (lambda _: il.MemoryOne(table(ALL_C)),))
    with pytest.raises(ValueError, match="horizon must be at least 1"):
        BayesPlanner(horizon=0)


# ---- agents ----


def late_cooperation(agent, *players, rounds=60):
    game = il.IteratedMatrixGame(il.PRISONERS_DILEMMA, num_steps=rounds)

    def play(player, key):
        return il.rollout(game, (agent, il.MemoryOne(player)), key, rounds)[0].action[-15:, 0]

    keys = jax.random.split(jax.random.key(0), (len(players), 40))
    actions = jax.jit(jax.vmap(lambda player, some: jax.vmap(lambda key: play(player, key))(some)))(
        table(players), keys
    )
    return np.mean(np.asarray(actions) == 0, axis=(1, 2)).tolist()


def test_a_bayesian_planner_answers_best_to_whom_it_meets():
    agent = BayesPlanner(concentration=0.25, planning=Planning.THOMPSON, commitment=5)
    tit_for_tat, all_d, all_c = late_cooperation(agent, TIT_FOR_TAT, ALL_D, ALL_C)
    assert tit_for_tat > 0.8 and all_d < 0.2 and all_c < 0.2
    assert late_cooperation(BayesPlanner(1.0, learns=False), TIT_FOR_TAT) == [0.0]


def test_the_mixture_model_predicts_as_the_posterior_does(x64):
    games = random_games(jax.random.key(3), TabularPool(1.0), num_games=1, num_rounds=12)
    model, memory = MixtureModel(), MixtureModel().init_memory()
    expected = [predictive_losses(games.views[0, :, i], games.actions[0, :, i]) for i in (0, 1)]
    for time in range(12):
        own, other = games.actions[0, time, 0], games.actions[0, time, 1]
        memory, logits, _ = model.see(memory, games.views[0, time, 0])
        np.testing.assert_allclose(-jax.nn.log_softmax(logits)[own], expected[0][time], atol=1e-10)
        memory, logits = model.do(memory, own)
        np.testing.assert_allclose(-jax.nn.log_softmax(logits)[1 + 2 * own + other], expected[1][time], atol=1e-10)


@pytest.fixture(scope="module")
def model():
    return SequenceModel.random(5, 2, width=6, identity_size=10, key=jax.random.key(0))


def test_a_sequence_model_says_the_same_in_one_go_and_step_by_step(model):
    observations, actions = jnp.asarray([0, 1, 4, 2]), jnp.asarray([0, 1, 0])
    rewards, identity = jnp.asarray([1.0, 0.0, -1.0]), jnp.linspace(-1.0, 1.0, 10)
    losses = eqx.filter_jit(lambda m: m.losses(observations, actions, rewards, identity))(model)
    see, do = eqx.filter_jit(model.see), eqx.filter_jit(model.do)
    memory, logits, _ = see(model.init_memory(), observations[0], identity)
    for time in range(3):
        assert float(-jax.nn.log_softmax(logits)[actions[time]]) == pytest.approx(float(losses.action[time]), abs=1e-5)
        memory, next_logits = do(memory, actions[time])
        found = -jax.nn.log_softmax(next_logits)[observations[time + 1]]
        assert float(found) == pytest.approx(float(losses.observation[time]), abs=1e-5)
        memory, logits, reward = see(memory, observations[time + 1], identity)
        assert float((reward - rewards[time]) ** 2) == pytest.approx(float(losses.reward[time]), abs=1e-5)


def test_who_it_is_reaches_the_policy_at_every_step(model):
    observations, actions, rewards = jnp.asarray([0, 1, 4, 2]), jnp.asarray([0, 1, 0]), jnp.zeros(3)
    run = eqx.filter_jit(lambda m, z: m.losses(observations, actions, rewards, z).action)
    difference = np.abs(np.asarray(run(model, jnp.ones(10)) - run(model, jnp.zeros(10))))
    assert np.all(difference > 1e-6)


# ---- the phase loop ----


def improvement(**changes):
    settings = dict(num_first=12, num_phases=3, epochs=1, batch_size=6)
    pool = MixedPool(GAME, TabularPool(0.25), against_tabular=3, against_learners=3)
    return PredictivePolicyImprovement(
        pool,
        lambda key: SequenceModel.random(5, 2, width=4, key=key),
        lambda model: PredictivePolicy(model, beta=0.5, horizon=2, num_samples=2),
        optax.adam(1e-2),
        **{**settings, **changes},
    )


@pytest.mark.slow
def test_phases_play_keep_everything_and_start_afresh():
    step = improvement()
    assert step.starts.tolist() == [0, 2, 5, 9] and step.num_steps == 9
    state = eqx.filter_jit(step.init)(jax.random.key(0))
    seen = [(int(state.count), np.asarray(state.models.action_embedding))]
    run = eqx.filter_jit(step)
    first = np.asarray(state.episodes.actions[:, :12])
    assert not np.any(np.asarray(state.episodes.with_learner))
    for number in range(step.num_steps):
        state, info = run(jax.random.fold_in(jax.random.key(1), number), state)
        seen.append((int(state.count), np.asarray(state.models.action_embedding)))
    counts = [count for count, _ in seen]
    assert counts == [12, 12, 12, 18, 18, 18, 24, 24, 24, 24]
    np.testing.assert_array_equal(first, state.episodes.actions[:, :12])
    np.testing.assert_array_equal(state.episodes.with_learner[0], [False] * 15 + [True] * 3 + [False] * 3 + [True] * 3)
    assert np.all(np.asarray(state.episodes.observations[:, 12:, 1:]) > 0)  # no room is left empty
    # Two learners, of one law but not of one mind; within a phase the model moves little, between phases it is another.
    assert np.abs(seen[0][1][0] - seen[0][1][1]).max() > 0.1
    moves = [np.abs(after - before).max() for (_, before), (_, after) in itertools.pairwise(seen)]
    assert min(moves[2], moves[5]) > 5 * max(moves[i] for i in (0, 1, 3, 4, 6, 7, 8))
    assert float(info["mutual_reward"]) != 0.0 and np.isfinite(float(info["action_loss"]))


def test_what_plays_is_the_tilted_policy_and_not_the_prediction():
    """Against a model that believes in an unconditional co-player, the tilt defects whatever the prediction."""
    model = GameModel(table([0.9] * 5), table([0.5] * 5))
    game = il.IteratedMatrixGame(il.PRISONERS_DILEMMA, num_steps=40)

    @jax.jit
    def cooperation(beta):
        agent = PredictivePolicy(model, beta=beta, horizon=1, num_samples=8)
        trajectory, _ = il.rollout(game, (agent, il.MemoryOne([0.5] * 5)), jax.random.key(0), 40)
        return jnp.mean(jnp.where(trajectory.action[:, 0] == 0, 1.0, 0.0))

    assert float(cooperation(jnp.asarray(0.0))) > 0.75 and float(cooperation(jnp.asarray(20.0))) < 0.15


# ---- actor-critics in the pool ----


@pytest.mark.slow
def test_actor_critics_learn_to_defect_among_tabular_players_that_do_not_answer():
    game = il.IteratedMatrixGame(il.PRISONERS_DILEMMA, num_steps=4)
    pool = MixedPool(game, TabularPool(1e4), against_tabular=32, against_learners=32)
    step = MixedPoolActorCritic(pool, optax.adam(2e-2), reward_scale=0.2)
    policies = eqx.filter_vmap(lambda key: il.SequencePolicy.random(15, 2, lambda key: il.GRU(8, 8, key=key), key=key))(
        jax.random.split(jax.random.key(0), 2)
    )
    before = step.init(policies)
    result = il.fit(step, before, steps=40)
    cooperation = result.history("train", "tabular_cooperation")
    assert cooperation[0] == pytest.approx(0.5, abs=0.1) and cooperation[-1] < 0.25
    assert result.history("train", "tabular_reward")[-1] > result.history("train", "tabular_reward")[0] + 0.15


def test_identified_policies_read_the_view_and_the_vector():
    policy = il.SequencePolicy.random(15, 2, lambda key: il.GRU(4, 4, key=key), key=jax.random.key(0))
    agent = IdentifiedPolicy(policy, jnp.arange(10.0))
    read = agent.describe(jnp.asarray([0, 4]))
    np.testing.assert_array_equal(read[:, :5], np.eye(5)[[0, 4]])
    np.testing.assert_array_equal(read[:, 5:], [np.arange(10.0)] * 2)
